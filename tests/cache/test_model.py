"""Any order of reads, restarts, damage and lies gives the bytes that a dictionary gives."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import TypeVar

import pytest
import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from fsd.cache.cache import Cache
from fsd.cache.fetcher import Fetch
from fsd.errors import CorruptDataError, StoreUnreachableError
from fsd.format.model import PlacedChunk, Placement
from fsd.limits import KIB, MIB
from tests.cache.test_eviction import disk_bytes
from tests.cache.world import SMALL_LIMITS, World, size_of
from tests.faulty import Fail, FlipBit

LIMITS = replace(SMALL_LIMITS, cache_bytes=2 * MIB, extent_bytes=16 * KIB, range_bytes=64 * KIB, fetch_attempts=2)

Answer = TypeVar("Answer")


class Driver:
    """An open cache that can be asked from outside of its loop, one question after the other.

    The loop runs in a guest of this thread: each question runs it until there is an answer.
    """

    def __init__(self, directory: Path, world: World) -> None:
        self._directory = directory
        self._world = world
        self._queue: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self._question: Callable[[Cache], Awaitable[object]] | None = None
        self._answer: object = None
        self._error: BaseException | None = None
        self._ended = self._closed = False
        self._wake = trio.Event()
        trio.lowlevel.start_guest_run(self._main, run_sync_soon_threadsafe=self._queue.put, done_callback=self._done)

    async def _main(self) -> None:
        async with Cache.open(self._directory, self._world.source, LIMITS) as cache:
            while True:
                await self._wake.wait()
                self._wake = trio.Event()
                question, self._question = self._question, None
                if question is None:
                    return
                try:
                    with trio.fail_after(30):
                        self._answer = await question(cache)
                except (CorruptDataError, StoreUnreachableError) as error:
                    self._error = error
                self._ended = True

    def _done(self, outcome: object) -> None:
        self._error = getattr(outcome, "error", None)
        self._ended = self._closed = True

    def _turn(self) -> None:
        self._ended = False
        self._queue.put(self._wake.set)
        while not self._ended:
            self._queue.get(timeout=60)()
        error, self._error = self._error, None
        if error is not None:
            raise error

    def ask(self, question: Callable[[Cache], Awaitable[Answer]]) -> Answer:
        self._question = question
        self._turn()
        return self._answer  # type: ignore[return-value]

    def close(self) -> None:
        if not self._closed:
            self._turn()


CHUNKS = st.integers(0, 59)


class CacheMachine(RuleBasedStateMachine):
    """`self.chunks` are placed truly; `damaged` is true once bytes on disk were changed while the cache was closed."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.fetches: list[Fetch] = []

    @initialize(seed=st.integers(0, 1000))
    def begin(self, seed: int) -> None:
        self.world = World(seed)
        self.chunks: list[PlacedChunk] = []

        async def fill() -> None:
            for pack in range(6):
                sizes = [self.world.random.choice([1, 500, 4096, 9_000, 40_000, 70_000]) for _ in range(10)]
                contents = [self.world.data(size, compressible=n % 3 == 0) for n, size in enumerate(sizes)]
                if pack:
                    contents[5] = self.world.truth[self.chunks[2].id]
                self.chunks += await self.world.add_pack(contents)

        trio.run(fill)
        self.driver = Driver(self.directory, self.world)

    @rule(first=CHUNKS, count=st.integers(1, 6), data=st.data(), widen=st.booleans())
    def read(self, first: int, count: int, data: st.DataObject, widen: bool) -> None:
        chunks = self.chunks[first : first + count]
        start = data.draw(st.integers(0, size_of(chunks) - 1))
        length = data.draw(st.integers(1, size_of(chunks) - start))
        want = self.world.bytes_of(chunks, start, length)

        async def question(cache: Cache) -> None:
            at_once = cache.read_nowait(chunks, start, length)
            assert at_once is None or bytes(at_once) == want
            assert bytes(await cache.read(chunks, start, length, widen=widen)) == want

        self.driver.ask(question)

    @rule(numbers=st.lists(CHUNKS, min_size=2, max_size=8))
    def read_many_at_once(self, numbers: list[int]) -> None:
        async def question(cache: Cache) -> None:
            async def read(number: int) -> None:
                chunk = self.chunks[number]
                assert bytes(await cache.read([chunk], 0, chunk.length)) == self.world.truth[chunk.id]

            async with trio.open_nursery() as nursery:
                for number in numbers:
                    nursery.start_soon(read, number)

        self.driver.ask(question)

    @rule(number=CHUNKS)
    def read_present(self, number: int) -> None:
        chunk = self.chunks[number]

        async def question(cache: Cache) -> None:
            for found in (
                cache.read_chunk_nowait(chunk.id, chunk.length, 0, chunk.length),
                await cache.read_chunk(chunk.id, chunk.length, 0, chunk.length),
            ):
                assert found is None or bytes(found) == self.world.truth[chunk.id]
            located = cache.locate(self.chunks[number : number + 4])
            if located.length:
                found = cache.read_located_nowait(located, 0, located.length)
                assert found is None or bytes(found) == self.world.bytes_of(self.chunks[number:], 0, located.length)

        self.driver.ask(question)

    @rule(first=CHUNKS, count=st.integers(1, 30), wait=st.booleans())
    def read_ahead(self, first: int, count: int, wait: bool) -> None:
        async def question(cache: Cache) -> Fetch:
            fetch = cache.start_fetch(self.chunks[first : first + count])
            if wait:
                await fetch.wait()
            return fetch

        self.fetches.append(self.driver.ask(question))

    @rule(number=st.integers(0, 100))
    def cancel(self, number: int) -> None:
        async def question(_cache: Cache) -> None:
            if self.fetches:
                self.fetches.pop(number % len(self.fetches)).cancel()

        self.driver.ask(question)

    @rule(number=CHUNKS, offset=st.integers(0, 400_000))
    def read_where_the_place_in_the_mirror_is_false(self, number: int, offset: int) -> None:
        chunk = self.chunks[number]
        false = chunk._replace(placement=chunk.placement._replace(plain_offset=offset))
        self.driver.ask(lambda cache: self._read_one(cache, false))

    @rule(number=CHUNKS, other=CHUNKS)
    def read_where_the_place_in_the_pack_is_false(self, number: int, other: int) -> None:
        chunk = self.chunks[number]
        place = self.chunks[other].placement
        stored = min(place.stored, chunk.length)
        false = chunk._replace(placement=Placement(place.pack, place.offset, stored, place.plain_offset))

        async def question(cache: Cache) -> None:
            try:
                await self._read_one(cache, false)
            except CorruptDataError:
                assert not all(cache.contains([chunk]))

        self.driver.ask(question)

    async def _read_one(self, cache: Cache, chunk: PlacedChunk) -> None:
        assert bytes(await cache.read([chunk], 0, chunk.length)) == self.world.truth[chunk.id]

    @rule(number=CHUNKS, flip=st.booleans())
    def read_from_a_bad_store(self, number: int, flip: bool) -> None:
        chunk = self.chunks[number]
        action = FlipBit() if flip else Fail(StoreUnreachableError("down"))

        async def question(cache: Cache) -> None:
            fault = self.world.store.inject("get_range", "packs/*", action)
            try:
                await self._read_one(cache, chunk)
            except (CorruptDataError, StoreUnreachableError):
                pass
            finally:
                fault.remove()

        self.driver.ask(question)

    @rule()
    def flush(self) -> None:
        self.driver.ask(lambda cache: cache.flush())

    @rule()
    def restart(self) -> None:
        self.driver.close()
        self.fetches.clear()
        self.driver = Driver(self.directory, self.world)

    @rule(seed=st.integers(0, 1000))
    def restart_with_damage(self, seed: int) -> None:
        self.driver.close()
        self.fetches.clear()
        chosen = random.Random(seed)  # what there is to damage depends on threads: nothing to draw from
        for path in sorted(path for path in (self.directory / "mirrors").rglob("*") if path.is_file()):
            size = path.stat().st_size
            with path.open("r+b") as file:
                for _ in range(3):
                    if size:
                        file.seek(chosen.randrange(size))
                        file.write(chosen.randbytes(3))
        self.driver = Driver(self.directory, self.world)

    @invariant()
    def size_holds(self) -> None:
        assert disk_bytes(self.directory) <= 1.02 * LIMITS.cache_bytes + 200 * KIB

    def teardown(self) -> None:
        if hasattr(self, "driver"):
            self.driver.close()
        shutil.rmtree(self.directory)


@pytest.mark.usefixtures("error_logs")  # of the faults that are injected
class TestCache(CacheMachine.TestCase):  # type: ignore[valid-type,misc]
    """The machine, as pytest finds it."""

    settings = settings(max_examples=int(os.environ.get("FSD_MODEL_EXAMPLES", "12")), stateful_step_count=20)
