"""A store that does not wait for the slow tail: a read that takes unusually long is asked for a second time.

Wraps a store over a network and keeps its contract; the first good answer counts, and the other request is cancelled.
After Dean and Barroso, "The Tail at Scale" (CACM 2013), with what they leave open settled so:

- *Unusually long* is learned: `hedge_ratio` times the 95th percentile of the last reads of about that size. A slow
  link, or one that is full, is slow for all, and so is no reason to ask it for more.
- At most one read in `1 / hedge_share` is asked for twice, counted over time (a burst of `hedge_burst` is saved up).
  A store that has stopped answering is not asked twice as much.
- Only reads. What was refused, or is not there, is an answer; a failure is one only when no other request is under way.

Concurrency: the two requests are tasks of the call that they serve, and end with it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial

import trio

from fsd.errors import FsdError, StorePermissionError, StoreUnreachableError
from fsd.ids import Buffer
from fsd.limits import Limits
from fsd.stores.base import Bookmark, Fetched, ObjectInfo, Store, Upload, Version

SAMPLES = 64
"""Last durations that are kept of each class of size."""

LEAST_SAMPLES = 8
"""With fewer, nothing is known, and `hedge_first_s` holds."""

UNKNOWN_LENGTH = 64 * 1024
"""What is fetched whole is metadata, mostly of this size."""


class Latencies:
    """How long reads took, by size: each class holds lengths up to four times as long as the one before."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._samples: dict[int, deque[float]] = {}
        self._delays: dict[int, float] = {}

    def note(self, length: int, took_s: float) -> None:
        """A read of `length` bytes took so many seconds."""
        size_class = length.bit_length() // 2
        samples = self._samples.get(size_class)
        if samples is None:
            samples = self._samples[size_class] = deque(maxlen=SAMPLES)
        samples.append(took_s)
        if len(samples) >= LEAST_SAMPLES:
            late = sorted(samples)[int(0.95 * len(samples))]
            self._delays[size_class] = max(self._limits.hedge_min_s, self._limits.hedge_ratio * late)

    def delay_s(self, length: int) -> float:
        """After how many seconds a read of `length` bytes is unusually slow."""
        return self._delays.get(length.bit_length() // 2, self._limits.hedge_first_s)


class HedgingStore:
    """See the module's docstring."""

    def __init__(self, inner: Store, limits: Limits) -> None:
        self._inner = inner
        self._limits = limits
        self._latencies = Latencies(limits)
        self._tokens = limits.hedge_burst
        self.hedged_requests = 0
        """Reads that were asked for twice."""

    @property
    def url(self) -> str:
        """The wrapped store's."""
        return self._inner.url

    async def get(self, key: str) -> Fetched:
        """The whole object."""
        return await self._hedged(UNKNOWN_LENGTH, partial(self._inner.get, key))

    async def get_range(self, key: str, start: int, length: int) -> Fetched:
        """A part of it."""
        return await self._hedged(length, partial(self._inner.get_range, key, start, length))

    async def get_tail(self, key: str, length: int) -> Fetched:
        """Its end."""
        return await self._hedged(length, partial(self._inner.get_tail, key, length))

    async def stat(self, key: str) -> ObjectInfo:
        """What a listing would say of it."""
        return await self._inner.stat(key)

    async def put_if_absent(self, key: str, data: Buffer) -> Version:
        """Create the object."""
        return await self._inner.put_if_absent(key, data)

    async def overwrite(self, key: str, data: Buffer) -> Version:
        """Create the object or replace it."""
        return await self._inner.overwrite(key, data)

    async def compare_and_swap(self, key: str, data: Buffer, expected: Version | None) -> Version:
        """Replace the object if it is still the one expected."""
        return await self._inner.compare_and_swap(key, data, expected)

    def upload(self, key: str, *, bookmark: Bookmark | None = None) -> AbstractAsyncContextManager[Upload]:
        """Stream a new object."""
        return self._inner.upload(key, bookmark=bookmark)

    def list(self, prefix: str, *, start_after: str = "") -> AsyncIterator[ObjectInfo]:
        """Objects whose key starts with `prefix`."""
        return self._inner.list(prefix, start_after=start_after)

    async def delete(self, key: str, expected: Version | None = None) -> None:
        """Remove it."""
        await self._inner.delete(key, expected)

    async def aclose(self) -> None:
        """Close the wrapped store."""
        await self._inner.aclose()

    # --- inside

    async def _hedged(self, length: int, request: Callable[[], Awaitable[Fetched]]) -> Fetched:
        self._tokens = min(self._tokens + self._limits.hedge_share, self._limits.hedge_burst)
        race = _Race(request)
        started_s = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(race.run)
            with trio.move_on_after(self._latencies.delay_s(length)):
                await race.over.wait()
            if not race.over.is_set() and self._tokens >= 1:
                self._tokens -= 1
                self.hedged_requests += 1
                nursery.start_soon(race.run)
            await race.over.wait()
            nursery.cancel_scope.cancel()
        if race.fetched is None:
            assert race.error is not None
            raise race.error
        # That of the slow one, if another won: it counts for what it would have been, so that the delay follows a
        # link that has become slower.
        self._latencies.note(length, trio.current_time() - started_s)
        return race.fetched


class _Race:
    """One read's requests, the second of which may never start."""

    __slots__ = ("_request", "_running", "error", "fetched", "over")

    def __init__(self, request: Callable[[], Awaitable[Fetched]]) -> None:
        self._request = request
        self._running = 0
        self.fetched: Fetched | None = None
        self.error: FsdError | ValueError | None = None
        self.over = trio.Event()

    async def run(self) -> None:
        """Make the request, once more."""
        self._running += 1
        try:
            fetched = await self._request()
        except (FsdError, ValueError) as error:
            self._running -= 1
            is_answer = isinstance(error, StorePermissionError) or not isinstance(error, StoreUnreachableError)
            if is_answer or self.error is None:
                self.error = error
            if is_answer or not self._running:
                self.over.set()
            return
        if not self.over.is_set():
            self.fetched = fetched
            self.over.set()
