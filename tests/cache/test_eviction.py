"""Holding the cache to its size."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import trio

import fsd.cache.eviction
from fsd.cache.cache import Cache
from fsd.format.model import PlacedChunk
from fsd.limits import KIB, MIB
from tests.cache.world import SMALL_LIMITS, World, size_of

SMALL = replace(SMALL_LIMITS, cache_bytes=8 * MIB, cache_low_water=0.9)


def disk_bytes(directory: Path) -> int:
    """What the file system says."""
    total = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            try:
                total += os.stat(os.path.join(folder, name)).st_blocks * 512
            except FileNotFoundError:
                continue
    return total


async def read_all(cache: Cache, world: World, chunks: Sequence[PlacedChunk], step: int = 4) -> None:
    for first in range(0, len(chunks), step):
        part = chunks[first : first + step]
        assert bytes(await cache.read(part, 0, size_of(part), widen=False)) == world.bytes_of(part)


async def wait_evicted(cache: Cache) -> None:
    """Wait until the eviction that runs beside the reading has taken something."""
    evicted = 0
    while not evicted:
        await trio.sleep(0.002)
        evicted = cache.statistics().evicted_chunks


async def wait_used(cache: Cache, at_most: int) -> None:
    """Wait until the cache takes no more than that."""
    while True:
        if cache.statistics().used_bytes <= at_most:
            return
        await trio.sleep(0.002)


async def check_account(cache: Cache, directory: Path) -> None:
    """What is counted is what is on the disk, as soon as the eviction that runs beside the reading has paused.

    The index is looked at only when it was written to, and RocksDB deletes files of it whenever it likes: what is
    counted may be more than what is there, by the index and a little, but hardly less.
    """
    with trio.fail_after(10):
        while True:
            counted, on_disk = cache.statistics(), disk_bytes(directory)
            assert counted.index_bytes < MIB
            if -500 * KIB - counted.index_bytes < on_disk - counted.used_bytes < 100 * KIB:
                return
            await trio.sleep(0.005)


@pytest.mark.parametrize("size", [3_000, 50_000, 300_000])
async def test_the_size_holds_while_much_more_is_read(tmp_path: Path, size: int) -> None:
    world = World()
    packs = [await world.add_random_pack(4 * MIB // size, size) for _ in range(8)]
    most = 0
    async with Cache.open(tmp_path, world.source, SMALL) as cache:
        for _ in range(2):
            for chunks in packs:
                await read_all(cache, world, chunks, 1 + 200_000 // size)
                most = max(most, disk_bytes(tmp_path))
                await check_account(cache, tmp_path)
        found = cache.statistics()
        assert found.evicted_bytes > 40 * MIB
        assert found.evicted_chunks > 0
        await read_all(cache, world, packs[-1])
        assert cache.statistics().fetched_bytes < 66 * MIB  # the last pack was there still
    assert 6 * MIB < most <= 1.02 * SMALL.cache_bytes
    assert disk_bytes(tmp_path) <= 1.02 * SMALL.cache_bytes


async def test_many_readers_together_hold_the_size(tmp_path: Path) -> None:
    world = World()
    packs = [await world.add_random_pack(60, 50_000) for _ in range(8)]
    most = 0
    async with Cache.open(tmp_path, world.source, SMALL) as cache, trio.open_nursery() as nursery:
        for chunks in packs:
            nursery.start_soon(read_all, cache, world, chunks)
        while nursery.child_tasks:
            most = max(most, disk_bytes(tmp_path))
            await trio.sleep(0.002)
    assert most <= 1.02 * SMALL.cache_bytes


async def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    world = World()
    packs = [await world.add_random_pack(40, 50_000) for _ in range(5)]
    async with Cache.open(tmp_path, world.source, SMALL) as cache:
        for chunks in packs[:3]:
            await read_all(cache, world, chunks)
        assert cache.read_nowait(packs[0], 0, size_of(packs[0])) is not None
        await read_all(cache, world, packs[3])
        await wait_evicted(cache)
        assert all(cache.contains(packs[0]))
        assert not all(cache.contains(packs[1]))


async def test_the_order_outlives_a_restart(tmp_path: Path) -> None:
    world = World()
    packs = [await world.add_random_pack(40, 50_000) for _ in range(4)]
    async with Cache.open(tmp_path, world.source, SMALL) as cache:
        for chunks in (*packs[:3], packs[0]):
            await read_all(cache, world, chunks)
    async with Cache.open(tmp_path, world.source, SMALL) as cache:
        await read_all(cache, world, packs[3])
        await wait_evicted(cache)
        assert all(cache.contains(packs[0]))
        assert not all(cache.contains(packs[1]))


async def test_a_located_file_is_no_longer_valid_once_it_is_evicted(tmp_path: Path) -> None:
    world = World()
    one, two = await world.add_random_pack(100, 50_000), await world.add_random_pack(100, 50_000)
    async with Cache.open(tmp_path, world.source, SMALL) as cache:
        await read_all(cache, world, one)
        located = cache.locate(one)
        assert bytes(cache.read_located_nowait(located, 0, 100) or b"") == world.bytes_of(one, 0, 100)
        await read_all(cache, world, two)
        assert cache.read_located_nowait(located, 0, 100) is None


async def test_mirrors_that_hold_nothing_are_deleted(tmp_path: Path) -> None:
    world = World()
    packs = [await world.add_random_pack(20, 50_000) for _ in range(30)]
    async with Cache.open(tmp_path, world.source, SMALL) as cache:
        for chunks in packs:
            await read_all(cache, world, chunks)
    assert 6 <= sum(1 for path in (tmp_path / "mirrors").rglob("*") if path.is_file()) <= 9


async def test_chunks_across_extents_keep_their_bytes(tmp_path: Path) -> None:
    """Every extent but one is evicted in turn; what remains must be whole."""
    world = World(7)
    chunks = await world.add_pack([world.data(world.random.randint(1, 90_000)) for _ in range(60)])
    async with Cache.open(tmp_path, world.source, SMALL_LIMITS) as cache:
        await read_all(cache, world, chunks)
        mirror = cache._mirrors.of_pack(chunks[0].placement.pack)
        assert mirror is not None
        extents = [extent for _, extent in mirror.recency]
        world.random.shuffle(extents)
        for extent in extents[:-1]:
            await cache._evictor._evict_extents(mirror, [extent])
            for chunk, is_there in zip(chunks, cache.contains(chunks), strict=True):
                starts_in = chunk.placement.plain_offset // SMALL_LIMITS.extent_bytes
                assert is_there == (starts_in in extents[extents.index(extent) + 1 :])
                if is_there:
                    found = cache.read_nowait([chunk], 0, chunk.length)
                    assert bytes(found or b"") == world.truth[chunk.id]
        left = [chunk for chunk, is_there in zip(chunks, cache.contains(chunks), strict=True) if is_there]
        allocated = os.stat(mirror.path).st_blocks * 512
        assert allocated <= size_of(left) + 3 * 4096
        await cache._evictor._evict_extents(mirror, [extent for _, extent in mirror.recency])
        assert cache._mirrors.get(mirror.number) is None
        assert disk_bytes(tmp_path / "mirrors") == 0
        await read_all(cache, world, chunks)


async def test_a_cache_smaller_than_a_chunk_streams(tmp_path: Path) -> None:
    world = World()
    chunks = await world.add_random_pack(4, 2 * MIB)
    limits = replace(SMALL_LIMITS, cache_bytes=1 * MIB)
    async with Cache.open(tmp_path, world.source, limits) as cache:
        for _ in range(2):
            await read_all(cache, world, chunks, 2)
        assert cache.statistics().streamed_bytes == 2 * size_of(chunks)
    assert disk_bytes(tmp_path) < 1 * MIB


async def test_without_holes_whole_mirrors_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fsd.cache.eviction, "punch_hole", lambda *_: False)
    world = World()
    packs = [await world.add_random_pack(40, 50_000) for _ in range(8)]
    async with Cache.open(tmp_path, world.source, SMALL) as cache:
        for chunks in packs:
            await read_all(cache, world, chunks)
            assert disk_bytes(tmp_path) <= 1.02 * SMALL.cache_bytes
        assert all(cache.contains(packs[-1]))


async def test_reads_in_threads_are_not_punched_under(tmp_path: Path) -> None:
    world = World()
    packs = [await world.add_random_pack(40, 50_000) for _ in range(8)]
    limits = replace(SMALL, inline_hash_bytes=0)
    async with Cache.open(tmp_path, world.source, limits) as cache:
        cache._reader._can_nowait = False
        async with trio.open_nursery() as nursery:
            for seed in range(8):
                nursery.start_soon(read_all, cache, world, packs[seed] * 2, 2)
                nursery.start_soon(read_all, cache, world, packs[(seed + 1) % 8] * 2, 3)
        assert cache.statistics().evicted_bytes > 0


async def test_a_full_disk_makes_room(tmp_path: Path) -> None:
    world = World()
    chunks = await world.add_random_pack(80, 50_000)
    async with Cache.open(tmp_path, world.source, SMALL) as cache:
        await read_all(cache, world, chunks)
        before = cache.statistics().mirror_bytes
        cache._evictor.shrink(1 * MIB)
        with trio.fail_after(10):
            while cache.statistics().mirror_bytes > before - 1 * MIB:  # noqa: ASYNC110 - nothing tells
                await trio.sleep(0.001)
        await read_all(cache, world, chunks)


async def test_data_that_no_record_names_is_found_after_a_crash(tmp_path: Path) -> None:
    world = World()
    packs = [await world.add_random_pack(40, 50_000) for _ in range(6)]
    async with Cache.open(tmp_path, world.source, SMALL) as cache:
        await read_all(cache, world, packs[0])
        await cache.flush()
        await read_all(cache, world, packs[1])
        # As if killed here: neither flushed nor closed in order.
        cache._presence.abandon_pending()
        cache._mirrors.changed_recency()
        cache._index._put_counters(clean=False)
        cache._index.close = cache._index._close  # type: ignore[method-assign]
    async with Cache.open(tmp_path, world.source, SMALL) as cache:
        assert all(cache.contains(packs[0]))
        assert not any(cache.contains(packs[1]))
        assert abs(disk_bytes(tmp_path) - cache.statistics().used_bytes) < 200 * KIB
        for chunks in packs[2:]:
            await read_all(cache, world, chunks)
        assert disk_bytes(tmp_path) <= 1.02 * SMALL.cache_bytes


async def test_another_limit_holds_at_once(tmp_path: Path) -> None:
    world = World()
    chunks = await world.add_random_pack(60, 100_000)
    async with Cache.open(tmp_path, world.source, SMALL) as cache:
        await read_all(cache, world, chunks)
        assert cache.statistics().evicted_chunks == 0
        cache.resize(4 * MIB)
        await wait_used(cache, 4 * MIB)
        assert cache.statistics().limit_bytes == 4 * MIB
        cache.resize(20 * MIB)
        before = cache.statistics().evicted_chunks
        await read_all(cache, world, chunks)
        assert cache.statistics().evicted_chunks == before
        assert cache.window_bytes == 20 * MIB // 8
