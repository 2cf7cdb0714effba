"""A run's outputs in their places: as symlinks into the mount, so that the next step's reads of them are observed, or
as plain files.

Nothing is lost whenever this ends early: a link takes a place in one step, and what it takes the place of is in the
store by then, or was moved aside first.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from fsd.errors import FsdError
from fsd.runs.links import below, target_of
from fsd.runs.wanted import Wanted

_ASIDE = ".fsd-aside-"


def what_is_there(wanted: Wanted) -> list[str]:
    """The outputs, paths from the top, at which there is something that is no link into the mount: a file, or a folder
    with anything in it. Blocks."""
    return [
        path
        for path in wanted.output_paths
        if target_of(wanted.top / path, wanted.mountpoints) is None and not is_free(wanted.top / path)
    ]


def take_away(wanted: Wanted, stored: Sequence[str]) -> None:
    """Before a command starts: remove at its outputs links into the mount and what is `stored` (paths from the top) as
    the outputs of an earlier run, so that it can write there and cannot read what it made before. Blocks. Raises
    FsdError."""
    for path in wanted.outputs:
        if target_of(path, wanted.mountpoints) is not None or below(path, wanted.top) in stored:
            try:
                _remove(path)
            except OSError as error:
                raise FsdError(f"cannot remove {path}: {error.strerror}") from error


def is_free(path: Path) -> bool:
    """Whether nothing is there, or an empty folder."""
    try:
        status = os.lstat(path)
    except OSError:
        return True
    if not stat.S_ISDIR(status.st_mode):
        return False
    try:
        return not os.listdir(path)
    except OSError:
        return False


def place_links(top: Path, outputs: Sequence[str], version: str) -> None:
    """Let each of the outputs, paths from the top, be a link to the same path in the folder `version`. What is there is
    removed. Blocks. Raises FsdError."""
    for path in outputs:
        put(top / path, lambda aside, path=path: os.symlink(os.path.join(version, path), aside))  # type: ignore[misc]


def place_files(top: Path, outputs: Sequence[str], folder: Path) -> None:
    """The same with what is at these paths in a folder on the same file system, which is moved."""
    for path in outputs:
        put(top / path, lambda aside, path=path: os.rename(folder / path, aside))  # type: ignore[misc]


def put(place: Path, make: Callable[[Path], object]) -> None:
    """Put at `place` what `make` makes beside it, in one step if what is there is no folder."""
    beside = place.parent / f"{_ASIDE}{secrets.token_hex(4)}"
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        make(beside)
        try:
            os.rename(beside, place)
        except OSError as error:
            if error.errno not in (errno.EISDIR, errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            _exchange(beside, place)
    except OSError as error:
        with suppress(OSError):
            _remove(beside)
        raise FsdError(f"cannot put {place} in place: {error.strerror}") from error


def _exchange(beside: Path, place: Path) -> None:
    """Where one is a folder and the other is none, or both are: what is there goes aside first."""
    old = place.parent / f"{_ASIDE}{secrets.token_hex(4)}"
    os.rename(place, old)
    try:
        os.rename(beside, place)
    except OSError:
        os.rename(old, place)
        raise
    _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
