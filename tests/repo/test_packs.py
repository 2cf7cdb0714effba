"""Packs: ranges, and contents in as few requests as may be."""

from __future__ import annotations

import pytest

from fsd.errors import CorruptDataError
from fsd.format.keys import pack_key
from fsd.format.pack import PackedChunk, encode_contents
from fsd.repo.packs import PackReader
from fsd.stores.base import ObjectNotFoundError
from fsd.stores.memory import MemoryStore
from tests.faulty import FaultyStore, FlipBit, Truncate
from tests.format.samples import sample_chunks, sample_id, sample_pack

PACK = b"p" * 16


async def store_with(data: bytes) -> FaultyStore:
    store = FaultyStore(MemoryStore())
    await store.inner.put_if_absent(pack_key(PACK), data)
    return store


def pack_of(count: int) -> tuple[list[PackedChunk], bytes]:
    chunks = [PackedChunk(sample_id(number), 1, 1) for number in range(count)]
    return chunks, b"x" * count + encode_contents(chunks)


@pytest.mark.parametrize(("count", "requests"), [(0, 1), (1, 1), (1_600, 1), (1_700, 2), (5_000, 2)])
async def test_contents(count: int, requests: int) -> None:
    chunks, data = pack_of(count)
    store = await store_with(data)
    assert [*await PackReader(store).contents(PACK)] == chunks
    assert len(store.calls) == requests


async def test_ranges() -> None:
    store = await store_with(sample_pack())
    reader = PackReader(store)
    plain = sample_chunks()[0]
    assert await reader.read(PACK, 10, 50) == plain[10:60]
    assert await reader.read(PACK, len(sample_pack()) - 5, 50) == sample_pack()[-5:]
    assert len(store.calls) == 2


async def test_a_pack_that_is_gone() -> None:
    reader = PackReader(MemoryStore())
    with pytest.raises(ObjectNotFoundError):
        await reader.read(PACK, 0, 1)
    with pytest.raises(ObjectNotFoundError):
        await reader.contents(PACK)


@pytest.mark.parametrize("count", [10, 5_000])
@pytest.mark.parametrize("damage", [FlipBit(0.99), Truncate(1)], ids=repr)
async def test_damaged_contents_are_refused(count: int, damage: FlipBit | Truncate) -> None:
    store = await store_with(pack_of(count)[1])
    store.inject(["get_tail", "get_range"], "packs/*", damage)
    with pytest.raises(CorruptDataError, match=PACK.hex()):
        await PackReader(store).contents(PACK)
    store.assert_all_exercised()
