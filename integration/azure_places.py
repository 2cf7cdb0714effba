"""Places for the stores' contract in a container of the small Azure server, asked by the real obstore."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from fsd.limits import Limits
from fsd.stores.obstore import ObstoreStore
from fsd.stores.obstore_clients import azure_clients
from fsd.stores.obstore_clouds import AZURE
from integration.azure_server import ACCOUNT, KEY, AzureServer
from integration.places import PREFIX, Places, closing
from tests.contract.places import MakePlace

LIMITS = Limits(store_timeout_s=20.0, store_connections=16, store_attempts=4, retry_min_s=0.001, retry_max_s=0.01)


@contextmanager
def azure_environment(url: str) -> Iterator[pytest.MonkeyPatch]:
    """Clients find the server and credentials, and nobody who knows this machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AZURE_STORAGE_ENDPOINT", url)
        patch.setenv("AZURE_STORAGE_ACCOUNT_NAME", ACCOUNT)
        patch.setenv("AZURE_STORAGE_ACCOUNT_KEY", KEY)
        # Where a machine's identity would be asked for.
        patch.setenv("AZURE_MSI_ENDPOINT", "http://127.0.0.1:1/")
        yield patch


def places_in(server: AzureServer) -> Places[ObstoreStore]:
    """Places in containers of a server."""
    return Places(server.create_container, lambda name: ObstoreStore(AZURE, name, PREFIX, LIMITS, azure_clients))


@contextmanager
def azure_places() -> Iterator[MakePlace]:
    """Places in a server of their own."""
    with AzureServer() as server, azure_environment(server.url), closing(places_in(server)) as places:
        yield places.make
