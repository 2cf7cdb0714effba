"""Chunk lists: canonical, shared between versions, and one rule at every level."""

from __future__ import annotations

import random

import pytest
import trio

from fsd.format.envelope import unseal
from fsd.format.keys import ObjectKind, object_key
from fsd.format.limits import MAX_INLINE_PIECES
from fsd.format.model import Piece, Placement
from fsd.format.recipe import MAX_RECIPE_PIECES, Recipe
from fsd.ids import content_id
from fsd.publish import recipes as recipes_module
from fsd.publish.recipes import MEAN_RECIPE_PIECES, ChunkList, ends_recipe
from fsd.publish.writer import DeferredWriter, Order
from fsd.stores.memory import MemoryStore

Chunks = list[tuple[Piece, Placement]]


def chunks(count: int, seed: int = 0) -> Chunks:
    return [
        (Piece(content_id(b"%d %d" % (seed, n)), 1000 + n % 77), Placement(bytes(16), 10 * n, 10, 1000 * n))
        for n in range(count)
    ]


async def entry_of(store: MemoryStore, listed: Chunks) -> tuple[int, tuple[Piece, ...], tuple[Placement, ...]]:
    writer = DeferredWriter(store, Order())
    built = ChunkList(writer)
    for piece, placement in listed:
        built.add(piece, placement)
    result = built.finish()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.run, 4)
        await writer.drain()
        nursery.cancel_scope.cancel()
    return result


async def read(store: MemoryStore, level: int, pieces: tuple[Piece, ...]) -> Chunks:
    """The chunks below recipes of `level - 1`."""
    found: Chunks = []
    for piece in pieces:
        stored = (await store.get(object_key(ObjectKind.RECIPE, piece.id))).data
        recipe = Recipe(*unseal(ObjectKind.RECIPE, piece.id, stored))
        assert (recipe.level, recipe.size) == (level - 1, piece.length)
        if recipe.level == 0:
            found += [(Piece(c.id, c.length), c.placement) for c in recipe.chunks(0, len(recipe))]
        else:
            below = tuple(Piece(recipe.id(at), recipe.length(at)) for at in range(len(recipe)))
            found += await read(store, recipe.level, below)
    return found


@pytest.mark.parametrize("count", [0, 1, MAX_INLINE_PIECES])
async def test_few_chunks_stand_in_the_entry(count: int) -> None:
    store = MemoryStore()
    level, pieces, placements = await entry_of(store, chunks(count))
    assert (level, list(zip(pieces, placements, strict=True))) == (0, chunks(count))
    assert [info async for info in store.list("")] == []


@pytest.mark.parametrize("count", [MAX_INLINE_PIECES + 1, MAX_INLINE_PIECES + 2, 20_000])
async def test_many_chunks_stand_in_recipes(count: int) -> None:
    store = MemoryStore()
    level, pieces, placements = await entry_of(store, chunks(count))
    assert (level, placements) == (1, ())
    assert await read(store, level, pieces) == chunks(count)
    assert count / MEAN_RECIPE_PIECES / 3 <= len(pieces) <= 2 + 3 * count / MEAN_RECIPE_PIECES


async def test_many_recipes_stand_in_recipes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes_module, "MEAN_RECIPE_PIECES", 3)
    store = MemoryStore()
    level, pieces, placements = await entry_of(store, chunks(2000))
    assert level >= 3
    assert placements == ()
    assert len(pieces) <= MAX_INLINE_PIECES
    assert await read(store, level, pieces) == chunks(2000)


async def test_where_a_list_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes_module, "MEAN_RECIPE_PIECES", 16)
    listed = chunks(900)
    store = MemoryStore()
    level, pieces, _ = await entry_of(store, listed)
    assert level == 1
    expected, recipe = [], []
    for piece, _ in listed:
        recipe.append(piece.length)
        if int.from_bytes(piece.id[:4], "little") % 16 == 0:
            expected.append(sum(recipe))
            recipe = []
    assert [piece.length for piece in pieces] == [*expected, *filter(None, [sum(recipe)])]
    # An insertion changes the recipe that it is in, and no other.
    place = random.Random(1).randrange(len(listed))
    _, changed, _ = await entry_of(store, listed[:place] + chunks(1, seed=2) + listed[place:])
    assert len(set(pieces) ^ set(changed)) <= 3


async def test_equal_chunks_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes_module, "MAX_RECIPE_PIECES", 100)
    same = next(chunk for chunk in chunks(100) if not ends_recipe(chunk[0].id))
    store = MemoryStore()
    level, pieces, _ = await entry_of(store, [same] * 10_000)
    assert await read(store, level, pieces) == [same] * 10_000
    assert len([info async for info in store.list("recipes/")]) <= 4, "equal recipes are one"


def test_the_rule_is_the_formats() -> None:
    assert MAX_RECIPE_PIECES == 6553
    assert ends_recipe(bytes(32))
    assert ends_recipe(b"\0\x08" + b"\xff\xff" + bytes(28))
    assert not ends_recipe(b"\x01" + bytes(31))
