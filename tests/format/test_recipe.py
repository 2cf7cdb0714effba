"""Recipes."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsd.errors import CorruptDataError
from fsd.format.limits import MAX_CHUNK_BYTES, MAX_FILE_BYTES, MAX_LOGICAL_BYTES, MAX_PLACEMENT_BYTES, MAX_RECIPE_LEVEL
from fsd.format.model import PlacedChunk, Placement
from fsd.format.recipe import MAGIC, MAX_RECIPE_PIECES, Recipe, encode_recipe
from tests.format.samples import sample_id
from tests.format.strategies import ids, placements

chunk_lists = st.lists(
    st.integers(1, MAX_CHUNK_BYTES).flatmap(lambda length: st.tuples(ids, st.just(length), placements(length))),
    min_size=1,
    max_size=8,
)
Chunks = list[tuple[bytes, int, Placement]]


@given(chunk_lists)
def test_a_recipe_of_chunks(chunks: Chunks) -> None:
    parts = encode_recipe(0, [(chunk_id, length) for chunk_id, length, _ in chunks], [place for *_, place in chunks])
    recipe = Recipe(*parts)
    assert (recipe.level, len(recipe)) == (0, len(chunks))
    assert recipe.size == sum(length for _, length, _ in chunks)
    assert recipe.chunks(0, len(chunks)) == tuple(PlacedChunk(*chunk) for chunk in chunks)
    at = 0
    for position, (chunk_id, length, _) in enumerate(chunks):
        assert (recipe.id(position), recipe.length(position), recipe.starts[position]) == (chunk_id, length, at)
        assert recipe.find(at) == recipe.find(at + length - 1) == position
        at += length
    pieces = [(recipe.id(position), recipe.length(position)) for position in range(len(recipe))]
    assert encode_recipe(0, pieces, [chunk.placement for chunk in recipe.chunks(0, len(recipe))]) == parts


@given(st.integers(1, MAX_RECIPE_LEVEL), st.lists(st.tuples(ids, st.integers(1, 2**60)), min_size=1, max_size=7))
def test_a_recipe_of_recipes(level: int, pieces: list[tuple[bytes, int]]) -> None:
    logical, placement = encode_recipe(level, pieces)
    recipe = Recipe(logical, placement)
    assert placement == b""
    assert recipe.level == level
    assert [(recipe.id(position), recipe.length(position)) for position in range(len(recipe))] == pieces


def test_the_longest_recipe_is_within_both_limits() -> None:
    places = [Placement(struct.pack("<QQ", number, 0), 0, 1, 0) for number in range(MAX_RECIPE_PIECES)]
    logical, placement = encode_recipe(0, [(bytes(32), 1)] * MAX_RECIPE_PIECES, places)
    assert len(logical) <= MAX_LOGICAL_BYTES < len(logical) + 40
    assert len(placement) <= MAX_PLACEMENT_BYTES
    assert Recipe(logical, placement).memory_bytes > len(logical) + len(placement)


PIECE, PLACE = (sample_id(1), 10), Placement(b"p" * 16, 0, 10, 0)


@pytest.mark.parametrize(
    ("level", "pieces", "places"),
    [
        (0, [], []),
        (0, [PIECE], []),
        (1, [PIECE], [PLACE]),
        (-1, [PIECE], []),
        (MAX_RECIPE_LEVEL + 1, [PIECE], []),
        (1, [PIECE] * (MAX_RECIPE_PIECES + 1), []),
        (1, [(b"short", 10)], []),
        (1, [(sample_id(1), 0)], []),
        (0, [(sample_id(1), MAX_CHUNK_BYTES + 1)], [PLACE]),
        (1, [(sample_id(1), MAX_FILE_BYTES), PIECE], []),
    ],
)
def test_impossible_recipes_are_not_written(
    level: int, pieces: list[tuple[bytes, int]], places: list[Placement]
) -> None:
    with pytest.raises(ValueError, match="recipe"):
        encode_recipe(level, pieces, places)


def raw(level: int, count: int, lengths: list[int]) -> bytes:
    return (
        MAGIC + struct.pack("<II", level, count) + bytes(32 * len(lengths)) + struct.pack(f"<{len(lengths)}Q", *lengths)
    )


@pytest.mark.parametrize(
    "logical",
    [
        b"",
        MAGIC,
        raw(1, 0, []),
        raw(1, 2, [1]),
        raw(1, 2**32 - 1, [1]),
        raw(1, 1, [1])[:-1],
        raw(1, 1, [1]) + b"x",
        b"fsdrecp2" + raw(1, 1, [1])[8:],
        raw(MAX_RECIPE_LEVEL + 1, 1, [1]),
        raw(1, 1, [0]),
        raw(1, 1, [2**64 - 1]),
        raw(1, 2, [MAX_FILE_BYTES, 1]),
        raw(0, 1, [1]),  # no placement
        raw(0, 1, [MAX_CHUNK_BYTES + 1]),
    ],
)
def test_impossible_recipes_are_not_read(logical: bytes) -> None:
    with pytest.raises(CorruptDataError, match=r"recipe|placement"):
        Recipe(logical, b"")
    with pytest.raises(CorruptDataError, match=r"recipe|placement"):
        Recipe(raw(1, 1, [1]), encode_recipe(0, [PIECE], [PLACE])[1])
