"""A process that reads through a small cache until somebody kills it: `python -m tests.cache.victim FOLDER SEED`.

It checks every byte itself and exits with 1 if one is wrong, so that each round also verifies what the last one left.
"""

from __future__ import annotations

import random
import sys
from dataclasses import replace
from pathlib import Path

import trio

from fsd.cache.cache import Cache
from fsd.format.model import PlacedChunk
from fsd.limits import KIB, MIB, Limits
from tests.cache.world import SMALL_LIMITS, World, size_of

LIMITS: Limits = replace(
    SMALL_LIMITS, cache_bytes=6 * MIB, extent_bytes=32 * KIB, flush_interval_s=0.02, flush_bytes=512 * KIB
)


async def make_world() -> tuple[World, list[PlacedChunk]]:
    """The same packs in every process: 10 MiB."""
    world = World(42)
    chunks: list[PlacedChunk] = []
    for _ in range(4):
        sizes = [world.random.randint(1, 90_000) for _ in range(58)]
        chunks += await world.add_pack([world.data(size, compressible=n % 4 == 0) for n, size in enumerate(sizes)])
    return world, chunks


async def _main(directory: Path, seed: int) -> None:
    world, chunks = await make_world()
    async with Cache.open(directory, world.source, LIMITS) as cache:
        # First what the last round left: no read may be wrong, whether it is still there or not.
        for chunk in chunks:
            for found in (
                cache.read_chunk_nowait(chunk.id, chunk.length, 0, chunk.length),
                await cache.read_chunk(chunk.id, chunk.length, 0, chunk.length),
            ):
                assert found is None or bytes(found) == world.truth[chunk.id]
        print(sum(cache.contains(chunks)), flush=True)
        async with trio.open_nursery() as nursery:
            for reader in range(4):
                nursery.start_soon(_read, cache, world, chunks, random.Random(f"{seed} {reader}"))


async def _read(cache: Cache, world: World, chunks: list[PlacedChunk], chosen: random.Random) -> None:
    while True:
        first = chosen.randrange(len(chunks))
        some = chunks[first : first + chosen.randint(1, 12)]
        if chosen.random() < 0.3:
            cache.start_fetch(chunks[first + 12 : first + 40])
        assert bytes(await cache.read(some, 0, size_of(some))) == world.bytes_of(some)


if __name__ == "__main__":
    trio.run(_main, Path(sys.argv[1]), int(sys.argv[2]))
