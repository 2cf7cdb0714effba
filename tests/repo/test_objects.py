"""Objects in memory: verified, fetched once, bounded."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
import trio
import trio.testing

from fsd.errors import CorruptDataError, StoreUnreachableError
from fsd.format.envelope import seal
from fsd.format.keys import ObjectKind, object_key, pack_key
from fsd.format.model import Entry, Kind, Piece, Placement
from fsd.format.page import encode_page
from fsd.ids import content_id
from fsd.limits import DEFAULT_LIMITS
from fsd.repo.objects import MissingObjectError, Objects, ObjectWriter, StoreLoader
from fsd.stores.memory import MemoryStore
from tests.faulty import Fail, FaultyStore, FlipBit, Lengthen, Stall, Truncate
from tests.format.samples import sample_entries, sample_moves, sample_objects
from tests.repo.trees import file


async def write_sample(store: MemoryStore, name: str) -> tuple[ObjectKind, bytes]:
    kind, logical, placement = sample_objects()[name]
    return kind, await ObjectWriter(store).write(kind, logical, placement)


def reader(objects: Objects, kind: ObjectKind) -> Callable[[bytes], Awaitable[object]]:
    return {
        ObjectKind.PAGE: objects.page,
        ObjectKind.INDEX: objects.index,
        ObjectKind.RECIPE: objects.recipe,
        ObjectKind.COMMIT: objects.commit,
        ObjectKind.SEGMENT: objects.segment,
    }[kind]


@pytest.mark.parametrize("name", sample_objects())
async def test_each_kind_is_read_from_the_store_once(name: str) -> None:
    memory = MemoryStore()
    kind, object_id = await write_sample(memory, name)
    store = FaultyStore(memory)
    objects = Objects(StoreLoader(store), DEFAULT_LIMITS)
    first = await reader(objects, kind)(object_id)
    second = await reader(objects, kind)(object_id)
    if kind is ObjectKind.SEGMENT:
        assert first == second == sample_moves(3)
    else:
        assert first is second
        assert [call.operation for call in store.calls] == ["get"]


@pytest.mark.parametrize("damage", [FlipBit(0.1), FlipBit(0.9), Truncate(5), Lengthen(1)], ids=repr)
@pytest.mark.parametrize("name", sample_objects())
async def test_a_bad_object_is_fetched_again(name: str, damage: FlipBit | Truncate | Lengthen) -> None:
    memory = MemoryStore()
    kind, object_id = await write_sample(memory, name)
    store = FaultyStore(memory)
    store.inject("get", object_key(kind, object_id), damage, times=1)
    await reader(Objects(StoreLoader(store), DEFAULT_LIMITS), kind)(object_id)
    store.assert_all_exercised()


@pytest.mark.parametrize("name", sample_objects())
async def test_an_object_that_stays_bad_is_named(name: str) -> None:
    memory = MemoryStore()
    kind, object_id = await write_sample(memory, name)
    store = FaultyStore(memory)
    store.inject("get", object_key(kind, object_id), FlipBit(0.9), times=2)
    objects = Objects(StoreLoader(store), DEFAULT_LIMITS)
    with pytest.raises(CorruptDataError, match=f"{kind.name.lower()} {object_id.hex()}"):
        await reader(objects, kind)(object_id)
    store.assert_all_exercised()
    await reader(objects, kind)(object_id)


class ForgetfulLoader:
    """A cache that holds bad bytes until it is told to forget them."""

    def __init__(self, inner: StoreLoader) -> None:
        self.inner = inner
        self.forgotten: set[tuple[ObjectKind, bytes]] = set()

    async def load(self, kind: ObjectKind, object_id: bytes) -> bytes:
        stored = await self.inner.load(kind, object_id)
        return stored if (kind, object_id) in self.forgotten else stored[:-1]

    async def reload(self, kind: ObjectKind, object_id: bytes) -> bytes:
        return await self.inner.load(kind, object_id)

    async def forget(self, kind: ObjectKind, object_id: bytes) -> None:
        self.forgotten.add((kind, object_id))


async def test_the_loaders_cache_is_passed_by_after_bad_bytes() -> None:
    store = MemoryStore()
    _, page = await write_sample(store, "page")
    objects = Objects(ForgetfulLoader(StoreLoader(store)), DEFAULT_LIMITS)
    assert [*(await objects.page(page)).entries()] == sample_entries()


@pytest.mark.parametrize("name", sample_objects())
async def test_an_object_that_is_gone_is_corruption(name: str) -> None:
    kind, logical, _ = sample_objects()[name]
    objects = Objects(StoreLoader(MemoryStore()), DEFAULT_LIMITS, where="memory:")
    with pytest.raises(MissingObjectError, match="is missing from memory:") as caught:
        await reader(objects, kind)(content_id(logical))
    assert caught.value.exit_code == 6


async def test_many_tasks_share_one_load() -> None:
    memory = MemoryStore()
    _, page = await write_sample(memory, "page")
    store = FaultyStore(memory)
    objects = Objects(StoreLoader(store), DEFAULT_LIMITS)
    found = []

    async def read() -> None:
        found.append(await objects.page(page))

    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(read)
    assert len(store.calls) == 1
    assert len(found) == 50
    assert all(other is found[0] for other in found)


class KeepingLoader:
    """A cache that never looks again by itself."""

    def __init__(self, inner: StoreLoader) -> None:
        self.inner = inner
        self.kept: dict[bytes, bytes] = {}

    async def load(self, kind: ObjectKind, object_id: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        return self.kept.get(object_id) or await self.reload(kind, object_id)

    async def reload(self, kind: ObjectKind, object_id: bytes) -> bytes:
        self.kept[object_id] = await self.inner.load(kind, object_id)
        return self.kept[object_id]

    async def forget(self, kind: ObjectKind, object_id: bytes) -> None:
        del self.kept[object_id]
        await self.inner.forget(kind, object_id)


async def write_placed(store: MemoryStore, pack: bytes) -> bytes:
    """A page, or the same with its chunk in another pack."""
    logical, placement = encode_page([one_chunk(pack)])
    page, stored = seal(ObjectKind.PAGE, logical, placement)
    await store.overwrite(object_key(ObjectKind.PAGE, page), stored)
    return page


def one_chunk(pack: bytes) -> Entry:
    chunk = content_id(b"data")
    return Entry(b"", b"a", Kind.FILE, False, 4, chunk, b"", 0, (Piece(chunk, 4),), (Placement(pack, 0, 4, 0),))


OLD, NEW = bytes(15) + b"1", bytes(15) + b"2"


async def test_a_fresh_page_has_the_placements_of_the_store() -> None:
    memory = MemoryStore()
    page = await write_placed(memory, OLD)
    store = FaultyStore(memory)
    loader = KeepingLoader(StoreLoader(store))
    objects = Objects(loader, DEFAULT_LIMITS)
    assert (await objects.page(page)).entry(0) == one_chunk(OLD)
    await write_placed(memory, NEW)
    assert (await objects.page(page)).entry(0) == one_chunk(OLD)
    found: list[Entry] = []

    async def refresh() -> None:
        found.append((await objects.fresh_page(page)).entry(0))

    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(refresh)
    assert found == [one_chunk(NEW)] * 50
    assert (await objects.page(page)).entry(0) == one_chunk(NEW)
    assert (await Objects(loader, DEFAULT_LIMITS).page(page)).entry(0) == one_chunk(NEW)
    assert len(store.calls) == 2


async def test_what_is_fresh_is_not_asked_for_again_for_a_while(autojump_clock: trio.testing.MockClock) -> None:
    memory = MemoryStore()
    page = await write_placed(memory, OLD)
    store = FaultyStore(memory)
    objects = Objects(KeepingLoader(StoreLoader(store)), DEFAULT_LIMITS)
    for _ in range(3):
        store.calls.clear()
        for _ in range(10):
            await objects.fresh_page(page)
            await trio.sleep(DEFAULT_LIMITS.fresh_hints_s / 10)
        assert len(store.calls) == 1
        autojump_clock.jump(0.001)


async def test_a_page_that_is_gone_stays_where_it_was_loaded() -> None:
    memory = MemoryStore()
    page = await write_placed(memory, OLD)
    store = FaultyStore(memory)
    loader = KeepingLoader(StoreLoader(store))
    objects = Objects(loader, DEFAULT_LIMITS)
    await objects.page(page)
    await memory.delete(object_key(ObjectKind.PAGE, page))
    with pytest.raises(MissingObjectError):
        await objects.fresh_page(page)
    for kept in (objects, Objects(loader, DEFAULT_LIMITS)):
        assert (await kept.page(page)).entry(0) == one_chunk(OLD)
    assert (await objects.fresh_page(page)).entry(0) == one_chunk(OLD)
    assert len(store.calls) == 2


async def test_a_load_that_began_before_does_not_bring_back_what_is_old() -> None:
    memory = MemoryStore()
    page = await write_placed(memory, OLD)
    loader = KeepingLoader(StoreLoader(FaultyStore(memory)))
    await loader.load(ObjectKind.PAGE, page)
    await write_placed(memory, NEW)
    objects = Objects(loader, DEFAULT_LIMITS)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(objects.page, page)
        nursery.start_soon(objects.fresh_page, page)
        nursery.start_soon(objects.page, page)
    assert (await objects.page(page)).entry(0) == one_chunk(NEW)


async def test_what_is_loaded_anew_weighs_once() -> None:
    memory = MemoryStore()
    page = await write_placed(memory, OLD)
    limits = replace(DEFAULT_LIMITS, fresh_hints_s=-1.0)
    _, other = await write_sample(memory, "page")
    one = (await Objects(StoreLoader(memory), limits).page(other)).memory_bytes
    objects = Objects(StoreLoader(memory), replace(limits, page_memory_bytes=2 * one))
    await objects.page(other)
    for _ in range(100):
        await objects.fresh_page(page)
    assert objects.page_nowait(other) is not None


async def test_who_waits_takes_over_from_who_is_cancelled() -> None:
    memory = MemoryStore()
    _, page = await write_sample(memory, "page")
    store = FaultyStore(memory)
    stall = store.inject("get", "pages/*", Stall(), times=1)
    objects = Objects(StoreLoader(store), DEFAULT_LIMITS)
    leader = trio.CancelScope()
    found = []

    async def lead() -> None:
        with leader:
            await objects.page(page)

    async def follow() -> None:
        found.append(await objects.page(page))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lead)
        await stall.wait_met()
        for _ in range(3):
            nursery.start_soon(follow)
        await trio.testing.wait_all_tasks_blocked()
        leader.cancel()
    assert leader.cancelled_caught
    assert len(found) == 3
    assert len(store.calls) == 2


async def test_an_error_is_shared_by_those_who_wait_and_then_forgotten() -> None:
    memory = MemoryStore()
    _, page = await write_sample(memory, "page")
    store = FaultyStore(memory)
    store.inject("get", "pages/*", Fail(StoreUnreachableError("no network")), times=1)
    objects = Objects(StoreLoader(store), DEFAULT_LIMITS)
    errors = []

    async def read() -> None:
        try:
            await objects.page(page)
        except StoreUnreachableError as error:
            errors.append(error)

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(read)
    assert len(errors) == 5
    assert len(store.calls) == 1
    await objects.page(page)


async def test_memory_is_bounded_and_the_least_used_go_first() -> None:
    store = FaultyStore(MemoryStore())
    writer = ObjectWriter(store)
    pages = [await writer.write(ObjectKind.PAGE, *encode_page([file(b"%d" % number)])) for number in range(20)]
    one = (await Objects(StoreLoader(store), DEFAULT_LIMITS).page(pages[0])).memory_bytes
    objects = Objects(StoreLoader(store), replace(DEFAULT_LIMITS, page_memory_bytes=10 * one + one // 2))
    for page in pages[:10]:
        await objects.page(page)
    assert all(objects.page_nowait(page) for page in pages[:10])
    objects.page_nowait(pages[0])
    for page in pages[10:15]:
        await objects.page(page)
    assert [number for number in range(20) if objects.page_nowait(pages[number])] == [0, *range(6, 15)]


async def test_writing_is_idempotent_and_the_first_placements_stay() -> None:
    store = MemoryStore()
    writer = ObjectWriter(store)
    entry = file(b"a", b"data")
    elsewhere = entry._replace(placements=(entry.placements[0]._replace(pack=b"q" * 16),))
    await store.put_if_absent(pack_key(entry.placements[0].pack), b"a pack")
    first = await writer.write(ObjectKind.PAGE, *encode_page([entry]))
    second = await writer.write(ObjectKind.PAGE, *encode_page([elsewhere]))
    assert first == second
    assert (await Objects(StoreLoader(store), DEFAULT_LIMITS).page(first)).entry(0) == entry


async def test_writing_over_an_object_that_leads_to_a_pack_which_is_gone_mends_it() -> None:
    store = MemoryStore()
    writer = ObjectWriter(store)
    entry = file(b"a", b"data")
    elsewhere = entry._replace(placements=(entry.placements[0]._replace(pack=b"q" * 16),))
    await store.put_if_absent(pack_key(b"q" * 16), b"a pack")
    page = await writer.write(ObjectKind.PAGE, *encode_page([entry]))
    assert await writer.write(ObjectKind.PAGE, *encode_page([elsewhere])) == page
    assert (await Objects(StoreLoader(store), DEFAULT_LIMITS).page(page)).entry(0) == elsewhere


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-1], lambda data: bytes([*data[:-1], data[-1] ^ 1]), lambda _: b""]
)
async def test_writing_over_a_bad_object_mends_it(damage: Callable[[bytes], bytes]) -> None:
    store = MemoryStore()
    writer = ObjectWriter(store)
    entry = file(b"a", b"data")
    page = await writer.write(ObjectKind.PAGE, *encode_page([entry]))
    key = object_key(ObjectKind.PAGE, page)
    await store.overwrite(key, damage((await store.get(key)).data))
    with pytest.raises(CorruptDataError):
        await Objects(StoreLoader(store), DEFAULT_LIMITS).page(page)
    assert await writer.write(ObjectKind.PAGE, *encode_page([entry])) == page
    assert (await Objects(StoreLoader(store), DEFAULT_LIMITS).page(page)).entry(0) == entry
