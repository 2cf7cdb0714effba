"""Snapshots in Hugging Face's cache: `models--NAME--NAME/snapshots/REVISION`, whose files are links into `blobs`.

A blob is called by what its content hashes to: the SHA-256 of large files, Git's name of small ones. Both are checked,
and a blob that another snapshot has as well is read once.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, cast

from fsd.errors import NotFoundError, UsageError
from fsd.importing.digests import GIT, SHA256, Digest
from fsd.importing.items import Item
from fsd.publish.source import UnreadableError, shown

_REPOSITORY = re.compile(r"(model|dataset|space)s--.+")
_BLOB = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_GIT_HEX_DIGITS = 40


def snapshot_folder(path: Path) -> Path | None:
    """The snapshot that `path` is; of a repository that of `main`, or the only one; None for anything else.

    Raises UsageError where there are several and none is meant, NotFoundError where there is none.
    """
    if path.parent.name == "snapshots" and _REPOSITORY.fullmatch(path.parent.parent.name):
        return path
    if not (_REPOSITORY.fullmatch(path.name) and (path / "snapshots").is_dir()):
        return None
    with suppress(OSError):
        return path / "snapshots" / (path / "refs" / "main").read_text().strip()
    found = sorted((path / "snapshots").iterdir())
    if len(found) > 1:
        names = ", ".join(each.name for each in found)
        raise UsageError(f"{path} has several snapshots: {names}", hint=f"name one: {found[0]}")
    if not found:
        raise NotFoundError(f"{path} has no snapshot", hint="download it first: hf download")
    return found[0]


class Snapshot:
    """A `fsd.importing.items.Listing` of the files of a snapshot, each link for the file that it leads to."""

    def __init__(self, folder: Path) -> None:
        self._folder = os.fsencode(folder)

    def items(self) -> Iterator[Item]:
        """See `Listing`. Links may lead to `blobs` only."""
        blobs = os.path.realpath(os.path.join(self._folder, b"..", b"..", b"blobs")) + b"/"
        for directory, names, files in os.walk(self._folder, onerror=_refuse):
            below = os.path.relpath(directory, self._folder)
            for name in names:
                if os.path.islink(os.path.join(directory, name)):
                    raise UnreadableError(
                        f"{shown(os.path.join(directory, name))} leads to a folder; nothing was imported",
                        hint="a snapshot's links lead to its blobs: download it again",
                    )
            for name in files:
                yield self._item(os.path.join(directory, name), os.path.normpath(os.path.join(below, name)), blobs)

    def _item(self, full: bytes, path: bytes, blobs: bytes) -> Item:
        real = os.path.realpath(full)
        is_link = os.path.islink(full)
        try:
            status = os.stat(real)
        except OSError as error:
            raise _missing(full, error) from error
        if is_link and not real.startswith(blobs):
            raise UnreadableError(
                f"{shown(full)} leads to {shown(real)}, which is none of the blobs; nothing was imported",
                hint="download the snapshot again",
            )
        mode = stat.S_IFREG | (status.st_mode & 0o777)
        name = os.fsdecode(os.path.basename(real))
        digest = None
        if is_link and _BLOB.fullmatch(name):
            digest = Digest(GIT if len(name) == _GIT_HEX_DIGITS else SHA256, name)
        # A link that was made into a copy, as where no links can be, has no name that says what is in it.
        version = "" if digest else f"{status.st_ino} {status.st_mtime_ns} {status.st_ctime_ns}"
        return Item(path, mode, status.st_size, b"", os.fsdecode(real), digest, version)

    def sizes(self, items: Sequence[Item]) -> Sequence[int]:
        """See `Listing`."""
        return [os.stat(item.origin).st_size for item in items]

    def read(self, items: Sequence[Item]) -> Iterator[bytes]:
        """See `Listing`."""
        for item in items:
            try:
                with open(item.origin, "rb") as file:
                    yield file.read(item.size + 1)
            except OSError as error:
                raise _missing(item.path, error) from error

    def open(self, item: Item) -> BinaryIO:
        """See `Listing`."""
        try:
            return cast("BinaryIO", open(item.origin, "rb", buffering=0))
        except OSError as error:
            raise _missing(item.path, error) from error


def _missing(path: bytes, error: OSError) -> UnreadableError:
    return UnreadableError(
        f"cannot read {shown(path)}: {error.strerror or error}; nothing was imported",
        hint="download the snapshot again, then import it",
    )


def _refuse(error: OSError) -> None:
    raise UnreadableError(
        f"cannot list {error.filename!r}: {error.strerror}; nothing was imported", hint="make it readable"
    ) from error
