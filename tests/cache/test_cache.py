"""The cache as a whole: what is kept, over restarts and against false hints."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from fsd.cache.cache import Cache
from fsd.cache.index import PresenceIndex
from fsd.errors import ConflictError, CorruptDataError
from fsd.format.model import PlacedChunk
from fsd.format.pack import Contents, encode_row
from fsd.limits import KIB, MIB
from tests.cache.world import SMALL_LIMITS, World, size_of


def mirror_path(directory: Path, chunk: PlacedChunk) -> Path:
    name = chunk.placement.pack.hex()
    return directory / "mirrors" / name[:2] / name


def moved(chunk: PlacedChunk, plain_offset: int) -> PlacedChunk:
    return chunk._replace(placement=chunk.placement._replace(plain_offset=plain_offset))


async def test_every_way_of_reading_gives_the_same_bytes(tmp_path: Path) -> None:
    world = World()
    chunks = await world.add_pack([world.data(size, compressible=size % 2 == 0) for size in (1, 4096, 10_001, 70_000)])
    total = size_of(chunks)
    async with Cache.open(tmp_path, world.source, SMALL_LIMITS) as cache:
        assert cache.read_nowait(chunks, 0, total) is None
        assert cache.read_chunk_nowait(chunks[3].id, 70_000, 5, 10) is None
        assert await cache.read_chunk(chunks[3].id, 70_000, 5, 10) is None
        assert cache.locate(chunks).length == 0
        assert bytes(await cache.read(chunks, 0, total)) == world.bytes_of(chunks)
        located = cache.locate(chunks)
        assert located.length == total
        edges = sorted({0, 1, 2, 4096, 4097, 4098, 14_098, 14_099, total - 1, total})
        for start in edges:
            for end in edges:
                if start < end:
                    length = end - start
                    want = world.bytes_of(chunks, start, length)
                    assert bytes(await cache.read(chunks, start, length)) == want
                    assert bytes(cache.read_nowait(chunks, start, length) or b"") == want
                    assert bytes(cache.read_located_nowait(located, start, length) or b"") == want
        assert bytes(cache.read_chunk_nowait(chunks[3].id, 70_000, 5, 10) or b"") == world.bytes_of(chunks[3:], 5, 10)
        assert bytes(await cache.read_chunk(chunks[3].id, 70_000, 5, 10) or b"") == world.bytes_of(chunks[3:], 5, 10)
        assert cache.read_located_nowait(located, total - 1, 2) is None
        assert cache.read_chunk_nowait(chunks[3].id, 70_001, 5, 10) is None


async def test_a_file_of_several_packs(tmp_path: Path) -> None:
    world = World()
    one, two = await world.add_random_pack(6, 10_000), await world.add_random_pack(6, 10_000)
    file = [one[0], one[1], two[3], one[4], two[4], two[5]]
    async with Cache.open(tmp_path, world.source, SMALL_LIMITS) as cache:
        for start in range(0, 60_000, 7_000):
            length = min(15_000, 60_000 - start)
            assert bytes(await cache.read(file, start, length)) == world.bytes_of(file, start, length)
            assert bytes(cache.read_nowait(file, start, length) or b"") == world.bytes_of(file, start, length)
        located = cache.locate(file)
        assert len(located._runs) == 4
        assert bytes(cache.read_located_nowait(located, 5_000, 50_000) or b"") == world.bytes_of(file, 5_000, 50_000)


async def test_what_is_partly_there_is_completed(tmp_path: Path) -> None:
    world = World()
    chunks = await world.add_random_pack(5, 10_000)
    async with Cache.open(tmp_path, world.source, SMALL_LIMITS) as cache:
        await cache.start_fetch(chunks[1:4:2]).wait()
        assert cache.contains(chunks) == [False, True, False, True, False]
        assert cache.locate(chunks[1:]).length == 10_000
        assert bytes(await cache.read(chunks, 5_000, 40_000)) == world.bytes_of(chunks, 5_000, 40_000)


async def test_a_chunk_in_two_packs_is_kept_once(tmp_path: Path) -> None:
    world = World()
    content = world.data(10_000)
    one, two = await world.add_pack([content]), await world.add_pack([world.data(500), content])
    async with Cache.open(tmp_path, world.source, SMALL_LIMITS) as cache:
        await cache.read(one, 0, 10)
        assert cache.contains(two) == [False, True]
        assert bytes(await cache.read(two, 0, 10_500)) == world.bytes_of(two)
        assert cache.statistics().written_bytes == 10_500


async def test_a_restart_keeps_everything(tmp_path: Path) -> None:
    world = World()
    chunks = await world.add_random_pack(10, 50_000)
    for _ in range(3):
        async with Cache.open(tmp_path, world.source, SMALL_LIMITS) as cache:
            assert bytes(await cache.read(chunks, 0, 500_000)) == world.bytes_of(chunks)
            assert bytes(cache.read_nowait(chunks, 0, 500_000) or b"") == world.bytes_of(chunks)
    asked = world.requests()
    async with Cache.open(tmp_path, world.source, SMALL_LIMITS) as cache:
        assert cache.contains(chunks) == [True] * 10
        assert cache.statistics().mirror_bytes >= 500_000
    assert world.requests() == asked


@pytest.mark.parametrize("way", ["read", "nowait", "chunk", "thread"])
async def test_a_byte_flipped_on_disk_is_never_served(
    tmp_path: Path, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    world = World()
    chunks = await world.add_random_pack(4, 50_000)
    async with Cache.open(tmp_path, world.source, SMALL_LIMITS) as cache:
        await cache.read(chunks, 0, 200_000)
    with mirror_path(tmp_path, chunks[0]).open("r+b") as file:
        file.seek(120_000)
        byte = file.read(1)
        file.seek(120_000)
        file.write(bytes([byte[0] ^ 1]))
    limits = replace(SMALL_LIMITS, inline_hash_bytes=0) if way == "thread" else SMALL_LIMITS
    async with Cache.open(tmp_path, world.source, limits) as cache:
        assert cache.locate(chunks).length == 0  # nothing was checked yet
        asked = world.requests()
        if way == "nowait":
            assert cache.read_nowait(chunks, 0, 200_000) is None
        elif way == "chunk":
            assert cache.read_chunk_nowait(chunks[2].id, 50_000, 0, 10) is None
        elif way == "thread":
            assert cache.read_nowait(chunks, 0, 200_000) is None
        assert bytes(await cache.read(chunks, 0, 200_000)) == world.bytes_of(chunks)
        assert world.requests() == asked + 1
        assert cache.statistics().dropped_chunks == 1
        assert "changed on disk" in caplog.text
        assert bytes(cache.read_nowait(chunks, 0, 200_000) or b"") == world.bytes_of(chunks)
        assert cache.locate(chunks).length == 200_000


@pytest.mark.parametrize("damage", ["unlinked", "truncated", "zeroed", "another mirror's"])
async def test_a_damaged_mirror_costs_a_fetch(tmp_path: Path, damage: str) -> None:
    world = World()
    chunks, others = await world.add_random_pack(4, 50_000), await world.add_random_pack(4, 50_000)
    async with Cache.open(tmp_path, world.source, SMALL_LIMITS) as cache:
        await cache.read(chunks, 0, 200_000)
        await cache.read(others, 0, 200_000)
    path = mirror_path(tmp_path, chunks[0])
    if damage == "unlinked":
        path.unlink()
    elif damage == "truncated":
        os.truncate(path, 70_000)
    elif damage == "zeroed":
        path.write_bytes(bytes(200_000))
    else:
        path.write_bytes(mirror_path(tmp_path, others[0]).read_bytes())
    async with Cache.open(tmp_path, world.source, SMALL_LIMITS) as cache:
        for chunk in chunks:
            cache.read_chunk_nowait(chunk.id, chunk.length, 0, 10)
        assert bytes(await cache.read(chunks, 0, 200_000)) == world.bytes_of(chunks)
        assert bytes(await cache.read(others, 0, 200_000)) == world.bytes_of(others)
        assert bytes(cache.read_nowait(chunks, 0, 200_000) or b"") == world.bytes_of(chunks)


async def test_a_broken_index_costs_fetches(tmp_path: Path) -> None:
    world = World()
    chunks = await world.add_random_pack(4, 50_000)
    async with Cache.open(tmp_path, world.source, SMALL_LIMITS) as cache:
        await cache.read(chunks, 0, 200_000)
    (tmp_path / "index" / "CURRENT").write_bytes(b"nonsense")
    async with Cache.open(tmp_path, world.source, SMALL_LIMITS) as cache:
        assert cache.contains(chunks) == [False] * 4
        assert not mirror_path(tmp_path, chunks[0]).exists()  # nothing on disk that nobody knows of
        assert bytes(await cache.read(chunks, 0, 200_000)) == world.bytes_of(chunks)


async def test_the_folder_is_locked(tmp_path: Path) -> None:
    world = World()
    async with Cache.open(tmp_path, world.source, SMALL_LIMITS, purpose="/mnt/a"):
        with pytest.raises(ConflictError, match=rf"in use by process {os.getpid()} \(/mnt/a\)"):
            async with Cache.open(tmp_path, world.source, SMALL_LIMITS):
                pass
    async with Cache.open(tmp_path, world.source, SMALL_LIMITS):
        pass


# --- false hints


async def test_a_place_far_out_costs_no_more_than_its_own_extents(tmp_path: Path) -> None:
    world = World()
    chunks = await world.add_random_pack(4, 10_000)
    far = [*chunks[:3], moved(chunks[3], 1 << 41)]
    async with Cache.open(tmp_path, world.source, SMALL_LIMITS) as cache:
        await cache.read(far, 0, size_of(far), widen=False)
        mirror = cache._mirrors.of_pack(chunks[0].placement.pack)
        assert mirror is not None
        assert len(mirror.recency) <= 4


@pytest.mark.parametrize("plain_offset", [0, 5_000, 20_000, 39_999, 1 << 41, 1 << 45, (1 << 63) - 1])
async def test_a_false_place_in_the_mirror_destroys_nothing(tmp_path: Path, plain_offset: int) -> None:
    world = World()
    chunks = await world.add_random_pack(5, 10_000)
    truth = world.bytes_of(chunks)
    for _ in range(2):
        async with Cache.open(tmp_path, world.source, SMALL_LIMITS) as cache:
            assert bytes(await cache.read(chunks[:4], 0, 40_000)) == truth[:40_000]
            false = moved(chunks[4], plain_offset)
            assert bytes(await cache.read([false], 0, 10_000)) == truth[40_000:]
            for _ in range(2):
                assert bytes(cache.read_nowait(chunks, 0, 50_000) or b"") == truth
                await cache.flush()


async def test_false_hints_before_true_ones(tmp_path: Path) -> None:
    world = World()
    chunks = await world.add_random_pack(5, 10_000)
    liars = [moved(chunk, 3_000 * n) for n, chunk in enumerate(chunks)]
    async with Cache.open(tmp_path, world.source, SMALL_LIMITS) as cache:
        for liar in liars[::2]:
            assert bytes(await cache.read([liar], 0, 10_000, widen=False)) == world.bytes_of([liar])
        assert bytes(await cache.read(chunks, 0, 50_000)) == world.bytes_of(chunks)
        assert bytes(await cache.read(liars, 0, 50_000)) == world.bytes_of(chunks)
        assert bytes(cache.read_nowait(chunks, 0, 50_000) or b"") == world.bytes_of(chunks)


async def test_hints_that_exchange_two_chunks(tmp_path: Path) -> None:
    world = World()
    chunks = await world.add_random_pack(2, 10_000)
    exchanged = [chunks[0]._replace(placement=chunks[1].placement), chunks[1]._replace(placement=chunks[0].placement)]
    async with Cache.open(tmp_path, world.source, SMALL_LIMITS) as cache:
        with pytest.raises(CorruptDataError, match="does not match its hash"):
            await cache.read(exchanged, 0, 20_000)
        assert cache.contains(chunks) == [False, False]
        assert bytes(await cache.read(chunks, 0, 20_000)) == world.bytes_of(chunks)
        assert bytes(await cache.read(exchanged, 0, 20_000)) == world.bytes_of(chunks)


async def test_a_hint_beyond_the_pack(tmp_path: Path) -> None:
    world = World()
    (chunk,) = await world.add_random_pack(1, 10_000)
    beyond = chunk._replace(placement=chunk.placement._replace(offset=10**9))
    async with Cache.open(tmp_path, world.source, SMALL_LIMITS) as cache:
        with pytest.raises(CorruptDataError):
            await cache.read([beyond], 0, 10)
        with pytest.raises(CorruptDataError, match="claims"):
            await cache.read([chunk._replace(length=1 << 40)], 0, 10)
        cache.start_fetch([beyond, chunk._replace(length=1 << 40)])
        await trio.testing.wait_all_tasks_blocked()
        assert bytes(await cache.read([chunk], 0, 10)) == world.bytes_of([chunk], 0, 10)


async def test_contents_that_lie_are_found_out(tmp_path: Path) -> None:
    world = World()
    chunks = await world.add_random_pack(10, 10_000)

    class Liar:
        async def read(self, pack: bytes, start: int, length: int) -> bytes:
            return await world.source.read(pack, start, length)

        async def contents(self, pack: bytes) -> Contents:
            told = await world.source.contents(pack)
            return Contents(b"".join(encode_row(told[n - 1].id, *row[1:]) for n, row in enumerate(told)))

    async with Cache.open(tmp_path, Liar(), SMALL_LIMITS) as cache:
        for chunk in chunks:
            assert bytes(await cache.read([chunk], 0, 10_000)) == world.bytes_of([chunk])
            await trio.testing.wait_all_tasks_blocked(0.01)
        assert bytes(await cache.read(chunks, 0, 100_000)) == world.bytes_of(chunks)


# --- disks that fail


async def full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, world: World, chunks: Sequence[PlacedChunk], code: int
) -> None:
    full = True
    pwrite = os.pwrite

    def fail(descriptor: int, data: bytes, offset: int) -> int:
        if full:
            raise OSError(code, os.strerror(code))
        return pwrite(descriptor, data, offset)

    async with Cache.open(tmp_path, world.source, SMALL_LIMITS) as cache:
        monkeypatch.setattr(os, "pwrite", fail)
        for _ in range(2):
            assert bytes(await cache.read(chunks, 0, 50_000)) == world.bytes_of(chunks)
        assert cache.contains(chunks) == [False] * 5
        assert cache.statistics().streamed_bytes == 100_000
        full = False
        assert bytes(await cache.read(chunks, 0, 50_000)) == world.bytes_of(chunks)
        assert cache.contains(chunks) == [True] * 5


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EFBIG])
async def test_a_full_or_failing_disk_degrades_to_streaming(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    world = World()
    await full_disk(tmp_path, monkeypatch, world, await world.add_random_pack(5, 10_000), code)
    assert "cannot write to the cache" in caplog.text


async def test_a_write_that_stops_short_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    chunks = await world.add_random_pack(5, 10_000)
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: pwrite(fd, data[:1_000], at))
    async with Cache.open(tmp_path, world.source, SMALL_LIMITS) as cache:
        await cache.read(chunks, 0, 50_000)
        assert bytes(cache.read_nowait(chunks, 0, 50_000) or b"") == world.bytes_of(chunks)


async def test_a_mirror_that_cannot_be_made(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    chunks = await world.add_random_pack(5, 10_000)
    async with Cache.open(tmp_path, world.source, SMALL_LIMITS) as cache:
        mirror_path(tmp_path, chunks[0]).parent.write_bytes(b"a file in the way")
        assert bytes(await cache.read(chunks, 0, 50_000)) == world.bytes_of(chunks)
        mirror_path(tmp_path, chunks[0]).parent.unlink()
        assert bytes(await cache.read(chunks, 0, 50_000)) == world.bytes_of(chunks)
        assert cache.contains(chunks) == [True] * 5
    assert "cannot write to the cache" in caplog.text


async def test_a_mirror_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    chunks = await world.add_random_pack(5, 10_000)
    preadv = os.preadv

    def fail(*_: object) -> int:
        raise OSError(errno.EIO, "disk")

    async with Cache.open(tmp_path, world.source, SMALL_LIMITS) as cache:
        await cache.read(chunks, 0, 50_000)
        monkeypatch.setattr(os, "preadv", fail)
        for _ in range(2):
            assert cache.read_nowait(chunks, 0, 50_000) is None
            assert bytes(await cache.read(chunks, 0, 50_000)) == world.bytes_of(chunks)
        monkeypatch.setattr(os, "preadv", preadv)
        assert bytes(await cache.read(chunks, 0, 50_000)) == world.bytes_of(chunks)


async def test_a_file_system_without_nowait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    chunks = await world.add_random_pack(5, 10_000)
    preadv = os.preadv

    def refuse(descriptor: int, buffers: Sequence[bytearray], offset: int, flags: int = 0) -> int:
        if flags:
            raise OSError(errno.EOPNOTSUPP, "no")
        return preadv(descriptor, buffers, offset)

    monkeypatch.setattr(os, "preadv", refuse)
    async with Cache.open(tmp_path, world.source, SMALL_LIMITS) as cache:
        await cache.read(chunks, 0, 50_000)
        assert cache.read_nowait(chunks, 0, 50_000) is None
        assert bytes(await cache.read(chunks, 0, 50_000)) == world.bytes_of(chunks)
        assert world.requests() == 1


async def test_an_index_that_cannot_be_written_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error_logs: list[Any]
) -> None:
    world = World()
    chunks = await world.add_random_pack(5, 10_000)
    put = PresenceIndex.put
    async with Cache.open(tmp_path, world.source, SMALL_LIMITS) as cache:
        await cache.read(chunks, 0, 50_000)
        # What RocksDB does when its disk is full: it fails, and goes on failing until it is opened anew.
        broken = cache._index._db

        def fail(index: PresenceIndex, records: Any) -> None:
            if index._db is broken:
                broken.close()
            put(index, records)

        monkeypatch.setattr(PresenceIndex, "put", fail)
        await cache.flush()
        assert error_logs
        assert cache.statistics().pending_records == 5
        assert bytes(cache.read_nowait(chunks, 0, 50_000) or b"") == world.bytes_of(chunks)
        await cache.flush()
        assert cache.statistics().pending_records == 0
        assert bytes(cache.read_nowait(chunks, 0, 50_000) or b"") == world.bytes_of(chunks)


async def test_more_mirrors_than_descriptors(tmp_path: Path) -> None:
    world = World()
    packs = [await world.add_random_pack(2, 5_000) for _ in range(30)]
    async with Cache.open(tmp_path, world.source, replace(SMALL_LIMITS, open_mirrors=8)) as cache:
        for _ in range(2):
            for chunks in packs:
                assert bytes(await cache.read(chunks, 0, 10_000)) == world.bytes_of(chunks)
                assert bytes(cache.read_nowait(chunks, 0, 10_000) or b"") == world.bytes_of(chunks)
        assert len(cache._mirrors._open) <= 8
        everything = [chunk for chunks in packs for chunk in chunks]
        assert bytes(await cache.read(everything, 0, 300_000)) == world.bytes_of(everything)


async def test_statistics_count(tmp_path: Path) -> None:
    world = World()
    chunks = await world.add_random_pack(5, 10_000)
    async with Cache.open(tmp_path, world.source, SMALL_LIMITS) as cache:
        await cache.read(chunks, 0, 50_000)
        cache.read_nowait(chunks, 0, 50_000)
        found = cache.statistics()
    assert (found.fetched_requests, found.fetched_bytes, found.written_bytes) == (1, 50_000, 50_000)
    assert (found.served_reads, found.served_bytes) == (1, 50_000)
    assert found.limit_bytes == 64 * MIB
    assert 50_000 <= found.mirror_bytes <= 64 * KIB
    assert found.used_bytes == found.mirror_bytes + found.object_bytes + found.index_bytes
    assert sys.getsizeof(found) < 1000
