"""The folder that is made: files, symlinks and directories, never through a symlink, checked before they count.

It is filled under another name beside its own (`Staging`) and takes its own name in one step when all is there. That
name follows from what is checked out, so a second try goes on where a killed one stopped; it trusts nothing that it
finds, but reads and hashes it, which takes less than fetching it again.

Every directory is opened in its parent: whatever the tree says, nothing is written outside of the folder. All of this
blocks: callers are in threads, and different batches may be in different ones.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TypeVar

from blake3 import blake3

from fsd.errors import ConflictError, CorruptDataError, FsdError
from fsd.format.model import Entry, Kind
from fsd.ids import Buffer, content_id
from fsd.limits import MIB
from fsd.publish.source import shown

_DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_WRITE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_HASHED_BYTES = 4 * MIB

Answer = TypeVar("Answer")


class Target:
    """A folder that is being filled, or compared. Safe to use from many threads; a context manager."""

    def __init__(self, path: bytes) -> None:
        """Open it; it must be there."""
        self.path = path
        self._top = os.open(path, _DIRECTORY_FLAGS)

    def __enter__(self) -> Target:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._top)

    def lock(self) -> None:
        """Keep others from filling it. Raises ConflictError if somebody does."""
        try:
            fcntl.flock(self._top, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConflictError(f"another checkout is filling {shown(self.path)}", hint="wait for it to end") from None

    def write(self, entries: Sequence[Entry], contents: Iterable[Buffer]) -> None:
        """Make these entries, whole, in the order of trees. `contents` are those of the files among them.

        Raises CorruptDataError for a content that is not what the entry says, FsdError for what the disk refuses.
        """
        rest = iter(contents)
        for directory, some in _by_directory(entries):
            self._in_directory(directory, lambda fd, some=some: self._write(fd, some, rest))  # type: ignore[misc]

    def missing(self, entries: Sequence[Entry]) -> list[Entry]:
        """Those of `entries` that are not there as they should be. What is in the way of them is removed."""
        found: list[Entry] = []
        for directory, some in _by_directory(entries):
            found += self._in_directory(
                directory,
                lambda fd, some=some: [entry for entry in some if not _has(fd, entry, remove=True)],  # type: ignore[misc]
            )
        return found

    def first_difference(self, entries: Sequence[Entry]) -> Entry | None:
        """The first of `entries` that is not there as it should be. Changes nothing."""
        for directory, some in _by_directory(entries):
            try:
                fd = self._open_directory(directory, make=False)
            except OSError:
                return some[0]
            try:
                for entry in some:
                    if not _has(fd, entry, remove=False):
                        return entry
            finally:
                os.close(fd)
        return None

    def begin_large(self, entry: Entry) -> LargeFile:
        """A file that is written piece by piece; close it."""
        return LargeFile(entry, self._in_directory(entry.directory, lambda fd: _create(fd, entry)))

    def _write(self, fd: int, entries: Sequence[Entry], contents: Iterator[Buffer]) -> None:
        for entry in entries:
            if entry.kind is Kind.DIRECTORY:
                with suppress(FileExistsError):
                    os.mkdir(entry.name, dir_fd=fd)
            elif entry.kind is Kind.SYMLINK:
                os.symlink(entry.target, entry.name, dir_fd=fd)
            else:
                content = next(contents)
                if content_id(content) != entry.content:
                    raise _not_as_said(entry)
                file = _create(fd, entry)
                try:
                    _write_all(file, content, 0)
                finally:
                    os.close(file)

    def _in_directory(self, directory: bytes, work: Callable[[int], Answer]) -> Answer:
        try:
            fd = self._open_directory(directory, make=True)
            try:
                return work(fd)
            finally:
                os.close(fd)
        except OSError as error:
            raise FsdError(
                f"cannot write in {shown(self.path + b'/' + directory)}: {error.strerror or error}",
                hint="make room, or check out elsewhere; the same command goes on where this one stopped",
            ) from error

    def _open_directory(self, directory: bytes, *, make: bool) -> int:
        """Step by step from the top: so no symlink leads elsewhere, and no path is too long."""
        fd = os.dup(self._top)
        for name in directory.split(b"/") if directory else ():
            try:
                if make:
                    with suppress(FileExistsError):
                        os.mkdir(name, dir_fd=fd)
                below = os.open(name, _DIRECTORY_FLAGS, dir_fd=fd)
            finally:
                os.close(fd)
            fd = below
        return fd


class LargeFile:
    """A file on its way: pieces in order, each hashed as it is written. Blocks; for one thread at a time."""

    def __init__(self, entry: Entry, fd: int) -> None:
        self._entry = entry
        self._fd = fd
        self._digest = blake3()
        self._at = 0

    def write(self, piece: Buffer) -> None:
        """The next piece."""
        self._digest.update(piece)
        try:
            _write_all(self._fd, piece, self._at)
        except OSError as error:
            raise FsdError(
                f"cannot write {shown(self._entry.path)}: {error.strerror or error}",
                hint="make room, or check out elsewhere; the same command goes on where this one stopped",
            ) from error
        self._at += len(piece)

    @property
    def descriptor(self) -> int:
        """For who has the file share the next piece with another one; then `passed`."""
        return self._fd

    def passed(self, piece: Buffer) -> None:
        """The next piece is in the file already."""
        self._digest.update(piece)
        self._at += len(piece)

    def finish(self) -> None:
        """That was the last. Raises CorruptDataError if the whole is not what the entry says."""
        if self._digest.digest() != self._entry.content:
            raise _not_as_said(self._entry)

    def close(self) -> None:
        """Idempotent."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def staging_path(path: bytes, name: bytes) -> bytes:
    """Beside `path`, and hidden: where the content named `name` is put together before it is there."""
    directory, last = os.path.split(path)
    return os.path.join(directory, b"." + last[:200] + b".fsd-" + name)


@contextmanager
def staged(path: bytes, name: bytes) -> Iterator[tuple[Target, bool]]:
    """A folder beside `path` to be filled, and whether it is new; `path` must be an empty folder or nothing.

    When the context ends well, it is at `path`; after an error it stays, for the next try to go on.
    """
    staging = staging_path(path, name)
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        try:
            os.mkdir(staging)
            is_new = True
        except FileExistsError:
            is_new = False
        target = Target(staging)
    except OSError as error:
        raise FsdError(f"cannot make {shown(staging)}: {error.strerror}", hint="check out elsewhere") from error
    with target:
        target.lock()
        yield target, is_new
        try:
            if os.path.isdir(path):
                shutil.copystat(path, staging)
            os.rename(staging, path)
        except OSError as error:
            raise ConflictError(
                f"{shown(path)} cannot be replaced: {error.strerror}", hint=f"all is there, in {shown(staging)}"
            ) from error


def _by_directory(entries: Sequence[Entry]) -> Iterator[tuple[bytes, list[Entry]]]:
    some: list[Entry] = []
    for entry in entries:
        if some and entry.directory != some[0].directory:
            yield some[0].directory, some
            some = []
        some.append(entry)
    if some:
        yield some[0].directory, some


def _create(fd: int, entry: Entry) -> int:
    return os.open(entry.name, _WRITE_FLAGS, 0o777 if entry.executable else 0o666, dir_fd=fd)


def _write_all(fd: int, content: Buffer, at: int) -> None:
    view = memoryview(content)
    while view:
        written = os.pwrite(fd, view, at)
        view = view[written:]
        at += written


def _has(fd: int, entry: Entry, *, remove: bool) -> bool:
    """Whether the directory has that entry, as it should be; if not, it has none of that name, if `remove`."""
    try:
        status = os.stat(entry.name, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    if entry.kind is Kind.DIRECTORY:
        is_right = stat.S_ISDIR(status.st_mode)
    elif entry.kind is Kind.SYMLINK:
        is_right = stat.S_ISLNK(status.st_mode) and os.readlink(entry.name, dir_fd=fd) == entry.target
    else:
        is_right = (
            stat.S_ISREG(status.st_mode)
            and status.st_size == entry.size
            and bool(status.st_mode & stat.S_IXUSR) == entry.executable
            and _hash(fd, entry.name) == entry.content
        )
    if not is_right and remove:
        if stat.S_ISDIR(status.st_mode):
            raise OSError(errno.EEXIST, "there is a directory in the way")
        os.unlink(entry.name, dir_fd=fd)
    return is_right


def _hash(directory: int, name: bytes) -> bytes:
    digest = blake3()
    fd = os.open(name, _READ_FLAGS, dir_fd=directory)
    try:
        while data := os.read(fd, _HASHED_BYTES):
            digest.update(data)
    finally:
        os.close(fd)
    return digest.digest()


def _not_as_said(entry: Entry) -> CorruptDataError:
    return CorruptDataError(f"the content of {shown(entry.path)} is not what the tree says", hint="see 'fsd verify'")
