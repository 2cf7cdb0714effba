"""Who asks a bucket: credentials, TLS, and that no secret is told."""

# Fixtures are imported, and then used as arguments of the same name:
# ruff: noqa: F401, F811

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from fsd.errors import StorePermissionError, StoreUnreachableError
from fsd.limits import MIB
from fsd.stores.gcs import GcsStore
from fsd.stores.retry import RetryingStore
from integration.gcs_fixtures import LIMITS, asked, content, open_store, server, store, upload, wait_for_threads
from integration.gcs_places import key_file
from integration.gcs_server.faults import Drip, Stall
from integration.gcs_server.server import GcsServer
from integration.tls import behind_tls, make_certificate

# --- credentials


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
        await upload(store, "new", content(20 * MIB))
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
        await wait_for_threads(store)
    assert (await store.get("small")).size == 1000


@pytest.mark.usefixtures("secured")
async def test_a_certificate_that_is_not_trusted(store: GcsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    with pytest.raises(StoreUnreachableError, match=r"the certificate of localhost:\d+ is not accepted"):
        await store.get("key")
