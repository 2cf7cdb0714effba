"""Pages of the base are loaded before the build asks for them, a bounded number ahead of it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

from fsd.errors import StoreUnreachableError
from fsd.format.index import Index
from fsd.format.keys import ObjectKind, object_key
from fsd.format.model import Entry, Kind
from fsd.ids import content_id
from fsd.limits import DEFAULT_LIMITS
from fsd.publish.ahead import PagesAhead
from fsd.repo.builder import Removal, build_tree
from fsd.repo.objects import Objects, ObjectWriter, StoreLoader
from fsd.repo.tree import PageRef, Tree
from fsd.stores.memory import MemoryStore
from tests.faulty import Fail, FaultyStore

NAMES = [b"%05d" % number for number in range(12_000)]


async def base_of(store: MemoryStore) -> tuple[Tree, FaultyStore, list[PageRef]]:
    async def changes() -> AsyncIterator[list[Entry]]:
        yield [Entry(b"", name, Kind.FILE, False, 0, content_id(b"")) for name in NAMES]

    built = await build_tree(ObjectWriter(store), changes())
    faulty = FaultyStore(store)
    tree = Tree(built.id, Index(built.root), Objects(StoreLoader(faulty), DEFAULT_LIMITS), 4)
    refs = await tree.pages()
    assert len(refs) > 8
    return tree, faulty, refs


def removals(refs: list[PageRef], *numbers: int) -> list[Removal]:
    """A change in each of these pages, two in the first."""
    names = [NAMES[refs[number].first + 1] for number in numbers]
    return [Removal(b"", NAMES[refs[numbers[0]].first]), *(Removal(b"", name) for name in names)]


def loaded(store: FaultyStore, refs: list[PageRef]) -> list[int]:
    keys = {object_key(ObjectKind.PAGE, ref.child.id): number for number, ref in enumerate(refs)}
    return sorted(keys[call.key] for call in store.calls if call.key in keys)


async def test_only_pages_with_changes_are_loaded_once_and_few_ahead() -> None:
    tree, store, refs = await base_of(MemoryStore())
    async with trio.open_nursery() as nursery:
        ahead = PagesAhead(tree, refs, 3, nursery)
        ahead.expect(removals(refs, 1, 2, 4))
        ahead.expect(removals(refs, 4, 6, 7))
        await trio.testing.wait_all_tasks_blocked()
        assert loaded(store, refs) == [1, 2, 4]
        ahead.reached(removals(refs, 4)[0].key)
        await trio.testing.wait_all_tasks_blocked()
        assert loaded(store, refs) == [1, 2, 4, 6, 7]
    store.calls.clear()
    for number in (1, 2, 4, 6, 7):
        await tree.page(refs[number])
    assert loaded(store, refs) == []


async def test_what_the_build_has_passed_is_not_loaded() -> None:
    tree, store, refs = await base_of(MemoryStore())
    async with trio.open_nursery() as nursery:
        ahead = PagesAhead(tree, refs, 1, nursery)
        ahead.expect(removals(refs, 0, 1, 2, 3))
        ahead.reached(removals(refs, 3)[0].key)
        await trio.testing.wait_all_tasks_blocked()
    assert loaded(store, refs) == [0, 3]


async def test_a_page_that_cannot_be_loaded_is_left_to_the_build() -> None:
    tree, store, refs = await base_of(MemoryStore())
    store.inject("get", object_key(ObjectKind.PAGE, refs[1].child.id), Fail(StoreUnreachableError("gone")), times=2)
    async with trio.open_nursery() as nursery:
        PagesAhead(tree, refs, 3, nursery).expect(removals(refs, 1))
    with pytest.raises(StoreUnreachableError):
        await tree.page(refs[1])
    await tree.page(refs[1])
    store.assert_all_exercised()
