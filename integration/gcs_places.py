"""Places for the stores' contract in a bucket of the test server: as it is, and where one request in five fails."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from fsd.limits import Limits
from fsd.stores.base import Store
from fsd.stores.gcs import GcsStore
from fsd.stores.retry import RetryingStore
from integration.gcs_server.faults import Cut, Reset, Status, Truncate
from integration.gcs_server.server import GcsServer
from tests.contract.places import MakePlace, Place

LIMITS = Limits(store_timeout_s=20.0, store_connections=16, store_attempts=20, retry_min_s=0.001, retry_max_s=0.01)


@contextmanager
def serving(server: GcsServer) -> Iterator[GcsServer]:
    """The server runs, and clients find it."""
    with pytest.MonkeyPatch.context() as patch, server:
        patch.setenv("STORAGE_EMULATOR_HOST", server.url)
        yield server


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


class GcsPlaces:
    """Makes places in one server, and closes all stores that were opened there."""

    def __init__(self, server: GcsServer, wrap: Callable[[GcsStore], Store] = lambda store: store) -> None:
        self._server = server
        self._wrap = wrap
        self._numbers = itertools.count()
        self._opened: list[GcsStore] = []

    def make(self, _: Path) -> Place:
        """A bucket of its own, and stores below a prefix with strangers on both sides."""
        name = f"bucket{next(self._numbers)}"
        self._server.create_bucket(name)
        return Place(lambda: self._open(name))

    def _open(self, bucket: str) -> Store:
        store = GcsStore(bucket, "some/prefix", LIMITS)
        self._opened.append(store)
        return self._wrap(store)

    def close(self) -> None:
        """Leave no connection open."""

        async def close_all() -> None:
            for store in self._opened:
                await store.aclose()

        trio.run(close_all)


def _sound(server: GcsServer) -> GcsPlaces:
    return GcsPlaces(server)


def _retrying(server: GcsServer) -> GcsPlaces:
    return GcsPlaces(server, lambda store: RetryingStore(store, LIMITS))


def _failing(server: GcsServer) -> GcsPlaces:
    """One request in five fails: refused, broken off before or after it was done, or its answer cut short."""
    for action, probability in [
        (Status(503), 0.06),
        (Status(429), 0.04),
        (Reset(), 0.04),
        (Cut(100), 0.03),
        (Truncate(1), 0.03),
    ]:
        server.faults.add(action, probability=probability)
    return _retrying(server)


KINDS = {"gcs": _sound, "gcs-retrying": _retrying, "gcs-failing": _failing}


@contextmanager
def gcs_places(kind: str) -> Iterator[MakePlace]:
    """Places of one kind, in a server of their own."""
    with serving(GcsServer(seed=1)) as server:
        places = KINDS[kind](server)
        try:
            yield places.make
        finally:
            places.close()
        server.faults.assert_all_exercised()
