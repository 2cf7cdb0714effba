"""Reading small files in the order of a tree: what follows is fetched, ahead of the readers and no further."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import trio
import trio.testing

from fsd.format.model import Entry, Kind, Piece, PlacedChunk, Placement
from fsd.limits import Limits
from fsd.vfs.procession import LEAST_READS, Place, Processions

FILE_BYTES = 1000
LIMITS = replace(Limits(), window_min_bytes=10_000, window_max_bytes=80_000, range_bytes=20_000, own_pack_bytes=50_000)


class DoneFetch:
    """As `fsd.cache.fetcher.Fetch`."""

    def __init__(self, *, is_done: bool) -> None:
        self.is_done = is_done
        self.was_cancelled = False

    def cancel(self) -> None:
        self.was_cancelled = True


class World:
    """Trees of files whose number is their inode. `fetched` has the ordinals that were asked for, in order."""

    def __init__(self, files: int, large: Sequence[int] = ()) -> None:
        self.files = files
        self.large = set(large)
        self.fetched: list[int] = []
        self.present: set[int] = set()
        self.fetches: list[DoneFetch] = []
        self.processions: Processions

    def place(self, ino: int) -> Place | None:
        return Place("tree", ino) if ino < self.files else None

    async def following(self, place: Place) -> AsyncGenerator[tuple[int, Sequence[Entry]], None]:
        for start in range(place.ordinal, self.files, 7):
            await trio.lowlevel.checkpoint()
            numbers = range(start, min(start + 7, self.files))
            yield numbers[-1] + 1, [self.entry(number) for number in numbers]

    def entry(self, number: int) -> Entry:
        size = 60_000 if number in self.large else FILE_BYTES
        chunk = number.to_bytes(32, "big")
        pieces, places = (Piece(chunk, size),), (Placement(bytes(16), number, size, number),)
        return Entry(b"", b"%d" % number, Kind.FILE, False, size, chunk, b"", 0, pieces, places)

    def start_fetch(self, chunks: Sequence[PlacedChunk]) -> DoneFetch:
        wanted = [int.from_bytes(chunk.id, "big") for chunk in chunks]
        absent = [number for number in wanted if number not in self.present]
        self.fetched += absent
        self.present |= set(absent)
        self.fetches.append(DoneFetch(is_done=not absent))
        return self.fetches[-1]

    async def read(self, number: int) -> bool:
        """Read a file; whether it had to be waited for."""
        missed = number not in self.present
        self.present.add(number)
        self.processions.note(number, missed=missed)
        await trio.testing.wait_all_tasks_blocked()
        return missed


@asynccontextmanager
async def world(files: int = 1000, large: Sequence[int] = (), limits: Limits = LIMITS) -> AsyncIterator[World]:
    made = World(files, large)
    async with trio.open_nursery() as nursery:
        made.processions = Processions(made, made.start_fetch, limits, nursery)  # type: ignore[arg-type]
        yield made
        nursery.cancel_scope.cancel()


async def test_in_order_only_the_first_few_wait() -> None:
    async with world() as made:
        missed = [number for number in range(made.files) if await made.read(number)]
        assert missed == list(range(LEAST_READS))
        assert made.fetched == list(range(LEAST_READS, made.files))


async def test_nothing_is_fetched_before_it_is_one() -> None:
    async with world() as made:
        for number in range(LEAST_READS - 1):
            await made.read(number)
        assert made.fetched == []


async def test_the_window_grows_and_has_a_bound() -> None:
    async with world(10_000) as made:
        most = 0
        for number in range(1000):
            await made.read(number)
            most = max(most, len(made.fetched) + LEAST_READS - number)
            if number == LEAST_READS:
                assert len(made.fetched) * FILE_BYTES <= 2 * LIMITS.window_min_bytes + LIMITS.range_bytes
        assert LIMITS.window_max_bytes <= most * FILE_BYTES <= LIMITS.window_max_bytes + LIMITS.range_bytes


async def test_readers_who_take_turns_are_one() -> None:
    async with world() as made:
        missed = 0
        order = list(range(made.files))
        for start in range(0, made.files, 8):
            some = order[start : start + 8]
            random.Random(start).shuffle(some)
            for number in some:
                missed += await made.read(number)
        assert missed <= 8
        assert sorted(made.fetched) == list(range(made.files))[-len(made.fetched) :]


async def test_readers_with_shares_of_their_own() -> None:
    async with world(4000) as made:
        missed = 0
        for step in range(1000):
            for share in range(4):
                missed += await made.read(1000 * share + step)
        assert missed == 4 * LEAST_READS


async def test_a_random_order_fetches_next_to_nothing() -> None:
    async with world(20_000) as made:
        for number in random.Random(1).sample(range(20_000), 5000):
            await made.read(number)
        assert len(made.fetched) < 500


async def test_large_files_are_left_out() -> None:
    async with world(large=range(100, 110)) as made:
        for number in range(made.files):
            await made.read(number)
        assert made.fetched
        assert not made.large & set(made.fetched)


async def test_what_is_all_there_is_not_looked_ahead_for() -> None:
    async with world() as made:
        made.present = set(range(made.files))
        for number in range(made.files):
            await made.read(number)
        assert made.fetches == []


async def test_after_a_stretch_that_is_there_it_goes_on() -> None:
    async with world() as made:
        made.present = set(range(100, 600))
        missed = [number for number in range(made.files) if await made.read(number)]
        assert [number for number in missed if number < 100] == list(range(LEAST_READS))
        assert len([number for number in missed if number >= 600]) <= 2
        assert len(made.fetches) < 40


async def test_given_up_for_others_it_is_cancelled() -> None:
    async with world(100_000) as made:
        for number in range(20):
            await made.read(number)
        pending = list(made.fetches)
        for share in range(1, 20):
            await made.read(5000 * share)
        assert any(fetch.was_cancelled for fetch in pending)


async def test_a_file_nobody_knows_any_more() -> None:
    async with world() as made:
        assert not made.processions.note(5000, missed=True)
