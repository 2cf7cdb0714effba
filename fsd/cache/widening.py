"""Widening: a reader of small files who misses again and again in one pack soon wants its other chunks as well.

Owns the history of misses and the contents of packs that were asked for (bounded). What to fetch is decided in
`plan`; the fetching is read-ahead like any other, behind the miss itself, which waits for nothing of this.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable

import trio

from fsd.cache.fetcher import Fetcher
from fsd.cache.plan import CONTENTS_CHUNK_MEMORY_BYTES, RECENT_PACKS, Allowance, MissHistory, PackContents
from fsd.cache.presence import Presence
from fsd.errors import FsdError
from fsd.format.model import PlacedChunk
from fsd.repo.packs import PackSource

log = logging.getLogger(__name__)

WINDOWS_AT_ONCE = 4
"""Largest windows on their way at once. They fill the link that the limits are made for; more would only keep the
misses of readers waiting, which share it with them."""

CONTENTS_MEMORY_BYTES = 16 * 1024 * 1024
"""Contents kept: of 300 packs of a thousand chunks, or of six packs of files of 1 KiB."""


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
        is_free: Callable[[int], bool],
        found_bytes: Callable[[], int],
        limiter: trio.CapacityLimiter,
    ) -> None:
        """`is_free` says whether so many bytes more push nothing out of the cache; `found_bytes`, what readers of small
        files found in it so far."""
        self._source = source
        self._presence = presence
        self._fetcher = fetcher
        self._nursery = nursery
        self._limiter = limiter
        self._history = MissHistory(widen_max_bytes)
        self._max_bytes = WINDOWS_AT_ONCE * widen_max_bytes
        self._allowance = Allowance(widen_max_bytes)
        self._is_free = is_free
        self._found_bytes = found_bytes
        self._running_bytes = 0
        self._contents: OrderedDict[bytes, PackContents | None] = OrderedDict()
        """Least recently used first. None: it has too many chunks to be worth the memory."""
        self._contents_bytes = 0
        self._asked: set[bytes] = set()
        self.widened_bytes = 0

    def note_miss(self, chunk: PlacedChunk) -> None:
        """A reader misses this chunk, and it is being fetched. Starts what is to come along with it."""
        place = chunk.placement
        window = self._history.window(place.pack, place.offset, trio.current_time())
        self._allowance.note_miss(chunk.length, self._found_bytes(), is_full=not self._is_free(window))
        if window == 0 or not self._allowance.left_bytes:
            return
        if place.pack in self._contents:
            self._widen(place.pack, place.offset, window)
        elif place.pack not in self._asked:
            self._asked.add(place.pack)
            self._nursery.start_soon(self._ask, place.pack, place.offset, window)

    async def _ask(self, pack: bytes, offset: int, window: int) -> None:
        try:
            self._keep(pack, await self._load(pack))
        except FsdError as error:
            # Not a reader's error: their chunk has a fetch of its own. The next miss asks again.
            log.warning("cannot read the contents of pack %s: %s", pack.hex(), error)
            return
        finally:
            self._asked.discard(pack)
        self._widen(pack, offset, window)

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

    def _widen(self, pack: bytes, offset: int, window: int) -> None:
        contents = self._contents[pack]
        self._contents.move_to_end(pack)
        if contents is None:
            return
        window = min(window, self._max_bytes - self._running_bytes, self._allowance.left_bytes)
        chunks = contents.neighbours(offset, window, self._is_known)
        if chunks:
            size = sum(chunk.length for chunk in chunks)
            self.widened_bytes += size
            self._allowance.spend(size)
            self._nursery.start_soon(self._fetch, chunks)

    async def _fetch(self, chunks: list[PlacedChunk]) -> None:
        size = sum(chunk.placement.stored for chunk in chunks)
        self._running_bytes += size
        try:
            await self._fetcher.start(chunks).wait()
        finally:
            self._running_bytes -= size

    def _is_known(self, chunk: bytes) -> bool:
        return self._fetcher.is_coming(chunk) or self._presence.find(chunk) is not None
