"""The store in a bucket: what each call costs, and what it does when the network or the server misbehaves.

(That it keeps the contract is tested in `test_gcs_contract`.)
"""

# Fixtures are imported, and then used as arguments of the same name:
# ruff: noqa: F401, F811

from __future__ import annotations

import os
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
import trio

from fsd.errors import StoreUnreachableError
from fsd.limits import MIB
from fsd.stores.base import Version, VersionMismatchError
from fsd.stores.gcs import GcsStore
from fsd.stores.retry import RetryingStore
from integration.gcs_fixtures import (
    LIMITS,
    OpenStore,
    asked,
    content,
    open_store,
    server,
    store,
    upload,
    wait_for_threads,
)
from integration.gcs_server.faults import Cut, Drip, FlipBit, Lengthen, Reset, Slow, Stall, Status, Truncate
from integration.gcs_server.server import GcsServer

IMPATIENT = replace(LIMITS, store_timeout_s=0.3)

# --- what it costs


async def test_requests(server: GcsServer, store: GcsStore) -> None:
    version = await store.put_if_absent("key", b"0123456789")
    assert asked(server) == ["insert"]
    await store.get("key")
    await store.get_range("key", 2, 3)
    await store.get_range("key", 8, 30)
    await store.get_tail("key", 3)
    assert asked(server) == ["media"] * 4
    await store.stat("key")
    assert asked(server) == ["stat"]
    version = await store.compare_and_swap("key", b"0123456789", version)
    version = await store.overwrite("key", b"0123456789")
    assert asked(server) == ["insert", "insert"]
    assert [info.key async for info in store.list("")] == ["key"]
    assert asked(server) == ["list"]
    async with store.upload("small") as upload:
        await upload.write(bytes(5 * MIB))
        await upload.finish()
    assert asked(server) == ["insert"]
    await store.delete("key", version)
    await store.delete("key")
    assert asked(server) == ["delete", "delete"]
    with pytest.raises(VersionMismatchError):
        await store.compare_and_swap("key", b"", Version("nonsense"))
    assert asked(server) == []


@pytest.mark.parametrize("tells", [False, True])
async def test_requests_for_nothing(server: GcsServer, store: GcsStore, tells: bool) -> None:
    server.api.tells_sizes = tells
    await store.put_if_absent("key", b"0123456789")
    await store.put_if_absent("empty", b"")
    asked(server)
    assert (await store.get_range("key", 10, 1)).size == 10
    assert asked(server) == (["media"] if tells else ["media", "stat"])
    assert (await store.get_tail("empty", 5)).size == 0
    assert asked(server) == (["media"] if tells else ["media", "stat"])
    assert (await store.get_range("key", 0, 0)).size == (await store.get_tail("key", 0)).size == 10
    assert asked(server) == ["stat", "stat"]


async def test_poorer_emulators_do(server: GcsServer, store: GcsStore) -> None:
    server.api.is_poor = True
    data = bytes(range(100))
    version = await store.put_if_absent("key", data)
    for fetched, expected in [
        (await store.get("key"), data),
        (await store.get_range("key", 10, 5), data[10:15]),
        (await store.get_range("key", 100, 5), b""),
        (await store.get_tail("key", 7), data[-7:]),
        (await store.get_tail("key", 700), data),
    ]:
        assert (fetched.data, fetched.version, fetched.size) == (expected, version, 100)


async def test_connections_are_kept(server: GcsServer, store: GcsStore) -> None:
    await store.put_if_absent("key", bytes(100_000))

    async def read() -> None:
        for _ in range(10):
            await store.get_range("key", 0, 50_000)

    async with trio.open_nursery() as nursery:
        for _ in range(16):
            nursery.start_soon(read)
    assert server.counters.connections <= 17
    await store.aclose()
    assert (await store.get("key")).size == 100_000


async def test_calls_at_once_are_bounded(server: GcsServer, open_store: OpenStore) -> None:
    store = open_store(replace(LIMITS, store_connections=3))
    await store.put_if_absent("key", b"x")
    server.link.rtt_s = 0.01
    async with trio.open_nursery() as nursery:
        for _ in range(12):
            nursery.start_soon(store.get, "key")
    assert server.counters.most_in_flight == 3


async def test_no_copies_of_what_changes_are_served(server: GcsServer, store: GcsStore) -> None:
    await store.compare_and_swap("ref", b"1", None)
    found = server.buckets["bucket"].find("prefix/ref")
    assert found is not None
    assert found.settings["cacheControl"] == "no-cache"


async def test_strangers_in_the_bucket_are_not_seen(server: GcsServer, open_store: OpenStore) -> None:
    store, whole = open_store(), open_store(prefix="")
    bucket = server.buckets["bucket"]
    for name in ["prefix/", "prefix/.hidden", "prefix/a//b", "prefix/with space", "prefix-/a", "prefiw/z", "z z"]:
        bucket.write(name, server.buckets.storage.store([b""]), {}, {})
    await store.put_if_absent("a", b"1")
    assert [info.key async for info in store.list("")] == ["a"]
    assert [info.key async for info in whole.list("")] == ["prefiw/z", "prefix-/a", "prefix/a"]
    assert (await whole.get("prefix/a")).data == b"1"


async def test_a_page_of_strangers_is_not_the_end(server: GcsServer, store: GcsStore) -> None:
    bucket = server.buckets["bucket"]
    empty = server.buckets.storage.store([b""])
    for number in range(2_500):
        bucket.write(f"prefix/a {number}", empty, {}, {})
    await store.put_if_absent("b", b"1")
    asked(server)
    assert [info.key async for info in store.list("")] == ["b"]
    assert asked(server) == ["list"] * 3


# --- faults


async def test_errors_of_the_server(server: GcsServer, store: GcsStore) -> None:
    await store.put_if_absent("key", b"x")
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: store.get("key"),
        lambda: store.get_range("key", 0, 1),
        lambda: store.stat("key"),
        lambda: anext(store.list("")),
        lambda: store.put_if_absent("new", b"1"),
        lambda: store.overwrite("key", b"1"),
        lambda: store.delete("key"),
    ]
    for status in (408, 429, 500, 502, 503):
        for call in calls:
            server.faults.add(Status(status), times=1)
            asked(server)
            with pytest.raises(StoreUnreachableError, match=f"answered {status}"):
                await call()
            # One attempt a call.
            assert len(asked(server)) == 1
            server.faults.clear()
    assert (await store.get("key")).data == b"x"


SPOILERS = [
    Truncate(1),
    Truncate(1, honest=True),
    Truncate(50_000),
    Lengthen(1),
    Lengthen(100_000),
    Reset(),
    Reset(0),
    Reset(20_000),
    Cut(),
]


@pytest.mark.parametrize("spoiler", SPOILERS, ids=repr)
async def test_spoilt_answers_are_errors(server: GcsServer, store: GcsStore, spoiler: Truncate) -> None:
    data = os.urandom(100_000)
    await store.put_if_absent("key", data)
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: store.get("key"),
        lambda: store.get_range("key", 100, 60_000),
        lambda: store.get_tail("key", 60_000),
    ]
    for call in calls:
        server.faults.add(spoiler, operations=["media"], times=1)
        with pytest.raises(StoreUnreachableError):
            await call()
    assert (await store.get("key")).data == data


async def test_more_than_was_promised_is_ignored(server: GcsServer, store: GcsStore) -> None:
    data = os.urandom(100_000)
    await store.put_if_absent("key", data)
    for _ in range(5):
        server.faults.add(Lengthen(1000, honest=False), operations=["media"], times=1)
        assert (await store.get_range("key", 0, 50_000)).data == data[:50_000]
        assert (await RetryingStore(store, LIMITS).get("key")).data == data


async def test_a_bit_that_flipped_is_seen_in_whole_objects(server: GcsServer, store: GcsStore) -> None:
    await store.put_if_absent("key", os.urandom(1000))
    server.faults.add(FlipBit(), operations=["media"], times=1)
    with pytest.raises(StoreUnreachableError, match="damaged"):
        await store.get("key")


@pytest.mark.parametrize("action", [Stall(), Stall(100), Drip(0.02), Drip(0.001, head=True), Slow(60)], ids=repr)
@pytest.mark.parametrize("operation", ["media", "stat", "list", "insert", "delete"])
async def test_no_call_takes_longer_than_it_may(
    server: GcsServer, open_store: OpenStore, action: Stall, operation: str
) -> None:
    await open_store().put_if_absent("key", bytes(1000))
    store = open_store(IMPATIENT)
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "media": lambda: store.get("key"),
        "stat": lambda: store.stat("key"),
        "list": lambda: anext(store.list("")),
        "insert": lambda: store.put_if_absent("new", b"1"),
        "delete": lambda: store.delete("key"),
    }
    if operation == "delete" and action in (Stall(100), Drip(0.02)):
        pytest.skip("its answer has no body")
    await store.stat("key")
    server.faults.add(action, operations=[operation], times=1)
    started_s = trio.current_time()
    with pytest.raises(StoreUnreachableError, match="did not answer within"):
        await calls[operation]()
    assert 0.25 <= trio.current_time() - started_s < 5
    await wait_for_threads(store)


async def test_what_is_cancelled_frees_its_thread(server: GcsServer, store: GcsStore) -> None:
    await store.put_if_absent("key", bytes(1000))
    for action in (Stall(), Stall(100), Drip(1.0)):
        stall = server.faults.add(action, operations=["media"], times=4)
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(store.get, "key")
            await trio.to_thread.run_sync(stall.wait_met, 4)
            nursery.cancel_scope.cancel()
        await wait_for_threads(store)
        assert (await store.get("key")).size == 1000


async def test_the_stalled_delay_nobody(server: GcsServer, store: GcsStore) -> None:
    await store.put_if_absent("stalled", b"x")
    await store.put_if_absent("key", b"y")
    stall = server.faults.add(Stall(), match="*stalled", operations=["media"], times=64)
    async with trio.open_nursery() as nursery:
        for _ in range(64):
            nursery.start_soon(store.get, "stalled")
        await trio.to_thread.run_sync(stall.wait_met, 64)
        with trio.fail_after(5):
            assert (await store.get("key")).data == b"y"
        nursery.cancel_scope.cancel()


async def test_a_server_that_goes_and_comes_back(server: GcsServer, store: GcsStore) -> None:
    await store.put_if_absent("key", b"x")
    server.stop()
    with pytest.raises(StoreUnreachableError, match=r"127\.0\.0\.1:\d+ cannot be reached"):
        await store.get("key")
    server.start()
    # A connection of before may be taken for a living one, once.
    assert (await RetryingStore(store, LIMITS).get("key")).data == b"x"


async def test_a_name_that_does_not_resolve(open_store: OpenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://storage.invalid:1")
    with pytest.raises(StoreUnreachableError, match=r"storage\.invalid:1 cannot be resolved"):
        await open_store().get("key")


async def test_no_bucket(server: GcsServer, store: GcsStore) -> None:
    server.buckets.delete("bucket")
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: store.stat("key"),
        lambda: anext(store.list("")),
        lambda: store.put_if_absent("key", b""),
    ]
    for call in calls:
        with pytest.raises(StoreUnreachableError, match="there is no bucket gs://bucket"):
            await call()


# --- all at once


async def test_nothing_is_lost_where_one_request_in_five_fails(server: GcsServer, open_store: OpenStore) -> None:
    plain = open_store(replace(LIMITS, store_attempts=12))
    store = RetryingStore(plain, plain.limits)
    for action in (Status(503), Status(429), Reset(), Cut(10), Truncate(3)):
        server.faults.add(action, probability=0.04)
    bodies = {f"packs/{number}": content(5_000_000 * (1 + number % 4) + number) for number in range(12)}

    async def write(key: str) -> None:
        await upload(store, key, bodies[key], piece=777_777)

    async def check(key: str) -> None:
        found = [(await store.get_range(key, start, MIB)).data for start in range(0, len(bodies[key]), MIB)]
        assert b"".join(found) == bodies[key]

    for job in (write, check):
        async with trio.open_nursery() as nursery:
            for key in bodies:
                nursery.start_soon(job, key)
    assert {info.key: info.size async for info in store.list("packs/")} == {
        key: len(data) for key, data in bodies.items()
    }
    assert threading.active_count() < 200
