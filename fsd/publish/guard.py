"""What must not be published: the store into itself, a mount of fsd with all its versions, and fsd's own notes.

Mounts are found by name in /proc/self/mountinfo, without touching them: one whose daemon hangs would hang us too.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from fsd.errors import UsageError
from fsd.publish.source import SourceFolder, shown
from fsd.publish.walk import Forbidden
from fsd.stores.open import local_path

MOUNT_TYPE = b"fuse.fsd"
MOUNT_INFO = "/proc/self/mountinfo"

_STORE = "is the store's own folder"
_STATE = "is where fsd keeps its notes on what was published"

_ESCAPED = re.compile(rb"\\([0-7]{3})")


def forbidden_directories(source: SourceFolder, store_url: str, state: Path) -> Forbidden:
    """What the walk must refuse. Raises UsageError if the folder itself cannot be published."""
    forbidden: dict[tuple[int, int], str] = {}
    top = os.path.realpath(source.directory)
    for folder, what in ((local_path(store_url), _STORE), (state, _STATE)):
        if folder is None:
            continue
        path = os.path.realpath(os.fsencode(folder))
        if is_at_or_below(top, path):
            raise UsageError(f"{source.shown(b'')} lies in {shown(path)}, which {what}", hint="publish another folder")
        if is_at_or_below(path, top):
            raise UsageError(f"{shown(path)}, in the folder, {what}", hint="publish a folder without it")
        # It may be there under another name, by a bind mount.
        with suppress(OSError):
            status = os.stat(path)
            forbidden[status.st_dev, status.st_ino] = what
    for mountpoint in _mountpoints():
        if is_at_or_below(mountpoint, top):
            raise UsageError(
                f"{shown(mountpoint)} is a mount of fsd, and would be published with all its versions",
                hint="publish a folder without it, or one directory of the mount",
            )
    return forbidden


def places_of_fsd(store_url: str, state: Path) -> list[bytes]:
    """The store's folder, that of our notes, and all mounts of fsd: absolute, without symlinks. Touches no mount."""
    folders = [folder for folder in (local_path(store_url), state) if folder is not None]
    return [*(os.path.realpath(os.fsencode(folder)) for folder in folders), *_mountpoints()]


def is_at_or_below(path: bytes, folder: bytes) -> bool:
    """Whether a path is a folder's, or that of something in it. By name."""
    return path == folder or path.startswith(folder.rstrip(b"/") + b"/")


def _mountpoints() -> Iterator[bytes]:
    """Where fsd is mounted."""
    try:
        with open(MOUNT_INFO, "rb") as file:
            lines = file.read().splitlines()
    except OSError:
        return
    for line in lines:
        before, _, after = line.partition(b" - ")
        fields = before.split(b" ")
        if after.split(b" ")[0] == MOUNT_TYPE and len(fields) > 4:
            yield _ESCAPED.sub(lambda match: bytes([int(match[1], 8)]), fields[4])
