"""Holding the cache to its size: room is reserved before anything is written, and the least recently used extents go.

Owns the account (what mirrors, objects and the index take on disk, what is reserved) and the order of eviction. Does
not know what chunks are for.

Concurrency: `reserve` is called by any task; one task, `run`, evicts, and
`free` is called by any: one of them at a time takes something away. A reservation waits until a round of eviction
has made room. Whoever holds a write mark must have reserved before: `run` waits for write marks, so the other order
would be a deadlock.

What is pinned is not evicted, however full the cache is.

Order of an eviction: writers out, records away (index and pending), a new generation, readers out, then the hole. At no
moment does a record name bytes that are gone; a kill in between costs bytes on disk that nobody knows, found at the
next start.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import trio

from fsd.cache.folder import missing_disk_bytes
from fsd.cache.index import Held, IndexFailedError
from fsd.cache.mirrors import BLOCK_BYTES, Mirror, Mirrors
from fsd.cache.pins import Pins
from fsd.cache.presence import Presence
from fsd.cache.punch import punch_hole
from fsd.cache.reports import Reports

log = logging.getLogger(__name__)

SCAN_MIRRORS = 256
"""Looked through between two checkpoints while the oldest extents are searched."""

SPARE_SHARE = 0.9
"""Of what eviction leaves. A cache that evicts goes up and down above this, and never looks as if it had room."""

MIN_BATCH = 4
"""Extents evicted at once, at least."""


class Evictor:
    """See the module's docstring. `other_bytes` tells what objects and index take on disk."""

    def __init__(
        self,
        mirrors: Mirrors,
        presence: Presence,
        *,
        limit_bytes: int,
        low_water: float,
        extent_bytes: int,
        other_bytes: Callable[[], int],
        pins: Pins,
        directory: Path,
        limiter: trio.CapacityLimiter,
    ) -> None:
        self._mirrors = mirrors
        self._presence = presence
        self._pins = pins
        self._low_water = low_water
        self._set_limit(limit_bytes)
        self._extent_bytes = extent_bytes
        self._other_bytes = other_bytes
        self._directory = directory
        self._limiter = limiter
        self._reports = Reports(log)
        self._reserved_bytes = 0
        self._wanted_bytes = 0
        self._extra_bytes = 0
        self._wake = trio.Event()
        self._begun = 0
        self._ended = 0
        """Rounds of eviction."""
        self._lot = trio.lowlevel.ParkingLot()
        self._punching = trio.Lock()
        """Held while extents or chunks go, by the task that runs or by `free`: a mirror is punched by one at a time."""
        self._last_freed = 0
        self.evicted_bytes = 0
        self.evicted_chunks = 0
        self.evicted_extents = 0

    def _set_limit(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._low_bytes = int(limit_bytes * self._low_water)
        # Between the two marks, eviction runs beside the writing; at the limit, writing waits for it.
        self._wake_bytes = (self._low_bytes + limit_bytes) // 2

    def resize(self, limit_bytes: int) -> None:
        """Have another limit from now on; what is beyond it is evicted soon."""
        self._set_limit(limit_bytes)
        self.wake_if_full()

    @property
    def used_bytes(self) -> int:
        """Everything the cache takes on disk."""
        return self._mirrors.allocated_bytes + self._other_bytes()

    @property
    def keeps_bytes(self) -> int:
        """What mirrors may take up for long: eviction leaves so much of them."""
        return max(0, self._low_bytes - self._other_bytes())

    async def reserve(self, size: int) -> bool:
        """Room for `size` more bytes; give it back with `release` once they are counted. False: there is none."""
        if size > self.limit_bytes:
            return False
        while not self._has_room(size):
            freed = await self._wait_round(size)
            if not freed and not self._has_room(size):
                return False
        self._reserved_bytes += size
        self.wake_if_full()
        return True

    def _has_room(self, size: int) -> bool:
        within_limit = self.used_bytes + self._reserved_bytes + size <= self.limit_bytes
        return within_limit and self._missing_on_disk(size) <= 0

    def is_spare(self, size: int) -> bool:
        """Whether the cache has plenty of room for `size` more bytes: nothing will be pushed out for them soon."""
        used = self.used_bytes + self._reserved_bytes + size
        return used <= SPARE_SHARE * self._low_bytes and self._missing_on_disk(size) <= 0

    def _missing_on_disk(self, size: int) -> int:
        """By how much the disk would be too full with `size` more bytes."""
        return size + self._reserved_bytes + missing_disk_bytes(self._directory)

    def release(self, size: int) -> None:
        """End a reservation: what was written shows in the mirrors' own account by now."""
        self._reserved_bytes -= size

    def wake_if_full(self) -> None:
        """Start a round if less room is left than there should be."""
        if self.used_bytes + self._reserved_bytes > self._wake_bytes or self._missing_on_disk(0) > 0:
            self._wake.set()

    def shrink(self, size: int) -> None:
        """Free `size` bytes though the limit does not ask for it, soon: the disk is full."""
        self._extra_bytes = max(self._extra_bytes, size)
        self._wake.set()

    async def _wait_round(self, size: int) -> int:
        """Ask for room and wait for a whole round of eviction that knows of it; returns the bytes it freed."""
        self._wanted_bytes += size
        awaited = self._begun + 1
        self._wake.set()
        try:
            while self._ended < awaited:
                await self._lot.park()
        finally:
            self._wanted_bytes -= size
        return self._last_freed

    async def run(self) -> None:
        """Evict whenever it is needed, for ever."""
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            self._begun += 1
            freed = 0
            try:
                # Not to be cancelled half-way: records that are gone no longer tell of the bytes on disk.
                with trio.CancelScope(shield=True):
                    freed = await self._round()
            except (OSError, IndexFailedError) as error:
                self._reports.report(logging.ERROR, "evict", "cannot evict from the cache: %s", error)
            self._last_freed = freed
            self._ended = self._begun
            self._lot.unpark_all()

    def _missing_bytes(self) -> int:
        missing = self.used_bytes + self._reserved_bytes + self._wanted_bytes - self._low_bytes
        return max(missing, self._extra_bytes, self._missing_on_disk(self._wanted_bytes))

    async def _round(self) -> int:
        target = self._missing_bytes()
        self._extra_bytes = 0
        freed = 0
        while freed < target:
            victims = await self._oldest(target - freed)
            if not victims:
                break
            by_mirror: dict[Mirror, list[int]] = {}
            for _, number, extent in victims:
                mirror = self._mirrors.get(number)
                if mirror is not None:
                    by_mirror.setdefault(mirror, []).append(extent)
            for mirror, extents in by_mirror.items():
                async with self._punching:
                    # Somebody else may have removed it while this task waited.
                    if self._mirrors.get(mirror.number) is mirror:
                        freed += await self._evict_extents(mirror, extents)
        self.evicted_bytes += freed
        return freed

    async def _oldest(self, size: int) -> list[tuple[int, int, int]]:
        """(tick, mirror, extent) of the least recently used extents, none of them pinned, that make up about `size`
        bytes."""
        mirrors = self._mirrors.all()
        extents = 0
        for mirror in mirrors:
            extents += len(mirror.recency)
        if not extents:
            return []
        mean = max(BLOCK_BYTES, self._mirrors.allocated_bytes // extents)
        count = max(MIN_BATCH, -(-size // mean))
        oldest: list[tuple[int, int, int]] = []
        for first in range(0, len(mirrors), SCAN_MIRRORS):
            some = (
                (tick, mirror.number, extent)
                for mirror in mirrors[first : first + SCAN_MIRRORS]
                for tick, extent in self._evictable(mirror)
            )
            oldest = heapq.nsmallest(count, (*oldest, *some))
            await trio.lowlevel.checkpoint()
        return oldest

    def _evictable(self, mirror: Mirror) -> Iterable[tuple[int, int]]:
        """(tick, extent) of what of a mirror is not pinned."""
        pinned = self._pins.of_pack(mirror.pack)
        if not pinned:
            return mirror.recency
        return (row for row in mirror.recency if not any(row[1] in extents for extents in pinned))

    async def free(self, mirror: Mirror, rows: Sequence[Held]) -> int:
        """Let chunks of a mirror go though nobody needs the room; returns the bytes that came free.

        An extent goes as a whole with the last chunk that starts in it. Raises OSError, IndexFailedError.
        """
        freed = 0
        with trio.CancelScope(shield=True):
            async with self._punching:
                if self._mirrors.get(mirror.number) is mirror:
                    freed = await self._free(mirror, rows)
        return freed

    async def _free(self, mirror: Mirror, rows: Sequence[Held]) -> int:
        await mirror.begin_punch()
        try:
            async with self._presence.dropping():
                # What was pinned since it was chosen stays.
                rows = [row for row in rows if not self._pins.holds(mirror.pack, row.offset // self._extent_bytes)]
                self._presence.take(mirror.number, rows)
                holes = [(row.offset, row.offset + row.length) for row in rows]
                size = self._extent_bytes
                touched = {
                    n for row in rows for n in range(row.offset // size, (row.offset + row.length - 1) // size + 1)
                }
                holes += [
                    self._take_extent(mirror, extent)
                    for extent in sorted(touched)
                    if not self._presence.starting_in(mirror.number, extent * size, (extent + 1) * size)
                ]
            return await self._punch_or_remove(mirror, _joined(holes))
        finally:
            mirror.end_punch()

    async def _evict_extents(self, mirror: Mirror, extents: Iterable[int]) -> int:
        """Free extents of one mirror; returns the bytes that came free."""
        await mirror.begin_punch()
        try:
            try:
                async with self._presence.dropping():
                    # What was pinned since it was chosen stays.
                    going = [extent for extent in sorted(extents) if not self._pins.holds(mirror.pack, extent)]
                    holes = [self._take_extent(mirror, extent) for extent in going]
            except IndexFailedError as error:
                self._reports.report(logging.ERROR, "index", "evicting without the cache's index: %s", error)
                return await self._abandon(mirror, extents)
            return await self._punch_or_remove(mirror, holes)
        finally:
            mirror.end_punch()

    async def _punch_or_remove(self, mirror: Mirror, holes: list[tuple[int, int]]) -> int:
        """Free the bytes of what was taken; the whole file where nothing is left in it, or none can be punched."""
        mirror.recency_changed = True
        await mirror.wait_readers()
        is_pinned = bool(self._pins.of_pack(mirror.pack))
        if len(mirror.recency) or is_pinned:
            descriptor = self._mirrors.descriptor(mirror)
            if await trio.to_thread.run_sync(_punch, descriptor, holes, limiter=self._limiter):
                return -self._mirrors.update_allocated(mirror)
        return 0 if is_pinned else await self._remove(mirror)

    def _take_extent(self, mirror: Mirror, extent: int) -> tuple[int, int]:
        """Drop the records of an extent; returns the bytes that may go."""
        start = extent * self._extent_bytes
        held = self._presence.starting_in(mirror.number, start, start + self._extent_bytes)
        hole = self._hole(mirror, start, held)
        self._presence.take(mirror.number, held)
        mirror.recency.drop(extent)
        self.evicted_chunks += len(held)
        self.evicted_extents += 1
        return hole

    async def _remove(self, mirror: Mirror) -> int:
        """Delete a mirror of which nothing is left, or from which nothing can be punched."""
        async with self._presence.dropping():
            held = self._presence.of_mirror(mirror.number)
            self._presence.take(mirror.number, held)
            self.evicted_chunks += len(held)
        return await self._delete(mirror)

    async def _abandon(self, mirror: Mirror, extents: Iterable[int]) -> int:
        """Delete a mirror whose records cannot be removed now (the disk is full to the brim). They are void then.

        One with something pinned in it stays; `extents` of it are then not looked at again before they are used.
        """
        if self._pins.of_pack(mirror.pack):
            for extent in extents:
                mirror.recency.drop(extent)
            return 0
        self._presence.abandon(mirror.number)
        return await self._delete(mirror)

    async def _delete(self, mirror: Mirror) -> int:
        await mirror.wait_readers()
        freed = mirror.allocated_bytes
        await self._mirrors.remove(mirror, self._limiter)
        return freed

    def _hole(self, mirror: Mirror, start: int, held: list[Held]) -> tuple[int, int]:
        """The bytes to free with an extent: without what an earlier chunk has in it, with what its last has behind."""
        before = self._presence.last_before(mirror.number, start)
        first = max(start, before.offset + before.length) if before is not None else start
        end = max(start + self._extent_bytes, held[-1].offset + held[-1].length) if held else start + self._extent_bytes
        # A block is freed only as a whole: take the rest of the last one, if it is nobody's.
        block_end = -(-end // BLOCK_BYTES) * BLOCK_BYTES
        if not self._presence.starting_in(mirror.number, end, block_end):
            end = block_end
        return first, end


def _joined(holes: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same bytes in as few holes as that takes: a block that two chunks share is freed only with both."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(holes):
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(joined[-1][1], end)
        else:
            joined.append((start, end))
    return joined


def _punch(descriptor: int, holes: list[tuple[int, int]]) -> bool:
    return all(punch_hole(descriptor, start, end - start) for start, end in holes if start < end)
