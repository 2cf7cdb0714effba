"""Packs: who goes where, what is in them, and when they count as durable; the order of what waits for them."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from fsd.format.keys import ObjectKind, pack_key
from fsd.format.model import Placement
from fsd.format.pack import decode_chunk
from fsd.ids import content_id
from fsd.limits import KIB, Limits
from fsd.publish import packer as packer_module
from fsd.publish.known import KnownChunks
from fsd.publish.packer import Packer
from fsd.publish.writer import DeferredWriter, Order
from fsd.repo.packs import PackReader
from fsd.stores.base import Store
from fsd.stores.memory import MemoryStore
from tests.faulty import FaultyStore, Stall
from tests.publish.folders import Counting, keys_of

LIMITS = Limits(pack_bytes=10 * KIB, publish_queue_bytes=8 * KIB, upload_tasks=1)

SEGMENT = ObjectKind.SEGMENT


class Bench:
    """A packer and all that it works with."""

    def __init__(self, store: Store, folder: Path, nursery: trio.Nursery, limits: Limits) -> None:
        self.store = store
        self.known = KnownChunks(folder)
        self.known.open()
        self.order = Order()
        self.writer = DeferredWriter(store, self.order)
        self.progress = Counting()
        self.packer = Packer(store, limits, self.known, self.order, self.writer, self.progress, nursery)
        self.placed: dict[bytes, tuple[Placement, bytes]] = {}
        self.written: dict[tuple[bytes, int], bytes] = {}

    def add(self, data: bytes, *, own: bool = False) -> Placement:
        add = self.packer.add_own if own else self.packer.add_shared
        placement = add(content_id(data), len(data), data)
        self.placed[content_id(data)] = (placement, data)
        return placement

    async def check(self) -> None:
        """Everything is where it was said to be, and nothing else is there."""
        reader = PackReader(self.store)
        packs: dict[bytes, list[bytes]] = {}
        for chunk, (placement, data) in self.placed.items():
            packs.setdefault(placement.pack, []).append(chunk)
            stored = await reader.read(placement.pack, placement.offset, placement.stored)
            assert decode_chunk(chunk, stored, len(data)) == data
        for pack, chunks in packs.items():
            contents = await reader.contents(pack)
            assert [packed.id for packed in contents] == chunks
            plain = 0
            for packed in contents:
                assert self.placed[packed.id][0].plain_offset == plain
                plain += packed.length
        assert sorted(map(pack_key, packs)) == sorted(await keys_of(self.store, "packs/"))


@asynccontextmanager
async def bench(folder: Path, store: Store | None = None, limits: Limits = LIMITS) -> AsyncIterator[Bench]:
    async with trio.open_nursery() as writing:
        async with trio.open_nursery() as uploading:
            made = Bench(MemoryStore() if store is None else store, folder, uploading, limits)
            writing.start_soon(made.writer.run, 2)
            yield made
            await made.packer.finish()
        await made.writer.drain()
        writing.cancel_scope.cancel()
    made.known.close()


def data(number: int, size: int) -> bytes:
    return content_id(b"%d" % number) * (size // 32) + b"%d" % number


async def test_nothing_makes_no_pack(tmp_path: Path) -> None:
    async with bench(tmp_path) as made:
        await made.packer.relieve()
    assert await keys_of(made.store) == []


async def test_small_chunks_share_packs_of_bounded_size(tmp_path: Path) -> None:
    async with bench(tmp_path) as made:
        for number in range(100):
            made.add(data(number, 1000))
            await made.packer.relieve()
    await made.check()
    assert made.packer.packs == 10
    assert made.packer.stored_bytes == sum(len(each) for _, each in made.placed.values())
    assert made.progress.stored_bytes > made.packer.stored_bytes


@given(
    kinds=st.lists(st.sampled_from(["as it is", "compressed", "known"]), min_size=1, max_size=40), seed=st.integers()
)
async def test_views_of_one_buffer_are_written_as_they_lie(kinds: list[str], seed: int) -> None:
    with TemporaryDirectory() as folder, patch.object(packer_module, "_LONG_RUN_BYTES", 7000):
        async with bench(Path(folder)) as made:
            whole = memoryview(random.Random(seed).randbytes(len(kinds) * 3000))
            for number, kind in enumerate(kinds):
                at = number * 3000
                plain = whole[at : at + 3000]
                stored = bytes(plain[:2900]) if kind == "compressed" else plain
                if kind != "known":
                    chunk = content_id(plain)
                    placement = made.packer.add_own(chunk, 3000, stored, at)
                    made.written[placement.pack, placement.offset] = bytes(stored)
            made.packer.end_own()
        for (pack, offset), stored in made.written.items():
            assert await PackReader(made.store).read(pack, offset, len(stored)) == stored


async def test_a_pack_holds_a_bounded_number_of_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packer_module, "SHARED_PACK_CHUNKS", 7)
    async with bench(tmp_path) as made:
        for number in range(20):
            made.add(data(number, 10))
    await made.check()
    assert made.packer.packs == 3


async def test_own_packs_beside_the_shared_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packer_module, "OWN_PACK_CHUNKS", 6)
    # One upload at a time is allowed, and two packs are open at once: that must not be a deadlock.
    with trio.fail_after(20):
        async with bench(tmp_path) as made:
            for large in range(4):
                made.add(data(1000 + large, 500))
                for number in range(12):
                    made.add(data(100 * large + number, 3000), own=True)
                    await made.packer.relieve()
                made.packer.end_own()
    await made.check()
    assert made.packer.packs == 1 + 4 * 2


async def test_adding_waits_while_the_store_does(tmp_path: Path) -> None:
    store = FaultyStore(MemoryStore())
    stalled = store.inject("upload.write", "*", Stall(), times=1)
    async with trio.open_nursery() as nursery, bench(tmp_path, store) as made:
        added = 0

        async def add_many() -> None:
            nonlocal added
            for number in range(100):
                made.add(data(number, 1000))
                await made.packer.relieve()
                added += 1

        nursery.start_soon(add_many)
        await stalled.wait_met(1)
        await trio.testing.wait_all_tasks_blocked()
        assert added < 40
        assert isinstance(stalled.action, Stall)
        stalled.action.release.set()
        while added < 100:
            await trio.lowlevel.checkpoint()
    await made.check()


async def test_objects_wait_for_the_packs_begun_before_them(tmp_path: Path) -> None:
    store = FaultyStore(MemoryStore())
    stall = Stall()
    stalled = store.inject("upload.finish", "*", stall, times=1)
    async with bench(tmp_path, store) as made:
        before = made.writer.write_soon(SEGMENT, SEGMENT.value + b"before")
        await trio.testing.wait_all_tasks_blocked()
        assert await keys_of(store, "logs/"), "it waits for nothing"
        made.add(data(1, 100))
        made.packer.end_shared()
        await made.packer.relieve()
        await stalled.wait_met(1)
        after = made.writer.write_soon(SEGMENT, SEGMENT.value + b"after")
        assert made.writer.write_soon(SEGMENT, SEGMENT.value + b"after") == after
        assert made.writer.waiting_bytes > 0
        await trio.testing.wait_all_tasks_blocked()
        assert [key[-64:] for key in await keys_of(store, "logs/")] == [before.hex()]
        stall.release.set()
    assert len(await keys_of(store, "logs/")) == 2
    assert made.writer.waiting_bytes == 0


async def test_objects_wait_for_what_they_may_name(tmp_path: Path) -> None:
    store = FaultyStore(MemoryStore())
    recipes = store.inject("put_if_absent", "recipes/*", Stall(), times=1)
    pages = store.inject("put_if_absent", "pages/*", Stall(), times=1)
    made_of = [
        (ObjectKind.RECIPE, b"lower", b"placement"),
        (ObjectKind.RECIPE, b"lower too", b"placement"),
        (ObjectKind.RECIPE, b"upper", b""),
        (ObjectKind.PAGE, b"page", b""),
        (ObjectKind.PAGE, b"another page", b""),
        (ObjectKind.INDEX, b"index", b""),
    ]
    async with bench(tmp_path, store) as made:
        for kind, logical, placement in made_of:
            made.writer.write_soon(kind, kind.value + logical, placement)
        counts = []
        for fault in (recipes, pages, None):
            await trio.testing.wait_all_tasks_blocked()
            counts.append((len(await keys_of(store, "recipes/")), len(await keys_of(store, "pages/"))))
            if fault is not None:
                assert isinstance(fault.action, Stall)
                fault.action.release.set()
    # The lower recipe that is not stalled; then all recipes and the page that is not stalled; then all.
    assert counts == [(1, 0), (3, 1), (3, 3)]


async def test_objects_that_wait_long_end_the_pack_that_they_wait_for(tmp_path: Path) -> None:
    async with bench(tmp_path) as made:
        made.add(data(1, 100))
        await made.packer.relieve()
        assert await keys_of(made.store) == []
        for number in range(100):
            made.writer.write_soon(SEGMENT, SEGMENT.value + data(number, 100))
        await made.packer.relieve()
        await trio.testing.wait_all_tasks_blocked()
        assert len(await keys_of(made.store, "packs/")) == 1
        assert len(await keys_of(made.store, "logs/")) == 100


def test_packs_become_durable_in_any_order() -> None:
    order = Order()
    assert [order.begin() for _ in range(4)] == [1, 2, 3, 4]
    durable = []
    for number in (2, 1, 4, 3):
        order.note_durable(number)
        durable.append(order.durable)
    assert durable == [0, 2, 2, 4]
