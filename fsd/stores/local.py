"""A store in a folder: the async half. How a write becomes whole and durable is `folder`'s business.

Owns the thread hops (one a call), their deadline, the waits for the folder's lock, and what a system error means to
whoever asked. Works on every file system that has hard links and flock(2); any number of stores and processes may use
one folder.

A call that is cancelled, or runs into its deadline, leaves its thread behind to end by itself: a dead disk or network
file system can hold a thread for ever, but not the caller.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import chain, islice, repeat
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import trio

from fsd.errors import StorePermissionError, StoreUnreachableError, UsageError
from fsd.ids import Buffer
from fsd.limits import MIB, Limits
from fsd.stores.base import (
    Bookmark,
    Fetched,
    ObjectExistsError,
    ObjectInfo,
    ObjectNotFoundError,
    Upload,
    Version,
    VersionMismatchError,
    check_key,
    check_range,
)
from fsd.stores.folder import Folder, NewFile, RootGoneError
from fsd.stores.listing import Listing

_T = TypeVar("_T")

UPLOAD_BUFFER_BYTES = 1 * MIB
"""Smaller writes are collected up to this, so that a thread hop is paid for each MiB and not for each chunk."""

_FIRST_LISTED = 64
_LISTED_AT_ONCE = 1_024
"""Objects a thread hop lists. The first hop is short, for who wants to know only whether there is one."""

_LOCK_POLL_MIN_S = 0.001
_LOCK_POLL_MAX_S = 0.05
"""Waits between tries for a lock that another process holds. It holds it for two fsyncs, about a millisecond."""


class LocalStore:
    """See `fsd.stores.base`. The folder must exist; reading never writes to it.

    `limiter` bounds the threads, `limits.store_threads` of its own if None.
    """

    def __init__(
        self,
        root: Path,
        limits: Limits,
        *,
        limiter: trio.CapacityLimiter | None = None,
        unnamed_files: bool = True,
    ) -> None:
        self._root = Path(os.path.abspath(root))
        self._folder = Folder(self._root, unnamed_files=unnamed_files)
        self._timeout_s = limits.store_timeout_s
        self._limiter = limiter or trio.CapacityLimiter(limits.store_threads)
        # Tasks of this process queue here and do not poll for the file lock against each other.
        self._replacing = trio.Lock()

    @property
    def url(self) -> str:
        """A file:// URL."""
        return f"file://{quote(os.fspath(self._root))}"

    async def get(self, key: str) -> Fetched:
        """The whole object."""
        check_key(key)
        return await self._call("read", key, lambda: self._folder.read(key, 0, None))

    async def get_range(self, key: str, start: int, length: int) -> Fetched:
        """A part of it: one thread hop, one pread(2)."""
        check_key(key)
        check_range(start, length)
        return await self._call("read", key, lambda: self._folder.read(key, start, length))

    async def get_tail(self, key: str, length: int) -> Fetched:
        """Its end."""
        check_key(key)
        check_range(0, length)
        return await self._call("read", key, lambda: self._folder.read(key, -length, length))

    async def put_if_absent(self, key: str, data: Buffer) -> Version:
        """Create the object."""
        check_key(key)
        # A copy of what may change: this thread may go on after the caller was cancelled.
        content = bytes(data)
        return await self._call("write", key, lambda: self._folder.create(key, content))

    async def overwrite(self, key: str, data: Buffer) -> Version:
        """Create the object or replace it."""
        check_key(key)
        content = bytes(data)
        version = await self._locked("write", key, lambda: self._folder.replace(key, content, expected=None))
        assert version is not None
        return version

    async def compare_and_swap(self, key: str, data: Buffer, expected: Version | None) -> Version:
        """Replace the object if it is still the one expected."""
        check_key(key)
        content = bytes(data)
        if expected is None:
            try:
                return await self._call("write", key, lambda: self._folder.create(key, content))
            except ObjectExistsError:
                raise VersionMismatchError(key, self.url) from None
        version = await self._locked("write", key, lambda: self._folder.replace(key, content, expected=expected))
        if version is None:
            raise VersionMismatchError(key, self.url)
        return version

    @asynccontextmanager
    async def upload(self, key: str, *, bookmark: Bookmark | None = None) -> AsyncIterator[Upload]:  # noqa: ARG002
        """Stream a new object."""
        check_key(key)
        upload = _LocalUpload(self, key, NewFile(self._folder))
        try:
            yield upload
        finally:
            await upload.close()

    def list(self, prefix: str, *, start_after: str = "") -> Listing:
        """Holds the names of the directories on the path to where it is, and nothing else of the store."""
        walk = self._folder.walk(prefix, start_after)
        counts = chain([_FIRST_LISTED], repeat(_LISTED_AT_ONCE))
        return Listing(lambda: self._call("list", f"{prefix}*", lambda: tuple(islice(walk, next(counts)))))

    async def stat(self, key: str) -> ObjectInfo:
        """What a listing would say of it."""
        check_key(key)
        return await self._call("read", key, lambda: self._folder.stat(key))

    async def delete(self, key: str, expected: Version | None = None) -> None:
        """Remove it."""
        check_key(key)
        if not await self._locked("delete", key, lambda: self._folder.delete(key, expected=expected)):
            raise VersionMismatchError(key, self.url)

    async def aclose(self) -> None:
        """A folder holds no connections."""
        await trio.lowlevel.checkpoint()

    async def _locked(self, verb: str, key: str, action: Callable[[], _T]) -> _T:
        """Call `action` in a thread until it gets the folder's lock."""
        wait_s = _LOCK_POLL_MIN_S
        try:
            with trio.fail_after(self._timeout_s):
                async with self._replacing:
                    while True:
                        try:
                            return await self._call(verb, key, action)
                        except BlockingIOError:
                            await trio.sleep(wait_s * (0.5 + random.random()))
                            wait_s = min(2 * wait_s, _LOCK_POLL_MAX_S)
        except trio.TooSlowError:
            raise self._too_slow(verb, key, "another process holds its lock, or its disk hangs") from None

    async def _call(self, verb: str, key: str, action: Callable[[], _T]) -> _T:
        """`action` in a thread, once. Of what the system answers only BlockingIOError passes: the lock is taken."""
        try:
            with trio.fail_after(self._timeout_s):
                return await trio.to_thread.run_sync(action, abandon_on_cancel=True, limiter=self._limiter)
        except trio.TooSlowError:
            raise self._too_slow(verb, key, "its disk or network file system may hang") from None
        except BlockingIOError:
            raise
        except RootGoneError:
            raise StoreUnreachableError(
                f"cannot {verb} {key}: the store's folder {self._root} is not there", hint="is its disk mounted?"
            ) from None
        except OSError as error:
            raise self._refusal(verb, key, error) from error

    def _too_slow(self, verb: str, key: str, why: str) -> StoreUnreachableError:
        return StoreUnreachableError(
            f"cannot {verb} {key}: {self.url} did not answer within {self._timeout_s:g} s", hint=why
        )

    def _refusal(self, verb: str, key: str, error: OSError) -> Exception:
        """What a system error means."""
        if verb == "read" and error.errno in (errno.ENOENT, errno.ENOTDIR):
            return ObjectNotFoundError(key, self.url)
        if verb == "write" and error.errno == errno.EEXIST:
            return ObjectExistsError(key, self.url)
        reason = os.strerror(error.errno) if error.errno else str(error)
        message = f"cannot {verb} {key} in {self.url}: {reason}"
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return StorePermissionError(message, hint="check who owns the store's folder, and how it is mounted")
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return StoreUnreachableError(message, hint="make room on the store's disk, or raise the quota")
        if error.errno == errno.EXDEV:
            return StoreUnreachableError(message, hint="a store must lie on one file system")
        return StoreUnreachableError(message, hint="check the disk, and the kernel's log")


class _LocalUpload:
    """See `fsd.stores.base.Upload`. After a call that failed or was cancelled nobody knows how much was written, so it
    cannot go on."""

    def __init__(self, store: LocalStore, key: str, file: NewFile) -> None:
        self._store = store
        self._key = key
        self._file = file
        self._pending = bytearray()
        self._usable = True

    async def write(self, data: Buffer) -> None:
        self._check_usable()
        if len(self._pending) + memoryview(data).nbytes < UPLOAD_BUFFER_BYTES:
            self._pending += data
            await trio.lowlevel.checkpoint()
            return
        # A new one, since a thread that was left behind may still read the old one.
        pending, self._pending = self._pending, bytearray()
        self._usable = False
        await self._store._call("write", self._key, lambda: self._file.write(pending, data))
        self._usable = True

    async def finish(self) -> Version:
        self._check_usable()
        self._usable = False
        return await self._store._call("write", self._key, self._write_rest)

    async def close(self) -> None:
        """Forget it, unless it is finished. Not to be cancelled, but bounded in time like everything."""
        with trio.CancelScope(deadline=trio.current_time() + self._store._timeout_s, shield=True):
            await trio.to_thread.run_sync(self._file.abort, abandon_on_cancel=True, limiter=self._store._limiter)

    def _write_rest(self) -> Version:
        self._file.write(self._pending)
        return self._file.finish(self._key)

    def _check_usable(self) -> None:
        if not self._usable:
            raise ValueError(f"the upload of {self._key} has ended")


def create_local_root(path: Path) -> None:
    """Make the folder for a new store, and those above it, durably; one that is there may be used. Raises UsageError if
    something else is in its place, StorePermissionError and StoreUnreachableError. Blocks."""
    try:
        missing = [path, *path.parents]
        for folder in reversed([each for each in missing if not each.exists()]):
            folder.mkdir(exist_ok=True)
            parent = os.open(folder.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(parent)
            finally:
                os.close(parent)
        if not path.is_dir():
            raise UsageError(f"{path} is not a folder", hint="a store needs a folder of its own")
    except (FileExistsError, NotADirectoryError):
        raise UsageError(f"{path} cannot be made: something above it is not a folder") from None
    except OSError as error:
        kind = (
            StorePermissionError
            if isinstance(error, PermissionError) or error.errno == errno.EROFS
            else StoreUnreachableError
        )
        raise kind(f"cannot make the folder {path}: {error.strerror}") from error
