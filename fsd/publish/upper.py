"""The upper folder of an overlay: what was changed in a writable view, and nothing else, as changes in tree order.

What an overlay keeps there (kernel's Documentation/filesystems/overlayfs.rst, and the manual of fuse-overlayfs):

- a file or symlink that was made or changed, whole;
- a directory that something below was changed in, or that was made; with the attribute `overlay.opaque` it shows
  nothing of the directory that it stands for;
- for a name that was removed a *whiteout*: a character device 0/0, or, by fuse-overlayfs where it may make no devices,
  a file `.wh.NAME`, and `.wh..wh..opq` in an opaque directory.

The overlay is mounted without `redirect_dir` and `metacopy`, so no directory stands for one of another name, and no
file for contents that lie elsewhere. Everything here blocks.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Generator, Iterator
from contextlib import suppress
from typing import NamedTuple

from fsd.errors import CorruptDataError
from fsd.publish.delta import Batch, batched
from fsd.publish.source import Found, SourceFolder, UnsupportedFileError
from fsd.repo.builder import Removal

_OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque", "user.fuseoverlayfs.opaque")
_ELSEWHERE = ("trusted.overlay.redirect", "trusted.overlay.metacopy", "user.overlay.redirect")

_WHITEOUT_PREFIX = b".wh."
_OPAQUE_FILE = b".wh..wh..opq"


class Upper:
    """Reads an upper folder. For one thread at a time."""

    def __init__(self, source: SourceFolder, *, marks_are_files: bool) -> None:
        """`marks_are_files`: names with `.wh.` are marks of fuse-overlayfs, and not somebody's files."""
        self._source = source
        self._marks_are_files = marks_are_files
        self.opaque: set[bytes] = set()
        """Directories in the changes handed out so far that show nothing of what they stand for."""

    def size(self) -> int:
        """Bytes of all files in it."""
        return sum(batch.bytes for batch in self.batches())

    def batches(self) -> Generator[Batch]:
        """All changes. A removal may be of what is not there, and says nothing of what is below a directory."""
        batch = Batch()
        for change in self._changes():
            full, batch = batched(batch, change)
            yield from full
        yield batch

    def _changes(self) -> Iterator[Found | Removal]:
        levels: list[Iterator[bytes]] = [iter((b"",))]
        while levels:
            directory = next(levels[-1], None)
            if directory is None:
                levels.pop()
                continue
            listed = self._list(directory)
            yield from listed.changes
            levels.append(iter(listed.subdirectories))

    def _list(self, directory: bytes) -> _Listed:
        source = self._source
        listed = _Listed([], [])
        fd = source.open_directory(directory)
        try:
            names = sorted(map(os.fsencode, os.listdir(fd)))
            for name in names:
                self._look(fd, directory, name, listed)
        except OSError as error:
            raise source.unreadable(directory, error) from error
        finally:
            os.close(fd)
        if self._marks_are_files:
            # A mark sorts elsewhere than the name it is about.
            listed.changes.sort(key=lambda change: change.name)
        return listed

    def _look(self, fd: int, directory: bytes, name: bytes, listed: _Listed) -> None:
        if self._marks_are_files and name.startswith(_WHITEOUT_PREFIX):
            if name != _OPAQUE_FILE:
                listed.changes.append(Removal(directory, name.removeprefix(_WHITEOUT_PREFIX)))
            return
        status = os.stat(name, dir_fd=fd, follow_symlinks=False)
        kind = stat.S_IFMT(status.st_mode)
        path = directory + b"/" + name if directory else name
        if kind == stat.S_IFCHR and status.st_rdev == 0:
            listed.changes.append(Removal(directory, name))
            return
        if kind not in (stat.S_IFREG, stat.S_IFLNK, stat.S_IFDIR):
            raise UnsupportedFileError(
                f"{self._source.shown(path)} is no file, directory or symlink; nothing was published",
                hint="fsd keeps these alone: remove it",
            )
        size = status.st_size if kind != stat.S_IFDIR else 0
        listed.changes.append(
            Found(directory, name, size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_mode)
        )
        if kind == stat.S_IFDIR:
            listed.subdirectories.append(path)
            if self._is_opaque(path):
                self.opaque.add(path)

    def _is_opaque(self, path: bytes) -> bool:
        fd = self._source.open_directory(path)
        try:
            for name in _ELSEWHERE:
                with suppress(OSError):
                    os.getxattr(fd, name)
                    raise CorruptDataError(f"{self._source.shown(path)} stands for another directory", hint="copy it")
            for name in _OPAQUE:
                with suppress(OSError):
                    value = os.getxattr(fd, name)
                    if value in (b"y", b"x"):
                        return value == b"y"
            return self._marks_are_files and _exists(_OPAQUE_FILE, fd)
        finally:
            os.close(fd)


class _Listed(NamedTuple):
    """One directory of the upper folder."""

    changes: list[Found | Removal]
    subdirectories: list[bytes]


def _exists(name: bytes, fd: int) -> bool:
    try:
        os.stat(name, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
