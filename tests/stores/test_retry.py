"""Trying again: how often, what not, and what became of writes whose answer got lost."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from fsd.errors import StorePermissionError, StoreUnreachableError
from fsd.limits import Limits
from fsd.stores.base import ObjectExistsError, ObjectNotFoundError, Store, Version, VersionMismatchError
from fsd.stores.memory import MemoryStore
from fsd.stores.retry import RetryingStore, retried, single_attempts
from tests.faulty import READS, Fail, FaultyStore, Stall

LIMITS = Limits(store_attempts=4, retry_min_s=0.1, retry_max_s=1.0, store_retry_s=60.0)
GONE = StoreUnreachableError("gone")
pytestmark = pytest.mark.usefixtures("autojump_clock")


@pytest.fixture
def faulty() -> FaultyStore:
    return FaultyStore(MemoryStore())


@pytest.fixture
def store(faulty: FaultyStore) -> RetryingStore:
    return RetryingStore(faulty, LIMITS)


ALL: dict[str, Callable[[Store], Awaitable[object]]] = {
    "get": lambda store: store.get("key"),
    "get_range": lambda store: store.get_range("key", 1, 2),
    "get_tail": lambda store: store.get_tail("key", 2),
    "stat": lambda store: store.stat("key"),
    "put_if_absent": lambda store: store.put_if_absent("new", b"1"),
    "overwrite": lambda store: store.overwrite("key", b"1"),
    "compare_and_swap": lambda store: store.compare_and_swap("new", b"1", None),
    "delete": lambda store: store.delete("key"),
    "list": lambda store: anext(aiter(store.list(""))),
}


@pytest.mark.parametrize("operation", ALL)
async def test_each_call_is_tried_again(faulty: FaultyStore, store: RetryingStore, operation: str) -> None:
    await faulty.inner.put_if_absent("key", b"123")
    faulty.inject(operation, "*", Fail(GONE), times=3)  # type: ignore[arg-type]
    await ALL[operation](store)
    assert [call.operation for call in faulty.calls] == [operation] * 4
    faulty.assert_all_exercised()


@pytest.mark.parametrize("operation", [name for name in ALL if name != "list"])
async def test_it_gives_up(faulty: FaultyStore, store: RetryingStore, operation: str) -> None:
    await faulty.inner.put_if_absent("key", b"123")
    faulty.inject(operation, "*", Fail(GONE))  # type: ignore[arg-type]
    with pytest.raises(StoreUnreachableError, match="gone"):
        await ALL[operation](store)
    assert len(faulty.calls) == LIMITS.store_attempts


@pytest.mark.parametrize("operation", ALL)
@pytest.mark.parametrize("error", [StorePermissionError("no"), ObjectNotFoundError("key", "memory:")])
async def test_answers_are_not_asked_for_again(
    faulty: FaultyStore, store: RetryingStore, operation: str, error: Exception
) -> None:
    await faulty.inner.put_if_absent("key", b"123")
    faulty.inject(operation, "*", Fail(error))  # type: ignore[arg-type]
    with pytest.raises(type(error)):
        await ALL[operation](store)
    assert len(faulty.calls) == 1


async def test_waits_grow_and_are_never_the_same() -> None:
    limits = Limits(store_attempts=8, retry_min_s=1.0, retry_max_s=8.0, store_retry_s=1e9)
    times: list[float] = []

    async def attempt() -> None:
        times.append(trio.current_time())
        raise GONE

    with pytest.raises(StoreUnreachableError):
        await retried(limits, attempt)
    waits = [after - before for before, after in itertools.pairwise(times)]
    for wait_s, longest_s in zip(waits, (1, 2, 4, 8, 8, 8, 8), strict=True):
        assert longest_s / 2 <= wait_s <= longest_s
    assert len(set(waits)) == len(waits)


async def test_it_stops_when_the_time_is_over(faulty: FaultyStore) -> None:
    limits = Limits(store_attempts=1000, retry_min_s=1.0, retry_max_s=1.0, store_retry_s=10.0)
    faulty.inject("get", "*", Fail(GONE))
    started_s = trio.current_time()
    with pytest.raises(StoreUnreachableError):
        await RetryingStore(faulty, limits).get("key")
    assert trio.current_time() - started_s <= 10.0
    assert len(faulty.calls) > 5


async def test_cancelling_ends_it(faulty: FaultyStore, store: RetryingStore) -> None:
    stall = faulty.inject("get", "*", Stall())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.get, "key")
        await stall.wait_met()
        nursery.cancel_scope.cancel()
    assert len(faulty.calls) == 1


# --- writes whose answer got lost


async def test_a_creation_that_happened_is_no_conflict(faulty: FaultyStore, store: RetryingStore) -> None:
    faulty.inject("put_if_absent", "*", Fail(GONE, late=True), times=1)
    version = await store.put_if_absent("key", memoryview(b"mine"))
    fetched = await faulty.inner.get("key")
    assert (fetched.data, fetched.version) == (b"mine", version)
    faulty.assert_all_exercised()


@pytest.mark.parametrize("theirs", [b"other", b"min", b"mine2", b""])
async def test_somebody_elses_creation_is_a_conflict(faulty: FaultyStore, store: RetryingStore, theirs: bytes) -> None:
    faulty.inject("put_if_absent", "*", Fail(GONE), times=1)
    await faulty.inner.put_if_absent("key", theirs)
    with pytest.raises(ObjectExistsError):
        await store.put_if_absent("key", b"mine")
    faulty.assert_all_exercised()


async def test_equal_bytes_are_a_conflict_where_nothing_got_lost(store: RetryingStore) -> None:
    await store.put_if_absent("key", b"same")
    with pytest.raises(ObjectExistsError):
        await store.put_if_absent("key", b"same")
    with pytest.raises(VersionMismatchError):
        await store.compare_and_swap("key", b"same", None)


@pytest.mark.parametrize("exists", [False, True])
async def test_a_swap_that_happened_is_no_conflict(faulty: FaultyStore, store: RetryingStore, exists: bool) -> None:
    expected = await faulty.inner.put_if_absent("key", b"old") if exists else None
    faulty.inject("compare_and_swap", "*", Fail(GONE, late=True), times=1)
    version = await store.compare_and_swap("key", b"new", expected)
    fetched = await faulty.inner.get("key")
    assert (fetched.data, fetched.version) == (b"new", version)


async def test_a_swap_that_somebody_built_on_is_a_conflict(faulty: FaultyStore, store: RetryingStore) -> None:
    expected = await faulty.inner.put_if_absent("key", b"old")
    faulty.inject("compare_and_swap", "*", Fail(GONE, late=True), times=1)

    async def build_on() -> None:
        while (await faulty.inner.get("key")).data != b"new":
            await trio.lowlevel.checkpoint()
        await faulty.inner.overwrite("key", b"newer")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(build_on)
        with pytest.raises(VersionMismatchError):
            await store.compare_and_swap("key", b"new", expected)
    assert (await faulty.inner.get("key")).data == b"newer"


async def test_a_deletion_that_happened_is_done(faulty: FaultyStore, store: RetryingStore) -> None:
    version = await faulty.inner.put_if_absent("key", b"1")
    faulty.inject("delete", "*", Fail(GONE, late=True), times=1)
    await store.delete("key", version)
    await faulty.inner.put_if_absent("key", b"2")
    with pytest.raises(VersionMismatchError):
        await store.delete("key", Version("another"))


async def test_looking_for_what_happened_may_fail_as_well(faulty: FaultyStore, store: RetryingStore) -> None:
    faulty.inject("put_if_absent", "*", Fail(GONE, late=True), times=1)
    faulty.inject(READS, "*", Fail(GONE), times=1)
    await store.put_if_absent("key", b"mine")
    faulty.assert_all_exercised()


async def test_what_is_gone_again_is_a_conflict_all_the_same(faulty: FaultyStore, store: RetryingStore) -> None:
    faulty.inject("put_if_absent", "*", Fail(GONE, late=True), times=1)
    faulty.inject("get_range", "*", Fail(ObjectNotFoundError("key", "memory:")), times=1)
    with pytest.raises(ObjectExistsError):
        await store.put_if_absent("key", b"mine")


# --- listings, uploads, the wrapped store


async def test_a_listing_goes_on_where_it_broke_off(faulty: FaultyStore) -> None:
    keys = [f"k{number:03}" for number in range(300)]
    for key in keys:
        await faulty.inner.put_if_absent(key, b"")
    store = RetryingStore(_BreakingListings(faulty.inner, every=7), LIMITS)
    assert [info.key async for info in store.list("k", start_after="k009")] == keys[10:]


class _BreakingListings(MemoryStore):
    """Its listings fail at every so many objects."""

    def __init__(self, inner: Store, every: int) -> None:
        super().__init__()
        self._inner = inner
        self._every = every

    def list(self, prefix: str, *, start_after: str = "") -> _Breaking:  # type: ignore[override]
        return _Breaking(self._inner.list(prefix, start_after=start_after), self._every)


class _Breaking:
    def __init__(self, listing: object, every: int) -> None:
        self._listing = listing
        self._left = every

    def __aiter__(self) -> _Breaking:
        return self

    async def __anext__(self) -> object:
        if not self._left:
            raise GONE
        self._left -= 1
        return await anext(self._listing)  # type: ignore[call-overload]


async def test_uploads_are_handed_on(faulty: FaultyStore, store: RetryingStore) -> None:
    faulty.inject("upload.write", "*", Fail(GONE), times=1)
    with pytest.raises(StoreUnreachableError):
        async with store.upload("key") as upload:
            await upload.write(b"1")
    assert [call.operation for call in faulty.calls].count("upload.write") == 1


def test_the_wrapped_store_can_be_had() -> None:
    inner = MemoryStore()
    assert single_attempts(RetryingStore(inner, LIMITS)) is inner
    assert single_attempts(inner) is inner
