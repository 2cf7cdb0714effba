"""Looking out for a reader of a large file: where its next bytes lie in the cache, checked before it comes to them.

A run of reads has one `Lookout`. It holds a few *sights*: stretches of the file of which the cache has said where they
lie. Reading through a sight costs no look-up a chunk. Before the reader leaves the last sight the next one is made, in
a task of its own, so that hashing and the disk are busy beside the reader and not in its way. Where chunks are absent
there is nothing to be seen, and the reader fetches them as everybody does.

Concurrency: one task at a time makes a sight for a run; a reader who needs it waits for that task. Everything between
two awaits is atomic.
"""

from __future__ import annotations

from typing import NamedTuple

import trio

from fsd.cache.cache import Cache
from fsd.cache.reading import Located
from fsd.errors import FsdError
from fsd.ids import Buffer
from fsd.limits import MIB
from fsd.vfs.pieces import Pieces

MIN_SIGHT_BYTES = MIB
MAX_SIGHT_BYTES = 4 * MIB
"""What is looked up, checked and read from the disk at once: some milliseconds in a thread. The first is short, since
two reads in a row are not always followed by a third."""

MAX_SIGHTS = 3
"""The one being read, the next, and the last, since the kernel's requests come a little out of order."""

_ALIGNMENT = MIB
"""Sights begin where requests do (the kernel aligns them), so that none lies across two sights."""


class _Sight(NamedTuple):
    start: int
    """In the file."""
    end: int
    located: Located


class Lookout:
    """See the module."""

    __slots__ = ("_cache", "_end", "_made", "_pieces", "_sights", "_size")

    def __init__(self, cache: Cache, pieces: Pieces) -> None:
        self._cache = cache
        self._pieces = pieces
        self._sights: list[_Sight] = []
        self._made: trio.Event | None = None
        """Set when the sight that is being made is there."""
        self._size = MIN_SIGHT_BYTES
        self._end = 0
        """Where it is worth looking on: the end of the last sight, if nothing was absent there."""

    def read_nowait(self, start: int, end: int, nursery: trio.Nursery) -> Buffer | None:
        """The bytes of the file from `start` to before `end` if they are in sight; looks further ahead if need be."""
        for sight in self._sights:
            if sight.start <= start and end <= sight.end:
                data = self._cache.read_located_nowait(sight.located, start - sight.start, end - start)
                if data is None:
                    self._sights.remove(sight)
                    return None
                if sight.end == self._end and sight.end - end < self._size // 2 and self._made is None:
                    self._made = trio.Event()
                    nursery.start_soon(self._look, sight.end // _ALIGNMENT * _ALIGNMENT)
                return data
        return None

    async def read(self, start: int, end: int) -> Buffer | None:
        """The same, having looked where nobody has looked yet; None if something is absent. Raises as pieces do."""
        if self._made is not None:
            await self._made.wait()
        data = self._read(start, end)
        if data is None and self._made is None:
            self._made = trio.Event()
            await self._look(start)
            data = self._read(start, end)
        return data

    def _read(self, start: int, end: int) -> Buffer | None:
        for sight in self._sights:
            if sight.start <= start and end <= sight.end:
                return self._cache.read_located_nowait(sight.located, start - sight.start, end - start)
        return None

    async def _look(self, start: int) -> None:
        made = self._made
        assert made is not None
        try:
            goal = min(start + self._size, self._pieces.size)
            if start < goal:
                chunks, skip = await self._pieces.run(start, goal)
                located = await self._cache.look_ahead(chunks)
                end = start - skip + located.length
                self._sights = [*self._sights[1 - MAX_SIGHTS :], _Sight(start - skip, end, located)]
                self._end = end if end >= goal else 0
                self._size = min(2 * self._size, MAX_SIGHT_BYTES) if end >= goal else MIN_SIGHT_BYTES
        except FsdError:
            self._end = 0  # whoever reads there will be told
        finally:
            self._made = None
            made.set()
