"""The faults that tests inject do what they say, and a fault that was never met fails."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from fsd.errors import StoreUnreachableError
from fsd.stores.base import ObjectNotFoundError
from fsd.stores.memory import MemoryStore
from tests.faulty import READS, Action, Call, Fail, FaultyStore, FlipBit, Lengthen, Slow, Stall, Truncate

GONE = StoreUnreachableError("the network is gone")


async def filled() -> FaultyStore:
    store = FaultyStore(MemoryStore())
    await store.put_if_absent("packs/a", b"0123456789")
    await store.put_if_absent("pages/b", b"0123456789")
    return store


async def test_a_fault_hits_its_keys_operations_and_times_only() -> None:
    store = await filled()
    store.inject("get_range", "packs/*", Fail(GONE), times=2, after=1)
    await store.get("packs/a")
    await store.get_range("pages/b", 0, 1)
    await store.get_range("packs/a", 0, 1)
    for _ in range(2):
        with pytest.raises(AssertionError, match=r"packs/\*"):
            store.assert_all_exercised()
        with pytest.raises(StoreUnreachableError):
            await store.get_range("packs/a", 0, 1)
    await store.get_range("packs/a", 0, 1)
    store.assert_all_exercised()
    assert store.calls[-1] == Call("get_range", "packs/a", 0, 1)


async def test_bodies_are_spoiled_once() -> None:
    store = await filled()
    cases: list[tuple[Action, bytes]] = [
        (Truncate(3), b"0123456"),
        (Truncate(99), b""),
        (Lengthen(2), b"0123456789\0\0"),
        (FlipBit(), b"0123446789"),
        (FlipBit(at=1.0, bit=3), b"0123456781"),
    ]
    for action, expected in cases:
        store.inject(READS, "packs/a", action, times=1)
        assert (await store.get("packs/a")).data == expected
        assert (await store.get("packs/a")).data == b"0123456789"
    store.assert_all_exercised()
    with pytest.raises(ValueError, match="for what reads"):
        store.inject("stat", "*", FlipBit())


async def test_an_answer_is_lost_after_the_deed() -> None:
    store = await filled()
    store.inject(("put_if_absent", "upload.finish", "delete"), "*", Fail(GONE, late=True), times=3)
    with pytest.raises(StoreUnreachableError):
        await store.put_if_absent("put", b"1")

    async def upload() -> None:
        async with store.upload("uploaded") as upload:
            await upload.write(b"2")
            await upload.finish()

    with pytest.raises(StoreUnreachableError):
        await upload()
    with pytest.raises(StoreUnreachableError):
        await store.delete("packs/a")
    assert (await store.get("put")).data == b"1"
    assert (await store.get("uploaded")).data == b"2"
    with pytest.raises(ObjectNotFoundError):
        await store.get("packs/a")


async def test_a_stall_can_be_waited_for_and_let_go() -> None:
    store = await filled()
    stall = Stall()
    fault = store.inject("get", "packs/*", stall, times=1)
    results = []

    async def read() -> None:
        results.append(await store.get("packs/a"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await fault.wait_met()
        await trio.testing.wait_all_tasks_blocked()
        assert not results
        stall.release.set()
    assert results[0].data == b"0123456789"


async def test_slow_takes_its_time(autojump_clock: trio.testing.MockClock) -> None:
    store = await filled()
    store.inject("list", "pa*", Slow(3600))
    assert [info.key async for info in store.list("pa")] == ["packs/a", "pages/b"]
    assert autojump_clock.current_time() >= 3600
    store.assert_all_exercised()


async def test_a_removed_fault_is_not_missed() -> None:
    store = await filled()
    store.inject(READS, "*", Fail(GONE)).remove()
    await store.get("packs/a")
    store.assert_all_exercised()


async def test_listings_fail_at_their_start_or_end() -> None:
    store = await filled()
    store.inject("list", "", Fail(GONE), times=1)
    store.inject("list", "", Fail(GONE, late=True), times=1)
    for expected in ([], ["packs/a", "pages/b"]):
        seen: list[str] = []
        with pytest.raises(StoreUnreachableError):
            await _collect(store, seen)
        assert seen == expected


async def _collect(store: FaultyStore, seen: list[str]) -> None:
    async for info in store.list(""):
        seen.append(info.key)  # noqa: PERF401 - a comprehension would lose what came before an error
