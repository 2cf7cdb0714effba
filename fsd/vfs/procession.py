"""Who reads one small file after the other in the order of a tree, and what they will read next.

A pack holds small files in that order, so a program that goes through a folder soon reads what lies behind. Its own
pack's misses do not say so in time: each window that they bring along ends, half of it lies behind the reader, and the
pack ends. The tree knows what comes next, across packs and directories, and in a subset only what is in it.

A *procession* is a stretch of a tree that is read in order, by one or several readers who take turns. It begins with
a few reads close after each other, of which one missed; then what follows is fetched, a window ahead of the readers,
which doubles while they go on, from `window_min_bytes` to `window_max_bytes`. While nothing is missing nothing is
looked up.
Large files are left out: they have read-ahead of their own.

Concurrency: `note` is called for every read that begins a file and never waits. A task for each procession fetches what
follows; it is cancelled when the procession is given up for others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import NamedTuple, Protocol

import trio

from fsd.cache.fetcher import Fetch
from fsd.errors import FsdError
from fsd.format.model import Entry, PlacedChunk
from fsd.limits import Limits

MAX_PROCESSIONS = 8
"""Told apart: the readers of a data loader may each have a share of the tree."""

NEAR_ENTRIES = 64
"""A read so far from the last one still belongs to it: several readers take turns, and do not read everything."""

LEAST_READS = 4
"""In order, before anything is fetched for it: at random, so many close together are rare."""

_ENTRIES_A_READ = 4
"""A procession that has read fewer than one in so many of the entries that it passed is none."""


class Place(NamedTuple):
    """An entry of a tree."""

    tree: object
    """The same object for all entries of one tree, as long as it is read."""
    ordinal: int


class Order(Protocol):
    """What is asked about trees."""

    def place(self, ino: int) -> Place | None:
        """Where a file was last seen; None if that is not known any more. Takes a microsecond."""

    def following(self, place: Place) -> AsyncGenerator[tuple[int, Sequence[Entry]], None]:
        """The entries from that place on, in order, in batches with the ordinal after their last one."""


class _Part(NamedTuple):
    """What was started at once."""

    start: int
    """The ordinal of its first entry,"""
    end: int
    """and that after its last."""
    size: int
    """Bytes."""
    fetch: Fetch


class _Procession:
    __slots__ = ("ahead", "count", "end", "first", "is_filling", "last", "missed", "scope", "started", "tree", "window")

    def __init__(self, place: Place, window: int) -> None:
        self.tree = place.tree
        self.first = self.last = place.ordinal
        self.count = 1
        self.missed = False
        """Whether anything was missing of late."""
        self.window = window
        self.ahead = place.ordinal + 1
        """Up to where fetching was started."""
        self.end = False
        """Nothing follows."""
        self.started: deque[_Part] = deque()
        self.is_filling = False
        self.scope = trio.CancelScope()

    def takes(self, place: Place) -> bool:
        """Whether a read there belongs to it."""
        return place.tree is self.tree and -NEAR_ENTRIES <= place.ordinal - self.last <= NEAR_ENTRIES

    def is_dense(self) -> bool:
        return self.last - self.first < _ENTRIES_A_READ * (self.count + LEAST_READS)

    def ahead_bytes(self) -> int:
        """What was started and lies before the readers."""
        while self.started and self.started[0].end <= self.last:
            self.started.popleft()
        if not self.started:
            return 0
        begun = self.started[0]
        read = begun.size * max(0, self.last + 1 - begun.start) // (begun.end - begun.start)
        return sum(part.size for part in self.started) - read

    def cancel(self) -> None:
        self.scope.cancel()
        for part in self.started:
            part.fetch.cancel()
        self.started.clear()


class Processions:
    """See the module."""

    def __init__(
        self,
        order: Order,
        start_fetch: Callable[[Sequence[PlacedChunk]], Fetch],
        limits: Limits,
        nursery: trio.Nursery,
    ) -> None:
        """`start_fetch` begins to fetch what is absent of some chunks."""
        self._order = order
        self._start_fetch = start_fetch
        self._limits = limits
        self._nursery = nursery
        self._processions: list[_Procession] = []
        """The one that was read last comes first."""

    def note(self, ino: int, *, missed: bool) -> bool:
        """A small file is read from its start. True if what follows it is being taken care of."""
        place = self._order.place(ino)
        if place is None:
            return False
        for position, procession in enumerate(self._processions):
            if procession.takes(place):
                if position:
                    del self._processions[position]
                    self._processions.insert(0, procession)
                return self._advance(procession, place, missed=missed)
        self._processions.insert(0, _Procession(place, self._limits.window_min_bytes))
        if len(self._processions) > MAX_PROCESSIONS:
            self._processions.pop().cancel()
        return False

    def _advance(self, procession: _Procession, place: Place, *, missed: bool) -> bool:
        procession.count += 1
        procession.last = max(procession.last, place.ordinal)
        procession.missed = procession.missed or missed
        if not procession.is_dense():
            self._processions[0].cancel()
            self._processions[0] = _Procession(place, self._limits.window_min_bytes)
            return False
        if procession.count < LEAST_READS or not procession.missed or procession.end:
            return False
        if not procession.is_filling and procession.ahead_bytes() < procession.window // 2:
            procession.is_filling = True
            procession.scope = trio.CancelScope()
            self._nursery.start_soon(self._fill, procession)
        return True

    async def _fill(self, procession: _Procession) -> None:
        """Start to fetch what is missing of the window, and make the next one twice as long."""
        with procession.scope:
            try:
                wanted = procession.window - procession.ahead_bytes()
                procession.ahead = max(procession.ahead, procession.last + 1)
                found_missing = await self._start(procession, wanted)
                procession.window = min(2 * procession.window, self._limits.window_max_bytes)
                # Whoever reads what is all there is not to be looked ahead for, until something is missing again.
                procession.missed = found_missing
            except FsdError:
                procession.end = True  # whoever reads on will be told
            finally:
                procession.is_filling = False

    async def _start(self, procession: _Procession, wanted: int) -> bool:
        """Start so many bytes; whether anything of them was missing."""
        missing = False
        part: list[PlacedChunk] = []
        start, size = procession.ahead, 0
        async with aclosing(self._order.following(Place(procession.tree, procession.ahead))) as batches:
            async for after, entries in batches:
                for entry in entries:
                    if entry.level == 0 and entry.size < self._limits.own_pack_bytes:
                        part += entry.chunks()
                        size += entry.size
                procession.ahead = after
                if size >= min(wanted, self._limits.range_bytes):
                    missing |= self._start_part(procession, part, start, size)
                    wanted -= size
                    part, start, size = [], after, 0
                    if wanted <= 0:
                        return missing
        procession.end = True
        return self._start_part(procession, part, start, size) or missing

    def _start_part(self, procession: _Procession, chunks: list[PlacedChunk], start: int, size: int) -> bool:
        """Start a part that ends where `procession.ahead` is; whether anything of it was missing."""
        if procession.ahead == start:
            return False
        fetch = self._start_fetch(chunks)
        procession.started.append(_Part(start, procession.ahead, size, fetch))
        return not fetch.is_done
