"""A store that is out of reach is known by what it said before."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.testing

from fsd.daemon.markers import KnownMarkers
from fsd.errors import StorePermissionError, StoreUnreachableError
from fsd.repo.repository import init_store
from fsd.stores.memory import MemoryStore
from tests.faulty import Fail, FaultyStore, Stall


async def test_a_store_that_does_not_answer(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    autojump_clock.autojump_threshold = 0.05  # files are read in threads
    store = FaultyStore(MemoryStore())
    marker = await init_store(store)
    markers = KnownMarkers(tmp_path / "below" / "it")
    away = store.inject("get", "fsd.json", Fail(StoreUnreachableError("away")))
    with pytest.raises(StoreUnreachableError):
        await markers.read(store, wait_s=1)
    away.remove()
    for _ in range(2):
        assert await markers.read(store, wait_s=1) == marker
        await markers.remember(store, marker)
    away = store.inject("get", "fsd.json", Fail(StoreUnreachableError("away")))
    assert await markers.read(store, wait_s=1) == marker
    away.remove()
    stalled = store.inject("get", "fsd.json", Stall())
    assert await markers.read(store, wait_s=1) == marker
    stalled.remove()
    store.inject("get", "fsd.json", Fail(StorePermissionError("no")))
    with pytest.raises(StorePermissionError):
        await markers.read(store, wait_s=1)


async def test_what_cannot_be_read_is_not_known_and_what_cannot_be_written_no_error(tmp_path: Path) -> None:
    store = FaultyStore(MemoryStore())
    marker = await init_store(store)
    markers = KnownMarkers(tmp_path)
    await markers.remember(store, marker)
    (path,) = await trio.Path(tmp_path).iterdir()
    await path.write_bytes(b"{")
    store.inject("get", "fsd.json", Fail(StoreUnreachableError("away")))
    with pytest.raises(StoreUnreachableError):
        await markers.read(store, wait_s=1)
    await KnownMarkers(Path(path)).remember(store, marker)
