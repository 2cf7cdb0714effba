"""Which chunks are in the cache: the index on disk, and before it what was fetched since the last flush.

Owns the index, the pending records, and the claims on ranges of mirrors. Knows nothing of files' content: who calls
`add` has written the chunk's bytes and checked them, who calls `confirm` has read and checked them.

Concurrency: used from the event loop's thread only; no method but `flush` and `dropping` awaits, so every other call is
atomic. `flush` writes a batch in a thread; a record that was taken meanwhile would come back with it, therefore
`dropping` and that part of `flush` exclude each other. A single `drop` cannot wait: its record goes at once, and again
after the batch.

Invariants:

- What `find` returns lies in its mirror, checked, when its epoch is the present one; a claim to be checked otherwise.
- Ranges that were claimed and not released, and those of the index, never overlap within a mirror: no write can destroy
  a chunk that is recorded, whatever a placement says.
- What is recorded of a mirror that is gone does not count, even where the records could not be removed.
- An index that fails makes chunks absent, never wrong.
- A record reaches the index only after its mirror's data was made durable.
"""

from __future__ import annotations

import logging
from bisect import bisect_left, insort
from collections.abc import AsyncIterator, Awaitable, Callable, Container, Iterable, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise

import trio

from fsd.cache.index import Extents, Held, IndexFailedError, Location, PresenceIndex

log = logging.getLogger(__name__)


class _Claims:
    """Ranges of one mirror that are being written, or written and not yet in the index. They do not overlap."""

    __slots__ = ("_held", "_offsets")

    def __init__(self) -> None:
        self._offsets: list[int] = []
        self._held: dict[int, Held] = {}

    def __bool__(self) -> bool:
        return bool(self._offsets)

    def is_free(self, start: int, end: int) -> bool:
        position = bisect_left(self._offsets, end)
        if position == 0:
            return True
        last = self._held[self._offsets[position - 1]]
        return last.offset + last.length <= start

    def add(self, held: Held) -> None:
        insort(self._offsets, held.offset)
        self._held[held.offset] = held

    def add_all(self, rows: Sequence[Held]) -> None:
        """Ranges that follow each other, with none of those that are here in between."""
        position = bisect_left(self._offsets, rows[0].offset)
        self._offsets[position:position] = [row.offset for row in rows]
        self._held.update((row.offset, row) for row in rows)

    def remove(self, offset: int) -> None:
        if self._held.pop(offset, None) is not None:
            del self._offsets[bisect_left(self._offsets, offset)]

    def remove_all(self, offsets: Iterable[int]) -> None:
        """The same for many: one at a time would move the rest of the list for each."""
        for offset in offsets:
            self._held.pop(offset, None)
        self._offsets = [offset for offset in self._offsets if offset in self._held]

    def starting_in(self, start: int, end: int) -> list[Held]:
        first, last = bisect_left(self._offsets, start), bisect_left(self._offsets, end)
        return [self._held[offset] for offset in self._offsets[first:last]]

    def last_before(self, offset: int) -> Held | None:
        position = bisect_left(self._offsets, offset)
        return self._held[self._offsets[position - 1]] if position else None


class Presence:
    """See the module's docstring."""

    def __init__(self, index: PresenceIndex, mirrors: Container[int]) -> None:
        """`mirrors` has the numbers of those there are: what is recorded of another one is void."""
        self._index = index
        self._mirrors = mirrors
        self.epoch = index.epoch
        self._pending: dict[bytes, Location] = {}
        self._claims: dict[int, _Claims] = {}
        self.failures = 0
        """How often the index could not be used. Chunks are then fetched as if they were absent."""
        self._lock = trio.Lock()
        self._in_flush = False
        self._dropped_in_flush: list[tuple[int, Held]] = []

    def __len__(self) -> int:
        """Records that a flush would write."""
        return len(self._pending)

    # --- chunks

    def find(self, chunk: bytes) -> Location | None:
        """Where `chunk` lies; see the invariants for what that promises."""
        location = self._pending.get(chunk)
        if location is None:
            try:
                location = self._index.get(chunk)
            except IndexFailedError as error:
                self._failed(error)
        if location is not None and location.mirror not in self._mirrors:
            return None
        return location

    def find_many(self, chunks: Sequence[bytes]) -> list[Location | None]:
        """`find` for each of `chunks`."""
        found = [self._pending.get(chunk) for chunk in chunks]
        unknown = [position for position, location in enumerate(found) if location is None]
        if unknown:
            try:
                recorded = self._index.get_many([chunks[position] for position in unknown])
            except IndexFailedError as error:
                self._failed(error)
                recorded = []
            for position, location in zip(unknown, recorded, strict=False):
                found[position] = location
        mirrors = self._mirrors
        return [None if place is not None and place.mirror not in mirrors else place for place in found]

    def claim(self, mirror: int, wanted: Iterable[Held]) -> list[bool]:
        """Reserve ranges of a mirror for chunks to be written; False for each of which another chunk has a part.

        What is claimed is added or released later.
        """
        claims = self._claims.setdefault(mirror, _Claims())
        rows = list(wanted)
        if rows and self._is_free(claims, mirror, rows):
            claims.add_all(rows)
            return [True] * len(rows)
        known: Extents = {}
        granted = [self._claim(claims, mirror, held, known) for held in rows]
        self._tidy(mirror, claims)
        return granted

    def _is_free(self, claims: _Claims, mirror: int, rows: Sequence[Held]) -> bool:
        """Whether nothing lies from the first of `rows`, which follow each other, to the last: mostly so."""
        if any(row.offset + row.length > after.offset for row, after in pairwise(rows)):
            return False
        start, end = rows[0].offset, rows[-1].offset + rows[-1].length
        if not claims.is_free(start, end):
            return False
        try:
            before = self._index.last_before(mirror, end)
        except IndexFailedError:
            return False  # whoever looks at each will find that out
        return before is None or before.offset + before.length <= start

    def _claim(self, claims: _Claims, mirror: int, held: Held, known: Extents) -> bool:
        end = held.offset + held.length
        if not claims.is_free(held.offset, end):
            return False
        try:
            before = self._index.last_before(mirror, end, known)
        except IndexFailedError as error:
            self._failed(error)
            return False
        if before is not None and before.offset + before.length > held.offset:
            return False
        claims.add(held)
        return True

    def release(self, mirror: int, offset: int) -> None:
        """Give up a claim: nothing was written there, or nothing that can be used."""
        claims = self._claims.get(mirror)
        if claims is not None:
            claims.remove(offset)
            self._tidy(mirror, claims)

    def _tidy(self, mirror: int, claims: _Claims) -> None:
        if not claims:
            del self._claims[mirror]

    def release_all(self, mirror: int, offsets: Sequence[int]) -> None:
        """The same for many."""
        claims = self._claims.get(mirror)
        if claims is not None:
            claims.remove_all(offsets)
            self._tidy(mirror, claims)

    def add(self, mirror: int, chunk: bytes, offset: int, length: int) -> None:
        """A claimed chunk has been checked and written."""
        self._pending[chunk] = Location(mirror, offset, length, self.epoch)

    def confirm(self, chunk: bytes, location: Location) -> None:
        """The bytes at a location of an older epoch have been read and are right."""
        self._pending[chunk] = location._replace(epoch=self.epoch)

    def drop(self, chunk: bytes, location: Location) -> None:
        """What lies at `location` is not (or no longer) the chunk."""
        held = Held(location.offset, location.length, chunk)
        self._forget(location.mirror, [held])
        try:
            if self._in_flush:
                self._index.forget(location.mirror, held)
                self._dropped_in_flush.append((location.mirror, held))
            else:
                self._index.remove(location.mirror, [held])
        except IndexFailedError as error:
            self._failed(error)

    def _failed(self, error: IndexFailedError) -> None:
        """An index that cannot be read has nothing, as far as a reader is concerned."""
        if self.failures == 0:
            log.error("the cache's index fails: %s", error)
        self.failures += 1

    # --- ranges of mirrors

    @asynccontextmanager
    async def dropping(self) -> AsyncIterator[None]:
        """While inside, no flush writes records; `take` may be called."""
        async with self._lock:
            yield

    def starting_in(self, mirror: int, start: int, end: int) -> list[Held]:
        """The chunks of a mirror that start in [start, end), by offset."""
        size = self._index.extent_bytes
        held = {
            row.offset: row
            for extent in range(start // size, -(-end // size))
            for row in self._index.extent(mirror, extent)
            if start <= row.offset < end
        }
        claims = self._claims.get(mirror)
        if claims is not None:
            held.update((row.offset, row) for row in claims.starting_in(start, end))
        return [held[offset] for offset in sorted(held)]

    def of_mirror(self, mirror: int) -> list[Held]:
        """All chunks of a mirror."""
        claims = self._claims.get(mirror)
        return sorted({*self._index.of_mirror(mirror), *(claims.starting_in(0, 1 << 64) if claims is not None else ())})

    def last_before(self, mirror: int, offset: int) -> Held | None:
        """The last chunk of a mirror that starts before `offset`."""
        recorded = self._index.last_before(mirror, offset)
        claims = self._claims.get(mirror)
        claimed = claims.last_before(offset) if claims is not None else None
        if recorded is None or (claimed is not None and claimed.offset > recorded.offset):
            return claimed
        return recorded

    def take(self, mirror: int, held: Iterable[Held]) -> None:
        """Forget chunks of a mirror, before their bytes go. Call it within `dropping`."""
        rows = list(held)
        self._forget(mirror, rows)
        self._index.remove(mirror, rows)

    def abandon(self, mirror: int) -> None:
        """Forget a mirror that is about to go, as far as that is possible without the index."""
        self._claims.pop(mirror, None)
        for chunk in [chunk for chunk, location in self._pending.items() if location.mirror == mirror]:
            del self._pending[chunk]

    def _forget(self, mirror: int, held: Iterable[Held]) -> None:
        for row in held:
            pending = self._pending.get(row.id)
            if pending is not None and (pending.mirror, pending.offset) == (mirror, row.offset):
                del self._pending[row.id]
            self.release(mirror, row.offset)

    # --- the way to the disk

    async def flush(self, sync: Callable[[set[int]], Awaitable[None]], limiter: trio.CapacityLimiter) -> int:
        """Write what is pending to the index, after `sync` has made the data of these mirrors durable.

        Returns the number of records written. Raises IndexFailedError, with everything pending as before.
        """
        records = list(self._pending.items())
        if not records:
            return 0
        await sync({location.mirror for _, location in records})
        async with self._lock:
            # What was dropped while the data went to the disk must not be written.
            records = [(chunk, location) for chunk, location in records if self._pending.get(chunk) is location]
            self._in_flush = True
            try:
                await trio.to_thread.run_sync(self._index.put, records, limiter=limiter)
            finally:
                self._in_flush = False
                dropped, self._dropped_in_flush = self._dropped_in_flush, []
                for mirror, held in dropped:
                    self._index.remove(mirror, [held])
            written: dict[int, list[int]] = {}
            for chunk, location in records:
                if self._pending.get(chunk) is location:
                    del self._pending[chunk]
                    written.setdefault(location.mirror, []).append(location.offset)
            for mirror, offsets in written.items():
                self.release_all(mirror, offsets)
        return len(records)

    def abandon_pending(self) -> None:
        """Forget what is not in the index (which cannot be written): it will be fetched again."""
        for chunk, location in list(self._pending.items()):
            self._forget(location.mirror, [Held(location.offset, location.length, chunk)])
