"""The cache: chunks in mirrors, fetched when they are absent. Composes the other modules of this folder.

Owns their order of opening and closing, their background tasks, and the loop that a waiting read goes through. Does
not know files, paths or trees: it is asked for chunks.

    read_nowait, read_chunk_nowait, read_located_nowait    what is present and in the page cache, at once
    read                                                   everything else
    start_fetch                                            read-ahead

Invariants: no byte leaves that was not checked against its chunk's id, when it arrived or since the last start; no read
takes longer than its deadline; no lock is held across a fetch; what is on disk stays below the limit.

Concurrency: for the tasks of one trio loop. The background tasks (flush, eviction, slots, fetch jobs) live in a
nursery of the cache and are cancelled when it closes, which flushes at the end.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

import trio

from fsd.cache.cloning import Cloner
from fsd.cache.eviction import Evictor
from fsd.cache.fetcher import Fetch, Fetcher, FetchTimeoutError
from fsd.cache.flushing import Flusher
from fsd.cache.folder import CacheFolder, is_in_memory, unusable
from fsd.cache.index import IndexFailedError, PresenceIndex
from fsd.cache.metadata import METADATA_SHARE, CachedLoader, ObjectFiles
from fsd.cache.mirrors import Mirrors
from fsd.cache.pins import Pins
from fsd.cache.presence import Presence
from fsd.cache.reading import Located, MirrorReader
from fsd.cache.stock import Stock
from fsd.cache.widening import Widening
from fsd.cache.writing import MirrorWriter
from fsd.errors import UsageError
from fsd.format.keys import ObjectKind
from fsd.format.model import PlacedChunk
from fsd.histogram import Histogram
from fsd.ids import Buffer
from fsd.limits import Limits
from fsd.repo.objects import ObjectLoader
from fsd.repo.packs import PackSource

log = logging.getLogger(__name__)

WINDOW_SHARE = 8
"""Read-ahead and widening take at most one part in this many of the cache: more would push out what was not read
yet."""


@dataclass(frozen=True, slots=True)
class CacheStatistics:
    """Counted since the cache was opened, unless said otherwise. Sizes in bytes."""

    limit_bytes: int
    used_bytes: int
    """On disk now, all together."""
    mirror_bytes: int
    object_bytes: int
    index_bytes: int
    pinned_bytes: int
    """Of the mirrors', what is not to be evicted."""
    served_reads: int
    served_bytes: int
    """Out of mirrors."""
    fetched_requests: int
    fetched_bytes: int
    """From the store, as stored there."""
    written_bytes: int
    """Into mirrors."""
    streamed_bytes: int
    """Served without being kept, for want of room."""
    widened_bytes: int
    retries: int
    failures: int
    """Ranges that could not be fetched."""
    corrupt_chunks: int
    """Bad in the store, twice."""
    dropped_chunks: int
    """Found changed in the cache after a restart."""
    index_failures: int
    evicted_bytes: int
    evicted_extents: int
    evicted_chunks: int
    evicted_objects: int
    in_flight_requests: int
    """Now."""
    in_flight_bytes: int
    waiting_requests: int
    pending_records: int
    """Fetched, and not yet in the index on disk."""


class Cache:
    """See the module's docstring. Made by `Cache.open`."""

    def __init__(
        self, folder: CacheFolder, index: PresenceIndex, source: PackSource, limits: Limits, nursery: trio.Nursery
    ) -> None:
        directory = folder.directory
        self._limits = limits
        self._index = index
        # Upkeep has threads of its own: fdatasync takes seconds on a busy disk.
        work = trio.CapacityLimiter(limits.worker_threads)
        upkeep = trio.CapacityLimiter(2)
        self._mirrors = Mirrors(directory / "mirrors", index, limits.open_mirrors)
        self._presence = Presence(index, self._mirrors.numbers)
        self._flusher = Flusher(
            self._presence,
            index,
            self._mirrors,
            interval_s=limits.flush_interval_s,
            flush_bytes=limits.flush_bytes,
            on_failure=lambda: self._evictor.wake_if_full(),
            limiter=upkeep,
        )
        self._pins = Pins(directory / "pins", index.extent_bytes, upkeep)
        self._evictor = Evictor(
            self._mirrors,
            self._presence,
            limit_bytes=limits.cache_bytes,
            low_water=limits.cache_low_water,
            extent_bytes=index.extent_bytes,
            other_bytes=lambda: self._objects.used_bytes + self._flusher.index_bytes,
            pins=self._pins,
            directory=directory,
            limiter=upkeep,
        )
        self._objects = ObjectFiles(
            directory / "objects",
            int(limits.cache_bytes * METADATA_SHARE),
            work,
            room=self._evictor,
            is_pinned=self._pins.holds_object,
        )
        self._reader = MirrorReader(
            self._mirrors, self._presence, limits.inline_hash_bytes, work, in_memory=is_in_memory(directory)
        )
        self.cloner = Cloner(self._mirrors, self._reader, work)
        """To have files share what mirrors hold."""
        self._writer = MirrorWriter(self._mirrors, self._presence, self._evictor, self._flusher, work)
        self.stock = Stock(
            self._mirrors, self._presence, self._reader, self._evictor, self._flusher, self._objects, self._pins
        )
        """To have given chunks there, or gone."""
        self._fetcher = Fetcher(source, self._presence, self._writer, limits, nursery)
        self.window_bytes = limits.cache_bytes // WINDOW_SHARE
        """The most that read-ahead should have on its way or unread."""
        self._widening = Widening(
            source,
            self._presence,
            self._fetcher,
            nursery,
            widen_max_bytes=min(limits.widen_max_bytes, self.window_bytes),
            is_spare=self._evictor.is_spare,
            found_bytes=lambda: self._reader.served_bytes - self._reader.located_bytes,
            limiter=work,
        )

    @classmethod
    @asynccontextmanager
    async def open(
        cls, directory: Path, source: PackSource, limits: Limits, *, purpose: str = ""
    ) -> AsyncIterator[Self]:
        """The cache in `directory`, made if there is none. `purpose` is shown to who finds it in use.

        Raises ConflictError if another process uses it, UsageError if the folder cannot be used.
        """
        folder = await trio.to_thread.run_sync(CacheFolder, directory, purpose)
        try:
            try:
                index = await trio.to_thread.run_sync(PresenceIndex.open, directory / "index", limits.extent_bytes)
            except IndexFailedError as error:
                raise unusable(directory, str(error), is_full=error.is_full) from error
            try:
                async with trio.open_nursery() as nursery:
                    cache = cls(folder, index, source, limits, nursery)
                    await trio.to_thread.run_sync(cache._load)
                    # It may have been a larger one until now.
                    cache._evictor.wake_if_full()
                    for task in (cache._flusher.run, cache._evictor.run, cache._fetcher.lend_slots):
                        nursery.start_soon(task)
                    try:
                        yield cache
                    finally:
                        nursery.cancel_scope.cancel()
            except BaseExceptionGroup as group:
                # That there is a nursery is nobody's business: an error of the body stays what it was.
                raise group.exceptions[0] if len(group.exceptions) == 1 else group from None
            finally:
                with trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(folder.begin_closing)
                    await cache._close()
        finally:
            folder.close()

    def _load(self) -> None:
        try:
            self._pins.load()
            self._mirrors.load()
            self._objects.load()
        except OSError as error:
            raise UsageError(f"cannot use {error.filename} as a part of the cache: {error.strerror}") from error
        self._flusher.index_bytes = self._index.disk_bytes()

    async def _close(self) -> None:
        await self._flusher.flush()
        await self._flusher.save_recency()
        self._mirrors.close()
        try:
            await trio.to_thread.run_sync(self._index.close)
        except IndexFailedError as error:
            log.error("cannot close the cache's index: %s", error)

    def loader(self, inner: ObjectLoader) -> CachedLoader:
        """A loader of objects that keeps in this cache what `inner` gives."""
        loader = CachedLoader(inner, self._objects)
        self.stock.use_loader(loader)
        return loader

    # --- at once

    def read_nowait(self, chunks: Sequence[PlacedChunk], start: int, length: int) -> Buffer | None:
        """`length` bytes from byte `start` of `chunks`; None if that takes `read`.

        `start` counts from the first chunk's first byte; the chunks must reach `start + length`. Never blocks.
        """
        return self._reader.read_nowait(chunks, start, length)

    def read_chunk_nowait(self, chunk: bytes, length: int, start: int, size: int) -> Buffer | None:
        """`size` bytes from byte `start` of a chunk of `length` bytes whose placement is not known; None as above."""
        return self._reader.read_chunk_nowait(chunk, length, start, size)

    def locate(self, chunks: Sequence[PlacedChunk]) -> Located:
        """Where the first of `chunks` lie, as many as are present and checked: `.length` bytes of them.

        Worth keeping for a file that is read on: reading through it costs no look-up a chunk.
        """
        return self._reader.locate(chunks)

    def read_located_nowait(self, located: Located, start: int, length: int) -> Buffer | None:
        """`length` bytes from byte `start` of what was located; None if it was evicted or is not in the page cache."""
        return self._reader.read_located_nowait(located, start, length)

    def contains(self, chunks: Iterable[PlacedChunk]) -> list[bool]:
        """Which of `chunks` are present."""
        return [location is not None for location in self._presence.find_many([chunk.id for chunk in chunks])]

    # --- waiting

    async def read(
        self,
        chunks: Sequence[PlacedChunk],
        start: int,
        length: int,
        *,
        deadline_s: float | None = None,
        widen: bool = True,
    ) -> Buffer:
        """`length` bytes from byte `start` of `chunks`, fetched as far as they are absent.

        `widen`: neighbours in the pack may be wanted soon (a small file); False for a piece of a large one. Raises
        FetchTimeoutError after `deadline_s` (by default the limits' own), other StoreUnreachableErrors, MisplacedError.
        """
        seconds = self._limits.read_deadline_s if deadline_s is None else deadline_s
        with trio.move_on_after(seconds):
            return await self._read(*_covering(chunks, start, length), length, widen=widen)
        raise self.too_slow(seconds)

    async def _read(self, chunks: Sequence[PlacedChunk], start: int, length: int, *, widen: bool) -> Buffer:
        collected: dict[bytes, Buffer] = {}
        distrusted: set[bytes] = set()
        while True:
            missing = [
                chunk for chunk in chunks if chunk.id not in collected and not self._is_usable(chunk, distrusted)
            ]
            if missing:
                note = partial(self._widening.note_miss, missing[0]) if widen else None
                collected.update(await self._fetcher.fetch(missing, once_asked=note))
                widen = False  # once a read
                continue
            if not collected:
                data = await self._reader.read(chunks, start, length)
                if data is None:
                    distrusted.update(chunk.id for chunk in chunks)
            else:
                data = await self._assemble(chunks, start, length, collected, distrusted)
            if data is not None:
                return data

    def too_slow(self, seconds: float) -> FetchTimeoutError:
        """The error for a read that has waited for so long: with the reason, if a request failed meanwhile."""
        message = f"no answer from the store within {seconds:g} s"
        failure = self._fetcher.last_failure
        if failure is not None and failure[0] >= trio.current_time() - seconds:
            message = f"{message}: {failure[1].message}"
        return FetchTimeoutError(message)

    def _is_usable(self, chunk: PlacedChunk, distrusted: set[bytes]) -> bool:
        location = None if chunk.id in distrusted else self._presence.find(chunk.id)
        return location is not None and location.length == chunk.length

    async def _assemble(
        self,
        chunks: Sequence[PlacedChunk],
        start: int,
        length: int,
        collected: dict[bytes, Buffer],
        distrusted: set[bytes],
    ) -> Buffer | None:
        """A read of which some chunks have just been fetched; None if another one went away meanwhile."""
        parts: list[Buffer] = []
        for chunk in chunks:
            size = min(chunk.length - start, length)
            plain = collected.get(chunk.id)
            if plain is not None:
                part: Buffer | None = memoryview(plain)[start : start + size]
            else:
                part = await self._reader.read((chunk,), start, size)
            if part is None:
                distrusted.add(chunk.id)
                return None
            parts.append(part)
            start = 0
            length -= size
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def look_ahead(self, chunks: Sequence[PlacedChunk]) -> Located:
        """As `locate`, having checked what there was to check and had the disk read it. Fetches nothing."""
        return await self._reader.look_ahead(chunks)

    async def read_chunk(self, chunk: bytes, length: int, start: int, size: int) -> Buffer | None:
        """As `read_chunk_nowait`, waiting for the disk; None if the chunk is absent."""
        return await self._reader.read_chunk(chunk, length, start, size)

    async def stored_object(self, kind: ObjectKind, object_id: bytes) -> bytes | None:
        """An object as the store held it when it was loaded; None if it is not kept here. Fetches nothing."""
        return await self._objects.read(kind, object_id)

    def start_fetch(self, chunks: Iterable[PlacedChunk]) -> Fetch:
        """Read-ahead: begin to fetch those of `chunks` that are absent, `window_bytes` of them at most."""
        near: list[PlacedChunk] = []
        room = self.window_bytes
        for chunk in chunks:
            room -= chunk.length
            if room < 0:
                break
            near.append(chunk)
        found = self._presence.find_many([chunk.id for chunk in near])
        wanted = [chunk for chunk, location in zip(near, found, strict=True) if location is None]
        return self._fetcher.start(wanted)

    # --- about it

    def resize(self, limit_bytes: int) -> None:
        """Take up to `limit_bytes` on disk from now on; what is beyond that is evicted soon."""
        self._evictor.resize(limit_bytes)
        self._objects.resize(int(limit_bytes * METADATA_SHARE))
        self.window_bytes = limit_bytes // WINDOW_SHARE

    async def flush(self) -> None:
        """Record on disk what was fetched so far."""
        await self._flusher.flush()

    @property
    def fetch_seconds(self) -> Histogram:
        """How long requests to the store took that were answered."""
        return self._fetcher.seconds

    def statistics(self) -> CacheStatistics:
        """What the cache holds and has done."""
        evictor, fetcher = self._evictor, self._fetcher
        return CacheStatistics(
            limit_bytes=evictor.limit_bytes,
            used_bytes=evictor.used_bytes,
            mirror_bytes=self._mirrors.allocated_bytes,
            object_bytes=self._objects.used_bytes,
            index_bytes=self._flusher.index_bytes,
            pinned_bytes=self.stock.pinned_bytes(),
            served_reads=self._reader.served_reads,
            served_bytes=self._reader.served_bytes,
            fetched_requests=fetcher.fetched_requests,
            fetched_bytes=fetcher.fetched_bytes,
            written_bytes=fetcher.written_bytes,
            streamed_bytes=self._writer.streamed_bytes,
            widened_bytes=self._widening.widened_bytes,
            retries=fetcher.retries,
            failures=fetcher.failures,
            corrupt_chunks=fetcher.corrupt_chunks,
            dropped_chunks=self._reader.dropped_chunks,
            index_failures=self._presence.failures,
            evicted_bytes=evictor.evicted_bytes,
            evicted_extents=evictor.evicted_extents,
            evicted_chunks=evictor.evicted_chunks,
            evicted_objects=self._objects.evicted_objects,
            in_flight_requests=fetcher.in_flight_requests,
            in_flight_bytes=fetcher.in_flight_bytes,
            waiting_requests=fetcher.waiting_requests,
            pending_records=len(self._presence),
        )


def _covering(chunks: Sequence[PlacedChunk], start: int, length: int) -> tuple[Sequence[PlacedChunk], int]:
    """The chunks that `length` bytes from `start` touch, and `start` counted from the first of these."""
    first = 0
    while start >= chunks[first].length:
        start -= chunks[first].length
        first += 1
    last = first
    end = start + length
    while end > 0:
        end -= chunks[last].length
        last += 1
    return chunks[first:last], start
