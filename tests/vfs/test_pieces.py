"""Chunk lists against a plain list, at every level of recipes."""

from __future__ import annotations

from functools import partial

import hypothesis.strategies as st
import pytest
import trio
from hypothesis import given

from fsd.errors import CorruptDataError, StoreUnreachableError
from fsd.format.model import Entry, Kind, Piece, PlacedChunk, Placement
from fsd.format.recipe import Recipe, encode_recipe
from fsd.ids import content_id
from fsd.vfs.pieces import Pieces


class FakeRecipes:
    """Recipes, of which only some are in memory; never keeps one that was loaded."""

    def __init__(self) -> None:
        self.known: dict[bytes, Recipe] = {}
        self.in_memory: set[bytes] = set()
        self.loads = 0

    def recipe_nowait(self, recipe_id: bytes) -> Recipe | None:
        return self.known[recipe_id] if recipe_id in self.in_memory else None

    async def recipe(self, recipe_id: bytes) -> Recipe:
        self.loads += 1
        await trio.lowlevel.checkpoint()
        if recipe_id not in self.known:
            raise StoreUnreachableError("no recipe")
        return self.known[recipe_id]

    def add(self, level: int, pieces: list[Piece], placements: list[Placement]) -> Piece:
        logical, placement = encode_recipe(level, pieces, placements)
        recipe_id = content_id(logical)
        self.known[recipe_id] = Recipe(logical, placement)
        return Piece(recipe_id, sum(piece.length for piece in pieces))


def make_chunks(lengths: list[int]) -> list[PlacedChunk]:
    return [
        PlacedChunk(content_id(b"%d" % number), length, Placement(bytes(16), number * 7, length, number * 11))
        for number, length in enumerate(lengths)
    ]


def make_entry(recipes: FakeRecipes, chunks: list[PlacedChunk], level: int, fan_out: int = 3) -> Entry:
    pieces = [Piece(chunk.id, chunk.length) for chunk in chunks]
    placements = [chunk.placement for chunk in chunks]
    for depth in range(level):
        pieces = [
            recipes.add(depth, pieces[at : at + fan_out], placements[at : at + fan_out] if depth == 0 else [])
            for at in range(0, len(pieces), fan_out)
        ]
    size = sum(chunk.length for chunk in chunks)
    return Entry(
        b"",
        b"f",
        Kind.FILE,
        size=size,
        level=level,
        pieces=tuple(pieces),
        placements=() if level else tuple(placements),
    )


def expected_run(chunks: list[PlacedChunk], start: int, end: int) -> tuple[list[PlacedChunk], int]:
    run: list[PlacedChunk] = []
    skip = at = 0
    for chunk in chunks:
        if at < end and at + chunk.length > start:
            if not run:
                skip = start - at
            run.append(chunk)
        at += chunk.length
    return run, skip


@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=40),
    level=st.integers(0, 3),
    data=st.data(),
)
def test_every_range_has_its_chunks(lengths: list[int], level: int, data: st.DataObject) -> None:
    recipes = FakeRecipes()
    chunks = make_chunks(lengths)
    pieces = Pieces(make_entry(recipes, chunks, level), recipes)
    assert pieces.size == sum(lengths)
    start = data.draw(st.integers(0, pieces.size - 1))
    end = data.draw(st.integers(start + 1, pieces.size))
    recipes.in_memory = data.draw(st.sets(st.sampled_from(sorted(recipes.known)))) if recipes.known else set()
    expected = expected_run(chunks, start, end)

    at_once = pieces.run_nowait(start, end)
    assert at_once is None or (list(at_once.chunks), at_once.skip) == expected
    waited = trio.run(pieces.run, start, end)
    assert (list(waited.chunks), waited.skip) == expected
    recipes.in_memory = set(recipes.known)
    at_once = pieces.run_nowait(start, end)
    assert at_once is not None
    assert (list(at_once.chunks), at_once.skip) == expected


@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=40), level=st.integers(0, 3), step=st.integers(1, 50))
def test_all_runs_give_each_chunk_once(lengths: list[int], level: int, step: int) -> None:
    recipes = FakeRecipes()
    chunks = make_chunks(lengths)
    pieces = Pieces(make_entry(recipes, chunks, level), recipes)

    async def collect() -> list[PlacedChunk]:
        return [chunk async for run in pieces.all_runs(step) for chunk in run]

    assert trio.run(collect) == chunks


def test_a_read_loads_only_the_recipes_on_its_way() -> None:
    recipes = FakeRecipes()
    pieces = Pieces(make_entry(recipes, make_chunks([10] * 27), 2), recipes)
    trio.run(pieces.run, 125, 126)
    assert recipes.loads == 2
    assert len(pieces) == 3


def test_a_recipe_of_the_wrong_length_is_corrupt() -> None:
    recipes = FakeRecipes()
    entry = make_entry(recipes, make_chunks([10] * 6), 1)
    wrong = entry._replace(pieces=(entry.pieces[0], Piece(entry.pieces[1].id, 29)))
    with pytest.raises(CorruptDataError, match=entry.pieces[1].id.hex()):
        trio.run(Pieces(wrong, recipes).run, 31, 32)
    assert trio.run(Pieces(wrong, recipes).run, 0, 30).skip == 0


def test_errors_of_the_loader_come_through() -> None:
    recipes = FakeRecipes()
    entry = make_entry(recipes, make_chunks([10] * 6), 1)
    recipes.known.clear()
    with pytest.raises(StoreUnreachableError):
        trio.run(partial(Pieces(entry, recipes).run, 0, 1))
