"""Reads of files of every shape: the right bytes, and no more requests than it takes."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing

from fsd.cache.cache import Cache
from fsd.cache.fetcher import FetchTimeoutError
from fsd.errors import CorruptDataError
from fsd.format.model import Entry
from fsd.ids import content_id
from fsd.limits import Limits
from fsd.repo.packs import PackReader
from fsd.repo.repository import init_store, open_repositories
from fsd.stores.memory import MemoryStore
from fsd.vfs.lookout import MIN_SIGHT_BYTES
from fsd.vfs.reads import FileRange, Reads
from tests.faulty import FaultyStore, FlipBit, Stall
from tests.vfs.world import CHUNK_BYTES, LIMITS, Builder

CHUNKS = 2000
LARGE = CHUNKS * CHUNK_BYTES
WINDOWS = replace(
    LIMITS, own_pack_bytes=100 * CHUNK_BYTES, window_min_bytes=10 * CHUNK_BYTES, window_max_bytes=80 * CHUNK_BYTES
)


class Files:
    """Files in a store, and `Reads` over them. The number of a file is its position."""

    def __init__(self, store: FaultyStore, cache: Cache, contents: list[bytes], entries: list[Entry]) -> None:
        self.store = store
        self.cache = cache
        self.contents = contents
        self.entries = entries
        self.loaded: list[int] = []
        self.reads: Reads

    async def load_entry(self, ino: int) -> Entry:
        await trio.lowlevel.checkpoint()
        self.loaded.append(ino)
        return self.entries[ino]

    def range(self, ino: int, start: int, length: int) -> FileRange:
        data = self.contents[ino]
        return FileRange(ino, content_id(data), len(data), start, min(start + length, len(data)))

    async def read(self, ino: int, start: int, length: int) -> None:
        """Read as the adapter does, and compare."""
        wanted = self.range(ino, start, length)
        data = self.reads.read_nowait(wanted)
        if data is None:
            data = await self.reads.read(wanted)
        assert bytes(data) == self.contents[ino][wanted.start : wanted.end]

    async def settle(self) -> None:
        """Until nothing is on its way from the store."""
        await trio.testing.wait_all_tasks_blocked()
        while self.cache.statistics().in_flight_requests:  # noqa: ASYNC110 - the end of a thread is no event
            await trio.sleep(0.001)

    def fetched_bytes(self) -> int:
        """Bytes of packs asked for since the last time."""
        asked = sum(call.length for call in self.store.calls if call.key.startswith("packs/"))
        self.store.calls.clear()
        return asked


@asynccontextmanager
async def files(directory: Path, contents: list[bytes], limits: Limits = WINDOWS) -> AsyncIterator[Files]:
    inner = MemoryStore()
    await init_store(inner)
    builder = Builder(await open_repositories(inner))
    named = {b"%d" % number: data for number, data in enumerate(contents)}
    entries = [entry async for entry in builder._entries(named, one_pack_a_file=True)]
    store = FaultyStore(inner)
    async with Cache.open(directory, PackReader(store), limits) as cache, trio.open_nursery() as nursery:
        repositories = await open_repositories(store, limits)
        made = Files(store, cache, contents, entries)
        made.reads = Reads(cache, repositories.objects, made.load_entry, made.load_entry, limits, nursery)
        store.calls.clear()
        yield made
        nursery.cancel_scope.cancel()


def content(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


async def test_any_range_of_any_file(tmp_path: Path) -> None:
    sizes = [1, CHUNK_BYTES, CHUNK_BYTES + 1, 5 * CHUNK_BYTES, 64 * CHUNK_BYTES, 65 * CHUNK_BYTES, LARGE - 7]
    choice = random.Random(1)
    async with files(tmp_path, [content(size, size) for size in sizes]) as made:
        for _ in range(400):
            ino = choice.randrange(len(sizes))
            start = choice.randrange(sizes[ino])
            await made.read(ino, start, choice.choice([1, 10, 1000, 3000, 100_000]))


async def test_a_cached_file_of_one_chunk_needs_no_entry(tmp_path: Path) -> None:
    async with files(tmp_path, [content(500)]) as made:
        await made.read(0, 0, 500)
        assert made.loaded == [0]
        await made.read(0, 100, 300)
        assert made.loaded == [0]
        assert len(made.reads) == 0


async def test_random_reads_fetch_their_chunk_and_nothing_more(tmp_path: Path) -> None:
    async with files(tmp_path, [content(LARGE)]) as made:
        places = random.Random(2).sample(range(0, LARGE, 20 * CHUNK_BYTES), 60)
        for place in places:
            await made.read(0, place, 100)
            await made.settle()
        assert made.fetched_bytes() == 60 * CHUNK_BYTES


async def test_reading_in_order_runs_ahead(tmp_path: Path) -> None:
    async with files(tmp_path, [content(LARGE)]) as made:
        size = 4 * CHUNK_BYTES
        for start in range(0, LARGE, size):
            await made.read(0, start, size)
        asked = [call for call in made.store.calls if call.key.startswith("packs/")]
        assert sum(call.length for call in asked) == LARGE
        assert len(asked) < CHUNKS / 20


async def test_a_jump_cancels_what_was_started(tmp_path: Path) -> None:
    async with files(tmp_path, [content(LARGE)]) as made:
        for number in range(3):
            await made.read(0, number * 20 * CHUNK_BYTES, 20 * CHUNK_BYTES)
            await made.settle()
        stalled = made.store.inject("get_range", "packs/*", Stall(), times=1)
        await made.read(0, 60 * CHUNK_BYTES, 20 * CHUNK_BYTES)
        await stalled.wait_met()
        await made.read(0, 1000 * CHUNK_BYTES, 100)
        await made.settle()
        made.store.assert_all_exercised()


async def test_forgetting_a_file_cancels_what_was_started(tmp_path: Path) -> None:
    async with files(tmp_path, [content(LARGE)]) as made:
        await made.read(0, 0, 20 * CHUNK_BYTES)
        await made.settle()
        stalled = made.store.inject("get_range", "packs/*", Stall(), times=1)
        await made.read(0, 20 * CHUNK_BYTES, 10 * CHUNK_BYTES)
        await stalled.wait_met()
        made.reads.forget(0)
        await made.settle()
        assert len(made.reads) == 0
        made.store.assert_all_exercised()


async def test_states_are_bounded_by_files_and_by_chunks(tmp_path: Path) -> None:
    limits = replace(WINDOWS, read_states=3, read_pieces=50)
    async with files(tmp_path, [content(10 * CHUNK_BYTES, seed) for seed in range(6)], limits) as made:
        for ino in range(6):
            await made.read(ino, 5000, 10)
        assert len(made.reads) == 3
    limits = replace(WINDOWS, read_states=100, read_pieces=25)
    async with files(tmp_path / "other", [content(10 * CHUNK_BYTES, seed) for seed in range(6)], limits) as made:
        for ino in range(6):
            await made.read(ino, 5000, 10)
        assert len(made.reads) == 2


async def test_readers_of_one_missing_chunk_share_a_request(tmp_path: Path) -> None:
    async with files(tmp_path, [content(LARGE)]) as made:
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(made.read, 0, 500 * CHUNK_BYTES + 10, 50)
        assert made.fetched_bytes() == CHUNK_BYTES


async def test_a_read_that_takes_too_long_ends(tmp_path: Path) -> None:
    async with files(tmp_path, [content(500), content(LARGE)], replace(WINDOWS, read_deadline_s=0.05)) as made:
        stalled = made.store.inject(("get", "get_range"), "*", Stall())
        for ino in (0, 1):
            with pytest.raises(FetchTimeoutError, match=r"0\.05 s"):
                await made.reads.read(made.range(ino, 0, 100))
        stalled.remove()
        made.store.assert_all_exercised()


async def test_a_read_that_takes_too_long_says_which_chunk_it_waited_for(tmp_path: Path) -> None:
    async with files(tmp_path, [content(500), content(LARGE)], replace(WINDOWS, read_deadline_s=0.05)) as made:
        stalled = made.store.inject("get_range", "packs/*", Stall())
        for ino in (0, 1):
            with pytest.raises(FetchTimeoutError) as caught:
                await made.reads.read(made.range(ino, 0, 100))
            assert len(caught.value.chunk) == 64
            assert len(caught.value.pack) == 32
        stalled.remove()
        made.store.assert_all_exercised()


async def test_a_part_of_what_took_too_long_is_not_waited_for_again(tmp_path: Path) -> None:
    async with files(tmp_path, [content(500), content(LARGE)], replace(WINDOWS, read_deadline_s=0.05)) as made:
        stalled = made.store.inject(("get", "get_range"), "*", Stall())
        with pytest.raises(FetchTimeoutError):
            await made.reads.read(made.range(1, 0, 1000))
        with trio.CancelScope() as no_waiting:
            no_waiting.cancel()
            with pytest.raises(FetchTimeoutError):
                await made.reads.read(made.range(1, 0, 100))
        for ino, start, length in ((1, 0, 1001), (1, 5000, 100), (0, 0, 100)):
            with trio.CancelScope() as scope:
                scope.cancel()
                await made.reads.read(made.range(ino, start, length))
            assert scope.cancelled_caught
        stalled.remove()
        made.store.assert_all_exercised()


async def test_a_corrupt_chunk_fails_the_reads_that_need_it(tmp_path: Path) -> None:
    async with files(tmp_path, [content(10 * CHUNK_BYTES)]) as made:
        made.store.inject("get_range", "packs/*", FlipBit(at=0.05))
        with pytest.raises(CorruptDataError, match="chunk"):
            await made.reads.read(made.range(0, 0, 100))
        made.store.assert_all_exercised()


async def test_reading_on_while_the_state_is_dropped(tmp_path: Path) -> None:
    async with files(tmp_path, [content(LARGE)]) as made:
        stalled = made.store.inject("get_range", "packs/*", Stall(), times=1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(made.read, 0, 700 * CHUNK_BYTES, 5 * CHUNK_BYTES)
            await stalled.wait_met()
            made.reads.forget(0)
            assert isinstance(stalled.action, Stall)
            stalled.action.release.set()
        made.store.assert_all_exercised()


async def test_after_reading_once_nothing_is_asked_again(tmp_path: Path) -> None:
    async with files(tmp_path, [content(LARGE)]) as made:
        for _ in range(2):
            for start in range(0, LARGE, 7 * CHUNK_BYTES):
                await made.read(0, start, 7 * CHUNK_BYTES)
            asked = made.fetched_bytes()
        assert asked == 0
        waited = 0
        for start in range(0, LARGE, 5000):
            wanted = made.range(0, start, 5000)
            data = made.reads.read_nowait(wanted)
            if data is None:
                waited += 1
                data = await made.reads.read(wanted)
            assert bytes(data) == made.contents[0][start : start + 5000]
        # Once for each time that the reader had to look out; the bytes were there.
        assert waited <= 2 + LARGE // MIN_SIGHT_BYTES
        assert made.fetched_bytes() == asked


@pytest.mark.parametrize("spoilt", [0, 1, 25])
async def test_what_is_in_sight_was_checked_since_the_last_start(tmp_path: Path, spoilt: int) -> None:
    async with files(tmp_path, [content(LARGE)]) as made:
        await made.read(0, 0, LARGE)
    (mirror,) = (tmp_path / "mirrors").glob("*/*")
    choice = random.Random(3)
    with mirror.open("r+b") as file:
        for place in choice.sample(range(0, LARGE, CHUNK_BYTES), spoilt):
            file.seek(place)
            byte = file.read(1)[0]
            file.seek(place)
            file.write(bytes([byte ^ 1]))
    async with files(tmp_path, [content(LARGE)]) as made:
        for start in range(0, LARGE, 20 * CHUNK_BYTES):
            await made.read(0, start, 20 * CHUNK_BYTES)
        await made.settle()
        assert made.cache.statistics().dropped_chunks == spoilt
        assert (made.fetched_bytes() > 0) == (spoilt > 0)
