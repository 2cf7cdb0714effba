"""Uploads into a bucket, and how they are taken up where they broke off."""

# Fixtures are imported, and then used as arguments of the same name:
# ruff: noqa: F401, F811

from __future__ import annotations

import os
from dataclasses import replace

import pytest
import trio

from fsd.errors import StoreUnreachableError
from fsd.limits import MIB
from fsd.stores.base import ObjectExistsError, ObjectNotFoundError, Version
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
    # Of 16 MiB, of twice as much, and the rest.
    assert asked(server) == ["resumable.start", *["resumable.part"] * 3]
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


async def test_an_upload_goes_on_when_its_share_becomes_smaller(server: GcsServer, open_store: OpenStore) -> None:
    store = open_store(replace(LIMITS, upload_bytes=32 * MIB))
    data = content(13 * MIB)
    async with store.upload("key") as first:
        await first.write(data[: 12 * MIB])
        server.counters.wait_idle()
        assert not server.counters.requests, "no part is full yet"
        async with store.upload("other"):
            with trio.fail_after(10):
                await first.write(data[12 * MIB :])
        await first.finish()
    assert (await store.get("key")).data == data


class Note:
    """A bookmark in memory."""

    def __init__(self) -> None:
        self.text = ""
        self.texts: list[str] = []

    def read(self) -> str:
        return self.text

    def write(self, text: str) -> None:
        self.text = text
        self.texts.append(text)


async def interrupted(store: GcsStore, data: bytes, bookmark: Note) -> None:
    """Write so much that a part must have arrived, and go no further."""
    async with store.upload("key", bookmark=bookmark) as upload:
        await upload.write(data)


async def upload_again(store: GcsStore, data: bytes, bookmark: Note) -> Version:
    async with store.upload("key", bookmark=bookmark) as upload:
        for start in range(0, len(data), 3 * MIB):
            await upload.write(data[start : start + 3 * MIB])
        return await upload.finish()


async def test_a_later_upload_sends_only_the_rest(server: GcsServer, open_store: OpenStore) -> None:
    data, note = os.urandom(60 * MIB), Note()
    # There is room for so much only when the first part has arrived.
    await interrupted(open_store(replace(LIMITS, upload_bytes=32 * MIB)), data[: 40 * MIB], note)
    assert len(server.sessions) == 1
    server.counters.wait_idle()
    server.counters.reset()
    version = await upload_again(open_store(), data, note)
    server.counters.wait_idle()
    assert server.counters.bytes_in <= 44 * MIB
    assert server.counters.requests["resumable.start"] == 0
    fetched = await open_store().get("key")
    assert (fetched.data, fetched.version) == (data, version)


async def test_an_upload_that_had_ended_is_only_compared(server: GcsServer, store: GcsStore) -> None:
    data, note = os.urandom(40 * MIB), Note()
    version = await upload_again(store, data, note)
    server.counters.wait_idle()
    server.counters.reset()
    assert await upload_again(store, data, note) == version
    assert asked(server) == ["resumable.status"]


async def test_an_upload_that_the_server_forgot_begins_anew(server: GcsServer, store: GcsStore) -> None:
    data, note = os.urandom(40 * MIB), Note()
    await interrupted(store, data, note)
    server.sessions.drop_unfinished()
    await upload_again(store, data, note)
    assert (await store.get("key")).data == data
    for text in ("", "x", "{}", '{"url": "http://127.0.0.1:1/upload_id=x", "received": 262144, "crc32c": 1}'):
        await store.delete("key")
        note.text = text
        await upload_again(store, data, note)
        assert (await store.get("key")).data == data


@pytest.mark.parametrize("changed", ["before what was written down", "behind it", "shorter"])
async def test_an_upload_of_other_bytes_is_not_taken_up(server: GcsServer, store: GcsStore, changed: str) -> None:
    data, note = os.urandom(60 * MIB), Note()
    server.faults.add(Cut(20 * MIB), operations=["resumable.part"], times=1, after=1)
    server.faults.add(Status(503), operations=["resumable.status"], times=4)
    with pytest.raises(StoreUnreachableError):
        await upload_again(store, data, note)
    server.counters.wait_idle()
    at = {"before what was written down": 0, "behind it": 20 * MIB, "shorter": 60 * MIB}[changed]
    other = data[: 32 * MIB] if changed == "shorter" else data[:at] + b"other" + data[at + 5 :]
    with pytest.raises(StoreUnreachableError, match=r"damaged|not what was sent|shorter"):
        await upload_again(store, other, note)
    assert note.text == ""
    with pytest.raises(ObjectNotFoundError):
        await store.get("key")
    await upload_again(store, other, note)
    assert (await store.get("key")).data == other


async def test_an_upload_that_gave_up_is_taken_up(server: GcsServer, store: GcsStore) -> None:
    """A network that was gone for long is as good as a kill."""
    data, note = os.urandom(60 * MIB), Note()
    server.faults.add(Status(503), operations=["resumable.part"], times=LIMITS.store_attempts, after=1)
    with pytest.raises(StoreUnreachableError):
        await upload_again(store, data, note)
    assert asked(server).count("resumable.cancel") == 0
    await upload_again(store, data, note)
    assert asked(server)[0] == "resumable.status"
    assert (await store.get("key")).data == data


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


async def test_a_session_that_is_forgotten_is_an_error(server: GcsServer, open_store: OpenStore) -> None:
    store = open_store(replace(LIMITS, upload_bytes=32 * MIB))
    async with store.upload("key") as upload:
        # There is room for so much only when the first part has arrived.
        await upload.write(content(40 * MIB))
        server.sessions.drop_unfinished()
        with pytest.raises(StoreUnreachableError, match="forgotten"):
            await upload.finish()
        with pytest.raises(ValueError, match="has ended"):
            await upload.write(b"x")
    server.counters.wait_idle()
    assert server.counters.requests["resumable.part"] <= 3, "it was not tried again"


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
