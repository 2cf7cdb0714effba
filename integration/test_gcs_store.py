"""The store in a bucket: what each call costs, and what it does when the network or the server misbehaves.

(That it keeps the contract is tested in `test_gcs_contract`.)
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from fsd.errors import StorePermissionError, StoreUnreachableError
from fsd.limits import MIB, Limits
from fsd.stores.base import ObjectExistsError, ObjectNotFoundError, Store, Version, VersionMismatchError
from fsd.stores.gcs import GcsStore
from fsd.stores.retry import RetryingStore
from integration.gcs_places import serving
from integration.gcs_server.faults import Cut, Drip, FlipBit, Lengthen, Reset, Slow, Stall, Status, Truncate
from integration.gcs_server.server import GcsServer
from integration.tls import behind_tls, make_certificate

LIMITS = Limits(store_timeout_s=20.0, store_attempts=4, retry_min_s=0.001, retry_max_s=0.01)
IMPATIENT = replace(LIMITS, store_timeout_s=0.3)
OpenStore = Callable[..., GcsStore]


@pytest.fixture
def server() -> Iterator[GcsServer]:
    with serving(GcsServer()) as server:
        server.create_bucket("bucket")
        yield server
        server.faults.assert_all_exercised()


@pytest.fixture
def open_store(server: GcsServer) -> Iterator[OpenStore]:  # noqa: ARG001
    opened: list[GcsStore] = []

    def open_(limits: Limits = LIMITS, prefix: str = "prefix") -> GcsStore:
        opened.append(GcsStore("bucket", prefix, limits))
        return opened[-1]

    yield open_

    async def close() -> None:
        for store in opened:
            await store.aclose()

    trio.run(close)


@pytest.fixture
def store(open_store: OpenStore) -> GcsStore:
    return open_store()


def asked(server: GcsServer) -> list[str]:
    """The operations since the last time."""
    server.counters.wait_idle()
    operations = [record.operation for record in server.counters.records]
    server.counters.reset()
    return operations


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
    await _wait_for_threads(store)


async def _wait_for_threads(store: GcsStore) -> None:
    """No thread is left behind: all of the store's can be had."""
    threads = [object() for _ in range(int(store._limiter.total_tokens))]
    for thread in threads:
        await store._limiter.acquire_on_behalf_of(thread)
    for thread in threads:
        store._limiter.release_on_behalf_of(thread)


async def test_what_is_cancelled_frees_its_thread(server: GcsServer, store: GcsStore) -> None:
    await store.put_if_absent("key", bytes(1000))
    for action in (Stall(), Stall(100), Drip(1.0)):
        stall = server.faults.add(action, operations=["media"], times=4)
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(store.get, "key")
            await trio.to_thread.run_sync(stall.wait_met, 4)
            nursery.cancel_scope.cancel()
        await _wait_for_threads(store)
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


# --- uploads


def content(size: int) -> bytes:
    return os.urandom(1 << 16) * (size >> 16) + bytes(size & 0xFFFF)


async def upload(store: Store, key: str, data: bytes, *, piece: int = 3 * MIB) -> Version:
    async with store.upload(key) as upload:
        for start in range(0, len(data), piece):
            await upload.write(memoryview(data)[start : start + piece])
        return await upload.finish()


async def test_a_large_upload(server: GcsServer, store: GcsStore) -> None:
    data = content(60 * MIB + 12_345)
    version = await upload(store, "key", data)
    operations = asked(server)
    assert operations == ["resumable.start", *["resumable.part"] * 4]
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
    data = content(30 * MIB + 1)
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
    data = content(10 * MIB)
    server.faults.add(Reset(), operations=["resumable.part"], times=1, after=1)
    version = await upload(store, "key", data)
    assert asked(server)[-1] == "resumable.status"
    assert (await store.stat("key")).version == version


async def test_progress_is_no_failure(server: GcsServer, store: GcsStore) -> None:
    server.faults.add(Cut(MIB), operations=["resumable.part"], times=12)
    data = content(15 * MIB)
    await upload(store, "key", data)
    assert (await store.get("key")).data == data


async def test_an_upload_gives_up(server: GcsServer, store: GcsStore) -> None:
    server.faults.add(Status(503), operations=["resumable.part"])
    with pytest.raises(StoreUnreachableError, match="503"):
        await upload(store, "key", content(10 * MIB))
    server.counters.wait_idle()
    assert server.counters.requests["resumable.part"] == LIMITS.store_attempts
    assert server.counters.requests["resumable.cancel"] == 1
    assert len(server.sessions) == 0


async def test_a_session_that_is_forgotten_is_an_error(server: GcsServer, store: GcsStore) -> None:
    async with store.upload("key") as upload:
        await upload.write(content(10 * MIB))
        server.sessions.drop_unfinished()
        with pytest.raises(StoreUnreachableError, match="forgotten"):
            await upload.finish()
        with pytest.raises(ValueError, match="has ended"):
            await upload.write(b"x")
    server.counters.wait_idle()
    assert server.counters.requests["resumable.part"] == 2


async def test_large_uploads_meet_what_came_first(store: GcsStore) -> None:
    async with store.upload("key") as upload_:
        await upload_.write(content(10 * MIB))
        await store.put_if_absent("key", b"first")
        with pytest.raises(ObjectExistsError):
            await upload_.finish()
    with pytest.raises(ObjectExistsError):
        await upload(store, "key", content(10 * MIB))
    assert (await store.get("key")).data == b"first"


@pytest.mark.parametrize("action", [Reset(), Cut(), Status(503)], ids=repr)
async def test_small_uploads_are_tried_again(server: GcsServer, store: GcsStore, action: Reset) -> None:
    server.faults.add(action, operations=["insert"], times=2)
    await upload(store, "key", b"x" * 1000)
    assert (await store.get("key")).data == b"x" * 1000


async def test_what_is_damaged_on_its_way_is_removed(store: GcsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("integration.gcs_server.uploads.Session.crc32c", "AAAAAA==")
    with pytest.raises(StoreUnreachableError, match="damaged"):
        await upload(store, "key", content(10 * MIB))
    with pytest.raises(ObjectNotFoundError):
        await store.get("key")


async def test_a_cancelled_upload_leaves_nothing(server: GcsServer, store: GcsStore) -> None:
    stall = server.faults.add(Stall(), operations=["resumable.part"], times=1, after=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(upload, store, "key", content(60 * MIB))
        await trio.to_thread.run_sync(stall.wait_met)
        nursery.cancel_scope.cancel()
    await _wait_for_threads(store)
    assert len(server.sessions) == 0
    assert [info async for info in store.list("")] == []


# --- credentials


@contextmanager
def key_file(server: GcsServer, folder: Path) -> Iterator[Path]:
    """A service account whose tokens come from the test server, which demands them."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = folder / "key.json"
    account = {
        "type": "service_account",
        "project_id": "test",
        "private_key_id": "1",
        "private_key": pem.decode(),
        "client_email": "somebody@test.iam.gserviceaccount.com",
        "token_uri": f"{server.url}/token",
    }
    path.write_text(json.dumps(account))
    server.access.demands_token = True
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("STORAGE_EMULATOR_HOST", raising=False)
        patch.setenv("API_ENDPOINT_OVERRIDE", server.url)
        patch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
        # Nobody is to look for the credentials of the machine that this runs on.
        patch.setenv("NO_GCE_CHECK", "true")
        patch.setenv("CLOUDSDK_CONFIG", str(folder))
        yield path


@pytest.fixture
def credentials(server: GcsServer, tmp_path: Path) -> Iterator[Path]:
    with key_file(server, tmp_path) as path:
        yield path


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG)
    return caplog


def assert_no_secret(server: GcsServer, text: str) -> None:
    for secret in ("PRIVATE KEY", "upload_id", *server.access.issued):
        assert secret not in text


@pytest.mark.usefixtures("credentials")
async def test_credentials_are_used(server: GcsServer, store: GcsStore, logged: pytest.LogCaptureFixture) -> None:
    await upload(store, "key", content(10 * MIB))
    assert (await store.get_range("key", 0, 10)).size == 10 * MIB
    assert len(server.access.issued) == 1
    server.access.revoke()
    # They are renewed, and nobody notices.
    assert (await store.get_range("key", 0, 10)).size == 10 * MIB
    assert len(server.access.issued) == 2
    assert_no_secret(server, logged.text)


@pytest.mark.usefixtures("credentials")
async def test_credentials_that_are_revoked_while_reading(
    server: GcsServer, store: GcsStore, logged: pytest.LogCaptureFixture
) -> None:
    await store.put_if_absent("key", b"x")
    server.access.revoke()
    server.access.grants_tokens = False
    asked(server)
    for call in (lambda: store.get("key"), lambda: store.stat("key"), lambda: store.put_if_absent("new", b"")):
        with pytest.raises(StorePermissionError, match="expired or were revoked") as caught:
            await RetryingStore(store, LIMITS).get("key") if call is None else await call()
        assert "gcloud auth application-default login" in caught.value.hint
        assert "\n" not in str(caught.value)
        assert_no_secret(server, str(caught.value) + logged.text)
    server.access.grants_tokens = True
    assert (await store.get("key")).data == b"x"


async def test_access_denied(server: GcsServer, store: GcsStore) -> None:
    await store.put_if_absent("key", b"x")
    server.access.forbids = "storage.objects.create"
    asked(server)
    with pytest.raises(StorePermissionError, match=r"access is denied|not everybody may"):
        await RetryingStore(store, LIMITS).put_if_absent("new", b"x")
    with pytest.raises(StorePermissionError, match=r"storage\.objects\.create"):
        await upload(store, "new", content(10 * MIB))
    assert asked(server) == ["insert", "resumable.start"]
    assert (await store.get("key")).data == b"x"


@pytest.mark.usefixtures("credentials")
async def test_no_credentials(server: GcsServer, store: GcsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS")
    with pytest.raises(StorePermissionError, match="no credentials were found, and not everybody may") as caught:
        await store.get("key")
    assert "GOOGLE_APPLICATION_CREDENTIALS" in caught.value.hint
    # What is open to everybody needs none.
    server.access.demands_token = False
    await store.put_if_absent("key", b"x")
    assert (await store.get("key")).data == b"x"


@pytest.fixture(params=[None, "nonsense", "{}", '{"type": "service_account"}'])
def bad_credentials(credentials: Path, request: pytest.FixtureRequest) -> Path:
    credentials.unlink()
    if request.param is not None:
        credentials.write_text(request.param)
    return credentials


async def test_credentials_that_cannot_be_used(store: GcsStore, bad_credentials: Path) -> None:
    with pytest.raises(StorePermissionError, match="the credentials cannot be used") as caught:
        await store.get("key")
    assert str(bad_credentials) in caught.value.message
    assert "\n" not in str(caught.value)


# --- TLS


@pytest.fixture
def secured(server: GcsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    certificate = make_certificate(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    with behind_tls(int(server.url.rpartition(":")[2]), certificate) as url:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        server.api.scheme = "https"
        yield url


@pytest.mark.usefixtures("secured")
async def test_over_tls(server: GcsServer, store: GcsStore) -> None:
    data = content(20 * MIB)
    await upload(store, "key", data)
    assert (await store.get("key")).data == data
    await store.put_if_absent("small", bytes(1000))
    for action in (Stall(), Stall(100), Drip(1.0)):
        stall = server.faults.add(action, operations=["media"], times=4)
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(store.get, "small")
            await trio.to_thread.run_sync(stall.wait_met, 4)
            nursery.cancel_scope.cancel()
        await _wait_for_threads(store)
    assert (await store.get("small")).size == 1000


@pytest.mark.usefixtures("secured")
async def test_a_certificate_that_is_not_trusted(store: GcsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    with pytest.raises(StoreUnreachableError, match=r"the certificate of localhost:\d+ is not accepted"):
        await store.get("key")


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
