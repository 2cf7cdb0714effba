"""Fetching all of something at full speed, with what readers leave.

Takes stretches in order and starts the read-ahead of a few at a time, so that requests overlap while memory is bounded;
the cache makes whole ranged requests of them, packs in order, and lets readers go first. What is there already costs a
look. What did not come is tried again, as long as anything comes; what is not where its placement says is looked for
once more, where the store has it now; what is bad in the store is left out and told at the end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import trio

from fsd.cache.cache import Cache
from fsd.cache.fetcher import Fetch
from fsd.cache.pins import Pin
from fsd.cache.stock import LOOK_UP_CHUNKS
from fsd.errors import CorruptDataError, FsdError, StorePermissionError, StoreUnreachableError
from fsd.format.model import PlacedChunk
from fsd.limits import MIB, Limits
from fsd.repo.packs import MisplacedError
from fsd.stores.retry import backoffs_s
from fsd.vfs.targets import FreshObjects, Stretch

STRETCH_BYTES = 16 * MIB
"""A few of the longest ranges."""

_STRETCHES_AHEAD = 5
"""On their way at once: more than `limits.fetch_bytes`, so that none waits for the slowest request of another."""


_REPORT_INTERVAL_S = 1.0
"""On a slow link the first stretch takes long, and then all come together."""


class NoRoomError(FsdError):
    """The cache cannot keep what is to be fetched."""


@dataclass(slots=True)
class Progress:
    """Done so far."""

    files: int = 0
    size_bytes: int = 0
    """Of files, whether fetched or there before."""
    fetched_bytes: int = 0
    """Of these, what was not there."""
    arriving_bytes: int = 0
    """There besides, of stretches that are not there as a whole."""


@dataclass(slots=True)
class _Flight:
    stretch: Stretch
    missing: list[PlacedChunk]
    fetch: Fetch
    is_placed_anew: bool = False
    """Whether its placements are as the store has them, as far as it has any."""


@dataclass(slots=True)
class Prefetcher:
    """See the module. For one set of stretches."""

    cache: Cache
    objects: FreshObjects
    limits: Limits
    pin: Pin | None = None
    """Holds everything that is fetched or was there."""
    report: Callable[[Progress], None] = lambda _: None
    progress: Progress = field(default_factory=Progress)
    bad: CorruptDataError | None = None
    """The first chunk that is bad in the store."""
    bad_chunks: int = 0
    _flights: deque[_Flight] = field(default_factory=deque)
    _last_arrival_s: float = 0.0

    @property
    def stretch_bytes(self) -> int:
        """How long stretches should be: all on their way must fit into what the cache lets be fetched ahead."""
        return max(1, min(STRETCH_BYTES, self.cache.window_bytes // (_STRETCHES_AHEAD + 1)))

    async def run(self, stretches: AsyncIterator[Stretch]) -> None:
        """Fetch all of them. Raises StoreUnreachableError once nothing has come for `limits.store_retry_s`,
        StorePermissionError, NoRoomError; for what is bad in the store, CorruptDataError after all the rest.

        What was done until then stays done. Cancelled, it leaves nothing under way.
        """
        self._last_arrival_s = trio.current_time()
        self.report(self.progress)
        try:
            async for stretch in stretches:
                self._flights.append(self._start(stretch))
                if len(self._flights) > _STRETCHES_AHEAD:
                    await self._land_first()
            while self._flights:
                await self._land_first()
        finally:
            for flight in self._flights:
                flight.fetch.cancel()
        if self.bad is not None:
            more = f" (and {self.bad_chunks - 1} more)" if self.bad_chunks > 1 else ""
            raise CorruptDataError(f"{self.bad.message}{more}", hint="everything else is there")

    def _start(self, stretch: Stretch) -> _Flight:
        missing = self._absent(stretch.chunks)
        if self.pin is not None:
            self.cache.stock.hold(self.pin, stretch.chunks)
        return _Flight(stretch, missing, self.cache.start_fetch(missing))

    async def _land_first(self) -> None:
        """Wait until all of the first stretch is there, but for what is bad."""
        flight = self._flights[0]
        missing = flight.missing
        waits = backoffs_s(self.limits)
        while missing:
            while not flight.fetch.is_done:
                with trio.move_on_after(_REPORT_INTERVAL_S) as waiting:
                    await flight.fetch.wait()
                if waiting.cancelled_caught:
                    await self._report_arriving()
            missing, before = self._absent(missing), missing
            if len(missing) < len(before):
                self._last_arrival_s = trio.current_time()
                waits = backoffs_s(self.limits)
            else:
                missing, is_worth_waiting = await self._probe(flight, missing)
                if is_worth_waiting:
                    await trio.sleep(next(waits))
            if missing:
                flight.fetch = self.cache.start_fetch(missing)
        if self.pin is not None:
            self.cache.stock.hold(self.pin, flight.stretch.chunks)
        progress = self.progress
        progress.files += len(flight.stretch.ends)
        progress.size_bytes += flight.stretch.size_bytes
        progress.fetched_bytes += sum(chunk.length for chunk in flight.missing)
        self._flights.popleft()
        progress.arriving_bytes = max(0, progress.arriving_bytes - flight.stretch.size_bytes)
        self.report(progress)
        await trio.lowlevel.checkpoint()

    async def _report_arriving(self) -> None:
        arriving = 0
        for flight in list(self._flights):
            arriving += flight.stretch.size_bytes
            for step in range(0, len(flight.missing), LOOK_UP_CHUNKS):
                absent = self._absent(flight.missing[step : step + LOOK_UP_CHUNKS])
                arriving -= sum(chunk.length for chunk in absent)
                await trio.lowlevel.checkpoint()
        self.progress.arriving_bytes = arriving
        self.report(self.progress)

    def _absent(self, chunks: list[PlacedChunk]) -> list[PlacedChunk]:
        holdings = self.cache.stock.look(chunks)
        return [chunk for chunk, holding in zip(chunks, holdings, strict=True) if not holding]

    async def _probe(self, flight: _Flight, missing: list[PlacedChunk]) -> tuple[list[PlacedChunk], bool]:
        """Nothing came by read-ahead: ask for one chunk as a reader does, to learn why.

        What is to be asked for now, and whether that should wait a while.
        """
        chunk = missing[0]
        try:
            try:
                await self.cache.read((chunk,), 0, chunk.length, deadline_s=self.limits.store_retry_s, widen=False)
            except MisplacedError as error:
                fresh = await self._placed_anew(flight, missing)
                if fresh[0] == chunk:
                    raise error from None
                return fresh, False
        except StorePermissionError:
            raise
        except StoreUnreachableError:
            if trio.current_time() - self._last_arrival_s >= self.limits.store_retry_s:
                raise
            return missing, True
        except CorruptDataError as error:
            self.bad_chunks += 1
            self.bad = self.bad or error
            return missing[1:], False
        if self._absent([chunk]):
            raise NoRoomError("the cache has no room left", hint="see what is pinned with 'fsd status', or evict some")
        self._last_arrival_s = trio.current_time()
        return missing[1:], False

    async def _placed_anew(self, flight: _Flight, missing: list[PlacedChunk]) -> list[PlacedChunk]:
        """`missing` of the flight's stretch where the store says now, which is asked once.

        Raises StoreUnreachableError.
        """
        if not flight.is_placed_anew:
            await flight.stretch.place_anew(self.objects)
            flight.is_placed_anew = True
        placed = {chunk.id: chunk for chunk in flight.stretch.chunks}
        return [placed[chunk.id] for chunk in missing]
