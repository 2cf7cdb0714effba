"""Places for the stores' contract in a container of the small Azure server, asked by the real obstore."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from fsd.limits import Limits
from fsd.stores.obstore import ObstoreStore
from fsd.stores.obstore_clients import azure_clients
from fsd.stores.obstore_clouds import AZURE
from integration.azure_server import ACCOUNT, KEY, AzureServer
from tests.contract.places import MakePlace, Place

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


class AzurePlaces:
    """Makes places in one server, and closes all stores that were opened there."""

    def __init__(self, server: AzureServer) -> None:
        self._server = server
        self._numbers = itertools.count()
        self._opened: list[ObstoreStore] = []

    def make(self, _: Path) -> Place:
        """A container of its own, and stores below a prefix."""
        name = f"container{next(self._numbers)}"
        self._server.create_container(name)
        return Place(lambda: self.open(name))

    def open(self, container: str, limits: Limits = LIMITS) -> ObstoreStore:
        """A store that will be closed."""
        store = ObstoreStore(AZURE, container, "some/prefix", limits, azure_clients)
        self._opened.append(store)
        return store

    def close(self) -> None:
        """Leave no connection open."""

        async def close_all() -> None:
            for store in self._opened:
                await store.aclose()

        trio.run(close_all)


@contextmanager
def azure_places() -> Iterator[MakePlace]:
    """Places in a server of their own."""
    with AzureServer() as server, azure_environment(server.url):
        places = AzurePlaces(server)
        try:
            yield places.make
        finally:
            places.close()
