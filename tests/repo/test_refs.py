"""Refs: moved by compare-and-swap alone, whoever else is at it."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable

import pytest
import trio

from fsd.errors import ConflictError, CorruptDataError, StoreUnreachableError, UsageError
from fsd.format.keys import ref_key
from fsd.format.ref import MAX_MOVES, Ref, RefKind
from fsd.ids import content_id
from fsd.limits import DEFAULT_LIMITS
from fsd.repo.objects import Objects, ObjectWriter, StoreLoader
from fsd.repo.refs import Refs, StoredRef
from fsd.stores.base import Store
from fsd.stores.memory import MemoryStore
from tests.faulty import Fail, FaultyStore, FlipBit


def refs_of(store: Store) -> Refs:
    ticks = itertools.count(1_000_000)
    objects = Objects(StoreLoader(store), DEFAULT_LIMITS)
    return Refs(store, objects, ObjectWriter(store), lambda: next(ticks), DEFAULT_LIMITS, lambda: None)


def commit(number: int) -> bytes:
    return content_id(b"commit %d" % number)


async def target(refs: Refs, name: str) -> bytes:
    return (await ref(refs, name)).target


async def ref(refs: Refs, name: str) -> Ref:
    stored = await refs.read("data", name)
    assert stored is not None
    return stored.ref


async def test_a_branch_moves() -> None:
    refs = refs_of(MemoryStore())
    assert await refs.read("data", "main") is None
    await refs.move_branch("data", "main", commit(1), expected=None, summary="first")
    await refs.move_branch("data", "main", commit(2), expected=commit(1), summary="s" * 1000)
    stored = await ref(refs, "main")
    assert stored.kind is RefKind.BRANCH
    assert [move.commit for move in stored.moves] == [commit(1), commit(2)]
    assert [move.time_us for move in stored.moves] == [1_000_000, 1_000_001]
    assert stored.moves[0].summary == "first"


async def test_a_branch_that_moved_meanwhile_is_a_conflict() -> None:
    refs = refs_of(MemoryStore())
    await refs.move_branch("data", "main", commit(1), expected=None)
    await refs.move_branch("data", "main", commit(2), expected=commit(1))
    with pytest.raises(ConflictError, match="moved by somebody else: it is at") as caught:
        await refs.move_branch("data", "main", commit(3), expected=commit(1))
    assert commit(2).hex()[:12] in caught.value.message
    assert commit(1).hex()[:12] in caught.value.message
    assert "fsd log data/main" in caught.value.hint
    with pytest.raises(ConflictError, match="already exists"):
        await refs.move_branch("data", "main", commit(3), expected=None)
    with pytest.raises(ConflictError, match="deleted by somebody else"):
        await refs.move_branch("data", "other", commit(3), expected=commit(1))
    assert await target(refs, "main") == commit(2)


async def test_moving_to_where_it_is_changes_nothing() -> None:
    store = FaultyStore(MemoryStore())
    refs = refs_of(store)
    await refs.move_branch("data", "main", commit(1), expected=None)
    await refs.move_branch("data", "main", commit(1), expected=None)
    await refs.set_tag("data", "v1", commit(1))
    await refs.set_tag("data", "v1", commit(1))
    await refs.set_subset("data", "tiny", commit(1), commit(9))
    await refs.set_subset("data", "tiny", commit(1), commit(9))
    swaps = [call.key for call in store.calls if call.operation == "compare_and_swap"]
    assert len([key for key in swaps if key != "refs/index"]) == 3


async def test_a_move_whose_answer_was_lost_is_done_on_the_second_try() -> None:
    store = FaultyStore(MemoryStore())
    refs = refs_of(store)
    await refs.move_branch("data", "main", commit(1), expected=None)
    store.inject("compare_and_swap", "refs/*", Fail(StoreUnreachableError("cut off"), late=True), times=1)
    with pytest.raises(StoreUnreachableError):
        await refs.move_branch("data", "main", commit(2), expected=commit(1))
    await refs.move_branch("data", "main", commit(2), expected=commit(1))
    assert [move.commit for move in (await ref(refs, "main")).moves] == [commit(1), commit(2)]


async def test_a_tag_stays_unless_forced() -> None:
    refs = refs_of(MemoryStore())
    await refs.set_tag("data", "v1", commit(1))
    with pytest.raises(ConflictError, match="already names commit"):
        await refs.set_tag("data", "v1", commit(2))
    assert await target(refs, "v1") == commit(1)
    await refs.set_tag("data", "v1", commit(2), force=True)
    assert await target(refs, "v1") == commit(2)


async def test_one_name_is_one_thing() -> None:
    refs = refs_of(MemoryStore())
    await refs.move_branch("data", "main", commit(1), expected=None)
    await refs.set_tag("data", "v1", commit(1))
    await refs.set_subset("data", "tiny", commit(1), commit(9))
    with pytest.raises(ConflictError, match="'v1' of 'data' is a tag, not a branch"):
        await refs.move_branch("data", "v1", commit(2), expected=None)
    with pytest.raises(ConflictError, match="'tiny' of 'data' is a subset, not a tag"):
        await refs.set_tag("data", "tiny", commit(1), force=True)
    with pytest.raises(ConflictError, match="'main' of 'data' is a branch, not a subset"):
        await refs.set_subset("data", "main", commit(1), commit(9), force=True)


@pytest.mark.parametrize("name", ["", ".x", "a/b", "a b", "abcdef0", "10pct", "é", "x" * 129])
async def test_illegal_names(name: str) -> None:
    store = FaultyStore(MemoryStore())
    refs = refs_of(store)
    assert await refs.read("data", name) is None
    moves: list[Callable[[], Awaitable[None]]] = [
        lambda: refs.move_branch("data", name, commit(1), expected=None),
        lambda: refs.set_tag("data", name, commit(1)),
        lambda: refs.set_subset("data", name, commit(1), commit(2)),
    ]
    for move in moves:
        with pytest.raises(UsageError):
            await move()
    with pytest.raises(UsageError):
        await refs.move_branch("no/repository", "main", commit(1), expected=None)
    assert await refs.read("no/repository", "main") is None
    assert await refs.list("no/repository") == {}
    assert store.calls == []


async def test_a_subset_is_of_a_commit() -> None:
    refs = refs_of(MemoryStore())
    await refs.set_subset("data", "tiny", commit(1), commit(101))
    await refs.set_subset("data", "tiny", commit(2), commit(102), follow={"main": {"seed": 1}})
    await refs.set_subset("data", "tiny", commit(2), commit(102), follow={"dev": {"seed": 2}})
    with pytest.raises(ConflictError, match="already is something else"):
        await refs.set_subset("data", "tiny", commit(1), commit(103))
    stored = await ref(refs, "tiny")
    assert stored.follow == {"main": {"seed": 1}, "dev": {"seed": 2}}
    assert await refs.find_subset(stored, commit(1)) == commit(101)
    assert await refs.find_subset(stored, commit(2)) == commit(102)
    assert await refs.find_subset(stored, commit(3)) is None
    await refs.set_subset("data", "tiny", commit(1), commit(103), force=True)
    assert await refs.find_subset(await ref(refs, "tiny"), commit(1)) == commit(103)


async def test_a_long_history_goes_into_segments() -> None:
    store = FaultyStore(MemoryStore())
    refs = refs_of(store)
    count = 5 * MAX_MOVES
    for number in range(count):
        await refs.move_branch("data", "main", commit(number), expected=commit(number - 1) if number else None)
    stored = await ref(refs, "main")
    assert len(stored.moves) <= MAX_MOVES
    assert sum(info.moves for info in stored.segments) + len(stored.moves) == count
    history = [move.commit async for move in refs.history(stored)]
    assert history == [commit(number) for number in reversed(range(count))]
    writes = [call.key.split("/")[0] for call in store.calls if call.operation in ("put_if_absent", "compare_and_swap")]
    for position, folder in enumerate(writes):
        if folder == "logs":
            assert writes[position + 1] == "refs", "first the segment, then the ref that names it"
    assert writes.count("logs") == len(stored.segments)


async def test_a_subset_is_found_in_the_segments() -> None:
    refs = refs_of(MemoryStore())
    for number in range(2 * MAX_MOVES):
        await refs.set_subset("data", "tiny", commit(number), commit(1000 + number))
    stored = await ref(refs, "tiny")
    assert stored.segments
    assert await refs.find_subset(stored, commit(0)) == commit(1000)
    await refs.set_subset("data", "tiny", commit(0), commit(1000))
    assert await ref(refs, "tiny") == stored


async def test_racing_branch_moves_have_one_winner_each() -> None:
    store = MemoryStore()
    await refs_of(store).move_branch("data", "main", commit(0), expected=None)
    won: list[int] = []

    async def race(number: int) -> None:
        try:
            await refs_of(store).move_branch("data", "main", commit(number), expected=commit(0))
        except ConflictError:
            return
        won.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(1, 30):
            nursery.start_soon(race, number)
    assert len(won) == 1
    assert [move.commit for move in (await ref(refs_of(store), "main")).moves] == [commit(0), commit(won[0])]


async def test_racing_subsets_of_different_commits_all_get_in() -> None:
    """Each round of the race has a winner, so that as many tasks as there are attempts all get in."""
    store = MemoryStore()
    async with trio.open_nursery() as nursery:
        for number in range(DEFAULT_LIMITS.ref_attempts):
            nursery.start_soon(refs_of(store).set_subset, "data", "tiny", commit(number), commit(100 + number))
    refs = refs_of(store)
    stored = await ref(refs, "tiny")
    for number in range(DEFAULT_LIMITS.ref_attempts):
        assert await refs.find_subset(stored, commit(number)) == commit(100 + number)


async def test_many_publishers_who_try_again_lose_nothing() -> None:
    store = MemoryStore()
    came_after: dict[bytes, bytes | None] = {}

    async def publish(number: int) -> None:
        refs = refs_of(store)
        while True:
            stored = await refs.read("data", "main")
            expected = stored.ref.target if stored else None
            try:
                await refs.move_branch("data", "main", commit(number), expected=expected)
            except ConflictError:
                continue
            came_after[commit(number)] = expected
            return

    async with trio.open_nursery() as nursery:
        for number in range(40):
            nursery.start_soon(publish, number)
    history = [move.commit for move in (await ref(refs_of(store), "main")).moves]
    assert sorted(history) == sorted(commit(number) for number in range(40))
    assert [came_after[each] for each in history] == [None, *history[:-1]], "in the order in which they moved it"


async def test_deleting() -> None:
    refs = refs_of(MemoryStore())
    await refs.set_tag("data", "v1", commit(1))
    stored = await refs.read("data", "v1")
    assert stored is not None
    await refs.set_tag("data", "v1", commit(2), force=True)
    with pytest.raises(ConflictError, match="changed by somebody else"):
        await refs.delete("data", "v1", stored.version)
    stored = await refs.read("data", "v1")
    assert stored is not None
    await refs.delete("data", "v1", stored.version)
    assert await refs.read("data", "v1") is None
    assert await refs.repositories() == []


async def test_a_bad_ref_is_named() -> None:
    store = FaultyStore(MemoryStore())
    refs = refs_of(store)
    await refs.set_tag("data", "v1", commit(1))
    store.inject("get", "refs/*", FlipBit())
    with pytest.raises(CorruptDataError, match="refs/data/v1"):
        await refs_of(store).read("data", "v1")
    store.assert_all_exercised()


async def test_listing() -> None:
    store = FaultyStore(MemoryStore())
    refs = refs_of(store)
    await refs.move_branch("data", "main", commit(1), expected=None)
    await refs.set_tag("data", "v1", commit(1))
    await refs.set_tag("data-2", "v1", commit(1))
    await store.inner.put_if_absent("refs/data/abcdef0", b"no ref can have that name")
    assert list(await refs.list("data")) == ["main", "v1"]
    assert await refs.list("nothing") == {}

    # By somebody who did not write them, and so cannot know them from that.
    reader = refs_of(store)

    async def read_all() -> tuple[dict[str, StoredRef], list[tuple[str, str]]]:
        """The refs, and what that asked the store for."""
        store.calls.clear()
        found = await reader.read_all("data")
        return found, [(call.operation, call.key) for call in store.calls]

    listing = ("list", "refs/data/")
    found, asked = await read_all()
    assert {name: stored.ref.kind for name, stored in found.items()} == {"main": RefKind.BRANCH, "v1": RefKind.TAG}
    assert asked[0] == listing
    assert sorted(asked[1:]) == [("get", "refs/data/main"), ("get", "refs/data/v1")]
    assert await read_all() == (found, [listing]), "what did not change is not read again"
    await refs.move_branch("data", "main", commit(2), expected=commit(1))
    found, asked = await read_all()
    assert found["main"].ref.target == commit(2)
    assert asked == [listing, ("get", "refs/data/main")]


async def test_repositories_are_listed_without_all_of_their_refs() -> None:
    store = FaultyStore(MemoryStore())
    names = ["a", "a-b", "a.b", "a0", "b", "large", "z"]
    for name in names:
        await store.inner.put_if_absent(ref_key(name, "main"), b"")
    for number in range(3_000):
        await store.inner.put_if_absent(ref_key("large", f"v{number}"), b"")
    assert await refs_of(store).repositories() == sorted(names)
    assert [call.operation for call in store.calls] == ["list", "list"]
