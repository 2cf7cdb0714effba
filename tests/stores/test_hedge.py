"""Asking a second time: when, how often, and which answer counts."""

from __future__ import annotations

import pytest
import trio

from fsd.errors import StorePermissionError, StoreUnreachableError
from fsd.limits import Limits
from fsd.stores.base import ObjectNotFoundError
from fsd.stores.hedge import LEAST_SAMPLES, HedgingStore, Latencies
from fsd.stores.memory import MemoryStore
from tests.faulty import READS, Fail, FaultyStore, Operation, Slow, Stall

LIMITS = Limits(hedge_ratio=2.0, hedge_min_s=0.25, hedge_first_s=2.0, hedge_share=0.125, hedge_burst=2.0)
GONE = StoreUnreachableError("gone")
pytestmark = pytest.mark.usefixtures("autojump_clock")


@pytest.fixture
def faulty() -> FaultyStore:
    inner = MemoryStore()
    trio.run(inner.put_if_absent, "key", b"123")
    return FaultyStore(inner)


@pytest.fixture
def store(faulty: FaultyStore) -> HedgingStore:
    return HedgingStore(faulty, LIMITS)


async def read(store: HedgingStore, operation: Operation = "get_range") -> bytes:
    if operation == "get":
        return (await store.get("key")).data
    return (await (store.get_tail("key", 3) if operation == "get_tail" else store.get_range("key", 0, 3))).data


@pytest.mark.parametrize("operation", READS)
async def test_a_stalled_read_is_asked_for_again(
    faulty: FaultyStore, store: HedgingStore, operation: Operation
) -> None:
    faulty.inject(operation, "*", Stall(), times=1)
    started_s = trio.current_time()
    assert await read(store, operation) == b"123"
    assert trio.current_time() - started_s == pytest.approx(LIMITS.hedge_first_s)
    assert [call.operation for call in faulty.calls] == [operation, operation]
    assert store.hedged_requests == 1
    faulty.assert_all_exercised()


async def test_the_first_may_still_win(faulty: FaultyStore, store: HedgingStore) -> None:
    faulty.inject("get_range", "*", Slow(3.0), times=1)
    faulty.inject("get_range", "*", Stall(), times=1)
    started_s = trio.current_time()
    assert await read(store) == b"123"
    assert trio.current_time() - started_s == pytest.approx(3.0)
    assert store.hedged_requests == 1
    faulty.assert_all_exercised()


async def test_what_is_slow_is_learned(faulty: FaultyStore, store: HedgingStore) -> None:
    faulty.inject("get_range", "*", Slow(0.5), times=LEAST_SAMPLES)
    for _ in range(LEAST_SAMPLES):
        await read(store)
    assert store.hedged_requests == 0
    faulty.inject("get_range", "*", Stall(), times=1)
    started_s = trio.current_time()
    await read(store)
    assert trio.current_time() - started_s == pytest.approx(1.0)
    faulty.assert_all_exercised()


async def test_sizes_are_told_apart() -> None:
    latencies = Latencies(LIMITS)
    for _ in range(LEAST_SAMPLES):
        latencies.note(4096, 0.03)
        latencies.note(8 << 20, 1.5)
    assert latencies.delay_s(4096) == LIMITS.hedge_min_s
    assert latencies.delay_s(8 << 20) == 3.0
    assert latencies.delay_s(1 << 20) == LIMITS.hedge_first_s


async def test_a_link_that_becomes_slow_is_not_asked_twice_for_ever(faulty: FaultyStore) -> None:
    store = HedgingStore(faulty, Limits(hedge_share=1.0, hedge_burst=1.0))
    for _ in range(LEAST_SAMPLES):
        await read(store)
    faulty.inject("get_range", "*", Slow(1.0))
    for _ in range(100):
        await read(store)
    assert 0 < store.hedged_requests < 10


async def test_a_store_that_is_down_is_asked_little_more(faulty: FaultyStore, store: HedgingStore) -> None:
    faulty.inject("get_range", "*", Stall())
    reads = 64
    with trio.move_on_after(100):
        async with trio.open_nursery() as nursery:
            for _ in range(reads):
                nursery.start_soon(read, store)
    assert len(faulty.calls) == reads + LIMITS.hedge_burst


async def test_the_share_is_kept(faulty: FaultyStore, store: HedgingStore) -> None:
    """However many are slow, in the long run no more than the share are asked for twice."""
    faulty.inject("get_range", "*", Slow(10.0))
    reads = 80
    for _ in range(reads):
        store._latencies = Latencies(LIMITS)  # nothing is learned
        await read(store)
    assert store.hedged_requests <= LIMITS.hedge_burst + LIMITS.hedge_share * reads
    assert store.hedged_requests >= LIMITS.hedge_share * reads


@pytest.mark.parametrize("error", [StorePermissionError("no"), ObjectNotFoundError("key", "memory:"), GONE])
async def test_an_early_error_is_the_answer(faulty: FaultyStore, store: HedgingStore, error: Exception) -> None:
    faulty.inject("get_range", "*", Fail(error))
    with pytest.raises(type(error)):
        await read(store)
    assert len(faulty.calls) == 1


async def test_a_failure_waits_for_the_other(faulty: FaultyStore, store: HedgingStore) -> None:
    faulty.inject("get_range", "*", Slow(5.0), times=1)
    faulty.inject("get_range", "*", Fail(GONE), times=1)
    assert await read(store) == b"123"
    faulty.assert_all_exercised()


async def test_an_answer_does_not_wait_for_the_other(faulty: FaultyStore, store: HedgingStore) -> None:
    faulty.inject("get_range", "*", Stall(), times=1)
    faulty.inject("get_range", "*", Fail(ObjectNotFoundError("key", "memory:")), times=1)
    with pytest.raises(ObjectNotFoundError):
        await read(store)
    faulty.assert_all_exercised()


async def test_cancelling_ends_both(faulty: FaultyStore, store: HedgingStore) -> None:
    faulty.inject("get_range", "*", Stall(), times=2)
    with trio.move_on_after(10) as scope:
        await read(store)
    assert scope.cancelled_caught
    assert len(faulty.calls) == 2
    assert await read(store) == b"123"
