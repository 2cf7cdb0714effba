"""The order of a tree."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from fsd.format.model import Entry, Kind, PlacedChunk, directory_key, entry_key
from tests.format.samples import sample_entries
from tests.format.strategies import entries


@given(st.lists(entries(), max_size=10))
def test_order_is_by_directory_depth_first_and_then_by_name(found: list[Entry]) -> None:
    by_parts = sorted(found, key=lambda entry: ([*entry.directory.split(b"/")] if entry.directory else [], entry.name))
    assert [entry.key for entry in by_parts] == sorted(entry.key for entry in found)


def test_what_is_below_a_directory_is_one_run() -> None:
    paths = [b"a", b"a!", b"a/b", b"a/b/c", b"a/b0", b"a0", b"b"]
    ordered = sorted(paths, key=directory_key)
    below = [path == b"a" or path.startswith(b"a/") for path in ordered]
    assert below == sorted(below, reverse=True)


def test_an_entry_knows_its_path_key_and_chunks() -> None:
    top, nested = Entry(b"", b"a", Kind.DIRECTORY), Entry(b"a/b", b"c", Kind.DIRECTORY)
    assert (top.path, top.key) == (b"a", b"\0\0a")
    assert (nested.path, nested.key) == (b"a/b/c", b"a\0b\0\0c")
    assert entry_key(b"a/b", b"c") == nested.key
    many = next(entry for entry in sample_entries() if len(entry.pieces) == 3)
    assert many.chunks() == tuple(
        PlacedChunk(piece.id, piece.length, place) for piece, place in zip(many.pieces, many.placements, strict=True)
    )
