"""Packs: ranges, and contents in as few requests as may be."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import pytest
import trio

from fsd.errors import CorruptDataError
from fsd.format.keys import moved_key, pack_key
from fsd.format.moved import LEFT_BEHIND, encode_moved
from fsd.format.pack import CONTENTS_CHUNK_BYTES, Contents, PackedChunk, encode_contents, encode_row
from fsd.ids import content_id
from fsd.repo import packs
from fsd.repo.packs import PackReader
from fsd.stores.base import ObjectNotFoundError, Store
from fsd.stores.memory import MemoryStore
from tests.faulty import FaultyStore, FlipBit, Truncate
from tests.format.samples import sample_chunks, sample_id, sample_pack

PACK = b"p" * 16
OTHER = b"o" * 16


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


# --- moved

OLD, NEW, NEWER = b"o" * 16, b"n" * 16, b"m" * 16


async def moved(store: Store, target: bytes, taken: Sequence[int], *, size: int = 50) -> list[bytes]:
    """A pack of ten chunks that was repacked, of which `taken` are in `target`, in that order; the chunks."""
    chunks = [bytes([number]) * size for number in range(10)]
    table = b"".join(encode_row(content_id(chunk), size, size) for chunk in chunks)
    offsets = [LEFT_BEHIND] * len(chunks)
    for place, number in enumerate(taken):
        offsets[number] = place * size
    body = b"".join(chunks[number] for number in taken)
    rows = [PackedChunk(content_id(chunks[number]), size, size) for number in taken]
    await store.put_if_absent(pack_key(target), body + encode_contents(rows))
    await store.overwrite(moved_key(OLD), encode_moved(target, Contents(table), array("Q", offsets)))
    return chunks


async def test_a_moved_pack_reads_as_before() -> None:
    store = FaultyStore(MemoryStore())
    chunks = await moved(store.inner, NEW, [0, 1, 2, 7, 5])
    reader = PackReader(store)
    assert await reader.read(OLD, 0, 150) == b"".join(chunks[:3])
    assert [call.operation for call in store.calls] == ["get_range", "get", "get_range"], (
        "the pack, its note, the target"
    )
    assert await reader.read(OLD, 350, 50) == chunks[7]
    assert len(store.calls) == 4, "the note is known"
    assert await reader.read(OLD, 75, 200) == chunks[1][25:] + chunks[2] + bytes(100) + chunks[5][:25]
    assert await reader.read(OLD, 490, 50) == bytes(10)
    assert await reader.read(OLD, 500, 50) == b""
    assert [chunk.id for chunk in await reader.contents(OLD)] == [content_id(chunk) for chunk in chunks]


async def test_a_pack_that_moved_on_is_followed() -> None:
    """A reader that knows where it was first finds where it is now."""
    store = MemoryStore()
    chunks = await moved(store, NEW, range(10))
    reader = PackReader(store)
    assert await reader.read(OLD, 0, 50) == chunks[0]
    await moved(store, NEWER, [3, 0])
    await store.delete(pack_key(NEW))
    assert await reader.read(OLD, 0, 50) == chunks[0]
    assert await reader.read(OLD, 150, 50) == chunks[3]
    await store.delete(pack_key(NEWER))
    with pytest.raises(ObjectNotFoundError):
        await reader.read(OLD, 0, 50)


async def test_notes_are_kept_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packs, "MOVED_KEPT_BYTES", 1)
    store = FaultyStore(MemoryStore())
    await moved(store.inner, NEW, range(10))
    other = b"q" * 16
    await store.inner.put_if_absent(moved_key(other), (await store.inner.get(moved_key(OLD))).data)
    reader = PackReader(store)
    for pack in (OLD, OLD, other, OLD):
        await reader.read(pack, 0, 50)
    notes = [call.key for call in store.calls if call.operation == "get"]
    assert notes == [moved_key(OLD), moved_key(other), moved_key(OLD)], "the last one is kept, and no more"


async def test_a_note_that_is_damaged_is_said() -> None:
    store = MemoryStore()
    await moved(store, NEW, range(10))
    await store.overwrite(moved_key(OLD), b"fsdmovd1 and no more")
    with pytest.raises(CorruptDataError, match="moved/"):
        await PackReader(store).read(OLD, 0, 50)


@pytest.mark.usefixtures("autojump_clock")
async def test_what_a_repair_finds_later_is_found_by_who_read_the_note_before() -> None:
    """Within ten minutes."""
    _, data = pack_of(2)
    contents = Contents(data[2 : 2 + 2 * CONTENTS_CHUNK_BYTES])
    store = await store_with(data)
    await store.inner.overwrite(moved_key(OTHER), encode_moved(PACK, contents, array("Q", [0, LEFT_BEHIND])))
    reader = PackReader(store)
    assert await reader.read(OTHER, 0, 2) == b"x\0"
    await store.inner.overwrite(moved_key(OTHER), encode_moved(PACK, contents, array("Q", [0, 1])))
    assert await reader.read(OTHER, 0, 2) == b"x\0"
    before = len(store.calls)
    await trio.sleep(601)
    assert await reader.read(OTHER, 0, 2) == b"xx"
    assert await reader.read(OTHER, 0, 2) == b"xx"
    assert [call.operation for call in store.calls[before:]] == ["get", "get_range", "get_range"]
    await store.inner.delete(moved_key(OTHER))
    await trio.sleep(601)
    with pytest.raises(ObjectNotFoundError):
        await reader.read(OTHER, 0, 2)
