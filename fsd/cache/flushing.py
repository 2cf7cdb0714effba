"""The way of presence records to the disk, now and then: data first, records after.

Owns when a flush happens and what is done if one fails. A failure is never a reader's: what cannot be recorded is
fetched again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import trio

from fsd.cache.index import IndexFailedError, PresenceIndex
from fsd.cache.mirrors import Mirrors
from fsd.cache.presence import Presence
from fsd.cache.reports import Reports

log = logging.getLogger(__name__)

FLUSH_RECORDS = 50_000
"""Pending records (about 250 bytes each in memory) that make a flush due."""

MAX_RECORDS = 2 * FLUSH_RECORDS
"""Above this, writing waits for the flush, or forgets what a failing index does not take."""

RECENCY_INTERVAL_S = 60.0
"""How much a killed daemon forgets of when things were used."""


class Flusher:
    """See the module's docstring."""

    def __init__(
        self,
        presence: Presence,
        index: PresenceIndex,
        mirrors: Mirrors,
        *,
        interval_s: float,
        flush_bytes: int,
        on_failure: Callable[[], None],
        limiter: trio.CapacityLimiter,
    ) -> None:
        """`on_failure` is called when the index could not be written: as a rule, the disk is full."""
        self._presence = presence
        self._index = index
        self._mirrors = mirrors
        self._interval_s = interval_s
        self._flush_bytes = flush_bytes
        self._reports = Reports(log)
        self._on_failure = on_failure
        self._limiter = limiter
        self._unflushed_bytes = 0
        self._due = trio.Event()
        self._flushed = trio.lowlevel.ParkingLot()
        self._lock = trio.Lock()
        self.index_bytes = 0
        """What the index takes on disk, as of the last flush."""

    async def note_written(self, size: int) -> None:
        """Bytes went into mirrors. Waits for a flush if far too much is pending."""
        self._unflushed_bytes += size
        if self._unflushed_bytes >= self._flush_bytes or len(self._presence) >= FLUSH_RECORDS:
            self._due.set()
        if len(self._presence) >= MAX_RECORDS:
            await self._flushed.park()

    async def run(self) -> None:
        """Flush whenever it is due, for ever."""
        recency_s = trio.current_time() + RECENCY_INTERVAL_S
        while True:
            with trio.move_on_after(self._interval_s):
                await self._due.wait()
            self._due = trio.Event()
            try:
                await self.flush()
                if trio.current_time() >= recency_s:
                    recency_s = trio.current_time() + RECENCY_INTERVAL_S
                    await self.save_recency()
            finally:
                self._flushed.unpark_all()

    async def flush(self) -> None:
        """Record what is pending. A failure is logged."""
        async with self._lock:
            self._unflushed_bytes = 0
            try:
                if self._index.is_broken:
                    await self._reopen()
                await self._presence.flush(self._sync, self._limiter)
                self._mirrors.forget_removed()
                self.index_bytes = await trio.to_thread.run_sync(self._index.disk_bytes, limiter=self._limiter)
            except OSError as error:
                self._reports.report(logging.ERROR, "sync", "cannot make the cache's data durable: %s", error)
                self._presence.abandon_pending()
            except IndexFailedError as error:
                self._reports.report(logging.ERROR, "index", "cannot write to the cache's index: %s", error)
                if len(self._presence) >= MAX_RECORDS:
                    self._presence.abandon_pending()
                self._on_failure()

    async def _reopen(self) -> None:
        """A full disk stops RocksDB for good, even when there is room again; a new opening does not remember."""
        async with self._presence.dropping():
            self._index.reopen()

    async def _sync(self, mirrors: set[int]) -> None:
        await self._mirrors.sync(mirrors, self._limiter)

    async def save_recency(self) -> None:
        """Record when extents were last used."""
        async with self._lock:
            rows = self._mirrors.changed_recency()
            try:
                await trio.to_thread.run_sync(self._index.put_recency, rows, limiter=self._limiter)
            except IndexFailedError as error:
                self._reports.report(logging.WARNING, "uses", "cannot record the last uses of the cache: %s", error)
