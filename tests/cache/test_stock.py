"""What is there of given chunks: asked, checked, pinned, evicted."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import trio
import trio.testing

from fsd.cache.cache import Cache
from fsd.cache.stock import Freed, Holding
from fsd.format.keys import ObjectKind
from fsd.format.model import PlacedChunk
from fsd.ids import content_id
from fsd.limits import KIB, MIB
from fsd.stores.base import ObjectNotFoundError
from tests.cache.test_eviction import disk_bytes, read_all
from tests.cache.world import SMALL_LIMITS, World, size_of

SMALL = replace(SMALL_LIMITS, cache_bytes=8 * MIB, cache_low_water=0.9)


def held(cache: Cache, chunks: Sequence[PlacedChunk]) -> int:
    return sum(1 for holding in cache.stock.look(chunks) if holding)


async def test_what_is_pinned_outlives_any_pressure_and_a_restart(tmp_path: Path) -> None:
    world = World()
    pinned = await world.add_random_pack(40, 50_000)
    others = [await world.add_random_pack(40, 50_000) for _ in range(8)]
    async with Cache.open(tmp_path, world.source, SMALL) as cache:
        pin = cache.stock.pins.begin("aa", {})
        cache.stock.hold(pin, pinned)
        await read_all(cache, world, pinned)
        cache.stock.hold(pin, pinned)
        await cache.stock.save(pin)
        for chunks in others:
            await read_all(cache, world, chunks)
        assert cache.statistics().evicted_bytes > 4 * MIB
        assert held(cache, pinned) == 40
        assert abs(cache.statistics().pinned_bytes - size_of(pinned)) <= 64 * KIB
    async with Cache.open(tmp_path, world.source, SMALL) as cache:
        for chunks in others:
            await read_all(cache, world, chunks)
        assert held(cache, pinned) == 40
        (again,) = cache.stock.pins
        await cache.stock.pins.remove(again)
        for chunks in others:
            await read_all(cache, world, chunks)
        assert held(cache, pinned) == 0


async def test_a_cache_full_of_pins_streams_the_rest_and_keeps_its_size(tmp_path: Path) -> None:
    world = World()
    packs = [await world.add_random_pack(40, 50_000) for _ in range(6)]
    async with Cache.open(tmp_path, world.source, SMALL) as cache:
        pin = cache.stock.pins.begin("aa", {})
        for chunks in packs:
            cache.stock.hold(pin, chunks)
            await read_all(cache, world, chunks)
        assert cache.stock.room_bytes() < 200 * KIB
        assert cache.stock.room_bytes(pin) > 6 * MIB
        assert held(cache, packs[0]) == 40
        assert held(cache, packs[-1]) == 0
        assert cache.statistics().streamed_bytes >= size_of(packs[-1])
        assert disk_bytes(tmp_path) <= 1.02 * SMALL.cache_bytes


async def test_a_chunk_out_of_its_place_is_pinned_where_it_is(tmp_path: Path) -> None:
    """Two placements claim the same bytes: the second chunk lies in the overflow mirror."""
    world = World()
    first, second = await world.add_random_pack(2, 50_000)
    lying = second._replace(placement=second.placement._replace(plain_offset=first.placement.plain_offset))
    others = [await world.add_random_pack(40, 50_000) for _ in range(6)]
    async with Cache.open(tmp_path, world.source, SMALL) as cache:
        for chunk in (first, lying):
            await cache.read([chunk], 0, chunk.length, widen=False)
        pin = cache.stock.pins.begin("aa", {})
        assert cache.stock.hold(pin, [first, lying])
        assert not cache.stock.hold(pin, [first, lying])
        for chunks in others:
            await read_all(cache, world, chunks)
        assert held(cache, [first, lying]) == 2


async def test_chunks_are_let_go_one_by_one(tmp_path: Path) -> None:
    world = World()
    chunks = await world.add_random_pack(40, 10_000)
    gone, left = chunks[10:30], chunks[:10] + chunks[30:]
    async with Cache.open(tmp_path, world.source, SMALL) as cache:
        await read_all(cache, world, chunks, step=40)
        before = cache.statistics().used_bytes
        freed = await cache.stock.evict(gone)
        assert freed.pinned_bytes == 0
        assert size_of(gone) - 8 * KIB <= freed.freed_bytes <= size_of(gone)
        assert cache.statistics().used_bytes == before - freed.freed_bytes
        assert held(cache, gone) == 0
        assert held(cache, left) == 20
        asked = world.requests()
        await read_all(cache, world, left, step=10)
        assert world.requests() == asked
        await read_all(cache, world, chunks, step=40)
        assert world.requests() > asked
        await cache.stock.evict(chunks)
        assert cache.statistics().mirror_bytes == 0
        assert list((tmp_path / "mirrors").glob("*/*")) == []


async def test_what_is_pinned_is_not_let_go(tmp_path: Path) -> None:
    world = World()
    chunks = await world.add_random_pack(40, 10_000)
    async with Cache.open(tmp_path, world.source, SMALL) as cache:
        await read_all(cache, world, chunks, step=40)
        pins = [cache.stock.pins.begin(name, {}) for name in ("aa", "bb")]
        for pin in pins:
            cache.stock.hold(pin, chunks)
        assert await cache.stock.evict(chunks) == Freed(0, size_of(chunks))
        await cache.stock.pins.remove(pins[0])
        assert cache.stock.held_bytes(chunks) == size_of(chunks)
        assert cache.stock.held_bytes(chunks, besides=pins[1]) == 0
        assert await cache.stock.evict(chunks) == Freed(0, size_of(chunks))
        await cache.stock.pins.remove(pins[1])
        assert (await cache.stock.evict(chunks)).freed_bytes >= size_of(chunks)


async def test_what_is_pinned_while_it_waits_to_be_let_go_stays(tmp_path: Path) -> None:
    world = World()
    chunks = await world.add_random_pack(40, 10_000)
    async with Cache.open(tmp_path, world.source, SMALL) as cache:
        await read_all(cache, world, chunks, step=40)
        async with cache._evictor._punching, trio.open_nursery() as nursery:
            nursery.start_soon(cache.stock.evict, chunks)
            await trio.testing.wait_all_tasks_blocked()
            cache.stock.hold(cache.stock.pins.begin("aa", {}), chunks)
            cache._evictor._punching.release()
            await trio.testing.wait_all_tasks_blocked(0.05)
            await cache._evictor._punching.acquire()
        assert held(cache, chunks) == 40


async def test_verifying_finds_what_the_disk_changed(tmp_path: Path) -> None:
    world = World()
    chunks = await world.add_random_pack(40, 10_000)
    async with Cache.open(tmp_path, world.source, SMALL) as cache:
        await read_all(cache, world, chunks, step=40)
        assert set(cache.stock.look(chunks)) == {Holding.CHECKED}
    (path,) = (tmp_path / "mirrors").glob("*/*")
    async with Cache.open(tmp_path, world.source, SMALL) as cache:
        assert set(cache.stock.look(chunks)) == {Holding.UNCHECKED}
        await cache.stock.verify(chunks)
        assert set(cache.stock.look(chunks)) == {Holding.CHECKED}
        with path.open("r+b") as file:  # behind the back of a cache that has checked it
            file.seek(chunks[7].placement.plain_offset + 5)
            file.write(os.urandom(8))
        await cache.stock.verify(chunks)
        assert [n for n, holding in enumerate(cache.stock.look(chunks)) if not holding] == [7]
        await cache.stock.verify([])


class NoStore:
    """Gives each object once."""

    def __init__(self, objects: dict[bytes, bytes]) -> None:
        self.objects = objects

    async def load(self, kind: ObjectKind, object_id: bytes) -> bytes:
        if object_id not in self.objects:
            raise ObjectNotFoundError(kind.name, "nowhere")
        return self.objects.pop(object_id)

    async def reload(self, kind: ObjectKind, object_id: bytes) -> bytes:
        return await self.load(kind, object_id)

    async def forget(self, kind: ObjectKind, object_id: bytes) -> None:
        """Nothing is kept here."""


async def test_pinned_objects_stay_when_there_are_too_many(tmp_path: Path) -> None:
    world = World()
    stored = {content_id(data): data for data in (world.data(50_000) for _ in range(40))}
    ids = list(stored)
    async with Cache.open(tmp_path, world.source, SMALL) as cache:
        cache.loader(NoStore(dict(stored)))
        pin = cache.stock.pins.begin("aa", {})
        for number, object_id in enumerate(ids):
            assert await cache.stock.keep_object(ObjectKind.PAGE, object_id, pin if number < 5 else None)
        await cache.stock.save(pin)
        assert cache.statistics().evicted_objects > 20
    async with Cache.open(tmp_path, world.source, replace(SMALL, cache_bytes=2 * MIB)) as cache:
        loader = cache.loader(NoStore({}))
        for object_id in ids[:5]:
            assert await loader.load(ObjectKind.PAGE, object_id) == stored[object_id]
        # Within the limit, so that others were kept beside them.
        assert cache.statistics().object_bytes <= 5 * 53_248 + 2 * MIB // 10
