"""All that is done with a decoded object: what still parses has to encode to the bytes that it was read from."""

from __future__ import annotations

from collections.abc import Callable

from fsd.format.commit import encode_commit, parse_commit
from fsd.format.index import Index, encode_index
from fsd.format.keys import ObjectKind
from fsd.format.limits import MAX_CHUNK_BYTES
from fsd.format.model import Entry, Kind
from fsd.format.page import Page, encode_page
from fsd.format.recipe import Recipe, encode_recipe
from fsd.format.ref import encode_segment, parse_segment


def use_page(logical: bytes, placement: bytes) -> None:
    page = Page(logical, placement)
    entries: list[Entry] = list(page.entries())
    assert encode_page(entries)[0] == logical
    assert page.first_key == entries[0].key <= entries[-1].key
    assert page.memory_bytes < 64 * (len(logical) + len(placement)) + 10_000
    for position, entry in enumerate(entries):
        assert page.find(entry.directory, entry.name) == position
        assert page.entry(position) == entry
        assert b"\0" not in entry.path
        assert b"/" not in entry.name
        assert b"\0" not in entry.target
        page.single_chunk(position)
        if entry.level == 0 and entry.kind is Kind.FILE:
            assert all(chunk.placement.stored <= chunk.length <= MAX_CHUNK_BYTES for chunk in entry.chunks())


def use_index(logical: bytes, _: bytes) -> None:
    index = Index(logical)
    assert encode_index(index.level, index.children) == logical
    if index.children:
        assert index.locate(index.totals.entries - 1) == len(index.children) - 1
    assert index.find(b"") <= 0


def use_recipe(logical: bytes, placement: bytes) -> None:
    recipe = Recipe(logical, placement)
    pieces = [(recipe.id(position), recipe.length(position)) for position in range(len(recipe))]
    places = [] if recipe.level else [chunk.placement for chunk in recipe.chunks(0, len(recipe))]
    assert encode_recipe(recipe.level, pieces, places)[0] == logical
    assert recipe.find(recipe.size - 1) == len(recipe) - 1


def use_commit(logical: bytes, _: bytes) -> None:
    commit, index = parse_commit(logical)
    assert commit.totals == index.totals
    # A reader keeps a header's bytes, but a writer must be able to say the same.
    root = encode_index(index.level, index.children)
    assert parse_commit(encode_commit(commit, root))[0] == commit
    commit.message.encode()


def use_segment(logical: bytes, _: bytes) -> None:
    moves = parse_segment(logical)
    assert parse_segment(encode_segment(moves)) == moves


USES: dict[ObjectKind, Callable[[bytes, bytes], None]] = {
    ObjectKind.PAGE: use_page,
    ObjectKind.INDEX: use_index,
    ObjectKind.RECIPE: use_recipe,
    ObjectKind.COMMIT: use_commit,
    ObjectKind.SEGMENT: use_segment,
}
