"""Widening: a reader of small files who misses again and again in one pack soon wants its other chunks as well.

The second miss in a neighbourhood brings a small window around it along, each further one a larger window, and many in
a pack the rest of it. Owns the history of misses and the contents of packs that were asked for (bounded). What to fetch
is decided in `plan`; the fetching is read-ahead like any other, behind the miss itself, which waits for none of it.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

import trio

from fsd.cache.fetcher import Fetcher
from fsd.cache.plan import (
    CONTENTS_CHUNK_MEMORY_BYTES,
    RECENT_PACKS,
    REST_AFTER_MISSES,
    Allowance,
    MissHistory,
    PackContents,
    window_bytes,
)
from fsd.cache.presence import Presence
from fsd.errors import FsdError, NotFoundError
from fsd.format.model import PlacedChunk
from fsd.repo.packs import PackSource

log = logging.getLogger(__name__)

WINDOWS_AT_ONCE = 4
"""Largest windows on their way at once. They fill the link that the limits are made for; more would only keep the
misses of readers waiting, which share it with them."""

CONTENTS_MEMORY_BYTES = 16 * 1024 * 1024
"""Contents kept: of 300 packs of a thousand chunks, or of six packs of files of 1 KiB."""


_CHECKPOINT_CHUNKS = 64
"""Looked up between two checkpoints: a quarter of a millisecond."""


class _Miss(NamedTuple):
    pack: bytes
    offset: int
    window: int
    """Bytes around it that are worth fetching."""
    wants_rest: bool
    """Of the pack."""


class Widening:
    """See the module's docstring. Used from the event loop's thread."""

    def __init__(
        self,
        source: PackSource,
        presence: Presence,
        fetcher: Fetcher,
        nursery: trio.Nursery,
        *,
        widen_max_bytes: int,
        is_spare: Callable[[int], bool],
        found_bytes: Callable[[], int],
        limiter: trio.CapacityLimiter,
    ) -> None:
        """`is_spare` says whether the cache has plenty of room for so many bytes; `found_bytes`, what readers of small
        files found in it so far."""
        self._source = source
        self._presence = presence
        self._fetcher = fetcher
        self._nursery = nursery
        self._limiter = limiter
        self._history = MissHistory()
        self._widen_max_bytes = widen_max_bytes
        self._allowance = Allowance(widen_max_bytes)
        self._is_spare = is_spare
        self._found_bytes = found_bytes
        self._running_bytes = 0
        self._turns = trio.Semaphore(WINDOWS_AT_ONCE)
        """For windows of the rest of packs."""
        self._fetching_rest: set[bytes] = set()
        self._contents: OrderedDict[bytes, PackContents | None] = OrderedDict()
        """Least recently used first. None: it has too many chunks to be worth the memory."""
        self._contents_bytes = 0
        self._asked: set[bytes] = set()
        self.widened_bytes = 0

    def note_miss(self, chunk: PlacedChunk) -> None:
        """A reader misses this chunk, and it is being fetched. Starts what is to come along with it."""
        place = chunk.placement
        misses = self._history.note(place.pack, place.offset, trio.current_time())
        window = window_bytes(misses, self._widen_max_bytes)
        self._allowance.note_miss(chunk.length, self._found_bytes(), is_full=not self._is_spare(window))
        if window == 0 or self._allowance.left_bytes <= 0:
            return
        # With a full cache the rest of a pack has to be worth it: else a small window, as far as is allowed.
        has_room = self._allowance.left_bytes >= self._widen_max_bytes
        miss = _Miss(place.pack, place.offset, window, misses.all >= REST_AFTER_MISSES and has_room)
        if place.pack in self._contents:
            self._widen(miss)
        elif place.pack not in self._asked:
            self._asked.add(place.pack)
            self._nursery.start_soon(self._ask, miss)

    async def _ask(self, miss: _Miss) -> None:
        try:
            self._keep(miss.pack, await self._load(miss.pack))
        except NotFoundError:
            return  # the reader is told, or finds the chunk elsewhere
        except FsdError as error:
            # Not a reader's error: their chunk has a fetch of its own. The next miss asks again.
            log.warning("cannot read the contents of pack %s: %s", miss.pack.hex(), error)
            return
        finally:
            self._asked.discard(miss.pack)
        self._widen(miss)

    async def _load(self, pack: bytes) -> PackContents | None:
        chunks = await self._source.contents(pack)
        if len(chunks) * CONTENTS_CHUNK_MEMORY_BYTES > CONTENTS_MEMORY_BYTES // 2:
            return None
        return await trio.to_thread.run_sync(PackContents, pack, chunks, limiter=self._limiter)

    def _keep(self, pack: bytes, contents: PackContents | None) -> None:
        self._contents[pack] = contents
        self._contents_bytes += contents.memory_bytes if contents is not None else 0
        while self._contents_bytes > CONTENTS_MEMORY_BYTES or len(self._contents) > RECENT_PACKS:
            _, dropped = self._contents.popitem(last=False)
            self._contents_bytes -= dropped.memory_bytes if dropped is not None else 0

    def _widen(self, miss: _Miss) -> None:
        contents = self._contents[miss.pack]
        self._contents.move_to_end(miss.pack)
        if contents is None:
            return
        if miss.wants_rest:
            if miss.pack not in self._fetching_rest:
                self._fetching_rest.add(miss.pack)
                self._nursery.start_soon(self._fetch_rest, contents, miss)
            return
        room = WINDOWS_AT_ONCE * self._widen_max_bytes - self._running_bytes
        window = min(miss.window, room, self._allowance.left_bytes)
        chunks = contents.neighbours(miss.offset, window, self._is_known)
        if chunks:
            self._nursery.start_soon(self._fetch, chunks)

    async def _fetch_rest(self, contents: PackContents, miss: _Miss) -> None:
        """All that is absent, in windows: first what lies behind the miss, then what lies before it."""
        try:
            for positions in (contents.after(miss.offset), contents.before(miss.offset)):
                window: list[PlacedChunk] = []
                size = 0
                for number, position in enumerate(positions):
                    if number % _CHECKPOINT_CHUNKS == 0:
                        await trio.lowlevel.checkpoint()
                    chunk = contents.chunk(position)
                    if self._is_known(chunk.id):
                        continue
                    window.append(chunk)
                    size += chunk.placement.stored
                    if size >= self._widen_max_bytes:
                        if not await self._fetch_window(window):
                            return
                        window, size = [], 0
                if window and not await self._fetch_window(window):
                    return
        finally:
            self._fetching_rest.discard(miss.pack)

    async def _fetch_window(self, chunks: list[PlacedChunk]) -> bool:
        """Fetch a window of a pack's rest when it is its turn; False if nothing more is to be."""
        async with self._turns:
            size = sum(chunk.length for chunk in chunks)
            if not self._is_spare(size) and self._allowance.left_bytes < size:
                return False
            # Readers may have been faster while it waited.
            await self._fetch([chunk for chunk in chunks if not self._is_known(chunk.id)])
            return True

    async def _fetch(self, chunks: list[PlacedChunk]) -> None:
        size = sum(chunk.length for chunk in chunks)
        self.widened_bytes += size
        self._allowance.spend(size)
        self._running_bytes += size
        try:
            await self._fetcher.start(chunks).wait()
        finally:
            self._running_bytes -= size

    def _is_known(self, chunk: bytes) -> bool:
        return self._fetcher.is_coming(chunk) or self._presence.find(chunk) is not None
