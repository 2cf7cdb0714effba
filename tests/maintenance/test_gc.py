"""Garbage goes, and nothing else: with publishers at work, with collectors that are killed, with several at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import trio

from fsd.clock import now_us
from fsd.errors import ConflictError, CorruptDataError, NotFoundError, StoreUnreachableError
from fsd.format.keys import COMMITS, CONDEMNED, EXPIRED, LEASES, MOVED, PACKS, PAGES, STORE_MARKER, pack_key
from fsd.format.lease import Lease, encode_lease
from fsd.maintenance import repack
from fsd.maintenance.expiry import Keep
from fsd.maintenance.gc import DEFAULT_GRACE_S, Policy, collect
from fsd.maintenance.verify import verify
from fsd.repo.leases import Leases
from fsd.repo.repository import open_repositories
from fsd.repo.rules import Rule
from fsd.repo.subsets import create_subset
from fsd.stores.memory import MemoryStore
from tests.faulty import Fail, FaultyStore, Stall
from tests.maintenance.desks import (
    AT_ONCE,
    LIMITS,
    Quiet,
    collected,
    delete_ref,
    is_whole,
    merged,
    noise,
    numbered,
    ref_of,
)
from tests.publish.folders import Desk, file, keys_of, read_commit, verify_store

FIRST = numbered(*range(40))
SECOND = numbered(*range(0, 40, 8), *range(100, 104))


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path, limits=LIMITS, store=MemoryStore())


@pytest.fixture
def _small_packs_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repack, "LEAST_DEAD_BYTES", 1000)


# --- what goes and what stays


async def test_what_a_branch_ever_named_stays(desk: Desk) -> None:
    first = await desk.commit(FIRST)
    await desk.commit(SECOND)
    before = await keys_of(desk.store)
    outcome = await collected(desk.store)
    assert outcome.reached_packs == len(await keys_of(desk.store, PACKS)) > 4
    assert (outcome.condemned_objects, outcome.deleted_objects) == (0, 0)
    assert await keys_of(desk.store) == before
    assert await desk.read_back(first.commit) == FIRST


async def test_what_nothing_names_goes_and_the_rest_is_as_it_was(desk: Desk) -> None:
    kept = await desk.commit(FIRST)
    await desk.commit(SECOND, branch="other")
    await delete_ref(desk, "other")
    outcome = await collected(desk.store)
    assert outcome.deleted_objects == outcome.condemned_objects > 0
    assert outcome.deleted_bytes >= 4 * 8_000, "the four files that only the other branch had"
    assert len(await keys_of(desk.store, COMMITS)) == len(await keys_of(desk.store, PAGES)) == 1
    for prefix in (CONDEMNED, LEASES, MOVED, EXPIRED):
        assert await keys_of(desk.store, prefix) == []
    assert await desk.read_back(kept.commit) == FIRST
    assert await is_whole(desk)


async def test_what_a_killed_publisher_left_goes(desk: Desk) -> None:
    await desk.commit(numbered(1))
    store = desk.store
    desk.store = faulty = FaultyStore(store)
    faulty.inject("put_if_absent", "commits/*", Fail(StoreUnreachableError("gone")))
    faulty.inject("delete", "leases/*", Fail(StoreUnreachableError("gone")))
    with pytest.raises(StoreUnreachableError):
        await desk.commit(FIRST)
    assert len(await keys_of(store, LEASES)) == 1
    packs = len(await keys_of(store, PACKS))
    outcome = await collected(store)
    assert outcome.waiting == [], "its lease ran out after two seconds"
    assert len(await keys_of(store, PACKS)) == 1 < packs
    assert await keys_of(store, LEASES) == []
    faulty.assert_all_exercised()


async def test_nothing_is_deleted_before_the_grace_is_over(desk: Desk) -> None:
    await desk.commit(FIRST)
    await desk.commit(SECOND, branch="other")
    await delete_ref(desk, "other")
    policy = replace(AT_ONCE, grace_s=3000.0)
    before = await keys_of(desk.store)
    young = await collected(desk.store, policy)
    assert (young.condemned_objects, young.deleted_objects) == (0, 0), "all of it is younger than the grace"
    old = replace(policy, grace_s=1e-6)
    condemned = await collected(desk.store, old)
    assert condemned.condemned_objects > 0 == condemned.deleted_objects
    again = await collected(desk.store, policy)
    assert (again.condemned_objects, again.deleted_objects) == (0, 0), "it is condemned once"
    assert len(again.waiting) == 1
    assert set(before) <= set(await keys_of(desk.store))
    done = await collected(desk.store, old)
    assert done.deleted_objects == condemned.condemned_objects
    assert done.waiting == []
    assert Policy().grace_s == DEFAULT_GRACE_S == 14 * 86_400


async def test_a_dry_run_only_counts(desk: Desk) -> None:
    await desk.commit(FIRST)
    await desk.commit(SECOND, branch="other")
    await delete_ref(desk, "other")
    before = await keys_of(desk.store)
    said = await collected(desk.store, replace(AT_ONCE, keep=Keep()), dry_run=True)
    assert await keys_of(desk.store) == before
    assert said.deleted_objects == 0
    done = await collected(desk.store)
    assert (done.condemned_objects, done.condemned_bytes) == (said.condemned_objects, said.condemned_bytes)


async def test_a_store_that_is_not_whole_is_left_alone(desk: Desk) -> None:
    await desk.commit(FIRST)
    await desk.commit(SECOND, branch="other")
    await delete_ref(desk, "other")
    page = (await keys_of(desk.store, PAGES))[0]
    kept = (await desk.store.get(page)).data
    for key in await keys_of(desk.store, PAGES):
        await desk.store.overwrite(key, kept[:40])
    before = await keys_of(desk.store)
    with pytest.raises(CorruptDataError, match="cannot be told") as raised:
        await collected(desk.store)
    assert "verify" in raised.value.hint
    assert await keys_of(desk.store) == before


async def test_what_gc_deleted_can_be_published_again(desk: Desk) -> None:
    """The publisher's notes speak of packs that are gone; a page of the same name leads to others."""
    await desk.commit(numbered(1))
    await desk.commit(FIRST, branch="other")
    await delete_ref(desk, "other")
    await collected(desk.store)
    again = await desk.commit(branch="again")
    assert await desk.read_back(again.commit) == FIRST
    await collected(desk.store)
    assert (await verify_store(desk.store))["repo/again"] == FIRST


# --- repacking


@pytest.mark.usefixtures("_small_packs_count")
async def test_packs_that_are_mostly_dead_are_repacked(desk: Desk) -> None:
    large = {b"large": file(noise(1, 700_000))}
    await desk.commit(merged(FIRST, large))
    changed = {b"large": file(noise(1, 200_000) + noise(2, 100_000))}
    kept = await desk.commit(merged(SECOND, changed))
    commit_objects = await keys_of(desk.store, COMMITS), await keys_of(desk.store, PAGES)
    stored = sum([info.size async for info in desk.store.list(PACKS)])
    outcome = await collected(desk.store, replace(AT_ONCE, keep=Keep(), live_share=0.9))
    assert outcome.repacked.packs >= 4
    moved = await keys_of(desk.store, MOVED)
    assert len(moved) >= outcome.repacked.packs
    for key in moved:
        with pytest.raises(NotFoundError):
            await desk.store.stat(pack_key(bytes.fromhex(key.removeprefix(MOVED))))
    needed = sum(len(item.data) for item in merged(SECOND, changed).values())
    left = sum([info.size async for info in desk.store.list(PACKS)])
    assert needed <= left < 1.15 * needed < stored
    assert set(await keys_of(desk.store, COMMITS)) == set(commit_objects[0])
    assert await desk.read_back(kept.commit) == merged(SECOND, changed)
    assert await is_whole(desk)


@pytest.mark.usefixtures("_small_packs_count")
async def test_what_was_repacked_is_repacked_again(desk: Desk) -> None:
    everything = numbered(*range(64))
    await desk.commit(everything)
    policy = replace(AT_ONCE, keep=Keep(), live_share=0.95)
    for step in (2, 4, 16):
        folder = numbered(*range(0, 64, step))
        kept = await desk.commit(folder)
        assert (await collected(desk.store, policy)).repacked.packs > 0
        assert await desk.read_back(kept.commit) == folder
        assert await is_whole(desk)
    left = sum([info.size async for info in desk.store.list(PACKS)])
    assert left < 6 * 8_000
    # Who knows all of the old packs publishes what is no longer there.
    again = await desk.commit(everything)
    assert await desk.read_back(again.commit) == everything
    assert again.content.new_chunks >= 64 - 4 - 32


@pytest.mark.usefixtures("_small_packs_count")
async def test_a_reader_from_before_goes_on_after_packs_were_moved_twice(desk: Desk) -> None:
    await desk.commit(numbered(*range(64)))
    folder = numbered(*range(0, 64, 16))
    kept = await desk.commit(folder)
    reader = await open_repositories(desk.store, LIMITS)
    policy = replace(AT_ONCE, keep=Keep(), live_share=0.95)
    await collected(desk.store, policy)
    assert await read_commit(reader, kept.commit) == folder, "it has the note of the first move by now"
    # Half of them go, so that what is left moves again.
    fewer = numbered(0, 16)
    last = await desk.commit(fewer)
    assert (await collected(desk.store, policy)).repacked.packs > 0
    assert await read_commit(reader, last.commit) == fewer


@pytest.mark.usefixtures("_small_packs_count")
async def test_a_chunk_that_was_left_behind_and_reused_keeps_its_pack(desk: Desk) -> None:
    """Between the repacking and the sweep a publisher finds the old pack, and builds on all of it."""
    await desk.commit(FIRST)
    await desk.commit(SECOND)
    policy = replace(AT_ONCE, keep=Keep(), live_share=0.95, grace_s=1e-6)
    assert (await collected(desk.store, policy)).repacked.packs > 0
    again = await desk.commit(FIRST, branch="again")
    assert again.content.new_chunks == 0
    outcome = await collected(desk.store, policy)
    assert outcome.spared_objects > 0
    assert await desk.read_back(again.commit) == FIRST
    assert await is_whole(desk)


@pytest.mark.usefixtures("_small_packs_count")
async def test_a_damaged_chunk_is_not_carried_into_a_new_pack(desk: Desk) -> None:
    await desk.commit(FIRST)
    await desk.commit(SECOND)
    packs = await keys_of(desk.store, PACKS)
    for key in packs:
        data = bytearray((await desk.store.get(key)).data)
        data[10] ^= 1
        await desk.store.overwrite(key, bytes(data))
    outcome = await collected(desk.store, replace(AT_ONCE, keep=Keep(), live_share=0.95))
    assert outcome.repacked.packs > 0
    for key in await keys_of(desk.store, MOVED):
        assert f"{PACKS}{key.removeprefix(MOVED)[:2]}/{key.removeprefix(MOVED)}" in packs
    report = await verify(await open_repositories(desk.store, LIMITS), Quiet(), data=True)
    assert {damage.what for damage in report.damages} == {"chunk"}, "what was bad is bad, and nothing else"


async def test_a_collector_in_a_long_lived_process_goes_by_the_store(desk: Desk) -> None:
    """It knows a page from before, which leads to other packs since."""
    await desk.commit(numbered(1))
    collector = await open_repositories(desk.store, LIMITS)
    other = await desk.commit(FIRST, branch="other")
    await read_commit(collector, other.commit)
    await delete_ref(desk, "other")
    await collect(collector, AT_ONCE, Quiet())
    again = await desk.commit(branch="again")
    await collect(collector, AT_ONCE, Quiet())
    assert await desk.read_back(again.commit) == FIRST


# --- publishers at work


async def test_a_publisher_at_work_is_waited_for(desk: Desk) -> None:
    """It reused a pack that nothing named when that was condemned."""
    await desk.commit(numbered(1))
    await desk.commit(FIRST, branch="other")
    await delete_ref(desk, "other")
    store = desk.store
    desk.store = faulty = FaultyStore(store)
    stalled = faulty.inject("compare_and_swap", "refs/*", Stall(), times=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: desk.commit(branch="again"))
        await stalled.wait_met(1)
        held = await collected(store, replace(AT_ONCE, wait_s=0))
        assert held.condemned_objects > 0 == held.deleted_objects
        assert "commit" in held.waiting[0]
        stalled.action.release.set()  # type: ignore[union-attr]
    outcome = await collected(store)
    assert outcome.spared_objects > 0
    assert (await verify_store(store))["repo/again"] == FIRST


async def test_a_publisher_that_comes_during_a_sweep_does_not_build_on_it(desk: Desk) -> None:
    """The collector has marked, and is about to delete, when somebody publishes just that again, and is done first."""
    await desk.commit(numbered(1))
    other = await desk.commit(FIRST, branch="other")
    await delete_ref(desk, "other")
    faulty = FaultyStore(desk.store)
    stalled = faulty.inject("delete", "packs/*", Stall(), times=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(collected, faulty)
        await stalled.wait_met(1)
        again = await desk.commit(branch="again")
        assert again.content.new_chunks > 0, "the packs are there, and are not used"
        with pytest.raises(NotFoundError, match="given up"):
            async with (repositories := await desk.repositories()).leases.held("tag"):
                await repositories.leases.check_kept(other.commit)
        stalled.action.release.set()  # type: ignore[union-attr]
    assert (await verify_store(desk.store))["repo/again"] == FIRST


@pytest.mark.parametrize("prefix", ["commits/", "pages/"])
async def test_what_is_written_anew_during_a_sweep_stays(desk: Desk, prefix: str) -> None:
    """Stopped before each kind of object, the sweep then meets another version of it."""
    clock = now_us()
    desk.clock = lambda: clock
    await desk.commit(numbered(1))
    await desk.commit(FIRST, branch="other")
    await delete_ref(desk, "other")
    faulty = FaultyStore(desk.store)
    stalled = faulty.inject("delete", f"{prefix}*", Stall(), times=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(collected, faulty)
        await stalled.wait_met(1)
        await desk.commit(branch="again")
        stalled.action.release.set()  # type: ignore[union-attr]
    assert (await verify_store(desk.store))["repo/again"] == FIRST


async def test_a_lease_that_was_lost_moves_no_ref(desk: Desk) -> None:
    """A laptop slept through its lease: whoever collected meanwhile did not wait for it."""
    elapsed = [0.0]
    await desk.commit(numbered(1))
    repositories = await open_repositories(desk.store, LIMITS)
    leases = Leases(desk.store, now_us, LIMITS, elapsed_s=lambda: elapsed[0])
    repositories.leases = repositories.refs._leases = leases
    async with leases.held("tag"):
        commit = (await ref_of(desk, "main")).target
        await repositories.refs.set_tag("repo", "in-time", commit)
        elapsed[0] += LIMITS.lease_s
        with pytest.raises(ConflictError, match="too long"):
            await repositories.refs.set_tag("repo", "too-late", commit)
    assert await repositories.refs.read("repo", "too-late") is None


async def test_whatever_moves_a_ref_holds_a_lease(desk: Desk) -> None:
    """(Through the commands: `tests/cli/test_gc.py`.)"""
    inner = desk.store
    unheld: list[str] = []

    class Watched(FaultyStore):
        async def compare_and_swap(self, key, data, expected):  # type: ignore[no-untyped-def]
            if not await keys_of(inner, LEASES):
                unheld.append(key)
            return await super().compare_and_swap(key, data, expected)

    desk.store = Watched(inner)
    first = await desk.commit(FIRST, tag="v1")
    await create_subset(await desk.repositories(), "repo", first.commit, "few", Rule(limit=3))
    assert [key for key in unheld if key != "refs/index"] == []
    assert await keys_of(inner, LEASES) == []


async def test_a_dead_publisher_s_lease_is_over_by_the_store_s_time(desk: Desk) -> None:
    await desk.commit(FIRST)
    lease = Lease("somebody", "commit", 0, 3600)
    await desk.store.put_if_absent(f"{LEASES}{'0' * 32}", encode_lease(lease))
    await desk.commit(SECOND, branch="other")
    await delete_ref(desk, "other")
    outcome = await collected(desk.store, replace(AT_ONCE, wait_s=0))
    assert "somebody (commit)" in outcome.waiting[0]
    assert outcome.deleted_objects == 0


async def test_leases_that_have_run_out_are_cleared_away(desk: Desk) -> None:
    await desk.commit(FIRST)
    await desk.store.put_if_absent(f"{LEASES}{'0' * 32}", encode_lease(Lease("killed", "commit", 0, 1)))
    await desk.store.put_if_absent(f"{LEASES}{'1' * 32}", encode_lease(Lease("at work", "commit", 0, 3600)))
    await trio.sleep(1.1)  # by the store's own clock
    await collected(desk.store)
    assert await keys_of(desk.store, LEASES) == [f"{LEASES}{'1' * 32}"]


# --- killed


async def test_a_collector_that_fails_anywhere_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At each of its writes and deletions, before and after it was done; the next one finishes the work."""
    monkeypatch.setattr(repack, "LEAST_DEAD_BYTES", 1000)
    policy = replace(AT_ONCE, keep=Keep(last=2), live_share=0.95)
    desk = Desk(tmp_path, limits=LIMITS, store=MemoryStore())
    await desk.commit(numbered(*range(30)))
    await desk.commit(numbered(*range(0, 30, 3)))
    await desk.commit(numbered(*range(0, 30, 5), 50))
    await desk.commit(numbered(*range(60, 70)), branch="other")
    await delete_ref(desk, "other")
    world = {key: (await desk.store.get(key)).data for key in await keys_of(desk.store)}
    expected = await verify_store(desk.store)
    done = failed = 0
    while not done:
        store = MemoryStore()
        for key, data in world.items():
            await store.put_if_absent(key, data)
        faulty = FaultyStore(store)
        operations = ("put_if_absent", "overwrite", "upload.write", "upload.finish", "delete")
        faulty.inject(operations, "*", Fail(StoreUnreachableError("gone"), late=bool(failed % 2)), after=failed // 2)
        try:
            await collected(faulty, replace(policy, wait_s=0))
            done = 1
        except StoreUnreachableError:
            failed += 1
        desk.store = store
        assert (await _branches(desk)) == expected, f"failed at write {failed}"
        if failed % 7 == 0:
            await collected(store, policy)
            assert (await _branches(desk)) == expected
            # Parts of a list that was never finished stay for a day: another collector might be writing it.
            assert [key for key in await keys_of(store, CONDEMNED) if not key.endswith(".0")] == []
    assert failed > 40, "it was stopped in many places"


async def _branches(desk: Desk) -> dict[str, dict[bytes, object]]:
    """What the branches name, and that all that was not given up reads."""
    assert await is_whole(desk)
    repositories = await desk.repositories()
    refs = await repositories.refs.read_all("repo")
    return {f"repo/{name}": dict(await desk.read_back(stored.ref.target)) for name, stored in refs.items()}


async def test_the_marker_and_the_refs_are_never_touched(desk: Desk) -> None:
    await desk.commit(FIRST)
    before = {key: (await desk.store.get(key)).data for key in [STORE_MARKER, *await keys_of(desk.store, "refs/")]}
    await collected(desk.store, replace(AT_ONCE, keep=Keep()))
    assert {key: (await desk.store.get(key)).data for key in before} == before


async def test_what_somebody_else_put_there_is_left_alone(desk: Desk) -> None:
    await desk.commit(FIRST)
    await desk.commit(SECOND, branch="other")
    await delete_ref(desk, "other")
    strange = [
        "packs/readme",
        "packs/zz/" + "z" * 32,
        "moved/x",
        "expired/y",
        "commits/note",
        "pages/ab/cd",
        "notes/mine",
    ]
    for key in strange:
        await desk.store.put_if_absent(key, b"mine")
    assert (await collected(desk.store)).deleted_objects > 0
    for key in strange:
        await desk.store.stat(key)
    assert await is_whole(desk)
