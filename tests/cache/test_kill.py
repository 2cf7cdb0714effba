"""A daemon that is killed at any moment leaves no wrong byte behind."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from fsd.cache.cache import Cache
from tests.cache.test_eviction import disk_bytes
from tests.cache.victim import LIMITS, make_world

ROUNDS = int(os.environ.get("FSD_KILL_ROUNDS", "4"))


def kill_one(directory: Path, seed: int, after_s: float) -> int:
    """Start a victim, let it verify what is there and work for a while, and kill it. Returns what it found there."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.cache.victim", str(directory), str(seed)], stdout=subprocess.PIPE, text=True
    ) as victim:
        assert victim.stdout is not None
        found = victim.stdout.readline()
        assert found, "the victim died by itself: a byte was wrong"
        time.sleep(after_s)  # not to wait for something: the moment of death is what varies
        assert victim.poll() is None
        victim.kill()
        assert victim.wait() == -signal.SIGKILL
    return int(found)


async def test_killed_again_and_again_it_serves_no_wrong_byte(tmp_path: Path) -> None:
    chosen = random.Random(os.urandom(8))
    found = [kill_one(tmp_path, seed, chosen.uniform(0.0, 0.4)) for seed in range(ROUNDS)]
    assert max(found) > 0, "every victim died before it had kept anything"
    world, chunks = await make_world()
    async with Cache.open(tmp_path, world.source, LIMITS) as cache:
        assert disk_bytes(tmp_path) <= 1.02 * LIMITS.cache_bytes + 500_000
        for chunk in chunks:
            assert bytes(await cache.read([chunk], 0, chunk.length)) == world.truth[chunk.id]
        assert disk_bytes(tmp_path) <= 1.02 * LIMITS.cache_bytes + 500_000
