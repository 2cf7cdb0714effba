"""Going through a tree of many small directories: pages are loaded ahead of who does, and of nobody else."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import trio
import trio.testing

from fsd.errors import StoreUnreachableError
from fsd.limits import Limits
from fsd.repo.tree import Listed
from fsd.vfs.leafing import MAX_READERS, Leafing
from fsd.vfs.nodes import Version
from tests.vfs.world import LIMITS, new_store, opened

PAGE_ENTRIES = 100
PAGES = 1000
READ_AHEAD = 4


class Book:
    """Versions of a thousand pages of a hundred entries. `loaded` has the numbers of those loaded ahead."""

    def __init__(self) -> None:
        self.loaded: list[int] = []
        self.fails = False
        self.leafing: Leafing

    async def pages(self, _: Version, start: int) -> AsyncIterator[Listed]:
        return Pages(self, start // PAGE_ENTRIES)

    async def turn(self, number: int, version: str = "v1") -> None:
        """Somebody looks at a page."""
        self.leafing.note(cast("Version", version), number * PAGE_ENTRIES, (number + 1) * PAGE_ENTRIES)
        await trio.testing.wait_all_tasks_blocked()

    async def turn_all(self, numbers: Sequence[int], version: str = "v1") -> int:
        """The same for several; returns how many had not been loaded ahead."""
        waited = 0
        for number in numbers:
            waited += number not in self.loaded
            await self.turn(number, version)
        return waited


class Pages:
    """A listing, which may be left at any point."""

    def __init__(self, book: Book, number: int) -> None:
        self._book = book
        self._number = number

    def __aiter__(self) -> Pages:
        return self

    async def __anext__(self) -> Listed:
        await trio.lowlevel.checkpoint()
        if self._book.fails:
            raise StoreUnreachableError("gone")
        number = self._number
        if number == PAGES:
            raise StopAsyncIteration
        self._number += 1
        self._book.loaded.append(number)
        return Listed(cast("Any", range(PAGE_ENTRIES)), range(PAGE_ENTRIES), number * PAGE_ENTRIES)


@asynccontextmanager
async def book() -> AsyncIterator[Book]:
    made = Book()
    async with trio.open_nursery() as nursery:
        made.leafing = Leafing(made.pages, replace(Limits(), listing_read_ahead_pages=READ_AHEAD), nursery)
        yield made
        nursery.cancel_scope.cancel()


async def test_in_order_pages_are_loaded_ahead(autojump_clock: object) -> None:  # noqa: ARG001
    async with book() as made:
        assert await made.turn_all(range(PAGES)) == 2
        assert made.loaded == list(range(2, PAGES))


async def test_backwards_too() -> None:
    async with book() as made:
        waited = await made.turn_all(range(PAGES - 1, -1, -1))
        assert waited == 2
        # A page at the end of each stretch is met again; it is in memory then.
        assert len(made.loaded) < 1.5 * PAGES


async def test_backwards_no_further_than_a_bound() -> None:
    async with book() as made:
        await made.turn_all([500, 499, 498])
        for number in range(497, 400, -1):
            await made.turn(number)
            assert min(made.loaded) >= number - 2 * READ_AHEAD - 1


async def test_who_turns_around_is_followed() -> None:
    async with book() as made:
        await made.turn_all(range(100, 150))
        made.loaded.clear()
        assert await made.turn_all(range(149, 50, -1)) <= 60
        made.loaded.clear()
        assert await made.turn_all(range(52, 200)) <= 5


async def test_no_further_than_a_bound() -> None:
    async with book() as made:
        await made.turn_all([10, 11, 12])
        assert max(made.loaded) <= 12 + 2 * READ_AHEAD
        for number in range(13, 40):
            await made.turn(number)
            assert number + READ_AHEAD <= max(made.loaded) <= number + 2 * READ_AHEAD


async def test_the_same_page_again_changes_nothing() -> None:
    async with book() as made:
        for number in range(20):
            for _ in range(3):
                await made.turn(number)
        assert made.loaded == sorted(set(made.loaded))
        assert len(made.loaded) >= 18


async def test_programs_that_take_turns_are_one() -> None:
    async with book() as made:
        await made.turn_all(range(4))
        for number in range(4, 100):
            for behind in (0, 2, 1):
                await made.turn(number - behind)
        assert made.loaded == sorted(set(made.loaded))
        assert len(made.loaded) >= 90


async def test_at_random_nothing_is_loaded() -> None:
    async with book() as made:
        numbers = random.Random(1).sample(range(0, PAGES, 2), 300)
        await made.turn_all(numbers)
        assert made.loaded == []


async def test_who_jumps_away_is_not_loaded_for_any_more() -> None:
    async with book() as made:
        await made.turn_all([0, 1])
        await made.turn(500)
        before = len(made.loaded)
        await made.turn_all([600, 700])
        assert len(made.loaded) == before


async def test_who_stops_is_given_up(autojump_clock: object) -> None:  # noqa: ARG001
    async with book() as made:
        await made.turn_all([0, 1])
        await trio.sleep(3600)
        before = len(made.loaded)
        assert await made.turn_all(range(2, 30)) == 0
        assert len(made.loaded) > before


async def test_versions_are_told_apart() -> None:
    async with book() as made:
        for number in range(20):
            for version in range(MAX_READERS):
                await made.turn(number, f"v{version}")
        assert len(made.loaded) >= MAX_READERS * 20


async def test_a_store_that_fails_is_nobodys_error() -> None:
    async with book() as made:
        made.fails = True
        await made.turn_all([0, 1, 2, 3])
        made.fails = False
        await made.turn_all([4, 5])
        assert made.loaded


async def test_folders_of_a_version_one_after_the_other(tmp_path: Path) -> None:
    """Each page is asked for once, whoever is faster."""
    files: dict[bytes, bytes | None] = {b"%03d" % number: None for number in range(300)}
    files |= {b"%03d/%02d" % (number, file): b"" for number in range(300) for file in range(60)}
    builder = await new_store()
    await builder.commit("data", files, tag="v1")
    async with opened(builder, tmp_path / "cache", replace(LIMITS, listing_read_ahead_pages=4)) as world:
        for number in range(300):
            assert len(await world.names(b"data/v1/%03d" % number)) == 60
        pages = [call.key for call in world.store.calls if call.key.startswith("pages/")]
        assert len(pages) == len(set(pages)) > 10
