"""Leases: taken when something is written, renewed while that lasts, given back; lost for good when they run out."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from fsd.errors import ConflictError, NotFoundError, StoreUnreachableError
from fsd.format.condemned import Condemnation, encode_condemnation
from fsd.format.keys import LEASES, condemned_key, expired_key
from fsd.format.lease import parse_lease
from fsd.limits import Limits
from fsd.repo.leases import Leases, read_sweeping
from fsd.stores.base import Store
from fsd.stores.memory import MemoryStore
from tests.faulty import Fail, FaultyStore

LIMITS = Limits(lease_s=80.0, lease_margin_s=20.0)
COMMIT, OTHER, PACK = b"c" * 32, b"d" * 32, b"p" * 16


def leases_of(store: Store) -> Leases:
    """Whose clock is trio's, which a test turns."""
    return Leases(store, lambda: 5, LIMITS, elapsed_s=trio.current_time)


async def held_keys(store: Store) -> list[str]:
    return [info.key async for info in store.list(LEASES)]


async def sweep(store: Store, name: str = "a" * 32, *, begun: bool = True) -> None:
    """Condemn COMMIT and PACK, and begin to sweep them."""
    await store.put_if_absent(
        condemned_key(name), encode_condemnation(Condemnation(0, frozenset({PACK}), frozenset({COMMIT})))
    )
    if begun:
        await store.put_if_absent(condemned_key(name, "sweep"), b"")


async def test_it_is_taken_when_it_is_needed_and_given_back() -> None:
    store = FaultyStore(MemoryStore())
    leases = leases_of(store)
    async with leases.held("test"):
        assert store.calls == []
        await leases.take()
        [key] = await held_keys(store.inner)
        lease = parse_lease((await store.inner.get(key)).data, "it")
        assert (lease.purpose, lease.valid_s, lease.since_us) == ("test", 80, 5)
        before = len(store.calls)
        await leases.take()
        async with leases.held("inner"):
            await leases.take()
        assert len(store.calls) == before
        assert await held_keys(store.inner) == [key]
    assert await held_keys(store.inner) == []
    async with leases.held("again"):
        pass
    assert await held_keys(store.inner) == []


async def test_several_tasks_take_one() -> None:
    store = FaultyStore(MemoryStore())
    leases = leases_of(store)
    async with leases.held("test"), trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(leases.take)
    assert [call.operation for call in store.calls] == ["put_if_absent", "list", "delete"]


async def test_who_shares_it_has_it_until_the_end() -> None:
    """Two tasks publish at once, as a program may: the one that took the lease is done first."""
    store = MemoryStore()
    leases = leases_of(store)
    joined, first_done = trio.Event(), trio.Event()

    async def first() -> None:
        async with leases.held("first"):
            await leases.take()
            await joined.wait()
            first_done.set()

    async def second() -> None:
        async with leases.held("second"):
            joined.set()
            await first_done.wait()
            await trio.testing.wait_all_tasks_blocked()
            assert len(await held_keys(store)) == 1
            await leases.take()
            assert len(await held_keys(store)) == 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(first)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(second)
    assert await held_keys(store) == []
    async with leases.held("third"):
        await leases.take()
        assert len(await held_keys(store)) == 1


async def test_without_one_nothing_is_taken() -> None:
    store = FaultyStore(MemoryStore())
    leases = leases_of(store)
    await leases.take()
    leases.check()
    assert store.calls == []


async def test_the_lease_is_written_before_anybody_looks() -> None:
    """The other way about, a sweep that began in between would be missed by both."""
    store = FaultyStore(MemoryStore())
    leases = leases_of(store)
    async with leases.held("test"):
        await leases.take()
    assert [call.key.partition("/")[0] for call in store.calls] == ["leases", "condemned", "leases"]


async def test_only_what_is_being_swept_counts() -> None:
    store = MemoryStore()
    await sweep(store, "a" * 32, begun=False)
    assert not (await read_sweeping(store, LIMITS)).is_pending
    leases = leases_of(store)
    async with leases.held("test"):
        await leases.check_kept(COMMIT)
        assert not leases.sweeping.is_pending
    await sweep(store, "b" * 32)
    async with leases.held("test"):
        await leases.take()
        assert leases.sweeping.packs == {PACK}
        assert leases.sweeping.commits == {COMMIT}
        await leases.check_kept(OTHER)
        with pytest.raises(NotFoundError, match="given up"):
            await leases.check_kept(COMMIT)
    assert not leases.sweeping.is_pending, "outside nothing is known"
    # A sweep that ended between the listing and the look at it is none.
    await store.delete(condemned_key("b" * 32))
    assert not (await read_sweeping(store, LIMITS)).is_pending


async def test_an_expired_commit_is_not_named_again() -> None:
    store = MemoryStore()
    await store.put_if_absent(expired_key(COMMIT), b"")
    leases = leases_of(store)
    async with leases.held("test"):
        with pytest.raises(NotFoundError, match="given up"):
            await leases.check_kept(COMMIT)
        await leases.check_kept(OTHER)


async def test_it_is_renewed(autojump_clock: trio.testing.MockClock) -> None:  # noqa: ARG001 - time jumps
    store = MemoryStore()
    leases = leases_of(store)
    async with leases.held("test"):
        await leases.take()
        [key] = await held_keys(store)
        await trio.sleep(10 * LIMITS.lease_s)
        leases.check()
        assert parse_lease((await store.get(key)).data, "it").renewals >= 70
    assert await held_keys(store) == []


async def test_a_store_that_is_away_for_a_while_loses_no_lease(autojump_clock: trio.testing.MockClock) -> None:  # noqa: ARG001
    store = FaultyStore(MemoryStore())
    gone = store.inject("overwrite", "leases/*", Fail(StoreUnreachableError("gone")), times=4)
    leases = leases_of(store)
    async with leases.held("test"):
        await leases.take()
        await trio.sleep(50)
        leases.check()
        await trio.sleep(100)
        leases.check()
    assert gone.exercised


async def test_a_lease_that_ran_out_stays_lost(autojump_clock: trio.testing.MockClock) -> None:  # noqa: ARG001
    store = FaultyStore(MemoryStore())
    gone = store.inject("overwrite", "leases/*", Fail(StoreUnreachableError("gone")))
    leases = leases_of(store)
    async with leases.held("test"):
        await leases.take()
        await trio.sleep(LIMITS.lease_s - LIMITS.lease_margin_s - 1)
        leases.check()
        await trio.sleep(2)
        gone.remove()
        with pytest.raises(ConflictError, match="too long"):
            leases.check()
        await trio.sleep(1000)
        with pytest.raises(ConflictError, match="nothing was lost"):
            leases.check()
    async with leases.held("again"):
        await leases.take()
        leases.check()


async def test_an_error_inside_is_the_caller_s_own() -> None:
    """It is not wrapped, and the lease is given back."""
    store = MemoryStore()
    leases = leases_of(store)

    async def fail() -> None:
        async with leases.held("test"):
            await leases.take()
            raise ConflictError("mine")

    with pytest.raises(ConflictError, match="mine"):
        await fail()
    assert await held_keys(store) == []
    with trio.move_on_after(0.01) as scope:
        async with leases.held("test"):
            await leases.take()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert await held_keys(store) == []


async def test_a_store_that_takes_no_lease_stops_it() -> None:
    store = FaultyStore(MemoryStore())
    store.inject("put_if_absent", "leases/*", Fail(StoreUnreachableError("gone")))
    leases = leases_of(store)
    async with leases.held("test"):
        with pytest.raises(StoreUnreachableError):
            await leases.take()
    store.assert_all_exercised()
