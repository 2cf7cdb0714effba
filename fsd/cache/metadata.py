"""Stored objects (pages, indexes, recipes, commits) kept on disk: a loader in front of another one.

Owns the files below `<cache>/objects`: `<aa>/<hex>.<kind>`, each holding the stored bytes and a checksum of them, so
that a file that was torn by a crash or rotted is fetched again and never seen. It does not know what the bytes mean;
whether they are what their id promises is for the reader of objects to say (`forget` is what it says then).

Concurrency: the table belongs to the event loop's thread, files are touched in threads. Two tasks that load one
object both fetch it; the rename makes that harmless, and `Objects` above has a single flight of its own.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import trio

from fsd.cache.reports import Reports
from fsd.durable import sync
from fsd.format.keys import ObjectKind
from fsd.ids import ID_BYTES, content_id
from fsd.repo.objects import ObjectLoader

log = logging.getLogger(__name__)

METADATA_SHARE = 0.1
"""Of the cache's size, for objects."""

BLOCK_BYTES = 4096

USE_GRAIN_S = 3600.0
"""How exactly the last use of an object is kept over a restart (as its file's mtime)."""


class Room(Protocol):
    """Keeps the account of the whole cache (`fsd.cache.eviction`)."""

    async def reserve(self, size: int) -> bool:
        """Room for `size` more bytes, once something else has gone if need be; False if there is none."""

    def release(self, size: int) -> None:
        """What was reserved is counted now."""


class ObjectFiles:
    """The files, and the account of them. Without `room`, their own limit is the only one.

    What `is_pinned` says of a file's name stays, and may be more than the limit.
    """

    def __init__(
        self,
        directory: Path,
        limit_bytes: int,
        limiter: trio.CapacityLimiter,
        *,
        room: Room | None = None,
        is_pinned: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._directory = directory
        self._limit_bytes = limit_bytes
        self._limiter = limiter
        self._room = room
        self._is_pinned = is_pinned
        self._sizes: OrderedDict[str, int] = OrderedDict()
        """Bytes on disk by name, least recently used first."""
        self._reports = Reports(log)
        self._writing: set[str] = set()
        self.used_bytes = 0
        self.evicted_objects = 0

    def resize(self, limit_bytes: int) -> None:
        """Have another limit, from the next object that is kept on."""
        self._limit_bytes = limit_bytes

    def load(self) -> None:
        """Learn what is on disk, and keep no more of it than may be, in a thread before anything else."""
        self._directory.mkdir(mode=0o700, exist_ok=True)
        found: list[tuple[float, str, int]] = []
        for folder in os.scandir(self._directory):
            if not folder.is_dir(follow_symlinks=False):
                continue
            for entry in os.scandir(folder):
                if entry.name.endswith(".tmp"):
                    os.unlink(entry.path)
                    continue
                stat = entry.stat(follow_symlinks=False)
                found.append((stat.st_mtime, entry.name, stat.st_blocks * 512))
        for _, name, size in sorted(found, reverse=True):
            if self.used_bytes + size > self._limit_bytes and not self._is_pinned(name):
                _unlink(self._path(name))
                continue
            self._sizes[name] = size
            self._sizes.move_to_end(name, last=False)
            self.used_bytes += size

    async def read(self, kind: ObjectKind, object_id: bytes) -> bytes | None:
        """The stored bytes, or None."""
        name = object_name(kind, object_id)
        if name not in self._sizes:
            return None
        self._sizes.move_to_end(name)
        data = await trio.to_thread.run_sync(_read, self._path(name), limiter=self._limiter)
        if data is None:
            await self.remove(kind, object_id)
        return data

    async def write(self, kind: ObjectKind, object_id: bytes, data: bytes) -> None:
        """Keep the stored bytes. A disk that is full or fails is no error: they are then not kept."""
        name = object_name(kind, object_id)
        size = -(-(len(data) + ID_BYTES) // BLOCK_BYTES) * BLOCK_BYTES
        if size > self._limit_bytes or name in self._sizes or name in self._writing:
            return
        self._writing.add(name)
        try:
            if self._room is not None:
                if not await self._room.reserve(size):
                    return
                self._room.release(size)
            await self._write(name, size, data)
        finally:
            self._writing.discard(name)

    async def replace(self, kind: ObjectKind, object_id: bytes, data: bytes) -> None:
        """Keep these bytes, and no others of the object. As `write`, a disk that is full or fails is no error."""
        if await self.read(kind, object_id) != data:
            await self.remove(kind, object_id)
            await self.write(kind, object_id, data)

    async def _write(self, name: str, size: int, data: bytes) -> None:
        self.used_bytes += size
        path = self._path(name)
        try:
            await self._shrink()
            await trio.to_thread.run_sync(_write, path, data, limiter=self._limiter)
            self._sizes[name] = size
        except OSError as error:
            self._reports.report(logging.WARNING, "write", "cannot keep an object in the cache: %s", error)
        finally:
            if name not in self._sizes:
                self.used_bytes -= size

    async def remove(self, kind: ObjectKind, object_id: bytes) -> None:
        """Forget an object."""
        await self._remove(object_name(kind, object_id))

    async def _remove(self, name: str) -> None:
        self.used_bytes -= self._sizes.pop(name, 0)
        await trio.to_thread.run_sync(_unlink, self._path(name), limiter=self._limiter)

    async def _shrink(self) -> None:
        for _ in range(len(self._sizes)):
            if self.used_bytes <= self._limit_bytes or not self._sizes:
                return
            oldest = next(iter(self._sizes))
            if self._is_pinned(oldest):
                self._sizes.move_to_end(oldest)
            else:
                self.evicted_objects += 1
                await self._remove(oldest)

    def has(self, kind: ObjectKind, object_id: bytes) -> bool:
        """Whether it is on disk, as far as is known without looking."""
        return object_name(kind, object_id) in self._sizes

    async def sync(self, names: Iterable[str]) -> None:
        """Make files durable. Raises OSError."""
        paths = [self._path(name) for name in names if name in self._sizes]
        await trio.to_thread.run_sync(_sync, paths, limiter=self._limiter)

    def _path(self, name: str) -> str:
        return f"{self._directory}/{name[:2]}/{name}"


class CachedLoader:
    """An `ObjectLoader` that asks `inner` only for what is not on disk."""

    def __init__(self, inner: ObjectLoader, files: ObjectFiles) -> None:
        self._inner = inner
        self._files = files

    async def load(self, kind: ObjectKind, object_id: bytes) -> bytes:
        """The stored bytes. Raises what `inner` raises."""
        data = await self._files.read(kind, object_id)
        if data is None:
            data = await self._inner.load(kind, object_id)
            await self._files.write(kind, object_id, data)
        return data

    async def reload(self, kind: ObjectKind, object_id: bytes) -> bytes:
        """See `ObjectLoader.reload`: what is on disk stays until there is something to take its place."""
        data = await self._inner.reload(kind, object_id)
        await self._files.replace(kind, object_id, data)
        return data

    async def keep(self, kind: ObjectKind, object_id: bytes) -> bool:
        """Have the object on disk, whoever has it in memory. False if there is no room. Raises what `inner` raises."""
        if not self._files.has(kind, object_id):
            await self.load(kind, object_id)
        return self._files.has(kind, object_id)

    async def forget(self, kind: ObjectKind, object_id: bytes) -> None:
        """See `ObjectLoader.forget`."""
        await self._files.remove(kind, object_id)
        await self._inner.forget(kind, object_id)


def object_name(kind: ObjectKind, object_id: bytes) -> str:
    """The name of an object's file."""
    return f"{object_id.hex()}.{kind.name.lower()}"


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            stat = os.fstat(file.fileno())
            found = file.read()
            if len(found) < ID_BYTES:
                return None
            if time.time() - stat.st_mtime > USE_GRAIN_S:
                os.utime(path)
    except OSError as error:
        if error.errno != errno.ENOENT:
            log.warning("cannot read an object from the cache: %s", error)
        return None
    data = found[:-ID_BYTES]
    return data if content_id(data) == found[-ID_BYTES:] else None


def _write(path: str, data: bytes) -> None:
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    temporary = f"{path}.tmp"
    try:
        with open(temporary, "wb") as file:
            file.write(data + content_id(data))
        os.rename(temporary, path)
    except BaseException:
        _unlink(temporary)
        raise


def _unlink(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)


def _sync(paths: Iterable[str]) -> None:
    for path in {*paths, *map(os.path.dirname, paths)}:
        sync(path)
