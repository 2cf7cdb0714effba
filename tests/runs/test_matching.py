"""Whether what was seen of a version looks the same in another: against a model that answers by looking again."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsd.format.inputs import VersionInputs
from fsd.format.model import Entry, Kind
from fsd.format.positions import stretches_of
from fsd.ids import content_id
from fsd.repo.differences import Part
from fsd.repo.filtered import FilteredTree
from fsd.repo.rules import Rule
from fsd.repo.tree import Tree
from fsd.runs.matching import MAX_REASONS, Positions, first_changes
from fsd.stores.memory import MemoryStore
from tests.repo.trees import TINY_CUTS, Model, build, directory, edits, file, in_order, model, paths, symlink, tree_of

COMMIT = content_id(b"a commit")


async def opened(*trees: Model) -> list[Tree]:
    store = MemoryStore()
    return [tree_of(store, await build(store, in_order(tree), cuts=TINY_CUTS)) for tree in trees]


def shown(entry: Entry | None) -> object:
    """What a lookup can tell of an entry."""
    if entry is None or entry.kind is Kind.DIRECTORY:
        return entry and entry.kind
    return entry.kind, entry.executable, entry.size, entry.content


def listing(tree: Model, path: bytes) -> Mapping[bytes, Kind]:
    """What a listing can tell of a directory."""
    return {name: entry.kind for name, entry in tree.items() if name.rpartition(b"/")[0] == path}


def inputs_of(tree: Model, looked_up: set[bytes], listed: set[bytes]) -> VersionInputs:
    """What the mount would record of that, in a tree where all directories on the way are looked up as well."""
    numbers = {entry.path: number for number, entry in enumerate(in_order(tree), 1)} | {b"": 0}
    return VersionInputs(
        "birds",
        "v1",
        COMMIT,
        stretches_of(numbers[path] for path in looked_up if path in numbers),
        stretches_of(numbers[path] for path in listed),
        tuple(sorted(looked_up - numbers.keys())),
    )


async def changes(old: Part, new: Part, inputs: VersionInputs) -> list[str]:
    return await first_changes(old, new, inputs, read_ahead_pages=3)


@st.composite
def looks(draw: st.DrawFn) -> tuple[Model, Model, set[bytes], set[bytes]]:
    """Two versions, and what was looked up and listed of the first."""
    old, new = draw(edits())
    known = sorted({*old, *new})
    some = st.sets(st.sampled_from(known), max_size=6) if known else st.just(set())
    directories = [b"", *(path for path, entry in sorted(old.items()) if entry.kind is Kind.DIRECTORY)]
    return (
        old,
        new,
        draw(some) | draw(st.sets(paths, max_size=3)),
        draw(st.sets(st.sampled_from(directories), max_size=3)),
    )


@settings(max_examples=150)
@given(looks())
async def test_the_answer_is_that_of_looking_again(
    example: tuple[Model, Model, set[bytes], set[bytes]],
) -> None:
    old, new, looked_up, listed = example
    is_same = all(shown(old.get(path)) == shown(new.get(path)) for path in looked_up) and all(
        listing(old, path) == listing(new, path) for path in listed
    )
    found = await changes(*await opened(old, new), inputs_of(old, looked_up, listed))
    assert (found == []) is is_same, found
    assert len(found) <= MAX_REASONS


OLD = model(
    [file(b"train/a", b"1"), file(b"train/b", b"2"), file(b"test/c", b"3"), directory(b"empty"), symlink(b"l", b"x")]
)


@pytest.mark.parametrize(
    ("new", "looked_up", "listed", "reasons"),
    [
        ({**OLD, b"test/c": file(b"test/c", b"4")}, {b"test", b"test/c"}, set(), ["birds/test/c changed"]),
        ({**OLD, b"test/c": file(b"test/c", b"4")}, {b"test", b"train/a"}, {b"test"}, []),
        ({**OLD, b"test/c": file(b"test/c", b"3", executable=True)}, {b"test/c"}, set(), ["birds/test/c changed"]),
        ({**OLD, b"l": symlink(b"l", b"y")}, {b"l"}, set(), ["birds/l changed"]),
        ({**OLD, b"l": symlink(b"l", b"y")}, set(), {b""}, []),
        ({**OLD, b"l": file(b"l")}, set(), {b""}, ["birds/l changed"]),
        (model([*OLD.values(), file(b"test/d")]), {b"test/c"}, {b"train"}, []),
        (
            model([*OLD.values(), file(b"test/d")]),
            {b"test/c"},
            {b"test"},
            ["birds/test/d is new in a folder that it lists"],
        ),
        (model([*OLD.values(), file(b"new/d")]), {b"new"}, set(), ["birds/new is there now"]),
        (
            model([*OLD.values(), file(b"empty/d")]),
            {b"empty"},
            {b"empty"},
            ["birds/empty/d is new in a folder that it lists"],
        ),
        (model([*OLD.values(), file(b"empty/d")]), {b"empty"}, {b""}, []),
        ({path: OLD[path] for path in OLD if path != b"train/a"}, {b"train/a"}, set(), ["birds/train/a is gone"]),
        ({path: OLD[path] for path in OLD if path != b"train/a"}, set(), {b"train"}, ["birds/train/a is gone"]),
        ({path: OLD[path] for path in OLD if path != b"train/a"}, {b"train/b"}, {b""}, []),
        (
            {path: OLD[path] for path in OLD if path != b"empty"} | {b"empty": file(b"empty")},
            {b"empty"},
            set(),
            ["birds/empty changed"],
        ),
    ],
)
async def test_what_counts(new: Model, looked_up: set[bytes], listed: set[bytes], reasons: list[str]) -> None:
    assert await changes(*await opened(OLD, new), inputs_of(OLD, looked_up, listed)) == reasons


async def test_equal_trees_take_no_reading() -> None:
    (tree,) = await opened(OLD)
    assert await changes(tree, tree, inputs_of(OLD, set(OLD), {b"", b"train"})) == []


async def test_filtered_trees_are_compared_as_they_are_shown() -> None:
    """A rule leaves out what it leaves out, in both of them; numbers are those of the whole tree."""
    old, new = await opened(OLD, {**OLD, b"train/b": file(b"train/b", b"other")})
    rule = Rule(include=("train/a",))
    inputs = inputs_of(OLD, {b"train", b"train/a", b"train/b"}, {b"train"})
    assert await changes(old, new, inputs) == ["birds/train/b changed"]
    assert await changes(FilteredTree(old, rule), FilteredTree(new, rule), inputs) == []
    assert await changes(FilteredTree(old, rule), new, inputs_of(OLD, {b"train/a"}, {b"train"})) == [
        "birds/train/b is new in a folder that it lists"
    ]


@given(st.sets(st.integers(0, 40)))
def test_positions(numbers: set[int]) -> None:
    positions = Positions(stretches_of(numbers))
    assert {number for number in range(50) if number in positions} == numbers
