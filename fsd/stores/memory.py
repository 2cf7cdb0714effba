"""A store in memory: for tests, and the reference that says in few lines what a store does.

Nothing is ever slow or lost here except with the process. Each call passes one checkpoint before it acts and none
while it acts, so that it happens at one moment, and cancelling it means that it did not happen.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio

from fsd.clock import Clock, now_us
from fsd.ids import Buffer
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
from fsd.stores.listing import Listing

_LISTED_AT_ONCE = 64
"""Few, so that tests see a listing go on while the store changes."""


@dataclass(frozen=True, slots=True)
class _Object:
    data: bytes
    version: Version
    modified_us: int


class MemoryStore:
    """See `fsd.stores.base`."""

    def __init__(self, clock: Clock = now_us) -> None:
        self._clock = clock
        self._objects: dict[str, _Object] = {}
        self._keys: list[str] = []
        """Sorted. Keys are ASCII, so that the order of strings is the order of bytes."""
        self._writes = 0

    @property
    def url(self) -> str:
        """It has no address; this is for messages."""
        return "memory:"

    async def get(self, key: str) -> Fetched:
        """The whole object."""
        found = await self._object(key)
        return Fetched(found.data, found.version, len(found.data))

    async def get_range(self, key: str, start: int, length: int) -> Fetched:
        """A part of it."""
        check_range(start, length)
        found = await self._object(key)
        return Fetched(found.data[start : start + length], found.version, len(found.data))

    async def get_tail(self, key: str, length: int) -> Fetched:
        """Its end."""
        check_range(0, length)
        found = await self._object(key)
        return Fetched(found.data[max(0, len(found.data) - length) :], found.version, len(found.data))

    async def put_if_absent(self, key: str, data: Buffer) -> Version:
        """Create the object."""
        check_key(key)
        await trio.lowlevel.checkpoint()
        return self._create_nowait(key, bytes(data))

    async def overwrite(self, key: str, data: Buffer) -> Version:
        """Create the object or replace it."""
        check_key(key)
        await trio.lowlevel.checkpoint()
        return self._write_nowait(key, bytes(data))

    async def compare_and_swap(self, key: str, data: Buffer, expected: Version | None) -> Version:
        """Replace the object if it is still the one expected."""
        check_key(key)
        await trio.lowlevel.checkpoint()
        self._compare_nowait(key, expected)
        return self._write_nowait(key, bytes(data))

    @asynccontextmanager
    async def upload(self, key: str, *, bookmark: Bookmark | None = None) -> AsyncIterator[Upload]:  # noqa: ARG002
        """Stream a new object; here its parts wait in memory."""
        check_key(key)
        await trio.lowlevel.checkpoint()
        yield _MemoryUpload(self, key)

    def list(self, prefix: str, *, start_after: str = "") -> Listing:
        """Shows what is there when it gets to it."""
        last = start_after

        async def next_batch() -> Sequence[ObjectInfo]:
            nonlocal last
            await trio.lowlevel.checkpoint()
            start = max(bisect_left(self._keys, prefix), bisect_right(self._keys, last))
            keys = self._keys[start : start + _LISTED_AT_ONCE]
            batch = [self._info(key) for key in keys if key.startswith(prefix)]
            last = batch[-1].key if batch else last
            return batch

        return Listing(next_batch)

    async def stat(self, key: str) -> ObjectInfo:
        """What a listing would say of it."""
        await self._object(key)
        return self._info(key)

    async def delete(self, key: str, expected: Version | None = None) -> None:
        """Remove it."""
        check_key(key)
        await trio.lowlevel.checkpoint()
        if key in self._objects:
            if expected is not None:
                self._compare_nowait(key, expected)
            del self._objects[key]
            del self._keys[bisect_left(self._keys, key)]

    async def aclose(self) -> None:
        """Nothing to release: a closed store may be used again, as a second look at the same place."""
        await trio.lowlevel.checkpoint()

    async def _object(self, key: str) -> _Object:
        check_key(key)
        await trio.lowlevel.checkpoint()
        try:
            return self._objects[key]
        except KeyError:
            raise ObjectNotFoundError(key, self.url) from None

    def _info(self, key: str) -> ObjectInfo:
        found = self._objects[key]
        return ObjectInfo(key, len(found.data), found.version, found.modified_us)

    def _compare_nowait(self, key: str, expected: Version | None) -> None:
        found = self._objects.get(key)
        if (found.version if found else None) != expected:
            raise VersionMismatchError(key, self.url)

    def _create_nowait(self, key: str, data: bytes) -> Version:
        if key in self._objects:
            raise ObjectExistsError(key, self.url)
        return self._write_nowait(key, data)

    def _write_nowait(self, key: str, data: bytes) -> Version:
        if key not in self._objects:
            insort(self._keys, key)
        self._writes += 1
        self._objects[key] = _Object(data, Version(str(self._writes)), self._clock())
        return self._objects[key].version


class _MemoryUpload:
    """See `fsd.stores.base.Upload`."""

    def __init__(self, store: MemoryStore, key: str) -> None:
        self._store = store
        self._key = key
        self._data = bytearray()

    async def write(self, data: Buffer) -> None:
        await trio.lowlevel.checkpoint()
        self._data += data

    async def finish(self) -> Version:
        await trio.lowlevel.checkpoint()
        return self._store._create_nowait(self._key, bytes(self._data))
