"""What differs between two trees: against dictionaries, what it costs, and renames."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fsd.repo.diff
from fsd.errors import NotFoundError
from fsd.format.model import Entry
from fsd.repo.builder import Built
from fsd.repo.diff import Change, ChangeKind, Summary, changes_between
from fsd.repo.differences import Difference, Fact, Part, differences, differing_facts, is_same
from fsd.repo.filtered import FilteredTree
from fsd.repo.rules import Rule
from fsd.repo.tree import Tree
from fsd.stores.memory import MemoryStore
from tests.faulty import FaultyStore
from tests.repo.trees import (
    TINY_CUTS,
    Model,
    build,
    directory,
    edits,
    file,
    in_order,
    large_models,
    model,
    symlink,
    tree_of,
)


def expected(old: Model, new: Model, below: bytes = b"") -> list[tuple[Entry | None, Entry | None]]:
    """The pairs that differ, in the order of trees."""
    inside = below + b"/" if below else b""
    paths = {path for path in old.keys() | new.keys() if path.startswith(inside)}
    pairs = [(old.get(path), new.get(path)) for path in paths if not is_same(old.get(path), new.get(path))]
    return sorted(pairs, key=lambda pair: Difference(*pair).key)


async def found(old: Part | None, new: Part | None, *, below: bytes = b"") -> list[tuple[Entry | None, Entry | None]]:
    return [tuple(each) async for each in differences(old, new, read_ahead_pages=3, below=below)]  # type: ignore[misc]


async def found_facts(old: Part | None, new: Part | None) -> list[tuple[Fact | None, Fact | None]]:
    return [each async for each in differing_facts(old, new, read_ahead_pages=3)]


def facts_of(entry: Entry | None) -> Fact | None:
    return entry and Fact(entry.path, entry.kind, entry.executable, entry.size, entry.content)


async def opened(*trees: Model) -> list[Tree]:
    store = MemoryStore()
    return [tree_of(store, await build(store, in_order(tree), cuts=TINY_CUTS)) for tree in trees]


# --- against dictionaries


@settings(max_examples=40)
@given(edits())
async def test_an_edited_tree(trees: tuple[Model, Model]) -> None:
    old, new = await opened(*trees)
    assert await found(old, new) == expected(*trees)
    assert await found_facts(old, new) == [(facts_of(one), facts_of(other)) for one, other in expected(*trees)]
    assert await found(old, old) == []


@settings(max_examples=15)
@given(large_models(), large_models())
async def test_trees_that_have_nothing_to_do_with_each_other(one: Model, other: Model) -> None:
    old, new = await opened(one, other)
    assert await found(old, new) == expected(one, other)
    assert await found(None, new) == expected({}, other)
    assert await found(old, None) == expected(one, {})


@settings(max_examples=25)
@given(edits(), st.data())
async def test_what_is_below_a_directory(trees: tuple[Model, Model], data: st.DataObject) -> None:
    paths = sorted(trees[0].keys() | trees[1].keys()) or [b"a"]
    below = data.draw(st.sampled_from(paths))
    assert await found(*await opened(*trees), below=below) == expected(*trees, below)


def filtered(tree: Model, rule: Rule | None) -> dict[bytes, Entry]:
    """Some tree's entries that a rule of a pattern selects; directories stay."""
    return {
        path: entry
        for path, entry in tree.items()
        if rule is None or entry.kind == 2 or entry.name.endswith(b"a") == (rule == ENDS_WITH_A)
    }


ENDS_WITH_A = Rule(include=("*a",))
OTHERS = Rule(exclude=("*a",))


@settings(max_examples=25)
@given(edits(), st.sampled_from([None, ENDS_WITH_A, OTHERS]), st.sampled_from([None, ENDS_WITH_A, OTHERS]))
async def test_trees_that_are_filtered(trees: tuple[Model, Model], one: Rule | None, other: Rule | None) -> None:
    old, new = await opened(*trees)
    parts = [tree if rule is None else FilteredTree(tree, rule) for tree, rule in ((old, one), (new, other))]
    assert await found(*parts) == expected(filtered(trees[0], one), filtered(trees[1], other))


# --- what it costs


async def count_reads(store: FaultyStore, old: Built, new: Built) -> tuple[int, int]:
    """Differences, and objects read for them."""
    trees = [tree_of(store, built) for built in (old, new)]
    store.calls.clear()
    return len(await found(*trees)), len([call for call in store.calls if call.operation == "get"])


async def test_only_pages_that_differ_are_read() -> None:
    memory = MemoryStore()
    old = await build(memory, in_order(model(file(b"d/%07d" % number, b"%d" % number) for number in range(15_000))))
    base = tree_of(memory, old)
    changes = [file(b"d/%07d" % number, b"changed") for number in (7, 8, 8_000, 14_999)]
    new = await build(memory, changes, base)
    assert new.pages >= 8
    assert await count_reads(FaultyStore(memory), old, new) == (4, 2 * 3)


async def test_indexes_that_are_shared_are_not_read_either() -> None:
    memory = MemoryStore()
    entries = in_order(model(file(b"%05d" % number, b"%d" % number) for number in range(5_000)))
    old = await build(memory, entries, cuts=TINY_CUTS)
    new = await build(memory, [file(b"02500", b"changed")], tree_of(memory, old), cuts=TINY_CUTS)
    levels = tree_of(memory, old).root.level
    assert levels >= 4
    changed, read = await count_reads(FaultyStore(memory), old, new)
    assert changed == 1
    assert read <= 2 * (levels + 1) + 4


# --- as people read it


def facts(change: Change) -> tuple[str, bytes | None, bytes | None]:
    return change.kind, change.old and change.old.path, change.new and change.new.path


async def diffed(old: Model, new: Model, path: bytes = b"") -> list[tuple[str, bytes | None, bytes | None]]:
    trees = await opened(old, new)
    changes = [change async for change in changes_between(*trees, path=path, where="data/v2", read_ahead_pages=3)]
    assert [change.path for change in changes] == sorted([change.path for change in changes], key=_key)
    return [facts(change) for change in changes]


def _key(path: bytes) -> bytes:
    return directory(path).key


OLD = model(
    [
        file(b"same", b"same"),
        file(b"changed", b"1"),
        file(b"mode", b"m"),
        file(b"train/a.jpg", b"picture a"),
        file(b"train/b.jpg", b"picture b"),
        file(b"gone", b"gone"),
        file(b"empty", b""),
        symlink(b"link", b"same"),
        directory(b"kind"),
    ]
)
NEW = model(
    [
        file(b"same", b"same"),
        file(b"changed", b"2"),
        file(b"mode", b"m", executable=True),
        file(b"images/a.jpg", b"picture a"),
        file(b"train/c.jpg", b"picture b"),
        file(b"new", b"new"),
        file(b"hollow", b""),
        symlink(b"link", b"new"),
        file(b"kind", b"file"),
    ]
)


async def test_every_kind_of_change() -> None:
    assert await diffed(OLD, NEW) == [
        ("changed", b"changed", b"changed"),
        ("removed", b"empty", None),
        ("removed", b"gone", None),
        ("added", None, b"hollow"),
        ("added", None, b"images"),
        ("changed", b"kind", b"kind"),
        ("changed", b"link", b"link"),
        ("changed", b"mode", b"mode"),
        ("added", None, b"new"),
        ("renamed", b"train/a.jpg", b"images/a.jpg"),
        ("renamed", b"train/b.jpg", b"train/c.jpg"),
    ]


async def test_a_part_of_it() -> None:
    assert await diffed(OLD, NEW, b"train") == [
        ("removed", b"train/a.jpg", None),
        ("renamed", b"train/b.jpg", b"train/c.jpg"),
    ]
    assert await diffed(OLD, NEW, b"images") == [("added", None, b"images"), ("added", None, b"images/a.jpg")]
    assert await diffed(OLD, NEW, b"changed") == [("changed", b"changed", b"changed")]
    assert await diffed(OLD, NEW, b"same") == []
    assert await diffed(OLD, NEW, b"gone") == [("removed", b"gone", None)]
    with pytest.raises(NotFoundError, match="no nothing in data/v2"):
        await diffed(OLD, NEW, b"nothing")


async def test_the_same_name_goes_with_the_same_name() -> None:
    old = model(file(path, b"alike") for path in (b"a/1", b"a/2", b"a/3"))
    new = model(file(path, b"alike") for path in (b"b/2", b"b/3", b"b/9"))
    renames = [row[1:] for row in await diffed(old, new) if row[0] == "renamed"]
    assert renames == [(b"a/2", b"b/2"), (b"a/3", b"b/3"), (b"a/1", b"b/9")]


async def test_a_file_that_is_still_there_was_not_renamed() -> None:
    assert await diffed(model([file(b"a", b"x")]), model([file(b"a", b"x"), file(b"b", b"x")])) == [
        ("added", None, b"b")
    ]


async def test_of_too_many_changes_renames_are_not_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fsd.repo.diff, "MAX_FOR_RENAMES", 3)
    old, new = (model(file(b"%s/%d" % (name, at), b"%d" % at) for at in range(5)) for name in (b"a", b"b"))
    rows = await diffed(old, new)
    assert len(rows) == 12
    assert {row[0] for row in rows} == {"added", "removed"}


@settings(max_examples=20)
@given(edits())
async def test_renames_lose_nothing(trees: tuple[Model, Model]) -> None:
    changes = [change async for change in changes_between(*await opened(*trees), read_ahead_pages=3)]
    shown = [(change.old, change.new) for change in changes]
    pairs = expected(*trees)
    assert _paths(old for old, _ in shown) == sorted(old.path for old, _ in pairs if old)
    assert _paths(new for _, new in shown) == sorted(new.path for _, new in pairs if new)
    for change in changes:
        if change.kind is ChangeKind.RENAMED:
            assert change.old is not None
            assert change.new is not None
            assert (change.old.content, change.old.size) == (change.new.content, change.new.size)


def _paths(found: Iterable[Fact | None]) -> list[bytes]:
    return sorted(fact.path for fact in found if fact)


async def test_a_summary_counts_files_and_bytes() -> None:
    summary = Summary()
    for change in [change async for change in changes_between(*await opened(OLD, NEW), read_ahead_pages=3)]:
        summary.add(change)
    counted = {kind: (each.files, each.old_bytes, each.new_bytes) for kind, each in summary.sums.items()}
    assert counted == {"added": (2, 0, 3), "removed": (2, 4, 0), "changed": (4, 6, 9), "renamed": (2, 18, 18)}
