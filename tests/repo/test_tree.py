"""Trees: what is asked of the store, and trees that were written wrongly. (`tests.model.test_trees`: what is found.)"""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio.testing

from fsd.errors import CorruptDataError
from fsd.format.index import Index, IndexChild, Totals, encode_index
from fsd.format.keys import ObjectKind
from fsd.format.page import encode_page
from fsd.repo.cutting import Cuts
from fsd.repo.objects import Objects, ObjectWriter, StoreLoader
from fsd.repo.tree import PENDING, Tree
from fsd.stores.memory import MemoryStore
from tests.faulty import FaultyStore, Slow
from tests.repo.trees import (
    SMALL_LIMITS,
    all_entries,
    build,
    directory,
    file,
    in_order,
    listed_entries,
    model,
    tree_of,
)

TEN_A_PAGE = Cuts(page_entries=10)


def big(count: int = 2_000) -> list[bytes]:
    return [b"d/%05d" % number for number in range(count)]


async def big_tree(store: FaultyStore, read_ahead: int = 8) -> Tree:
    built = await build(store.inner, in_order(model(map(file, big()))), cuts=TEN_A_PAGE)
    assert built.pages > 100
    return Tree(built.id, Index(built.root), Objects(StoreLoader(store), SMALL_LIMITS), read_ahead)


async def test_a_lookup_reads_one_page() -> None:
    store = FaultyStore(MemoryStore())
    tree = await big_tree(store)
    assert tree.find_nowait(b"d", b"01000") is PENDING
    found = await tree.find(b"d", b"01000")
    assert found is not None
    assert found.page.path(found.position) == b"d/01000"
    assert tree.find_nowait(b"d", b"01000") == found
    assert len(store.calls) == 1
    assert await tree.find(b"d", b"01000x") is None
    assert tree.find_nowait(b"\0", b"before all") is None
    assert len(store.calls) <= 2


async def test_a_listing_of_a_small_directory_reads_its_page_only() -> None:
    store = FaultyStore(MemoryStore())
    entries = model([*map(file, big()), directory(b"c"), file(b"b/1"), file(b"b/2")])
    built = await build(store.inner, in_order(entries), cuts=TEN_A_PAGE)
    tree = tree_of(store, built)
    assert [entry.path for entry in await listed_entries(tree, b"b")] == [b"b/1", b"b/2"]
    assert await listed_entries(tree, b"c") == []
    assert len(store.calls) <= 4


async def test_what_is_looked_at_first_is_little() -> None:
    store = FaultyStore(MemoryStore())
    tree = await big_tree(store, read_ahead=32)
    async for listed in tree.list(b"d"):
        assert listed.positions
        break
    assert len(store.calls) == 2


async def test_a_long_listing_reads_ahead_in_parallel(autojump_clock: trio.testing.MockClock) -> None:
    store = FaultyStore(MemoryStore())
    tree = await big_tree(store, read_ahead=32)
    store.inject("get", "pages/*", Slow(1.0))
    start = autojump_clock.current_time()
    assert len(await listed_entries(tree, b"d")) == 2_000
    pages = len(store.calls)
    assert pages > 100
    assert autojump_clock.current_time() - start < 5 + pages / 32


@pytest.mark.usefixtures("autojump_clock")
async def test_a_continued_listing_reads_ahead_at_once() -> None:
    store = FaultyStore(MemoryStore())
    tree = await big_tree(store, read_ahead=32)
    async for listed in tree.list(b"d", 500):
        assert listed.first + listed.positions[0] == 500
        break
    assert len(store.calls) == 32


async def test_ordinals_are_cookies() -> None:
    tree = await big_tree(FaultyStore(MemoryStore()))
    seen, cookie = [], 0
    while True:
        listed = await anext(aiter(tree.list(b"d", cookie)), None)
        if listed is None:
            break
        some = listed.positions[:7]
        seen += [listed.page.path(position) for position in some]
        cookie = listed.first + some[-1] + 1
    assert seen == big()


@pytest.mark.parametrize("ordinal", [-1, 2_001, 10**12])
async def test_no_entry_has_that_number(ordinal: int) -> None:
    tree = await big_tree(FaultyStore(MemoryStore()))
    with pytest.raises(IndexError):
        await tree.locate(ordinal)


async def test_a_page_in_the_wrong_place_is_found_out() -> None:
    store = MemoryStore()
    writer = ObjectWriter(store)
    page = await writer.write(ObjectKind.PAGE, *encode_page([file(b"a"), file(b"b")]))
    key = file(b"a").key
    for child in (
        IndexChild(key, page, Totals(3, 3, 0)),
        IndexChild(key[:-1], page, Totals(2, 2, 0)),
    ):
        root = encode_index(0, [child])
        tree = Tree(b"t" * 32, Index(root), Objects(StoreLoader(store), SMALL_LIMITS), 4)
        with pytest.raises(CorruptDataError, match=page.hex()):
            await tree.find(b"", b"a")
        with pytest.raises(CorruptDataError, match=page.hex()):
            tree.find_nowait(b"", b"a")
        with pytest.raises(CorruptDataError, match=page.hex()):
            await all_entries(tree)


async def test_an_index_in_the_wrong_place_is_found_out() -> None:
    store = MemoryStore()
    writer = ObjectWriter(store)
    page = await writer.write(ObjectKind.PAGE, *encode_page([file(b"a")]))
    child = IndexChild(file(b"a").key, page, Totals(1, 1, 0))
    deeper = await writer.write(ObjectKind.INDEX, encode_index(0, [child]))
    right = IndexChild(child.first_key, deeper, child.totals)
    empty = await writer.write(ObjectKind.INDEX, encode_index(0, []))
    wrong = [
        (2, right),
        (1, right._replace(totals=Totals(2, 1, 0))),
        (1, right._replace(first_key=b"\0\0")),
        (1, right._replace(id=empty)),
    ]
    for level, above in wrong:
        tree = Tree(b"t" * 32, Index(encode_index(level, [above])), Objects(StoreLoader(store), SMALL_LIMITS), 4)
        with pytest.raises(CorruptDataError, match="is not what the one above it"):
            await tree.find(b"", b"a")
    tree = Tree(b"t" * 32, Index(encode_index(1, [right])), Objects(StoreLoader(store), SMALL_LIMITS), 4)
    assert await tree.find(b"", b"a") is not None
    nothing_kept = replace(SMALL_LIMITS, page_memory_bytes=0)
    tree = Tree(b"t" * 32, Index(encode_index(1, [right])), Objects(StoreLoader(store), nothing_kept), 4)
    assert await all_entries(tree) == [file(b"a")]
