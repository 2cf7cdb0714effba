"""Places for the stores' contract in a bucket of the test server: as it is, and where one request in five fails."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from fsd.limits import Limits
from fsd.stores.base import Store
from fsd.stores.gcs import GcsStore
from fsd.stores.retry import RetryingStore
from integration.gcs_server.faults import Cut, Reset, Status, Truncate
from integration.gcs_server.server import GcsServer
from integration.places import PREFIX, Places, closing
from tests.contract.places import MakePlace

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


def _places_in(server: GcsServer, wrap: Callable[[GcsStore], Store] = lambda store: store) -> Places[GcsStore]:
    return Places(server.create_bucket, lambda bucket: GcsStore(bucket, PREFIX, LIMITS), wrap=wrap)


def _sound(server: GcsServer) -> Places[GcsStore]:
    return _places_in(server)


def _retrying(server: GcsServer) -> Places[GcsStore]:
    return _places_in(server, lambda store: RetryingStore(store, LIMITS))


def _failing(server: GcsServer) -> Places[GcsStore]:
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
        with closing(KINDS[kind](server)) as places:
            yield places.make
        server.faults.assert_all_exercised()
