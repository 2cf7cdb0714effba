"""Merging trees: against dictionaries, the paths at which changes meet, and what it costs."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings

from fsd.errors import ConflictError
from fsd.format.model import Entry, Kind
from fsd.publish.merge import SHOWN_PATHS, merge_trees
from fsd.repo.differences import Difference, differences
from fsd.repo.lookup import text_of_name
from fsd.repo.repository import init_store, open_repositories
from fsd.repo.tree import Tree
from fsd.stores.memory import MemoryStore
from tests.faulty import FaultyStore
from tests.repo.trees import TINY_CUTS, all_entries, build, directory, edits, file, forks, in_order, model, tree_of

Model = dict[bytes, Entry]


async def merged(base: Model, ours: Model, theirs: Model) -> Model:
    """The merge, by way of a store."""
    store = MemoryStore()
    await init_store(store)
    trees = [tree_of(store, await build(store, in_order(tree), cuts=TINY_CUTS)) for tree in (base, ours, theirs)]
    repositories = await open_repositories(store)
    built = await merge_trees(repositories, *trees, where="repo/main", hint="")
    return {entry.path: entry for entry in await all_entries(repositories.built_tree(built))}


def expected(base: Model, ours: Model, theirs: Model) -> tuple[Model, set[bytes]]:
    """What a merge path by path gives, and the paths at which that is no tree, or at which both changed."""
    result, met, wrong = {}, set(), set()
    for path in base.keys() | ours.keys() | theirs.keys():
        was, mine, other = base.get(path), ours.get(path), theirs.get(path)
        if mine != was and other != was and mine != other:
            met.add(path)
        chosen = other if mine == was else mine
        if chosen is not None:
            result[path] = chosen
    for path in result:
        parents = [path[:at] for at, byte in enumerate(path) if byte == ord("/")]
        if met.isdisjoint(parents) and any(
            parent not in result or result[parent].kind is not Kind.DIRECTORY for parent in parents
        ):
            wrong.add(path)
    return result, wrong | met


@settings(max_examples=40)
@given(forks())
async def test_a_merge_is_that_of_dictionaries(trees: tuple[Model, Model, Model]) -> None:
    base, ours, theirs = trees
    result, wrong = expected(base, ours, theirs)
    if not wrong:
        assert await merged(base, ours, theirs) == result == await merged(base, theirs, ours)
        return
    for one, other in ((ours, theirs), (theirs, ours)):
        with pytest.raises(ConflictError) as caught:
            await merged(base, one, other)
        match = re.fullmatch(r"repo/main was changed .* paths: (.*?)(?: and ([\d,]+) more)?", str(caught.value))
        assert match is not None
        named = match[1].split(", ")
        assert set(named) <= {text_of_name(path) for path in wrong}
        assert len(named) + int((match[2] or "0").replace(",", "")) == len(wrong)
        assert len(named) == min(len(wrong), SHOWN_PATHS)


@settings(max_examples=20)
@given(edits())
async def test_the_differences_are_those_of_dictionaries(trees: tuple[Model, Model]) -> None:
    old, new = trees
    store = MemoryStore()
    built = [tree_of(store, await build(store, in_order(tree), cuts=TINY_CUTS)) for tree in trees]
    found = [difference async for difference in differences(*built, read_ahead_pages=3)]
    changed = sorted(
        (
            Difference(old.get(path), new.get(path))
            for path in old.keys() | new.keys()
            if old.get(path) != new.get(path)
        ),
        key=lambda difference: difference.key,
    )
    assert found == changed
    assert [each async for each in differences(None, built[0], read_ahead_pages=1)] == [
        Difference(None, entry) for entry in in_order(old)
    ]


BASE = model([file(b"a/x", b"1"), file(b"a/y", b"2"), file(b"b", b"3")])


@pytest.mark.parametrize(
    ("ours", "theirs", "paths"),
    [
        (BASE | {b"b": file(b"b", b"4")}, BASE | {b"b": file(b"b", b"5")}, "b"),
        (BASE | {b"b": file(b"b", b"3", executable=True)}, model([BASE[b"a/x"], BASE[b"a/y"]]), "b"),
        (BASE | {b"n": file(b"n", b"4")}, BASE | {b"n": directory(b"n")}, "n"),
        (model([BASE[b"b"]]), BASE | {b"a/z": file(b"a/z")}, "a/z"),
        (model([BASE[b"b"]]), BASE | {b"a/x": file(b"a/x", b"9")}, "a/x"),
        ({b"b": BASE[b"b"], b"a": file(b"a", b"flat")}, BASE | {b"a/x": file(b"a/x", b"9")}, "a/x"),
    ],
)
async def test_where_changes_meet(ours: Model, theirs: Model, paths: str) -> None:
    for one, other in ((ours, theirs), (theirs, ours)):
        with pytest.raises(ConflictError, match=f"the same paths: {paths}$"):
            await merged(BASE, one, other)


async def test_a_merge_costs_what_differs() -> None:
    memory = MemoryStore()
    await init_store(memory)
    base = model(file(b"d/%07d" % number, b"%d" % number) for number in range(20_000))
    built = await build(memory, in_order(base))
    ours = await build(memory, [file(b"d/0000007", b"ours")], tree_of(memory, built))
    theirs = await build(memory, [file(b"d/0019000", b"theirs")], tree_of(memory, built))
    store = FaultyStore(memory)
    repositories = await open_repositories(store)
    trees: list[Tree] = [repositories.built_tree(tree) for tree in (built, ours, theirs)]
    store.calls.clear()
    await merge_trees(repositories, *trees, where="", hint="")
    pages = [call for call in store.calls if call.key.startswith("pages/")]
    assert len(pages) <= 6, "two pages of each change, before and after; the merged page is there already"
