"""A path goes out of every version, and its bytes out of the store; everything else is as it was."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
import trio

from fsd.errors import NotFoundError, StoreUnreachableError
from fsd.format.keys import MOVED, PACKS, PURGES
from fsd.format.ref import MAX_MOVES
from fsd.maintenance.gc import Policy
from fsd.maintenance.purge import Purged, purge
from fsd.maintenance.verify import verify
from fsd.repo.repository import open_repositories
from fsd.repo.rules import Rule
from fsd.repo.subsets import create_subset
from fsd.stores.base import Store
from fsd.stores.memory import MemoryStore
from tests.faulty import Fail, FaultyStore, Stall
from tests.maintenance.desks import AT_ONCE, LIMITS, Quiet, collected, merged, noise, numbered
from tests.publish.folders import DIRECTORY, Desk, Folder, file, keys_of, verify_store

SECRET = noise(4711, 9_000)
LARGE_SECRET = noise(4712, 700_000)
NEIGHBOURS = numbered(*range(30))
WITH_SECRET = merged(NEIGHBOURS, {b"a-secret": file(SECRET), b"people": DIRECTORY, b"people/x": file(LARGE_SECRET)})


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path, limits=LIMITS, store=MemoryStore())


async def purged(store: Store, *paths: bytes, wait_s: float = 20) -> Purged:
    """Purge as a new process would."""
    return await purge(await open_repositories(store, LIMITS), "repo", paths, Quiet(), wait_s=wait_s)


async def everything(store: Store) -> bytes:
    """All bytes that are in the store."""
    return b"".join([(await store.get(key)).data for key in await keys_of(store)])


async def is_left(store: Store, data: bytes) -> bool:
    """Whether any of it is in any object."""
    stored = await everything(store)
    return any(piece in stored for piece in pieces(data))


def pieces(data: bytes) -> list[bytes]:
    """What would show that some of it is left."""
    return [data[at : at + 64] for at in range(0, len(data) - 64, 4096)]


def without(folder: Folder, *paths: bytes) -> Folder:
    return {
        path: item
        for path, item in folder.items()
        if path not in paths and not path.startswith(tuple(p + b"/" for p in paths))
    }


async def is_whole(store: Store) -> bool:
    return (await verify(await open_repositories(store, LIMITS), Quiet(), data=True)).is_whole


async def test_the_bytes_are_gone_and_everything_else_is_as_it_was(desk: Desk) -> None:
    versions = [
        NEIGHBOURS,
        WITH_SECRET,
        merged(WITH_SECRET, numbered(50)),
        without(merged(WITH_SECRET, numbered(50)), b"a-secret"),
    ]
    commits = [(await desk.commit(version, tag=f"v{number}")).commit for number, version in enumerate(versions)]
    await create_subset(await desk.repositories(), "repo", commits[1], "part", Rule(include=("a-*", "people/*", "1*")))
    before = await everything(desk.store)
    assert all(piece in before for piece in pieces(SECRET) + pieces(LARGE_SECRET))

    outcome = await purged(desk.store, b"a-secret", b"people")

    assert outcome.is_complete
    assert set(outcome.commits) == {*commits[1:], *(set(outcome.commits) - set(commits))}
    assert len(outcome.commits) == 4, "three commits and the subset; the first is as it was"
    assert outcome.files == 2 + 2 + 1 + 2
    assert not await is_left(desk.store, SECRET + LARGE_SECRET)
    assert b"a-secret" not in await everything(desk.store)
    assert await is_whole(desk.store)
    refs = await (await desk.repositories()).refs.read_all("repo")
    for number, version in enumerate(versions):
        target = refs[f"v{number}"].ref.target
        assert await desk.read_back(target) == without(version, b"a-secret", b"people")
        assert outcome.commits.get(commits[number], commits[number]) == target
    assert [move.commit for move in refs["main"].ref.moves] == [refs[f"v{number}"].ref.target for number in range(4)]
    [subset] = refs["part"].ref.moves
    assert subset.source == refs["v1"].ref.target
    assert set(await desk.read_back(subset.commit)) == {path for path in NEIGHBOURS if path.startswith(b"1")}
    assert await keys_of(desk.store, PURGES) == []


async def test_words_authors_and_times_stay(desk: Desk) -> None:
    old = await desk.commit(
        WITH_SECRET, message="first\n\nand more", author="somebody", metadata={"n": {"a-secret": 1, "b": 2}}
    )
    outcome = await purged(desk.store, b"a-secret")
    new = outcome.commits[old.commit]
    assert new is not None
    header = await (await desk.repositories()).commit(new)
    assert (header.message, header.author, header.metadata) == ("first\n\nand more", "somebody", {"n": {"b": 2}})
    assert header.totals.files == len(NEIGHBOURS) + 1


async def test_packs_that_hold_other_things_too_are_repacked(desk: Desk) -> None:
    """And one that is garbage goes: it was published where nobody knew of the other."""
    await desk.commit(WITH_SECRET)
    again = Desk(desk.top.parent, "-again", limits=LIMITS, store=desk.store)
    await again.commit(merged(numbered(70), {b"copy": file(SECRET)}), repository="gone")
    stored = await (await desk.repositories()).refs.read("gone", "main")
    assert stored is not None
    await (await desk.repositories()).refs.delete("gone", "main", stored.version)
    outcome = await purged(desk.store, b"a-secret")
    assert await keys_of(desk.store, MOVED), "its neighbours were moved"
    assert len(outcome.packs) >= 2
    assert not await is_left(desk.store, SECRET)
    assert (await verify_store(desk.store))["repo/main"] == without(WITH_SECRET, b"a-secret")


async def test_what_is_elsewhere_too_stays_and_is_said(desk: Desk) -> None:
    await desk.commit(merged(WITH_SECRET, {b"copy": file(SECRET)}))
    await desk.commit({b"other": file(SECRET)}, repository="second")
    outcome = await purged(desk.store, b"a-secret")
    assert outcome.is_complete
    assert outcome.places_elsewhere == 2
    assert [place.partition("/")[0] for place in sorted(outcome.elsewhere)] == ["repo", "second"]
    assert [place.rpartition("/")[2] for place in sorted(outcome.elsewhere)] == ["copy", "other"]
    kept = await verify_store(desk.store)
    assert kept["second/main"] == {b"other": file(SECRET)}
    assert b"a-secret" not in kept["repo/main"]


async def test_other_garbage_keeps_its_grace(desk: Desk) -> None:
    await desk.commit(WITH_SECRET)
    await desk.commit(numbered(90, 91), branch="gone")
    refs = (await desk.repositories()).refs
    stored = await refs.read("repo", "gone")
    assert stored is not None
    await refs.delete("repo", "gone", stored.version)
    await purged(desk.store, b"people")
    assert await is_left(desk.store, noise(90, 8_000))
    assert (await collected(desk.store, Policy(grace_s=1e-6))).condemned_objects > 0


async def test_a_path_that_no_version_has(desk: Desk) -> None:
    await desk.commit(NEIGHBOURS)
    before = await keys_of(desk.store)
    with pytest.raises(NotFoundError, match="no-such-thing"):
        await purged(desk.store, b"no-such-thing")
    assert await keys_of(desk.store) == before


async def test_long_histories_and_what_expired(desk: Desk) -> None:
    first = await desk.commit(WITH_SECRET)
    second = await desk.commit(NEIGHBOURS)
    repositories = await desk.repositories()
    for _ in range(MAX_MOVES):
        await repositories.refs.move_branch("repo", "main", first.commit, expected=second.commit)
        await repositories.refs.move_branch("repo", "main", second.commit, expected=first.commit)
    stored = await repositories.refs.read("repo", "main")
    assert stored is not None
    assert stored.ref.segments
    before = [move async for move in repositories.refs.history(stored.ref)]
    outcome = await purged(desk.store, b"a-secret", b"people")
    repositories = await desk.repositories()
    stored = await repositories.refs.read("repo", "main")
    assert stored is not None
    after = [move async for move in repositories.refs.history(stored.ref)]
    # The second was made from the first, so that both are others now.
    assert [move.commit for move in after] == [outcome.commits[move.commit] for move in before]
    assert [move.time_us for move in after] == [move.time_us for move in before]
    assert stored.ref.segments
    assert await is_whole(desk.store)


async def test_a_publisher_at_work_is_waited_for_and_its_commit_is_rewritten_too(desk: Desk) -> None:
    await desk.commit(NEIGHBOURS)
    store = desk.store
    desk.store = faulty = FaultyStore(store)
    stalled = faulty.inject("compare_and_swap", "refs/*", Stall(), times=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: desk.commit(WITH_SECRET))
        await stalled.wait_met(1)
        other = Desk(desk.top.parent, "-other", limits=LIMITS, store=store)
        await other.commit(WITH_SECRET, branch="other")
        outcome = await purged(store, b"a-secret", wait_s=0)
        assert not outcome.is_complete
        assert "waits for" in outcome.waiting[0]
        stalled.action.release.set()  # type: ignore[union-attr]
    outcome = await purged(store, b"a-secret")
    assert outcome.is_complete
    assert not await is_left(store, SECRET)
    assert await is_whole(store)


@pytest.mark.timeout_s(180)
async def test_a_purge_that_fails_anywhere_can_be_done_again(tmp_path: Path) -> None:
    desk = Desk(tmp_path, limits=LIMITS, store=MemoryStore())
    await desk.commit(WITH_SECRET, tag="v1")
    await desk.commit(merged(WITH_SECRET, numbered(50)))
    world = {key: (await desk.store.get(key)).data for key in await keys_of(desk.store)}
    expected = {
        "repo/main": without(merged(WITH_SECRET, numbered(50)), b"a-secret"),
        "repo/v1": without(WITH_SECRET, b"a-secret"),
    }
    failed, done = 0, False
    while not done:
        store = MemoryStore()
        for key, data in world.items():
            await store.put_if_absent(key, data)
        faulty = FaultyStore(store)
        operations = ("put_if_absent", "overwrite", "compare_and_swap", "upload.write", "upload.finish", "delete")
        faulty.inject(operations, "*", Fail(StoreUnreachableError("gone"), late=bool(failed % 2)), after=failed // 2)
        try:
            done = (await purged(faulty, b"a-secret", wait_s=0)).is_complete
        except StoreUnreachableError:
            failed += 1
        assert await is_whole(store), f"failed at write {failed}"
        if failed % 5 == 0 and not done:
            with suppress(NotFoundError):  # only its last note was left to be deleted
                assert (await purged(store, b"a-secret")).is_complete, f"failed at write {failed}"
            assert await verify_store(store) == expected
            assert not await is_left(store, SECRET), f"failed at write {failed}"
            assert await keys_of(store, PURGES) == []
            assert len(await keys_of(store, PACKS)) > 4
    assert failed > 40, "it was stopped in many places"
    assert AT_ONCE.grace_s == 0
