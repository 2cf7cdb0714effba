"""How much is in a version, and how much of it another lacks: against sets of places."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, settings

from fsd.errors import NotFoundError
from fsd.format.keys import ObjectKind
from fsd.format.model import Entry, Kind, Piece, PlacedChunk, Placement
from fsd.format.recipe import encode_recipe
from fsd.ids import content_id
from fsd.limits import DEFAULT_LIMITS
from fsd.repo.differences import is_same
from fsd.repo.objects import Objects, ObjectWriter, StoreLoader
from fsd.repo.usage import chunks_of, usage_beyond, usage_of
from fsd.stores.memory import MemoryStore
from tests.repo.trees import TINY_CUTS, Model, build, directory, edits, file, in_order, model, symlink, tree_of


def placed(tree: Model) -> dict[bytes, Entry]:
    """The tree with each content at a place of its own, in one of a few packs, compressed to half."""
    return {path: entry._replace(placements=tuple(map(place_of, entry.pieces))) for path, entry in tree.items()}


def place_of(piece: Piece) -> Placement:
    return Placement(bytes([piece.id[0] % 3]) * 16, int.from_bytes(piece.id[:4], "big"), (piece.length + 1) // 2, 0)


def places(entries: Iterable[Entry]) -> set[Placement]:
    return {placement for entry in entries for placement in entry.placements}


def stored(found: set[Placement]) -> int:
    return sum(placement.stored for placement in found)


def count(entries: Iterable[Entry], kind: Kind) -> int:
    return sum(entry.kind is kind for entry in entries)


@settings(max_examples=25)
@given(edits())
async def test_usage_is_that_of_dictionaries(trees: tuple[Model, Model]) -> None:
    store = MemoryStore()
    objects = Objects(StoreLoader(store), DEFAULT_LIMITS)
    one, other = (placed(tree) for tree in trees)
    old, new = [tree_of(store, await build(store, in_order(tree), cuts=TINY_CUTS)) for tree in (one, other)]
    usage = await usage_of(new, b"", objects, where="")
    assert usage.files == count(other.values(), Kind.FILE)
    assert usage.directories == count(other.values(), Kind.DIRECTORY)
    assert usage.symlinks == count(other.values(), Kind.SYMLINK)
    assert usage.size_bytes == sum(entry.size for entry in other.values() if entry.kind is Kind.FILE)
    assert usage.stored_bytes == stored(places(other.values()))

    beyond = await usage_beyond(old, new, b"", objects, read_ahead_pages=3)
    differing = {path for path in one.keys() | other.keys() if not is_same(one.get(path), other.get(path))}
    came, went = ([tree[path] for path in differing if path in tree] for tree in (other, one))
    assert beyond.files == count(came, Kind.FILE)
    assert beyond.stored_bytes == stored(places(came) - places(went))


TREE = placed(
    model(
        [
            file(b"train/a", b"a" * 100),
            file(b"train/b", b"b" * 50),
            file(b"train/copy of a", b"a" * 100),
            file(b"other", b"o" * 10),
            directory(b"train/empty"),
            symlink(b"train/link", b"a"),
        ]
    )
)


async def test_a_path() -> None:
    store = MemoryStore()
    objects = Objects(StoreLoader(store), DEFAULT_LIMITS)
    tree = tree_of(store, await build(store, in_order(TREE)))
    told = []
    usage = await usage_of(tree, b"train", objects, where="x", report=lambda files, size: told.append((files, size)))
    assert (usage.files, usage.directories, usage.symlinks) == (3, 1, 1)
    assert (usage.size_bytes, usage.stored_bytes) == (250, 75)
    assert told == [(3, 250)]
    usage = await usage_of(tree, b"train/b", objects, where="x")
    assert (usage.files, usage.size_bytes, usage.stored_bytes) == (1, 50, 25)
    with pytest.raises(NotFoundError, match="no c in data/v1/train"):
        await usage_of(tree, b"train/c", objects, where="data/v1")


async def test_beyond_at_a_path() -> None:
    store = MemoryStore()
    objects = Objects(StoreLoader(store), DEFAULT_LIMITS)
    later = placed(model([*TREE.values(), file(b"train/b", b"B" * 70), file(b"other", b"O" * 30)]))
    old, new = [tree_of(store, await build(store, in_order(tree))) for tree in (TREE, later)]
    for path, expected in [(b"", 50), (b"train", 35), (b"train/b", 35), (b"other", 15), (b"train/a", 0)]:
        beyond = await usage_beyond(old, new, path, objects, read_ahead_pages=2)
        assert beyond.stored_bytes == expected, path
    assert (await usage_beyond(old, old, b"", objects, read_ahead_pages=2)).files == 0


async def test_the_chunks_of_a_large_file_come_from_its_recipes() -> None:
    store = MemoryStore()
    writer = ObjectWriter(store)
    pieces = [Piece(content_id(b"%d" % number), 1000 + number) for number in range(6)]
    ids = [
        await writer.write(ObjectKind.RECIPE, *encode_recipe(0, half, list(map(place_of, half))))
        for half in (pieces[:3], pieces[3:])
    ]
    lengths = [sum(piece.length for piece in half) for half in (pieces[:3], pieces[3:])]
    top = [Piece(recipe, length) for recipe, length in zip(ids, lengths, strict=True)]
    objects = Objects(StoreLoader(store), DEFAULT_LIMITS)
    expected = [PlacedChunk(piece.id, piece.length, place_of(piece)) for piece in pieces]
    entry = Entry(b"", b"large", Kind.FILE, size=sum(lengths), content=content_id(b"all"), level=1, pieces=tuple(top))
    assert [chunk async for chunk in chunks_of(entry, objects)] == expected
    whole = await writer.write(ObjectKind.RECIPE, *encode_recipe(1, top, []))
    higher = entry._replace(level=2, pieces=(Piece(whole, entry.size),))
    assert [chunk async for chunk in chunks_of(higher, objects)] == expected
