"""The folder that is being published: the only place of `publish` that opens, lists or stats anything in it.

Every path here is bytes, relative to the folder's top, with `/` between names and b'' for the top itself. No symlink is
followed as the last name of a path. One that was put into the middle of it meanwhile leads to a file with other times,
which is an error.

Invariant: `Found` is what lstat(2) said while its directory was listed, and a file's content counts only if fstat(2)
says the same before it is read and after. So a file that changes meanwhile is an error that names it, never a mixture.

Paths longer than PATH_MAX are opened step by step. Everything blocks: callers are in threads.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import NamedTuple, TypeVar

from fsd.errors import FsdError, NotFoundError, UsageError
from fsd.format.columns import decode_column
from fsd.format.limits import MAX_PATH_BYTES

_T = TypeVar("_T")

STEP_BYTES = 3 * 1024
"""The longest relative path given to the kernel at once; PATH_MAX is 4096 with the final NUL."""

_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
"""O_NONBLOCK: a fifo that took a file's place must not hang us; regular files ignore it."""
_DIRECTORY_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_DIRECTORY

STATUS = struct.Struct("<QqqQQ")
"""Size, mtime in ns, ctime in ns, inode, mode: what has to be equal for a file to be the same as before. Five words of
8 bytes, so that the sizes of many are a slice."""


def sizes_of(statuses: bytes) -> int:
    """The sum of the sizes in packed statuses, in bytes."""
    return sum(decode_column("Q", statuses)[:: STATUS.size // 8])


class UnreadableError(FsdError):
    """Something in the folder may not be, or cannot be, read."""


class ChangedError(FsdError):
    """Something in the folder changed while it was being published."""


class UnsupportedFileError(FsdError):
    """The folder holds what no tree can: a socket, fifo or device."""


class Found(NamedTuple):
    """An entry of the folder, as the walk saw it."""

    directory: bytes
    name: bytes
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    mode: int

    @property
    def path(self) -> bytes:
        """The path from the folder's top."""
        return self.directory + b"/" + self.name if self.directory else self.name

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return stat.S_ISREG(self.mode)

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return stat.S_ISDIR(self.mode)

    @property
    def executable(self) -> bool:
        """Whether its owner may execute it."""
        return bool(self.mode & stat.S_IXUSR)

    def is_still(self, status: os.stat_result) -> bool:
        """Whether `status` says what the walk saw. Not the inode: a file system in user space may number it anew, and
        whatever took the file's place has another ctime."""
        return (
            self.size == status.st_size
            and self.mtime_ns == status.st_mtime_ns
            and self.ctime_ns == status.st_ctime_ns
            and self.mode == status.st_mode
        )


def shown(path: bytes) -> str:
    """`path` for a message: on one line, and as it is wherever that is possible."""
    text = path.decode(errors="backslashreplace") or "."
    return text if text.isprintable() else ascii(path)[2:-1]


class SourceFolder:
    """The folder; a context manager that holds one descriptor. Safe to use from many threads."""

    def __init__(self, directory: str | bytes) -> None:
        """Open it. Raises NotFoundError or UnreadableError."""
        self.directory = os.fsencode(os.path.abspath(directory))
        try:
            # A symlink may be what the user names: only what lies below is never followed.
            self._top = os.open(self.directory, _DIRECTORY_FLAGS & ~os.O_NOFOLLOW)
        except OSError as error:
            raise _no_such_folder(self.directory, error) from None

    def __enter__(self) -> SourceFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the descriptor. Idempotent."""
        top, self._top = self._top, -1
        if top >= 0:
            os.close(top)

    def shown(self, path: bytes) -> str:
        """The absolute path of `path`, for a message."""
        return shown(self.directory + b"/" + path if path else self.directory)

    def open_directory(self, path: bytes, name: bytes = b"", parent: int = -1) -> int:
        """A descriptor for listing; the caller closes it. Raises UnreadableError and ChangedError.

        By `name` in the open directory `parent` if that is given, else by `path` from the top.
        """
        if parent < 0:
            return self._at(path, lambda name, parent: os.open(name, _DIRECTORY_FLAGS, dir_fd=parent))
        try:
            return os.open(name, _DIRECTORY_FLAGS, dir_fd=parent)
        except OSError as error:
            raise self.unreadable(path, error) from error

    def open_file(self, found: Found) -> int:
        """A descriptor for reading the file that `found` is; the caller closes it.

        Raises UnreadableError, and ChangedError if it is another one by now.
        """
        fd = self._at(found.path, lambda name, parent: os.open(name, _FILE_FLAGS, dir_fd=parent))
        try:
            self.check_unchanged(found, os.fstat(fd))
        except BaseException:
            os.close(fd)
            raise
        return fd

    def read_file(self, found: Found) -> bytes:
        """All of a file. Raises UnreadableError, and ChangedError if it is another one by now.

        One look at its status is enough, after reading: if it says what the walk saw, nothing changed since. Each call
        costs a turn of the interpreter's lock, which is what reading small files is slow by.
        """
        path, size = found.path, found.size
        try:
            if len(path) <= STEP_BYTES:
                fd = os.open(path, _FILE_FLAGS, dir_fd=self._top)
            else:
                fd = self._at_depth(path, lambda name, parent: os.open(name, _FILE_FLAGS, dir_fd=parent))
            try:
                # One byte more than there should be shows a file that grew.
                data = os.read(fd, size + 1)
                while 0 < len(data) < size and (more := os.read(fd, size + 1 - len(data))):
                    data += more
                status = os.fstat(fd)
            finally:
                os.close(fd)
        except OSError as error:
            raise self.unreadable(path, error) from error
        if len(data) != size or not found.is_still(status):
            raise self.changed(path)
        return data

    def read_link(self, found: Found) -> bytes:
        """The target of a symlink. Raises UnreadableError, and ChangedError if it is another one by now."""

        def read(name: bytes, parent: int) -> bytes:
            target = os.readlink(name, dir_fd=parent)
            self.check_unchanged(found, os.lstat(name, dir_fd=parent))
            return target

        return self._at(found.path, read)

    def check_unchanged(self, found: Found, status: os.stat_result) -> None:
        """Raises ChangedError unless `status` says what the walk saw."""
        if not found.is_still(status):
            raise self.changed(found.path)

    def changed(self, path: bytes) -> ChangedError:
        """The error that names a path which changed."""
        return ChangedError(
            f"{self.shown(path)} changed while it was being published, so nothing was",
            hint="commit again when nobody writes to the folder",
        )

    def too_deep(self, path: bytes) -> FsdError:
        """The error for a path that no tree can hold."""
        return UnsupportedFileError(
            f"{self.shown(path)[:200]}… is deeper than the {MAX_PATH_BYTES} bytes that a path may have",
            hint="nothing was published; leave it out of the folder",
        )

    def unreadable(self, path: bytes, error: OSError) -> FsdError:
        """The error that names a path which could not be read."""
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE, errno.ENXIO):
            return self.changed(path)
        hint = "make it readable, or leave it out of the folder" if isinstance(error, PermissionError) else ""
        return UnreadableError(
            f"cannot read {self.shown(path)}: {error.strerror or error}; nothing was published", hint=hint
        )

    def _at(self, path: bytes, action: Callable[[bytes, int], _T]) -> _T:
        """`action(last part of the path, descriptor of the directory it counts from)`."""
        try:
            if len(path) <= STEP_BYTES:
                return action(path or b".", self._top)
            return self._at_depth(path, action)
        except OSError as error:
            raise self.unreadable(path, error) from error

    def _at_depth(self, path: bytes, action: Callable[[bytes, int], _T]) -> _T:
        parent, rest = self._top, path
        try:
            while len(rest) > STEP_BYTES:
                step, _, rest = _split(rest)
                below = os.open(step, _DIRECTORY_FLAGS | os.O_PATH, dir_fd=parent)
                if parent != self._top:
                    os.close(parent)
                parent = below
            return action(rest, parent)
        finally:
            if parent != self._top:
                with suppress(OSError):
                    os.close(parent)


def _split(path: bytes) -> tuple[bytes, bytes, bytes]:
    """`path` at its last slash within STEP_BYTES."""
    at = path.rindex(b"/", 0, STEP_BYTES)
    return path[:at], path[at : at + 1], path[at + 1 :]


def _no_such_folder(directory: bytes, error: OSError) -> FsdError:
    if error.errno == errno.ENOENT:
        return NotFoundError(f"no folder {shown(directory)}")
    if error.errno == errno.ENOTDIR:
        return UsageError(f"{shown(directory)} is not a folder", hint="put the file into a folder and commit that")
    return UnreadableError(f"cannot read {shown(directory)}: {error.strerror}")
