"""Uploads into a bucket, and how they are taken up where they broke off."""

# Fixtures are imported, and then used as arguments of the same name:
# ruff: noqa: F401, F811

from __future__ import annotations

from dataclasses import replace

import pytest
import trio

from fsd.errors import StoreUnreachableError
from fsd.limits import MIB
from fsd.stores.base import ObjectExistsError, ObjectNotFoundError
from fsd.stores.gcs import GcsStore
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
from integration.gcs_server.faults import Cut, Reset, Stall, Status
from integration.gcs_server.server import GcsServer


async def test_a_large_upload(server: GcsServer, store: GcsStore) -> None:
    data = content(60 * MIB + 12_345)
    version = await upload(store, "key", data)
    operations = asked(server)
    assert operations == ["resumable.start", *["resumable.part"] * 3]
    fetched = await store.get("key")
    assert (fetched.data, fetched.version) == (data, version)


async def test_pieces_of_all_sizes(store: GcsStore) -> None:
    data = content(20 * MIB)
    for piece in (20 * MIB, 8 * MIB, 262_144, 100_001):
        await upload(store, f"key{piece}", data, piece=piece)
        assert (await store.get(f"key{piece}")).data == data


async def test_uploads_share_their_memory(server: GcsServer, open_store: OpenStore) -> None:
    store = open_store(replace(LIMITS, upload_bytes=8 * MIB))
    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(upload, store, f"key{number}", content(12 * MIB))
    server.counters.wait_idle()
    parts = [record.range for record in server.counters.records if record.operation == "resumable.part"]
    sizes = [int(end) + 1 - int(start) for start, end in (part[6:].split("/")[0].split("-") for part in parts)]
    # The first to begin may be alone; two shares are left over from one whose neighbour came later.
    assert sum(sizes) == 48 * MIB
    assert sorted(sizes)[len(sizes) // 2] <= 4 * MIB


UPLOAD_FAULTS = {
    "start refused": (Status(503), "resumable.start", 2),
    "start answered in vain": (Reset(), "resumable.start", 1),
    "part refused": (Status(503), "resumable.part", 3),
    "part cut": (Cut(5 * MIB), "resumable.part", 2),
    "part cut at once": (Cut(0), "resumable.part", 3),
    "part answered in vain": (Reset(), "resumable.part", 1),
    "question refused": (Status(500), "resumable.status", 2),
    "question answered in vain": (Reset(), "resumable.status", 2),
}


@pytest.mark.parametrize("fault", UPLOAD_FAULTS)
@pytest.mark.parametrize("after", [0, 1, 2])
async def test_uploads_are_taken_up(server: GcsServer, store: GcsStore, fault: str, after: int) -> None:
    data = content(56 * MIB + 1)
    action, operation, times = UPLOAD_FAULTS[fault]
    if operation == "resumable.part":
        server.faults.add(action, operations=[operation], times=times, after=after)
    else:
        server.faults.add(action, operations=[operation], times=times)
        if operation == "resumable.status":
            server.faults.add(Reset(), operations=["resumable.part"], times=1, after=after)
    version = await upload(store, "key", data)
    fetched = await store.get("key")
    assert (fetched.data, fetched.version) == (data, version)


async def test_the_answer_to_the_last_part_may_get_lost(server: GcsServer, store: GcsStore) -> None:
    data = content(20 * MIB)
    server.faults.add(Reset(), operations=["resumable.part"], times=1, after=1)
    version = await upload(store, "key", data)
    assert asked(server)[-1] == "resumable.status"
    assert (await store.stat("key")).version == version


async def test_progress_is_no_failure(server: GcsServer, store: GcsStore) -> None:
    server.faults.add(Cut(MIB), operations=["resumable.part"], times=12)
    data = content(20 * MIB)
    await upload(store, "key", data)
    assert (await store.get("key")).data == data


async def test_an_upload_gives_up(server: GcsServer, store: GcsStore) -> None:
    server.faults.add(Status(503), operations=["resumable.part"])
    with pytest.raises(StoreUnreachableError, match="503"):
        await upload(store, "key", content(20 * MIB))
    server.counters.wait_idle()
    assert server.counters.requests["resumable.part"] == LIMITS.store_attempts
    assert server.counters.requests["resumable.cancel"] == 1
    assert len(server.sessions) == 0


async def test_a_session_that_is_forgotten_is_an_error(server: GcsServer, store: GcsStore) -> None:
    async with store.upload("key") as upload:
        # There is room for so much only when the first part has arrived.
        await upload.write(content(40 * MIB))
        server.sessions.drop_unfinished()
        with pytest.raises(StoreUnreachableError, match="forgotten"):
            await upload.finish()
        with pytest.raises(ValueError, match="has ended"):
            await upload.write(b"x")
    server.counters.wait_idle()
    assert server.counters.requests["resumable.part"] == 2


async def test_large_uploads_meet_what_came_first(store: GcsStore) -> None:
    async with store.upload("key") as upload_:
        await upload_.write(content(20 * MIB))
        await store.put_if_absent("key", b"first")
        with pytest.raises(ObjectExistsError):
            await upload_.finish()
    for size in (1, 20 * MIB):
        with pytest.raises(ObjectExistsError):
            await upload(store, "key", content(size))
    assert (await store.get("key")).data == b"first"


@pytest.mark.parametrize("size", [1000, 10 * MIB])
@pytest.mark.parametrize("action", [Reset(), Cut(), Status(503)], ids=repr)
async def test_small_uploads_are_tried_again(server: GcsServer, store: GcsStore, action: Reset, size: int) -> None:
    data = content(size)
    server.faults.add(action, operations=["insert"], times=1)
    server.faults.add(action, operations=["resumable.start"], times=1)
    version = await upload(store, "key", data)
    fetched = await store.get("key")
    assert (fetched.data, fetched.version) == (data, version)


async def test_small_uploads_become_large_ones_on_a_slow_link(server: GcsServer, open_store: OpenStore) -> None:
    """What takes longer than a request may."""
    store = open_store(replace(LIMITS, store_timeout_s=0.4, store_attempts=20))
    data = content(6 * MIB)
    server.link.bytes_per_s = 8 * MIB
    await upload(store, "key", data)
    server.link.bytes_per_s = None
    assert (await store.get("key")).data == data
    assert asked(server).count("resumable.part") > 1


async def test_what_is_damaged_on_its_way_is_removed(store: GcsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("integration.gcs_server.uploads.Session.crc32c", "AAAAAA==")
    with pytest.raises(StoreUnreachableError, match="damaged"):
        await upload(store, "key", content(20 * MIB))
    with pytest.raises(ObjectNotFoundError):
        await store.get("key")


async def test_a_cancelled_upload_leaves_nothing(server: GcsServer, store: GcsStore) -> None:
    stall = server.faults.add(Stall(), operations=["resumable.part"], times=1, after=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(upload, store, "key", content(60 * MIB))
        await trio.to_thread.run_sync(stall.wait_met)
        nursery.cancel_scope.cancel()
    await wait_for_threads(store)
    assert len(server.sessions) == 0
    assert [info async for info in store.list("")] == []
