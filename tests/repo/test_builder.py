"""Building: what is read and written for a change, cuts at every place, and mistakes that are found."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from fsd.errors import StoreUnreachableError
from fsd.format.index import Index
from fsd.format.limits import MAX_LOGICAL_BYTES
from fsd.format.model import Entry
from fsd.repo.builder import Change, Removal, RemovalBelow
from fsd.repo.cutting import Cuts
from fsd.stores.memory import MemoryStore
from tests.faulty import Fail, FaultyStore
from tests.repo.trees import (
    FULL_CUTS,
    TINY_CUTS,
    all_entries,
    build,
    difference,
    directory,
    file,
    in_order,
    model,
    symlink,
    tree_of,
)

NAMES = [b"%03d" % number for number in range(50)]


def flat(count: int, where: bytes = b"d") -> dict[bytes, Entry]:
    return model(file(b"%s/%07d" % (where, number), b"%d" % number) for number in range(count))


async def test_the_empty_tree() -> None:
    store = MemoryStore()
    built = await build(store, [])
    assert (built.pages, built.totals) == (0, (0, 0, 0))
    tree = tree_of(store, built)
    assert await all_entries(tree) == []
    assert await tree.find(b"", b"a") is None
    again = await build(store, [Removal(b"", b"a")], tree_of(store, await build(store, [file(b"a")])))
    assert again.root == built.root


@pytest.mark.parametrize("cuts", [TINY_CUTS, FULL_CUTS], ids=["tiny", "full"])
async def test_one_change_at_every_place(cuts: Cuts) -> None:
    old = model(file(name, b"x") for name in NAMES)
    store = MemoryStore()
    base = tree_of(store, await build(store, in_order(old), cuts=cuts))
    for name in NAMES:
        changes: Sequence[Change] = (
            Removal(b"", name),
            file(name),
            symlink(name, b"far" * 100),
            file(name + b"0", b"new"),
            directory(name),
        )
        for change in changes:
            new = dict(old)
            if isinstance(change, Removal):
                del new[name]
            else:
                new[change.path] = change
            built = await build(store, [change], base, cuts)
            assert built.root == (await build(MemoryStore(), in_order(new), cuts=cuts)).root, change


async def test_a_change_touches_the_page_it_is_in() -> None:
    memory = MemoryStore()
    old = flat(20_000)
    built = await build(memory, in_order(old))
    assert 10 <= built.pages <= 40
    assert built.pages_written == built.pages
    for path in (b"d/0000000", b"d/0009000", b"d/0019999"):
        store = FaultyStore(memory)
        changed = await build(store, [file(path, b"changed")], tree_of(store, built))
        reads = [call.key for call in store.calls if call.operation == "get"]
        writes = [call.key for call in store.calls if call.operation == "put_if_absent"]
        assert (len(reads), len(writes)) == (1, 1), "one page is read, and one is written"
        assert changed.pages_written == 1


async def test_a_large_directory_is_emptied_without_being_read() -> None:
    memory = MemoryStore()
    old = flat(20_000) | model([file(b"a/x"), file(b"z/x")])
    built = await build(memory, in_order(old))
    store = FaultyStore(memory)
    changed = await build(store, [Removal(b"", b"d"), RemovalBelow(b"d")], tree_of(store, built))
    assert len([call for call in store.calls if call.operation == "get"]) <= 2, "those that hold other entries too"
    assert await all_entries(tree_of(memory, changed)) == in_order(model([file(b"a/x"), file(b"z/x")]))


async def test_nothing_changed_means_nothing_read_or_written() -> None:
    memory = MemoryStore()
    built = await build(memory, in_order(flat(5_000)))
    store = FaultyStore(memory)
    again = await build(store, [], tree_of(store, built))
    assert (again.root, again.pages_written) == (built.root, 0)
    assert store.calls == []


async def test_cuts_meet_again_soon_after_an_insertion() -> None:
    memory = MemoryStore()
    built = await build(memory, in_order(flat(20_000)))
    new = await build(memory, [file(b"d/0010000-new")], tree_of(memory, built))
    assert new.pages_written <= 2


async def test_a_tree_of_more_pages_than_a_root_holds() -> None:
    store = MemoryStore()
    tree = model(file(b"d" * 100 + b"/" + b"%05d" % number) for number in range(6_000))
    cuts = Cuts(page_entries=2)
    built = await build(store, in_order(tree), cuts=cuts)
    root = Index(built.root)
    assert root.level == 1
    assert len(built.root) <= MAX_LOGICAL_BYTES < built.pages * 150
    assert await all_entries(tree_of(store, built)) == in_order(tree)
    del tree[b"d" * 100 + b"/03000"]
    smaller = await build(store, [Removal(b"d" * 100, b"03000")], tree_of(store, built), cuts)
    assert smaller.root == (await build(MemoryStore(), in_order(tree), cuts=cuts)).root


async def test_a_hostile_choice_of_names_cannot_make_a_tree_without_end() -> None:
    # Every key starts a new node if it may: only the least number of children holds against it.
    hostile = Cuts(page_entries=1, index_children=1, index_bytes=2_000, index_least_children=2)
    store = MemoryStore()
    tree = model(file(name) for name in NAMES)
    built = await build(store, in_order(tree), cuts=hostile)
    assert await all_entries(tree_of(store, built)) == in_order(tree)


MISTAKES: dict[str, tuple[list[Entry], list[Change]]] = {
    "out of order": ([], [file(b"b"), file(b"a")]),
    "twice": ([], [file(b"a"), file(b"a")]),
    "not there to be removed": ([file(b"a")], [Removal(b"", b"b")]),
    "not there to be removed, in between": ([file(b"a"), file(b"c")], [Removal(b"", b"b")]),
    "no directory": ([], [file(b"a/b")]),
    "no directory on the way": ([], [directory(b"a"), file(b"a/b/c")]),
    "directory is a file": ([file(b"a")], [file(b"a/b")]),
    "directory becomes a file": ([file(b"a/b")], [file(b"a")]),
    "directory becomes a file, and more": ([file(b"a/b")], [file(b"a"), file(b"a/c")]),
    "directory removed, contents left": ([file(b"a/b"), file(b"z")], [Removal(b"", b"a")]),
    "directory removed, half of it left": ([file(b"a/b"), file(b"a/c")], [Removal(b"", b"a"), Removal(b"a", b"b")]),
    "directory removed, something added": (
        [file(b"a/b")],
        [Removal(b"", b"a"), Removal(b"a", b"b"), file(b"a/c")],
    ),
    "directory emptied, something added below": (
        [file(b"a/b/c"), file(b"a/d")],
        [RemovalBelow(b"a"), file(b"a/b/d")],
    ),
    "directory removed and emptied, something added": (
        [file(b"a/b")],
        [Removal(b"", b"a"), RemovalBelow(b"a"), file(b"a/c")],
    ),
    "directory removed, a deeper one left": ([file(b"a/b/c")], [Removal(b"", b"a"), Removal(b"a", b"b")]),
    "impossible name": ([], [Entry(b"", b"..", file(b"a").kind, content=file(b"a").content)]),
}


@pytest.mark.parametrize("cuts", [TINY_CUTS, FULL_CUTS, Cuts(page_entries=1)], ids=["tiny", "full", "one"])
@pytest.mark.parametrize("mistake", MISTAKES)
async def test_mistakes_are_found(mistake: str, cuts: Cuts) -> None:
    old, changes = MISTAKES[mistake]
    store = MemoryStore()
    around = [file(b"!%d" % number) for number in range(10)] + [file(b"~%d" % number) for number in range(10)]
    base = tree_of(store, await build(store, in_order(model(old + around)), cuts=cuts))
    with pytest.raises(ValueError, match=r"."):
        await build(store, changes, base, cuts)


@pytest.mark.parametrize("cuts", [TINY_CUTS, FULL_CUTS, Cuts(page_entries=1)], ids=["tiny", "full", "one"])
async def test_contents_left_in_a_removed_directory_are_found_on_any_page(cuts: Cuts) -> None:
    store = MemoryStore()
    old = model([*[file(b"d/%03d" % number) for number in range(40)], file(b"c/x"), file(b"e/x"), directory(b"f")])
    base = tree_of(store, await build(store, in_order(old), cuts=cuts))
    for left in range(40):
        changes: list[Change] = [Removal(b"", b"d"), Removal(b"", b"f")]
        changes += [Removal(b"d", b"%03d" % number) for number in range(40) if number != left]
        with pytest.raises(ValueError, match="b'd' is removed"):
            await build(store, changes, base, cuts)
    emptied = model(entry for path, entry in old.items() if not path.startswith((b"d", b"f")))
    built = await build(store, difference(old, emptied), base, cuts)
    assert await all_entries(tree_of(store, built)) == in_order(emptied)


async def test_an_error_of_the_store_is_raised_as_it_is() -> None:
    store = FaultyStore(MemoryStore())
    store.inject("put_if_absent", "pages/*", Fail(StoreUnreachableError("gone")), times=1)
    with pytest.raises(StoreUnreachableError, match="gone"):
        await build(store, in_order(flat(5_000)))
    store.assert_all_exercised()
