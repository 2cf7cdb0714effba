"""The cache by itself, without the kernel: `.venv/bin/python script/benchmarks/cache.py [FOLDER]`.

Prints calls and bytes a second of its fast paths, and how it fetches from near and over a simulated link (30 ms,
250 MB/s), with the processor time spent. Set FSD_PROFILE=1 for pyinstrument's view of each part.
"""

from __future__ import annotations

import os
import random
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import trio

from fsd.cache.cache import Cache
from fsd.format.model import PlacedChunk, Placement
from fsd.format.pack import Contents, encode_row
from fsd.ids import content_id
from fsd.limits import KIB, MIB, Limits

ROUND_TRIP_S = 0.03
LINK_BYTES_PER_S = 250e6
SMALL_FILES = 10_000
LARGE_CHUNK = 64 * KIB
LARGE_BYTES = 512 * MIB
READERS = 8


class Packs:
    """Packs in memory behind a link: each request costs a round trip and its share of the bandwidth."""

    def __init__(self) -> None:
        self.bodies: dict[bytes, bytes] = {}
        self.tables: dict[bytes, Contents] = {}
        self.is_far = False
        self.requests = 0
        self.sent_bytes = 0
        self._free_s = 0.0

    def add(self, sizes: Sequence[int]) -> list[PlacedChunk]:
        pack = os.urandom(16)
        body = bytearray()
        rows, placed = [], []
        for size in sizes:
            data = random.randbytes(size)
            chunk = content_id(data)
            rows.append(encode_row(chunk, size, size))
            placed.append(PlacedChunk(chunk, size, Placement(pack, len(body), size, len(body))))
            body += data
        self.bodies[pack], self.tables[pack] = bytes(body), Contents(b"".join(rows))
        return placed

    async def read(self, pack: bytes, start: int, length: int) -> bytes:
        await self._travel(length)
        return self.bodies[pack][start : start + length]

    async def contents(self, pack: bytes) -> Contents:
        await self._travel(40 * len(self.tables[pack]))
        return self.tables[pack]

    async def _travel(self, size: int) -> None:
        self.requests += 1
        self.sent_bytes += size
        if not self.is_far:
            await trio.lowlevel.checkpoint()
            return
        now_s = trio.current_time()
        self._free_s = max(self._free_s, now_s + ROUND_TRIP_S) + size / LINK_BYTES_PER_S
        await trio.sleep_until(self._free_s)


def small_files(packs: Packs) -> list[PlacedChunk]:
    files: list[PlacedChunk] = []
    sizes = [random.randint(20_000, 80_000) for _ in range(SMALL_FILES)]
    for first in range(0, SMALL_FILES, 960):
        files += packs.add(sizes[first : first + 960])
    return files


def profile() -> Any:
    if os.environ.get("FSD_PROFILE") != "1":
        return nullcontext()
    from pyinstrument import Profiler

    profiler = Profiler(interval=0.001)

    @asynccontextmanager
    async def profiled() -> AsyncIterator[None]:
        profiler.start()
        yield
        profiler.stop()
        print(profiler.output_text(unicode=True, show_all=False))

    return profiled()


async def timed(name: str, calls: int, size: int, work: Callable[[], Awaitable[None]]) -> None:
    before, used = time.perf_counter(), time.process_time()
    async with profile():
        await work()
    seconds, cpu = time.perf_counter() - before, time.process_time() - used
    print(
        f"{name:44} {calls / seconds:10,.0f}/s {size / seconds / 1e6:9,.0f} MB/s {cpu:6.2f} s of processor", flush=True
    )


async def fast_paths(cache: Cache, files: list[PlacedChunk], large: list[PlacedChunk], when: str) -> None:
    step = MIB // LARGE_CHUNK
    total = sum(chunk.length for chunk in files)

    async def single() -> None:
        for chunk in files:
            if cache.read_chunk_nowait(chunk.id, chunk.length, 0, chunk.length) is None:  # somebody dropped page caches
                assert await cache.read_chunk(chunk.id, chunk.length, 0, chunk.length) is not None

    async def mebibytes() -> None:
        for first in range(0, len(large), step):
            if cache.read_nowait(large[first : first + step], 0, MIB) is None:
                await cache.read(large[first : first + step], 0, MIB, widen=False)

    async def located() -> None:
        found = cache.locate(large)
        for start in range(0, LARGE_BYTES, MIB):
            cache.read_located_nowait(found, start, MIB)

    await timed(f"one chunk by its id, {when}", len(files), total, single)
    await timed(f"1 MiB of 64 KiB chunks, {when}", LARGE_BYTES // MIB, LARGE_BYTES, mebibytes)
    await timed(f"1 MiB, located, {when}", LARGE_BYTES // MIB, LARGE_BYTES, located)


async def epoch(cache: Cache, files: list[PlacedChunk]) -> None:
    order = random.sample(files, len(files))

    async def reader(number: int) -> None:
        for chunk in order[number::READERS]:
            if cache.read_chunk_nowait(chunk.id, chunk.length, 0, chunk.length) is None:
                await cache.read((chunk,), 0, chunk.length)

    async with trio.open_nursery() as nursery:
        for number in range(READERS):
            nursery.start_soon(reader, number)


async def sequential(cache: Cache, large: list[PlacedChunk]) -> None:
    step, window = MIB // LARGE_CHUNK, 64 * MIB // LARGE_CHUNK
    for first in range(0, len(large), step):
        if first % (window // 2) == 0:
            cache.start_fetch(large[first : first + window])
        if cache.read_nowait(large[first : first + step], 0, MIB) is None:
            await cache.read(large[first : first + step], 0, MIB, widen=False)


async def main(directory: Path) -> None:
    packs = Packs()
    files = small_files(packs)
    total = sum(chunk.length for chunk in files)
    large = packs.add([LARGE_CHUNK] * (LARGE_BYTES // LARGE_CHUNK))
    for far in (False, True):
        where = "far" if far else "near"
        shutil.rmtree(directory)
        packs.is_far = far
        packs.requests = packs.sent_bytes = 0
        async with Cache.open(directory, packs, Limits()) as cache:
            await timed(
                f"random epoch, {READERS} readers, cold, {where}", len(files), total, lambda: epoch(cache, files)
            )
            print(f"{'':44} {packs.requests} requests, {packs.sent_bytes / total:.2f} of the bytes")
            await timed(f"sequential, cold, {where}", LARGE_BYTES // MIB, LARGE_BYTES, lambda: sequential(cache, large))
            if not far:
                await cache.flush()
                await fast_paths(cache, files, large, "warm")
    async with Cache.open(directory, packs, Limits()) as cache:
        await fast_paths(cache, files, large, "first after a restart")
    for share in (1, 5, 20):
        shutil.rmtree(directory)
        packs.requests = packs.sent_bytes = 0
        some = random.sample(files, len(files) * share // 100)
        wanted = sum(chunk.length for chunk in some)
        async with Cache.open(directory, packs, Limits()) as cache:
            await timed(f"{share}% of the files, cold, far", len(some), wanted, partial(epoch, cache, some))
        print(f"{'':44} {packs.requests} requests, {packs.sent_bytes / wanted:.2f} of the bytes")
    print(
        f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MiB, with the packs themselves"
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as folder:
        (Path(folder) / "cache").mkdir()
        trio.run(main, Path(folder) / "cache")
