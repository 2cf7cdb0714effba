"""Fetching: one flight a chunk, bounds, retries, faults."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing

from fsd.cache.cache import Cache
from fsd.cache.fetcher import FetchTimeoutError
from fsd.errors import CorruptDataError, StorePermissionError, StoreUnreachableError
from fsd.format.keys import pack_key
from fsd.format.model import PlacedChunk
from fsd.limits import KIB, MIB, Limits
from tests.cache.world import SMALL_LIMITS, World, size_of
from tests.faulty import Fail, FlipBit, Lengthen, Slow, Stall, Truncate


@asynccontextmanager
async def opened(world: World, directory: Path, limits: Limits = SMALL_LIMITS) -> AsyncIterator[Cache]:
    async with Cache.open(directory, world.source, limits) as cache:
        yield cache
    world.store.assert_all_exercised()


async def test_sixty_four_readers_make_one_request(tmp_path: Path) -> None:
    world = World()
    chunks = await world.add_random_pack(4, 50 * KIB)
    stall = world.store.inject("get_range", "packs/*", Stall(), times=1)
    got: list[bytes] = []
    async with opened(world, tmp_path) as cache:

        async def read() -> None:
            got.append(bytes(await cache.read(chunks, 0, size_of(chunks))))

        async with trio.open_nursery() as nursery:
            for _ in range(64):
                nursery.start_soon(read)
            await stall.wait_met()
            await trio.testing.wait_all_tasks_blocked()
            stall.action.release.set()  # type: ignore[union-attr]
        assert got == [world.bytes_of(chunks)] * 64
        assert world.requests() == 1
        assert cache.statistics().fetched_bytes == size_of(chunks)


async def test_overlapping_readers_fetch_each_chunk_once(tmp_path: Path) -> None:
    world = World()
    chunks = await world.add_random_pack(20, 10 * KIB)
    async with opened(world, tmp_path) as cache, trio.open_nursery() as nursery:

        async def read(first: int, last: int) -> None:
            part = chunks[first:last]
            assert bytes(await cache.read(part, 0, size_of(part), widen=False)) == world.bytes_of(part)

        for first in range(16):
            nursery.start_soon(read, first, first + 5)
    assert cache.statistics().fetched_bytes == size_of(chunks)


async def test_a_cancelled_reader_leaves_the_fetch_to_others(tmp_path: Path) -> None:
    world = World()
    chunks = await world.add_random_pack(1, 50 * KIB)
    stall = world.store.inject("get_range", "packs/*", Stall(), times=1)
    got: list[bytes] = []
    async with opened(world, tmp_path) as cache:
        scope = trio.CancelScope()

        async def first() -> None:
            with scope:
                await cache.read(chunks, 0, 100)

        async def second() -> None:
            got.append(bytes(await cache.read(chunks, 0, 100)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(first)
            await stall.wait_met()
            nursery.start_soon(second)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
            await trio.testing.wait_all_tasks_blocked()
            stall.action.release.set()  # type: ignore[union-attr]
        assert got == [world.bytes_of(chunks, 0, 100)]
        assert world.requests() == 1


async def test_read_ahead_that_nobody_waits_for_is_cancelled(tmp_path: Path) -> None:
    world = World()
    chunks = await world.add_random_pack(1, 50 * KIB)
    stall = world.store.inject("get_range", "packs/*", Stall(), times=1)
    async with opened(world, tmp_path) as cache:
        fetch = cache.start_fetch(chunks)
        await stall.wait_met()
        fetch.cancel()
        fetch.cancel()
        await fetch.wait()
        await trio.testing.wait_all_tasks_blocked()
        assert cache.statistics().in_flight_requests == 0
        assert cache.contains(chunks) == [False]


async def test_cancelled_read_ahead_goes_on_for_a_reader_or_another_handle(tmp_path: Path) -> None:
    world = World()
    one, two = await world.add_random_pack(1, 50 * KIB), await world.add_random_pack(1, 50 * KIB)
    stall = world.store.inject("get_range", "packs/*", Stall(), times=2)
    async with opened(world, tmp_path) as cache:
        fetch, other = cache.start_fetch([*one, *two]), cache.start_fetch(two)
        await stall.wait_met(2)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cache.read, one, 0, 10)
            await trio.testing.wait_all_tasks_blocked()
            fetch.cancel()
            await trio.testing.wait_all_tasks_blocked()
            stall.action.release.set()  # type: ignore[union-attr]
        await other.wait()
        assert cache.contains([*one, *two]) == [True, True]
        assert world.requests() == 2
        assert other.is_done


async def test_read_ahead_that_waits_for_a_slot_is_cancelled_too(tmp_path: Path) -> None:
    world = World()
    packs = [await world.add_random_pack(1, 10 * KIB) for _ in range(4)]
    limits = replace(SMALL_LIMITS, fetch_requests=4, fetch_ahead_requests=1)
    stall = world.store.inject("get_range", "packs/*", Stall(), times=1)
    async with opened(world, tmp_path, limits) as cache:
        fetches = [cache.start_fetch(pack) for pack in packs]
        await stall.wait_met()
        assert cache.statistics().waiting_requests == 3
        fetches[1].cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert cache.statistics().waiting_requests == 2
        stall.action.release.set()  # type: ignore[union-attr]
        for fetch in fetches:
            await fetch.wait()
        assert [cache.contains(pack)[0] for pack in packs] == [True, False, True, True]


async def test_the_deadline_of_a_read(tmp_path: Path) -> None:
    world = World()
    chunks = await world.add_random_pack(1, 50 * KIB)
    stall = world.store.inject("get_range", "packs/*", Stall(), times=1)
    async with opened(world, tmp_path) as cache:
        with pytest.raises(FetchTimeoutError, match=r"within 0\.05 s"):
            await cache.read(chunks, 0, 10, deadline_s=0.05)
        stall.action.release.set()  # type: ignore[union-attr]
        assert bytes(await cache.read(chunks, 0, 10)) == world.bytes_of(chunks, 0, 10)
        assert world.requests() == 1  # the first request was left running for who comes back


async def test_an_unreachable_store_is_tried_again(tmp_path: Path) -> None:
    world = World()
    chunks = await world.add_random_pack(1, 50 * KIB)
    world.store.inject("get_range", "packs/*", Fail(StoreUnreachableError("down")), times=2)
    async with opened(world, tmp_path) as cache:
        assert bytes(await cache.read(chunks, 0, 10)) == world.bytes_of(chunks, 0, 10)
        assert cache.statistics().retries == 2


async def test_it_gives_up_and_comes_back(tmp_path: Path) -> None:
    world = World()
    chunks = await world.add_random_pack(1, 50 * KIB)
    down = world.store.inject("get_range", "packs/*", Fail(StoreUnreachableError("down")))
    async with opened(world, tmp_path) as cache:
        for _ in range(2):
            with pytest.raises(StoreUnreachableError, match="down"):
                await cache.read(chunks, 0, 10)
        assert down.met == 2 * SMALL_LIMITS.fetch_attempts
        down.remove()
        assert bytes(await cache.read(chunks, 0, 10)) == world.bytes_of(chunks, 0, 10)


async def test_what_is_cached_is_served_without_a_store(tmp_path: Path) -> None:
    world = World()
    chunks = await world.add_random_pack(2, 50 * KIB)
    async with opened(world, tmp_path) as cache:
        await cache.read(chunks[:1], 0, 10, widen=False)
        world.store.inject(("get_range", "get_tail"), "packs/*", Fail(StoreUnreachableError("down")))
        assert cache.read_nowait(chunks[:1], 0, 10) is not None
        assert bytes(await cache.read(chunks[:1], 0, 10)) == world.bytes_of(chunks, 0, 10)
        with pytest.raises(StoreUnreachableError):
            await cache.read(chunks, 0, size_of(chunks))


async def test_a_refusal_is_not_tried_again(tmp_path: Path) -> None:
    world = World()
    chunks = await world.add_random_pack(1, 50 * KIB)
    world.store.inject("get_range", "packs/*", Fail(StorePermissionError("no")), times=1)
    async with opened(world, tmp_path) as cache:
        with pytest.raises(StorePermissionError):
            await cache.read(chunks, 0, 10)
    assert world.requests() == 1


@pytest.mark.parametrize("action", [FlipBit(), Truncate(30_000), Truncate(10**9)])
async def test_a_bad_chunk_is_fetched_again(tmp_path: Path, action: FlipBit | Truncate) -> None:
    world = World()
    chunks = await world.add_pack([world.data(50 * KIB), world.data(50 * KIB, compressible=True)])
    world.store.inject("get_range", "packs/*", action, times=1)
    async with opened(world, tmp_path) as cache:
        assert bytes(await cache.read(chunks, 0, size_of(chunks))) == world.bytes_of(chunks)
        assert cache.statistics().corrupt_chunks == 0


@pytest.mark.parametrize("compressible", [False, True])
@pytest.mark.parametrize("action", [FlipBit(), Truncate()])
async def test_a_chunk_that_is_bad_twice_is_an_error_and_its_neighbours_are_not(
    tmp_path: Path, action: FlipBit | Truncate, compressible: bool
) -> None:
    world = World()
    chunks = await world.add_pack([world.data(10 * KIB), world.data(10 * KIB, compressible=compressible)])
    bad = world.store.inject("get_range", "packs/*", action if isinstance(action, Truncate) else FlipBit(0.9999))
    async with opened(world, tmp_path) as cache:
        for _ in range(2):
            with pytest.raises(CorruptDataError) as caught:
                await cache.read(chunks, 0, size_of(chunks))
            assert chunks[1].id.hex() in caught.value.message
            assert chunks[1].placement.pack.hex() in caught.value.message
        assert bytes(await cache.read(chunks[:1], 0, 10)) == world.bytes_of(chunks, 0, 10)
        assert cache.contains(chunks) == [True, False]
        assert cache.statistics().corrupt_chunks == 2
        bad.remove()
        assert bytes(await cache.read(chunks, 0, size_of(chunks))) == world.bytes_of(chunks)


async def test_more_than_was_asked_for_does_no_harm(tmp_path: Path) -> None:
    world = World()
    chunks = await world.add_random_pack(1, 50 * KIB)
    world.store.inject("get_range", "packs/*", Lengthen(100), times=1)
    async with opened(world, tmp_path) as cache:
        assert bytes(await cache.read(chunks, 0, size_of(chunks))) == world.bytes_of(chunks)


async def test_a_pack_that_is_gone(tmp_path: Path) -> None:
    world = World()
    chunks = await world.add_random_pack(1, 50 * KIB)
    await world.memory.delete(pack_key(chunks[0].placement.pack))
    async with opened(world, tmp_path) as cache:
        with pytest.raises(CorruptDataError, match="is gone"):
            await cache.read(chunks, 0, 10)


async def test_stalled_readers_leave_room_for_others(tmp_path: Path) -> None:
    world = World()
    stalled = [await world.add_random_pack(1, 10 * KIB) for _ in range(64)]
    good = await world.add_random_pack(1, 10 * KIB)
    limits = replace(SMALL_LIMITS, fetch_requests=40, fetch_slow_s=0.1)
    stall = world.store.inject("get_range", "packs/*", Stall(), times=64)
    async with opened(world, tmp_path, limits) as cache, trio.open_nursery() as nursery:
        for chunks in stalled:
            nursery.start_soon(cache.read, chunks, 0, 10)
        await stall.wait_met(64)  # 24 of them in lent slots
        with trio.fail_after(5):
            assert bytes(await cache.read(good, 0, 10)) == world.bytes_of(good, 0, 10)
        stall.action.release.set()  # type: ignore[union-attr]


async def test_stalled_read_ahead_leaves_slots_to_readers(tmp_path: Path) -> None:
    world = World()
    packs = [await world.add_random_pack(1, 10 * KIB) for _ in range(9)]
    limits = replace(SMALL_LIMITS, fetch_requests=8, fetch_ahead_requests=4)
    stall = world.store.inject("get_range", "packs/*", Stall(), times=4)
    async with opened(world, tmp_path, limits) as cache:
        fetches = [cache.start_fetch(pack) for pack in packs[:8]]
        await stall.wait_met(4)
        assert bytes(await cache.read(packs[8], 0, 10)) == world.bytes_of(packs[8], 0, 10)
        assert bytes(await cache.read(packs[7], 0, 10)) == world.bytes_of(packs[7], 0, 10)
        stall.action.release.set()  # type: ignore[union-attr]
        for fetch in fetches:
            await fetch.wait()


async def test_bytes_in_flight_are_bounded(tmp_path: Path) -> None:
    world = World()
    chunks = await world.add_random_pack(64, 64 * KIB)
    world.store.inject("get_range", "packs/*", Slow(0.01))
    limits = replace(SMALL_LIMITS, fetch_bytes=1 * MIB)
    most = 0
    async with opened(world, tmp_path, limits) as cache:
        async with trio.open_nursery() as nursery:
            for first in range(0, 64, 8):
                nursery.start_soon(cache.read, chunks[first : first + 8], 0, 8 * 64 * KIB)
            while len(nursery.child_tasks):
                most = max(most, cache.statistics().in_flight_bytes)
                await trio.sleep(0.001)
        assert 512 * KIB <= most <= 1 * MIB
        assert cache.contains(chunks) == [True] * 64


async def test_long_ranges_are_split_and_short_gaps_read_over(tmp_path: Path) -> None:
    world = World()
    chunks = await world.add_random_pack(64, 16 * KIB)
    async with opened(world, tmp_path, replace(SMALL_LIMITS, range_gap_bytes=16 * KIB)) as cache:
        assert bytes(await cache.read(chunks, 0, size_of(chunks))) == world.bytes_of(chunks)
        assert world.requests() == 4
        other = await world.add_random_pack(9, 16 * KIB)
        await cache.start_fetch(other[::2]).wait()
        assert world.requests() == 5
        assert cache.contains(other) == [True, False] * 4 + [True]


async def test_misses_in_one_pack_widen(tmp_path: Path) -> None:
    world = World()
    chunks = await world.add_random_pack(200, 20 * KIB)
    async with opened(world, tmp_path, replace(SMALL_LIMITS, range_bytes=8 * MIB)) as cache:
        order = list(range(200))
        world.random.shuffle(order)
        await cache.read(chunks[order[0] : order[0] + 1], 0, 10)
        assert sum(cache.contains(chunks)) == 1
        for position in order:
            chunk = chunks[position : position + 1]
            assert bytes(await cache.read(chunk, 0, 20 * KIB)) == world.bytes_of(chunk)
        assert world.requests() < 40
        contents_asked = sum(call.operation == "get_tail" for call in world.store.calls)
        assert contents_asked == 1
        assert cache.statistics().fetched_bytes < 1.5 * size_of(chunks)


async def test_a_large_files_misses_do_not_widen(tmp_path: Path) -> None:
    world = World()
    chunks = await world.add_random_pack(50, 20 * KIB)
    async with opened(world, tmp_path) as cache:
        for position in range(0, 50, 5):
            await cache.read(chunks[position : position + 1], 0, 10, widen=False)
        assert sum(cache.contains(chunks)) == 10


async def test_widening_stops_at_what_a_small_cache_can_hold(tmp_path: Path) -> None:
    world = World()
    chunks = await world.add_random_pack(200, 20 * KIB)
    async with opened(world, tmp_path, replace(SMALL_LIMITS, cache_bytes=2 * MIB)) as cache:
        assert cache.window_bytes == 256 * KIB
        for position in range(100, 110):
            await cache.read(chunks[position : position + 1], 0, 10)
        await trio.testing.wait_all_tasks_blocked()
        most = max(call.length for call in world.store.calls if call.operation == "get_range")
        assert most <= 256 * KIB


async def read_all(cache: Cache, world: World, chunks: list[PlacedChunk]) -> None:
    for chunk in chunks:
        assert bytes(await cache.read([chunk], 0, chunk.length)) == world.bytes_of([chunk])


async def test_nothing_is_widened_that_will_be_evicted_before_it_is_read(tmp_path: Path) -> None:
    """Ten times the cache, at random: a neighbour is one time in ten still there when its turn comes."""
    world = World()
    packs = [await world.add_random_pack(50, 20 * KIB) for _ in range(40)]
    chunks = [chunk for pack in packs for chunk in pack]
    limits = replace(SMALL_LIMITS, cache_bytes=4 * MIB, range_bytes=8 * MIB)
    async with opened(world, tmp_path, limits) as cache:
        for _ in range(2):
            world.random.shuffle(chunks)
            await read_all(cache, world, chunks)
        assert cache.statistics().widened_bytes > 0
        assert cache.statistics().fetched_bytes < 1.4 * 2 * size_of(chunks)
        # Pack by pack they are used again, and it is found out.
        for pack in packs:
            world.random.shuffle(pack)
        before = world.requests()
        await read_all(cache, world, [chunk for pack in packs[20:] for chunk in pack])
        first = world.requests() - before
        await read_all(cache, world, [chunk for pack in packs[:20] for chunk in pack])
        assert world.requests() - before - first < 0.35 * 1000


@pytest.mark.parametrize("fault", ["unreachable", "corrupt", "gone"])
async def test_contents_that_cannot_be_read_are_nobodys_error(
    tmp_path: Path, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    world = World()
    chunks = await world.add_random_pack(20, 20 * KIB)
    world.store.inject(
        "get_tail", "packs/*", FlipBit(0.99) if fault == "corrupt" else Fail(StoreUnreachableError("down"))
    )
    async with opened(world, tmp_path) as cache:
        for position in range(5):
            chunk = chunks[position : position + 1]
            assert bytes(await cache.read(chunk, 0, 10)) == world.bytes_of(chunk, 0, 10)
        await trio.testing.wait_all_tasks_blocked()
    assert "cannot read the contents" in caplog.text


async def test_closing_while_fetching(tmp_path: Path) -> None:
    world = World()
    chunks = await world.add_random_pack(8, 50 * KIB)
    stall = world.store.inject("get_range", "packs/*", Stall(), times=1)
    async with opened(world, tmp_path, replace(SMALL_LIMITS, range_bytes=50 * KIB, fetch_ahead_requests=1)) as cache:
        cache.start_fetch(chunks)
        await stall.wait_met()
    async with Cache.open(tmp_path, world.source, SMALL_LIMITS) as cache:
        assert bytes(await cache.read(chunks, 0, size_of(chunks))) == world.bytes_of(chunks)


async def test_an_error_of_the_body_leaves_as_it_is(tmp_path: Path) -> None:
    world = World()
    with pytest.raises(ZeroDivisionError):
        async with Cache.open(tmp_path, world.source, SMALL_LIMITS):
            raise ZeroDivisionError
