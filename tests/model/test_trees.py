"""Trees against dictionaries: whatever is built, and from whichever base, holds what the dictionary holds."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given, settings

from fsd.format.index import Totals
from fsd.format.model import Entry, Kind
from fsd.repo.builder import RemovalBelow
from fsd.repo.cutting import Cuts
from fsd.repo.tree import PENDING
from fsd.stores.memory import MemoryStore
from tests.repo.trees import (
    FULL_CUTS,
    TINY_CUTS,
    all_entries,
    build,
    difference,
    edits,
    file,
    in_order,
    large_models,
    listed_entries,
    model,
    models,
    paths,
    split,
    tree_of,
)


@settings(max_examples=100)
@given(edits(), st.sampled_from([TINY_CUTS, FULL_CUTS]), st.sampled_from([1, 3, 1000]))
async def test_a_change_makes_the_tree_that_building_anew_makes(
    trees: tuple[dict[bytes, Entry], dict[bytes, Entry]], cuts: Cuts, size: int
) -> None:
    old, new = trees
    store, elsewhere = MemoryStore(), MemoryStore()
    base = tree_of(store, await build(store, in_order(old), cuts=cuts))
    built = await build(store, difference(old, new), base, cuts, size)
    anew = await build(elsewhere, in_order(new), cuts=cuts)
    assert (built.root, built.id, built.totals, built.pages) == (anew.root, anew.id, anew.totals, anew.pages)
    assert await all_entries(tree_of(store, built)) == in_order(new)


@settings(max_examples=50)
@given(edits(), st.data(), st.sampled_from([TINY_CUTS, FULL_CUTS]))
async def test_a_directory_that_is_emptied_whole(
    trees: tuple[dict[bytes, Entry], dict[bytes, Entry]], data: st.DataObject, cuts: Cuts
) -> None:
    old, new = trees
    directories = sorted(path for path, entry in old.items() if entry.kind is Kind.DIRECTORY)
    if not directories:
        return
    emptied = data.draw(st.sampled_from(directories))
    is_kept = data.draw(st.booleans())
    inside = emptied + b"/"
    new = {path: entry for path, entry in new.items() if path != emptied and not path.startswith(inside)}
    if is_kept and split(emptied)[0] in {b"", *(path for path, entry in new.items() if entry.kind is Kind.DIRECTORY)}:
        new[emptied] = old[emptied]
        again = data.draw(st.sampled_from([*(path for path in old if path.startswith(inside)), inside + b"new"]))
        new[again] = file(again, b"again")
        new = model(new.values())
    outside = {path: entry for path, entry in old.items() if not path.startswith(inside)}
    changes = sorted([*difference(outside, new), RemovalBelow(emptied)], key=lambda change: change.key)
    store = MemoryStore()
    base = tree_of(store, await build(store, in_order(old), cuts=cuts))
    built = await build(store, changes, base, cuts)
    assert built.root == (await build(MemoryStore(), in_order(new), cuts=cuts)).root


@settings(max_examples=50)
@given(st.one_of(models, large_models()))
async def test_a_tree_holds_what_the_dictionary_holds(expected: dict[bytes, Entry]) -> None:
    store = MemoryStore()
    tree = tree_of(store, await build(store, in_order(expected), cuts=TINY_CUTS))
    ordered = in_order(expected)
    files = [entry for entry in ordered if entry.kind is Kind.FILE]
    assert tree.totals == Totals(len(ordered), len(files), sum(entry.size for entry in files))
    for ordinal, entry in enumerate(ordered):
        found = await tree.find(entry.directory, entry.name)
        assert found is not None
        assert (found.page.entry(found.position), found.ordinal) == (entry, ordinal)
        assert tree.find_nowait(entry.directory, entry.name) == found, "its page was just read"
        located = await tree.locate(ordinal)
        assert located.page.entry(located.position) == entry


@settings(max_examples=50)
@given(st.one_of(models, large_models()), paths, st.integers(0, 90))
async def test_listings_and_missing_names(expected: dict[bytes, Entry], path: bytes, start: int) -> None:
    store = MemoryStore()
    tree = tree_of(store, await build(store, in_order(expected), cuts=TINY_CUTS))
    ordered = in_order(expected)
    for directory in {b"", path, *[entry.path for entry in ordered if entry.kind is Kind.DIRECTORY][:20]}:
        own = [entry for entry in ordered if entry.directory == directory]
        below = [entry for entry in ordered if not directory or entry.path.startswith(directory + b"/")]
        late = ordered[start:]
        assert await listed_entries(tree, directory) == own
        assert await listed_entries(tree, directory, start) == [entry for entry in own if entry in late]
        assert await all_entries(tree, directory) == below
        assert await all_entries(tree, directory, start) == [entry for entry in below if entry in late]
    found = await tree.find(*split(path))
    assert (found is not None) == (path in expected)
    if found is None:
        assert tree.find_nowait(*split(path)) in (None, PENDING)
