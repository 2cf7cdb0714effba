"""What the cache has of given chunks and objects: asked, checked, held on to, let go. For whoever wants them to be
there or gone, not to read them.

Owns nothing: it composes presence, mirrors, pins and eviction. Knows no files or paths. For the tasks of one trio loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

from fsd.cache.eviction import Evictor
from fsd.cache.flushing import Flusher
from fsd.cache.index import Held, Location
from fsd.cache.metadata import CachedLoader, ObjectFiles, object_name
from fsd.cache.mirrors import MAX_MIRROR_BYTES, Mirror, Mirrors
from fsd.cache.pins import Extents, Pin, Pins
from fsd.cache.presence import Presence
from fsd.cache.reading import MirrorReader
from fsd.format.keys import ObjectKind
from fsd.format.model import PlacedChunk

LOOK_UP_CHUNKS = 256
"""Looked up with one call: a millisecond or three of the event loop."""


FREED_CHUNKS = 128
"""Let go at once: their records are removed in the event loop, at some ten microseconds each."""


class Holding(IntEnum):
    """What the cache has of a chunk."""

    ABSENT = 0
    UNCHECKED = 1
    """Its bytes were not looked at since the cache was opened."""
    CHECKED = 2


class Freed(NamedTuple):
    """What became of chunks that were to go."""

    freed_bytes: int
    """That came free on disk."""
    pinned_bytes: int
    """Of chunks that stay because something pinned shares their extent."""


class Stock:
    """See the module's docstring."""

    def __init__(
        self,
        mirrors: Mirrors,
        presence: Presence,
        reader: MirrorReader,
        evictor: Evictor,
        flusher: Flusher,
        objects: ObjectFiles,
        pins: Pins,
    ) -> None:
        self._mirrors = mirrors
        self._presence = presence
        self._reader = reader
        self._evictor = evictor
        self._flusher = flusher
        self._objects = objects
        self._loader: CachedLoader | None = None
        self.pins = pins

    def use_loader(self, loader: CachedLoader) -> None:
        """By which objects come that are to be kept."""
        self._loader = loader

    # --- chunks

    def look(self, chunks: Sequence[PlacedChunk]) -> list[Holding]:
        """What is there of each of `chunks`. For some hundreds of them: blocks for microseconds each."""
        epoch = self._presence.epoch
        return [
            Holding.ABSENT
            if location is None or location.length != chunk.length
            else Holding.CHECKED
            if location.epoch == epoch
            else Holding.UNCHECKED
            for chunk, location in zip(chunks, self._find(chunks), strict=True)
        ]

    async def verify(self, chunks: Sequence[PlacedChunk]) -> None:
        """Read and check what is there of `chunks`, whether or not that was done before. What is wrong is dropped."""
        await self._reader.verify(chunks)
        await self._flusher.note_written(0)  # what was checked is to be recorded, and may be much

    async def evict(self, chunks: Sequence[PlacedChunk]) -> Freed:
        """Let go of what is there of `chunks` and not pinned. Raises OSError, IndexFailedError."""
        pinned = 0
        going: dict[Mirror, list[Held]] = {}
        for chunk, location in zip(chunks, self._find(chunks), strict=True):
            mirror = None if location is None else self._mirrors.get(location.mirror)
            if location is None or mirror is None:
                continue
            if self.pins.holds(mirror.pack, location.offset // self.pins.extent_bytes):
                pinned += chunk.length
            else:
                going.setdefault(mirror, []).append(Held(location.offset, location.length, chunk.id))
        freed = 0
        for mirror, rows in going.items():
            for step in range(0, len(rows), FREED_CHUNKS):
                freed += await self._evictor.free(mirror, rows[step : step + FREED_CHUNKS])
        return Freed(freed, pinned)

    def _find(self, chunks: Sequence[PlacedChunk]) -> list[Location | None]:
        return self._presence.find_many([chunk.id for chunk in chunks])

    # --- pins

    def hold(self, pin: Pin, chunks: Sequence[PlacedChunk]) -> bool:
        """Make a pin hold `chunks`, where they are and where they will be once they are fetched.

        True if it holds more than before.
        """
        size = self.pins.extent_bytes
        grown = False
        for chunk, location in zip(chunks, self._find(chunks), strict=True):
            place = chunk.placement
            mirror = None if location is None else self._mirrors.get(location.mirror)
            if location is not None and mirror is not None:
                grown |= pin.add(mirror.pack, location.offset // size)
            elif place.plain_offset + chunk.length <= MAX_MIRROR_BYTES:
                grown |= pin.add(place.pack, place.plain_offset // size)
        return grown

    def held_bytes(self, chunks: Sequence[PlacedChunk], besides: Pin | None = None) -> int:
        """Of `chunks`, what is there and not to be evicted on account of pins other than `besides`."""
        pins = [pin for pin in self.pins if pin is not besides]
        total = 0
        for chunk, location in zip(chunks, self._find(chunks), strict=True) if pins else ():
            mirror = None if location is None else self._mirrors.get(location.mirror)
            if location is not None and mirror is not None:
                extent = location.offset // self.pins.extent_bytes
                total += chunk.length * any(pin.holds(mirror.pack, extent) for pin in pins)
        return total

    def room_bytes(self, besides: Pin | None = None) -> int:
        """What chunks may take up together, besides those of all pins but `besides`. Never negative."""
        return max(0, self._evictor.keeps_bytes - self.pinned_bytes(besides))

    def pinned_bytes(self, besides: Pin | None = None) -> int:
        """What on disk is not to be evicted, on account of pins other than `besides`."""
        by_pack: dict[bytes, list[Extents]] = {}
        for pin in self.pins:
            for pack, extents in pin.extents.items() if pin is not besides else ():
                by_pack.setdefault(pack, []).append(extents)
        total = 0
        for pack, held in by_pack.items():
            mirror = self._mirrors.of_pack(pack)
            if mirror is not None:
                count = len(held[0]) if len(held) == 1 else len(set().union(*held))
                total += min(mirror.allocated_bytes, count * self.pins.extent_bytes)
        return total

    # --- objects

    async def keep_object(self, kind: ObjectKind, object_id: bytes, pin: Pin | None) -> bool:
        """Have an object on disk, for good if there is a `pin`. False if there is no room. Raises as a loader does."""
        assert self._loader is not None
        if pin is not None:
            pin.objects.add(object_name(kind, object_id))
        return await self._loader.keep(kind, object_id)

    async def save(self, pin: Pin) -> None:
        """Make durable what a pin holds, then the pin. Raises OSError."""
        await self._flusher.flush()
        await self._objects.sync(pin.objects)
        await self.pins.save(pin)
