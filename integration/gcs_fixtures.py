"""What the tests of the store in a bucket share: a server, stores in it, and what they write.

Fixtures are imported by name: of all tests only these need Google's library.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest
import trio

from fsd.limits import MIB, Limits
from fsd.stores.base import Store, Version
from fsd.stores.gcs import GcsStore
from integration.gcs_places import serving
from integration.gcs_server.server import GcsServer

LIMITS = Limits(store_timeout_s=20.0, store_attempts=4, retry_min_s=0.001, retry_max_s=0.01)
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


async def wait_for_threads(store: GcsStore) -> None:
    """No thread is left behind: all of the store's can be had."""
    threads = [object() for _ in range(int(store._limiter.total_tokens))]
    for thread in threads:
        await store._limiter.acquire_on_behalf_of(thread)
    for thread in threads:
        store._limiter.release_on_behalf_of(thread)


def content(size: int) -> bytes:
    return os.urandom(1 << 16) * (size >> 16) + bytes(size & 0xFFFF)


async def upload(store: Store, key: str, data: bytes, *, piece: int = 3 * MIB) -> Version:
    async with store.upload(key) as upload:
        for start in range(0, len(data), piece):
            await upload.write(memoryview(data)[start : start + piece])
        return await upload.finish()
