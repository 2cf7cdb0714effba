"""A folder as an object store: the blocking half of `local`, one method a thread hop. Knows no trio.

It owns the order of system calls that makes a write whole and durable:

1. the bytes go to a file without a name (or one below `.tmp/`, where the file system has no O_TMPFILE);
2. its modification time is set to one that no earlier version of the key had: that makes the version (below);
3. fsync of the file, so that its name can never stand for less than all of it;
4. link(2), which fails where the name is taken; or, under the folder's lock, compare and rename(2);
5. fsync of the directory. A directory that was made is in its parent, and that synced, before anything is put into it.

A version is (modification time, size). The time's last 24 bits (16 ms) are random, and a replacement is always later
than what it replaces, so coarse clocks, clocks set back and reused inode numbers do not repeat one. The inode's number
and ctime are not in it: making a hard link or restoring a backup changes them, and not the object.

Names that are no key segments (`.tmp`, `.lock`, `lost+found`) are never shown. The root itself is never made here: a
missing one is a disk that is not mounted, and must not become an empty store.
"""

from __future__ import annotations

import errno
import fcntl
import os
import random
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fsd.files import read_at
from fsd.ids import Buffer
from fsd.limits import MIB
from fsd.stores.base import Fetched, ObjectInfo, Version, is_key, is_segment

TEMPORARY_FOLDER = ".tmp"
LOCK_FILE = ".lock"

STALE_TEMPORARY_S = 86_400.0
"""A temporary file not written to for a day belongs to nobody: the publisher that made it died or lost its machine."""

_RANDOM_BITS = 24
_TIME_STEP_NS = 1_000
"""How much later a replacement is at least. Some network file systems keep times in units of 100 ns."""

_KNOWN_FOLDERS = 65_536
"""Folders remembered as durable. Forgetting one costs an fsync."""

_WRITE_BACK_BYTES = 8 * MIB
"""The disk is set to work after this much of a long upload, so that the fsync at its end finds little to do."""

_SYNC_BYTES = 256 * MIB
"""And waited for after this much, so that this fsync ends within a request's deadline on a slow disk as well."""

_NO_UNNAMED_FILES = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT)
"""What open(2) with O_TMPFILE answers where there is no such thing."""


class RootGoneError(Exception):
    """The store's folder itself is not there."""


class Folder:
    """May be used from any number of threads, and one directory by any number of processes.

    What goes wrong is an OSError as the system raised it, or `RootGoneError`. `unnamed_files=False` makes every new
    file pass through `.tmp/`, as it does by itself where the file system knows no other way.
    """

    def __init__(self, root: Path, *, unnamed_files: bool = True) -> None:
        self._root = os.fspath(root)
        self._durable = {""}
        self._unnamed_files = unnamed_files and os.path.isdir("/proc/self/fd")
        self._swept = False

    # --- reading

    def read(self, key: str, start: int, length: int | None) -> Fetched:
        """`length` bytes from `start` (None: to the end); from `start` bytes before the end where it is negative."""
        fd = self._open_object(key)
        try:
            status = os.fstat(fd)
            begin = start if start >= 0 else max(0, status.st_size + start)
            # Bounded by the size before pread(2) allocates.
            wanted = status.st_size - begin if length is None else min(length, status.st_size - begin)
            return Fetched(read_at(fd, wanted, begin), _version(status), status.st_size)
        finally:
            os.close(fd)

    def stat(self, key: str) -> ObjectInfo:
        """What a listing says of it."""
        try:
            status = os.stat(self._path(key))
        except (FileNotFoundError, NotADirectoryError):
            self._check_root()
            raise
        if not stat.S_ISREG(status.st_mode):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), key)
        return _info(key, status)

    def walk(self, prefix: str, start_after: str) -> Iterator[ObjectInfo]:
        """Objects whose key starts with `prefix` and comes after `start_after`, in order. Holds the names of one path
        of directories. What appears or vanishes meanwhile may be shown or not."""
        folder, slash, _ = prefix.rpartition("/")
        self._check_root()
        if not slash or is_key(folder):
            yield from self._walk(folder + slash, prefix, start_after)

    def _walk(self, folder: str, prefix: str, start_after: str) -> Iterator[ObjectInfo]:
        for candidate in self._candidates(folder, prefix, start_after):
            if candidate.endswith("/"):
                yield from self._walk(candidate, prefix, start_after)
                continue
            with suppress(FileNotFoundError):
                status = os.stat(self._path(candidate))
                if stat.S_ISREG(status.st_mode):
                    yield _info(candidate, status)

    def _candidates(self, folder: str, prefix: str, start_after: str) -> list[str]:
        """The keys of one directory, and its subdirectories with a `/` at their end, which gives all of them the order
        of keys; without those that cannot matter."""
        found = []
        try:
            scan = os.scandir(self._path(folder))
        except (FileNotFoundError, NotADirectoryError):
            return []
        with scan:
            for entry in scan:
                if not is_segment(entry.name):
                    continue
                name = folder + entry.name
                if entry.is_dir(follow_symlinks=False):
                    name += "/"
                    wanted = name.startswith(prefix) or prefix.startswith(name)
                    later = name > start_after or start_after.startswith(name)
                else:
                    wanted = name.startswith(prefix)
                    later = name > start_after
                if wanted and later:
                    found.append(name)
        found.sort()
        return found

    # --- writing

    def create(self, key: str, data: Buffer) -> Version:
        """A new object. Raises FileExistsError; what is there then is durable."""
        if _stat_or_none(self._path(key), None) is not None:
            # Spares writing the bytes for nothing; what decides is the link.
            with self._directory(key.rpartition("/")[0]) as directory:
                os.fsync(directory)
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), key)
        new = NewFile(self)
        try:
            new.write(data)
            return new.finish(key)
        finally:
            new.abort()

    def replace(self, key: str, data: Buffer, *, expected: Version | None) -> Version | None:
        """Replace whatever is there (`expected` None), or that version only. None: it was another.

        Raises BlockingIOError while somebody else holds the folder's lock.
        """
        self.sweep_once()
        folder, _, name = key.rpartition("/")
        with self._lock(), self._directory(folder) as directory:
            previous = _stat_or_none(name, directory)
            if expected is not None and (previous is None or _version(previous) != expected):
                return None
            path, fd = self._open_named()
            try:
                _write_fully(fd, data)
                version = _seal(fd, previous)
                os.rename(path, name, dst_dir_fd=directory)
            except BaseException:
                with suppress(OSError):
                    os.unlink(path)
                raise
            finally:
                os.close(fd)
            os.fsync(directory)
            return version

    def delete(self, key: str, *, expected: Version | None) -> bool:
        """Remove it, at any version or the one expected; True if it is gone or was never there. Raises BlockingIOError
        while somebody else holds the folder's lock."""
        folder, _, name = key.rpartition("/")
        if _stat_or_none(self._path(key), None) is None:
            self._check_root()
            return True
        with self._lock(), self._directory(folder) as directory:
            found = _stat_or_none(name, directory)
            if found is not None:
                if expected is not None and _version(found) != expected:
                    return False
                os.unlink(name, dir_fd=directory)
                os.fsync(directory)
            return True

    def sweep_once(self) -> None:
        """Remove what dead writers left, at this object's first write. Files of other users stay."""
        if self._swept:
            return
        self._swept = True
        oldest = time.time() - STALE_TEMPORARY_S
        with suppress(FileNotFoundError), os.scandir(self._path(TEMPORARY_FOLDER)) as scan:
            for entry in scan:
                with suppress(FileNotFoundError, PermissionError):
                    if entry.stat(follow_symlinks=False).st_mtime < oldest:
                        os.unlink(entry.path)

    # --- for NewFile

    def open_unnamed(self) -> int | None:
        """A file that is gone when it is closed, unless it was linked; None if there are none on this file system."""
        if self._unnamed_files:
            try:
                return os.open(self._root, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o666)
            except OSError as error:
                if error.errno not in _NO_UNNAMED_FILES:
                    raise
                self._check_root()
                self._unnamed_files = False
        return None

    def _open_named(self) -> tuple[str, int]:
        path = self._path(f"{TEMPORARY_FOLDER}/{os.getpid()}-{random.getrandbits(64):016x}")
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
        try:
            return path, os.open(path, flags, 0o666)
        except FileNotFoundError:
            self._check_root()
            with suppress(FileExistsError):
                os.mkdir(self._path(TEMPORARY_FOLDER))
            return path, os.open(path, flags, 0o666)

    def _link(self, source: str, key: str) -> None:
        folder, _, name = key.rpartition("/")
        with self._directory(folder) as directory:
            try:
                # With a dst_dir_fd this is linkat(2), which follows the link in /proc; link(2) does not.
                os.link(source, name, dst_dir_fd=directory, follow_symlinks=True)
            finally:
                # Also where the name was taken: its maker may not have come to this yet.
                os.fsync(directory)

    # --- directories

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}"

    def _check_root(self) -> None:
        if not os.path.isdir(self._root):
            raise RootGoneError

    def _open_object(self, key: str) -> int:
        try:
            # Without O_NONBLOCK a FIFO that somebody put there would block for ever.
            fd = os.open(self._path(key), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except (FileNotFoundError, NotADirectoryError):
            self._check_root()
            raise
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), key)
        return fd

    @contextmanager
    def _directory(self, folder: str) -> Iterator[int]:
        """The folder, made durably where it is missing, open for what happens in it."""
        self._make_durable(folder)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        try:
            fd = os.open(self._path(folder), flags)
        except FileNotFoundError:
            # Somebody tidied up; whatever is remembered may be wrong.
            self._check_root()
            self._durable = {""}
            self._make_durable(folder)
            fd = os.open(self._path(folder), flags)
        try:
            yield fd
        finally:
            os.close(fd)

    def _make_durable(self, folder: str) -> None:
        if folder in self._durable:
            return
        parent, _, name = folder.rpartition("/")
        with self._directory(parent) as directory:
            with suppress(FileExistsError):
                os.mkdir(name, dir_fd=directory)
            # Also where it was there: who made it may not have synced it yet.
            os.fsync(directory)
        if len(self._durable) >= _KNOWN_FOLDERS:
            self._durable = {""}
        self._durable.add(folder)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Excludes every other replacement and removal in this folder, on this machine and, over NFS, on others."""
        self._check_root()
        fd = os.open(self._path(LOCK_FILE), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        finally:
            os.close(fd)


class NewFile:
    """An object that is being written. Invisible until `finish` returns, gone after `abort`.

    Calls may come from different threads, one after the other, except `abort`, which waits for the one at work.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._fd = -1
        self._path = ""
        """Its temporary name, '' if it has none."""
        self._ended = False
        self._size = 0
        self._written_back = 0
        self._synced = 0

    def write(self, *parts: Buffer) -> None:
        """Append."""
        with self._lock:
            self._open()
            for part in parts:
                self._size += _write_fully(self._fd, part)
            if self._size - self._written_back >= _WRITE_BACK_BYTES:
                # Starts writing what is dirty, and waits for nothing.
                length = self._size - self._written_back
                os.posix_fadvise(self._fd, self._written_back, length, os.POSIX_FADV_DONTNEED)
                self._written_back = self._size
            if self._size - self._synced >= _SYNC_BYTES:
                os.fdatasync(self._fd)
                self._synced = self._size

    def finish(self, key: str) -> Version:
        """Give it its name, durably. Raises FileExistsError."""
        with self._lock:
            self._open()
            version = _seal(self._fd, None)
            self._folder._link(self._path or f"/proc/self/fd/{self._fd}", key)
            self._end()
            return version

    def abort(self) -> None:
        """Idempotent; does nothing to what was finished."""
        with self._lock:
            self._end()

    def _open(self) -> None:
        if self._ended:
            raise OSError(errno.ECANCELED, "the write was given up")
        if self._fd < 0:
            self._folder.sweep_once()
            unnamed = self._folder.open_unnamed()
            if unnamed is None:
                self._path, self._fd = self._folder._open_named()
            else:
                self._fd = unnamed

    def _end(self) -> None:
        self._ended = True
        if self._path:
            # Whoever swept it up after a day was right.
            with suppress(FileNotFoundError):
                os.unlink(self._path)
            self._path = ""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)


def _seal(fd: int, previous: os.stat_result | None) -> Version:
    """Make what was written durable, with a modification time that no version before it had."""
    now = time.time_ns()
    modified = now - now % (1 << _RANDOM_BITS) + random.getrandbits(_RANDOM_BITS)
    if previous is not None:
        modified = max(modified, previous.st_mtime_ns + _TIME_STEP_NS)
    os.utime(fd, ns=(modified, modified))
    os.fsync(fd)
    return _version(os.fstat(fd))


def _version(status: os.stat_result) -> Version:
    return Version(f"{status.st_mtime_ns:x}-{status.st_size:x}")


def _info(key: str, status: os.stat_result) -> ObjectInfo:
    return ObjectInfo(key, status.st_size, _version(status), status.st_mtime_ns // 1000)


def _stat_or_none(path: str, directory: int | None) -> os.stat_result | None:
    try:
        return os.stat(path, dir_fd=directory)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _write_fully(fd: int, data: Buffer) -> int:
    view = memoryview(data).cast("B")
    size = len(view)
    while view:
        view = view[os.write(fd, view) :]
    return size
