"""The cache on a disk that is full, becomes fuller, and is emptied again: a small tmpfs of its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from fsd.cache.cache import Cache
from fsd.format.model import PlacedChunk
from fsd.limits import KIB, MIB
from tests.cache.world import SMALL_LIMITS, World, size_of

LIMITS = replace(SMALL_LIMITS, cache_bytes=200 * MIB, extent_bytes=128 * KIB, flush_interval_s=0.05)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder of 20 MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a tmpfs takes root")
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20M", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(path: Path) -> None:
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY)
    try:
        while True:
            os.write(descriptor, bytes(4096))
    except OSError:
        os.close(descriptor)


async def read_all(cache: Cache, world: World, packs: Sequence[Sequence[PlacedChunk]]) -> None:
    for chunks in packs:
        for first in range(0, len(chunks), 8):
            some = chunks[first : first + 8]
            assert bytes(await cache.read(some, 0, size_of(some), widen=False)) == world.bytes_of(some)
        await cache.flush()


async def test_a_full_disk_is_no_error_and_does_not_last(small_disk: Path, error_logs: list[Any]) -> None:
    world = World()
    packs = [await world.add_random_pack(40, 50_000) for _ in range(15)]
    folder = small_disk / "cache"
    async with Cache.open(folder, world.source, LIMITS) as cache:
        await read_all(cache, world, packs)
        assert not error_logs  # a margin is kept free
        fill(small_disk / "hog")
        await read_all(cache, world, packs)
        (small_disk / "hog").unlink()
        for _ in range(2):
            await read_all(cache, world, packs)
            await trio.sleep(LIMITS.flush_interval_s)
        before = cache.statistics().streamed_bytes
        await read_all(cache, world, packs)
        assert cache.statistics().streamed_bytes == before
        assert all(cache.contains(packs[-1]))
        fill(small_disk / "hog")
    async with Cache.open(folder, world.source, LIMITS) as cache:
        await read_all(cache, world, packs)
        assert any(cache.contains(packs[-1]))
