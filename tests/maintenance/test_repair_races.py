"""Repairs that meet others, lose their lease, or are killed anywhere: nothing gets worse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from fsd.cache.donor import CacheDonor
from fsd.errors import ConflictError, StoreUnreachableError
from fsd.format.keys import (
    COMMITS,
    MOVED,
)
from fsd.limits import KIB
from fsd.maintenance import rebuild
from fsd.maintenance.repair import repair
from fsd.repo.repository import open_repositories
from tests.faulty import Fail, FaultyStore, Operation, Stall
from tests.maintenance.desks import Quiet
from tests.maintenance.lossy import (
    LIMITS,
    DictDonor,
    Original,
    flipped,
    readable,
    repaired,
    spoil,
    to_be_had,
    verified,
)
from tests.publish.folders import keys_of

VISIBLE: tuple[Operation, ...] = ("put_if_absent", "overwrite", "compare_and_swap", "upload.finish", "delete")
"""Writes that others see: between two of these a store is always the same."""


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Original:
    return trio.run(Original.publish, tmp_path_factory.mktemp("desk"))


async def test_who_had_more_and_was_faster_is_not_undone(
    original: Original, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuild, "IN_PLACE_BYTES", KIB)
    inner = await original.copy(None)
    key = original.packs()[-1]
    [first, *_, last] = original.files[original.commits[0], b"large"].chunks
    data = original.objects[key]
    await inner.overwrite(key, flipped(flipped(data, first.placement.offset), last.placement.offset + 20))
    store = FaultyStore(inner)
    stalled = store.inject("upload.finish", "packs/*", Stall())
    async with original.cache(tmp_path / "cache") as cache, trio.open_nursery() as nursery:
        plain = await cache.read_chunk(first.id, first.length, 0, first.length)
        assert plain is not None
        nursery.start_soon(repaired, store, DictDonor(chunks={first.id: bytes(plain)}))
        await stalled.wait_met()
        assert (await repaired(inner, CacheDonor(cache, "the cache"))).left.is_whole
        assert isinstance(stalled.action, Stall)
        stalled.action.release.set()
    assert await verified(inner) == []


async def test_what_is_replaced_while_it_is_moved_stays(
    original: Original, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has put back the old pack meanwhile need not have looked for a note."""
    monkeypatch.setattr(rebuild, "IN_PLACE_BYTES", KIB)
    inner = await original.copy(None)
    key = original.packs()[-1]
    await spoil(inner, key, "flip")
    store = FaultyStore(inner)
    stalled = store.inject("upload.finish", "packs/*", Stall())
    async with original.cache(tmp_path / "cache") as cache, trio.open_nursery() as nursery:
        nursery.start_soon(repaired, store, CacheDonor(cache, "the cache"))
        await stalled.wait_met()
        await inner.overwrite(key, original.objects[key])
        assert isinstance(stalled.action, Stall)
        stalled.action.release.set()
    assert (await inner.get(key)).data == original.objects[key]
    assert await readable(inner, original.files) == original.files.keys()


@pytest.mark.parametrize("in_place_bytes", [1 * KIB, rebuild.IN_PLACE_BYTES])
async def test_without_its_lease_it_replaces_nothing(
    original: Original, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_place_bytes: int
) -> None:
    """A collector may have taken the new pack for garbage by then."""
    monkeypatch.setattr(rebuild, "IN_PLACE_BYTES", in_place_bytes)
    store = await original.copy(None)
    await spoil(store, original.packs()[-1], "flip")
    spoiled = {key: (await store.get(key)).data for key in await keys_of(store)}
    repositories = await open_repositories(store, replace(LIMITS, lease_s=0.0, lease_margin_s=1.0))
    async with original.cache(tmp_path / "cache") as cache:
        with pytest.raises(ConflictError, match="for too long"):
            await repair(repositories, [CacheDonor(cache, "the cache")], Quiet(), data=True)
    assert {key: (await store.get(key)).data for key in await keys_of(store) if key in spoiled} == spoiled
    assert not await keys_of(store, MOVED)


@pytest.mark.parametrize("in_place_bytes", [1 * KIB, rebuild.IN_PLACE_BYTES])
async def test_what_somebody_else_repaired_meanwhile_stays(
    original: Original, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_place_bytes: int
) -> None:
    monkeypatch.setattr(rebuild, "IN_PLACE_BYTES", in_place_bytes)
    inner = await original.copy(None)
    missing, damaged = original.packs()[0], original.packs()[-1]
    await spoil(inner, missing, "gone")
    await spoil(inner, damaged, "flip")
    store = FaultyStore(inner)
    stalled = store.inject(["upload.finish", "compare_and_swap"], "*", Stall())
    async with original.cache(tmp_path / "cache") as cache, trio.open_nursery() as nursery:
        nursery.start_soon(repaired, store, CacheDonor(cache, "the cache"))
        await stalled.wait_met()
        other = await repaired(inner, CacheDonor(cache, "the cache"))
        assert other.left.is_whole
        stalled.remove()
        assert isinstance(stalled.action, Stall)
        stalled.action.release.set()
    assert await readable(inner, original.files) == original.files.keys()
    assert await verified(inner) == []
    store.assert_all_exercised()


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("in_place_bytes", [1 * KIB, rebuild.IN_PLACE_BYTES])
@pytest.mark.parametrize(("operations", "step"), [(VISIBLE, 1), (("upload.write",), 40)], ids=["visible", "under way"])
async def test_killed_anywhere_nothing_gets_worse(
    original: Original,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    in_place_bytes: int,
    late: bool,
    operations: tuple[Operation, ...],
    step: int,
) -> None:
    """From the n-th write on nothing gets through; `late`: the first of these did, and its answer was lost."""
    monkeypatch.setattr(rebuild, "IN_PLACE_BYTES", in_place_bytes)
    packs = original.packs()
    commit = next(key for key in original.objects if key.startswith(COMMITS))
    wanted: Callable[[bytes], bool] = lambda path: path != b"small/3"  # noqa: E731
    async with original.cache(tmp_path / "cache", wanted) as cache:
        donor = CacheDonor(cache, "the cache")
        for number in range(0, 10_000, step):
            inner = await original.copy(None)
            for key, way in ((commit, "gone"), (packs[0], "gone"), (packs[1], "gone"), (packs[2], "short")):
                await spoil(inner, key, way)
            await spoil(inner, packs[-1], "flip")
            before = await readable(inner, original.files)
            had = await to_be_had(inner, original.files, cache)
            store = FaultyStore(inner)
            away = StoreUnreachableError("away")
            if late:
                store.inject(operations, "*", Fail(away, late=True), times=1, after=number)
            gone = store.inject(operations, "*", Fail(away), after=number)
            try:
                await repaired(store, donor)
            except StoreUnreachableError:
                pass
            else:
                break
            assert before <= await readable(inner, original.files), number
            await repaired(inner, donor)
            assert await readable(inner, original.files) == had, number
        assert number >= 6 or step > 1  # the lease, a commit and four packs
        assert gone.met <= 1  # giving back the lease may fail
        assert await readable(inner, original.files) == had
