"""What the cache holds of paths: told, fetched, pinned, let go; the order of reads."""

from __future__ import annotations

import random
import shutil
import stat
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from fsd.errors import CorruptDataError, FsdError, NotFoundError, StoreUnreachableError, UsageError
from fsd.format.keys import pack_key
from fsd.limits import KIB, MIB
from fsd.vfs import holdings
from fsd.vfs.holdings import TooLargeError
from tests.faulty import READS, Fail, FlipBit, Stall
from tests.vfs.world import LARGE, LIMITS, TREE, Builder, World, new_store, opened

FILES = sum(1 for node in TREE.values() if isinstance(node, bytes)) + 1
BYTES = sum(len(node) for node in TREE.values() if isinstance(node, bytes)) + len(b"hello")

PATIENT = replace(LIMITS, store_retry_s=0.2, retry_min_s=0.001, retry_max_s=0.01)

TIGHT = replace(LIMITS, cache_bytes=4 * MIB, extent_bytes=64 * KIB, cache_low_water=0.9)
"""Room for about 3 MiB."""


AWAY = StoreUnreachableError("away")


def nothing(_: dict[str, Any]) -> None:
    """No report."""


async def told(world: World, path: bytes) -> tuple[int, int, int, bool]:
    """Files complete, bytes in the cache and missing, and whether it is complete."""
    seen = await world.vfs.holdings.coverage(path, nothing)
    assert seen["cached_bytes"] + seen["missing_bytes"] == seen["bytes"]
    assert seen["verified"] == seen["complete"]  # nothing is older than this start
    return seen["complete_files"], seen["cached_bytes"], seen["missing_bytes"], seen["complete"]


async def shop(files: dict[bytes, Any] | None = None) -> Builder:
    builder = await new_store()
    await builder.commit("data", dict(TREE) if files is None else files, tag="v1")
    return builder


def noise_files(count: int, size: int, *, prefix: bytes = b"f", seed: int = 0) -> dict[bytes, Any]:
    chosen = random.Random(seed)
    return {b"%s%03d" % (prefix, number): chosen.randbytes(size) for number in range(count)}


async def test_coverage_counts_files_and_bytes(tmp_path: Path) -> None:
    async with opened(await shop(), tmp_path) as world:
        assert await told(world, b"data/v1") == (1, 0, BYTES, False)  # the empty file
        await world.content(b"data/v1/README")
        assert await told(world, b"data/v1") == (3, 10, BYTES - 10, False)  # `run` has the same content
        large = await world.stat(b"data/v1/large")
        assert await told(world, b"data/v1/hollow") == (0, 0, 0, True)
        await world.read(large.ino, 0, len(LARGE))
        assert await told(world, b"data/v1/large") == (1, len(LARGE), 0, True)


async def test_what_is_no_place(tmp_path: Path) -> None:
    async with opened(await shop(), tmp_path) as world:
        for path in (b"", b"data", b"data/main"):
            with pytest.raises(UsageError):
                await world.vfs.holdings.coverage(path, nothing)
        for path in (b"data/v2", b"other/v1", b"data/v1/nothing", b"data/v1/README/x"):
            with pytest.raises(NotFoundError):
                await world.vfs.holdings.coverage(path, nothing)


@pytest.mark.parametrize("path", [b"data/v1", b"data/v1+50pct", b"data/v1/train", b"data/v1/large", b"data/v1/README"])
@pytest.mark.parametrize("pin", [False, True])
async def test_what_was_prefetched_needs_no_store(tmp_path: Path, path: bytes, pin: bool) -> None:
    builder = await shop()
    async with opened(builder, tmp_path) as world:
        done = await world.vfs.holdings.prefetch(path, nothing, pin=pin)
        seen = await world.vfs.holdings.coverage(path, nothing)
        assert (done["bytes"], done["left_bytes"], done["files"]) == (seen["bytes"], 0, seen["files"])
        assert seen["complete"]
        assert seen["verified"]
        assert seen["pinned"] == pin
        world.requests()
        again = await world.vfs.holdings.prefetch(path, nothing, pin=pin)
        assert again["fetched_bytes"] == 0
        assert world.requests() == []
    async with opened(builder, tmp_path) as world:
        await world.lookup(b"data/v1")  # refs are not part of it
        commit = (await world.vfs.holdings.coverage(path, nothing))["commit"]
        world.store.inject(READS, "*", Fail(AWAY))
        again = await world.vfs.holdings.coverage(path, nothing)
        assert (again["complete"], again["verified"]) == (True, not again["bytes"])
        verified = await world.vfs.holdings.coverage(path, nothing, verify=True)
        assert verified["verified"]
        assert commit == verified["commit"]
        await read_all(world, path)


async def read_all(world: World, path: bytes) -> None:
    """Every file at a path, compared with what was written."""
    found = await world.stat(path)
    below = path.partition(b"/")[2].partition(b"/")[2]
    if stat.S_ISDIR(found.mode):
        for name in await world.names(path):
            if not stat.S_ISLNK((await world.stat(path + b"/" + name)).mode):
                await read_all(world, path + b"/" + name)
        return
    node = TREE[below]
    assert await world.content(path) == (node if isinstance(node, bytes) else b"hello")


async def test_a_prefetch_asks_for_whole_ranges(tmp_path: Path) -> None:
    builder = await shop(noise_files(300, 500))
    async with opened(builder, tmp_path) as world:
        await world.vfs.holdings.prefetch(b"data/v1", nothing)
        assert len([request for request in world.requests() if request.startswith("get_range")]) == 1


async def test_failures_are_retried_and_then_told_with_what_is_there(tmp_path: Path) -> None:
    builder = await shop(noise_files(20, 500))
    async with opened(builder, tmp_path, PATIENT) as world:
        for path in (b"f000", b"f001"):
            await world.vfs.holdings.prefetch(b"data/v1/" + path, nothing)
        away = world.store.inject("get_range", "packs/*", Fail(AWAY), times=2)
        await world.vfs.holdings.prefetch(b"data/v1/f002", nothing)
        assert away.exercised
        world.store.inject("get_range", "packs/*", Fail(AWAY))
        with pytest.raises(StoreUnreachableError, match=r"away.*; 0 B of 9.8 KiB are there \(0 of 20 files\)"):
            await world.vfs.holdings.prefetch(b"data/v1", nothing)
        assert (await told(world, b"data/v1"))[0] == 3


async def test_what_is_bad_in_the_store_is_told_after_the_rest_was_fetched(tmp_path: Path) -> None:
    builder = await new_store()
    await builder.commit("data", noise_files(3, 500), tag="v1", one_pack_a_file=True)
    async with opened(builder, tmp_path) as world:
        world.store.inject("get_range", pack_key(builder.packs[0]), FlipBit())
        with pytest.raises(CorruptDataError, match=r"of 1.5 KiB are there \(3 of 3 files\); everything else is there"):
            await world.vfs.holdings.prefetch(b"data/v1", nothing)
        assert await told(world, b"data/v1") == (2, 1000, 500, False)


async def test_what_is_larger_than_the_room_is_refused_before_anything_is_fetched(tmp_path: Path) -> None:
    builder = await shop(noise_files(42, 100_000))
    async with opened(builder, tmp_path, TIGHT) as world:
        world.requests()
        with pytest.raises(
            TooLargeError, match=r"data/v1 takes 4.0 MiB, and there is room for 3.* in a cache of 4.0 MiB"
        ):
            await world.vfs.holdings.prefetch(b"data/v1", nothing)
        assert not any(request.startswith("get_range") for request in world.requests())
        done = await world.vfs.holdings.prefetch(b"data/v1", nothing, pin=True, partial=True)
        assert 2 * MIB < done["bytes"] < 4 * MIB
        assert done["left_bytes"] == 4_200_000 - done["bytes"]
        (pin,) = world.vfs.holdings.pins()
        assert not pin["complete"]
        held = await told(world, b"data/v1")
        assert held[0] == done["files"]
        for name in await world.names(b"data/v1"):
            await world.content(b"data/v1/" + name)
        assert (await told(world, b"data/v1"))[1] >= held[1]
        # With so much pinned there is no room for others, but for reading them.
        await builder.commit("data", noise_files(5, 100_000, prefix=b"g", seed=1), tag="v2")
        with pytest.raises(TooLargeError, match="are pinned"):
            await world.vfs.holdings.prefetch(b"data/v2", nothing)


async def test_pins_that_share_chunks(tmp_path: Path) -> None:
    shared, own = noise_files(8, 100_000), noise_files(4, 100_000, prefix=b"g", seed=1)
    builder = await shop(shared)
    await builder.commit("data", own, branch=None, tag="v2")
    async with opened(builder, tmp_path, replace(TIGHT, cache_bytes=2 * MIB)) as world:
        await world.vfs.holdings.prefetch(b"data/v1", nothing, pin=True)
        # Counted once: twice 800 kB would not fit.
        await world.vfs.holdings.prefetch(b"data/v1+99.9pct", nothing, pin=True)
        await world.vfs.holdings.prefetch(b"data/v1/f003", nothing, pin=True)
        assert len(world.vfs.holdings.pins()) == 3
        kept = await world.vfs.holdings.evict(b"data/v1", nothing)
        assert (kept["freed_bytes"], kept["pinned_bytes"], kept["ended_pins"]) == (0, 800_000, [])
        kept = await world.vfs.holdings.evict(b"data/v1", nothing, unpin=True)
        assert (kept["freed_bytes"], kept["pinned_bytes"]) == (0, 800_000)
        assert sorted(kept["ended_pins"]) == ["data/v1", "data/v1/f003"]
        gone = await world.vfs.holdings.evict(b"data/v1+99.9pct", nothing, unpin=True)
        assert gone["pinned_bytes"] == 0
        assert gone["freed_bytes"] >= 800_000 - 4 * KIB
        assert world.vfs.holdings.pins() == []
        assert (await told(world, b"data/v1"))[0] == 0


async def test_a_pin_that_was_broken_off_goes_on_where_it_stopped(tmp_path: Path) -> None:
    builder = await new_store()
    await builder.commit("data", noise_files(6, 500), tag="v1", one_pack_a_file=True)
    async with opened(builder, tmp_path, PATIENT) as world:
        world.store.inject("get_range", pack_key(builder.packs[3]), Fail(AWAY))
        with pytest.raises(StoreUnreachableError):
            await world.vfs.holdings.prefetch(b"data/v1", nothing, pin=True)
    async with opened(builder, tmp_path, PATIENT) as world:
        (pin,) = world.vfs.holdings.pins()
        assert (pin["path"], pin["complete"]) == ("data/v1", False)
        assert (await told(world, b"data/v1"))[0] == 5
        done = await world.vfs.holdings.prefetch(b"data/v1", nothing, pin=True)
        assert done["fetched_bytes"] == 500
        assert world.vfs.holdings.pins()[0]["complete"]


async def test_cancelling_leaves_nothing_under_way(tmp_path: Path) -> None:
    builder = await shop(noise_files(10, 500))
    async with opened(builder, tmp_path) as world, trio.open_nursery() as nursery:
        stalled = world.store.inject("get_range", "packs/*", Stall())
        nursery.start_soon(lambda: world.vfs.holdings.prefetch(b"data/v1", nothing, pin=True))
        await stalled.wait_met()
        with pytest.raises(FsdError, match="is being pinned already"):
            await world.vfs.holdings.prefetch(b"data/v1", nothing, pin=True)
        nursery.cancel_scope.cancel()
    # Closing the cache waits for nothing either.


async def test_a_pin_that_cannot_be_written_down_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It fails twice: now and then, and at the end."""
    monkeypatch.setattr(holdings, "SAVE_INTERVAL_S", 0.01)
    async with opened(await shop(noise_files(10, 500)), tmp_path) as world, trio.open_nursery() as nursery:

        async def pin() -> None:
            with pytest.raises(FsdError, match="cannot write down what is pinned"):
                await world.vfs.holdings.prefetch(b"data/v1", nothing, pin=True)

        stalled = world.store.inject("get_range", "packs/*", Stall())
        nursery.start_soon(pin)
        await stalled.wait_met()
        shutil.rmtree(tmp_path / "pins")


class Told:
    """The last report."""

    def __init__(self) -> None:
        self.last: dict[str, Any] = {}

    def __call__(self, report: dict[str, Any]) -> None:
        self.last = report


async def in_turn(paths: Sequence[bytes]) -> AsyncIterator[bytes]:
    """An order, one after the other."""
    for path in paths:
        await trio.lowlevel.checkpoint()
        yield path


async def test_the_order_of_reads_is_recorded_and_replayed(tmp_path: Path) -> None:
    files = noise_files(30, 500, prefix=b"a/f") | noise_files(5, 500, prefix=b"b/f", seed=1) | {b"a/large": LARGE}
    builder = await shop(files)
    chosen = random.Random(3).sample([path for path in files if path.startswith(b"a/")], 20)
    chosen = [b"a/large", *(path for path in chosen if path != b"a/large")]
    recorded: list[bytes] = []
    async with opened(builder, tmp_path / "first") as world, trio.open_nursery() as nursery:
        begun = trio.Event()

        async def emit(path: bytes) -> None:
            recorded.append(path)

        nursery.start_soon(world.vfs.holdings.record, b"data/v1/a", lambda _: begun.set(), emit)
        await begun.wait()
        for path in (*chosen, b"b/f001", *chosen[:3]):
            await world.content(b"data/v1/" + path)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert recorded == chosen
    async with opened(builder, tmp_path / "second") as world:
        order = in_turn([*recorded, b"a/nothing", b"b/f001"])
        done = await world.vfs.holdings.replay(b"data/v1/a", order, nothing)
        assert (done["files"], done["unknown_paths"]) == (len(chosen), 2)
        world.requests()
        for path in chosen:
            assert await world.content(b"data/v1/" + path) == files[path]
        assert world.requests() == []


async def test_a_replay_of_more_than_the_cache_stays_ahead_of_its_reader_and_no_further(tmp_path: Path) -> None:
    files = noise_files(70, 100_000)
    builder = await shop(files)
    order = random.Random(4).sample(list(files), len(files))
    async with opened(builder, tmp_path, TIGHT) as world, trio.open_nursery() as nursery:
        said = Told()
        nursery.start_soon(world.vfs.holdings.replay, b"data/v1", in_turn(order), said)
        for position, path in enumerate(order):
            with trio.fail_after(20):
                is_there = False
                while not is_there:
                    await trio.sleep(0.002)
                    is_there = (await told(world, b"data/v1/" + path))[3]
            assert world.cache.statistics().written_bytes <= 100_000 * (position + 1) + 2 * MIB
            assert await world.content(b"data/v1/" + path) == files[path]
        assert world.cache.statistics().evicted_bytes > 2 * MIB
    assert world.cache.statistics().fetched_bytes <= 1.1 * 7_000_000
