"""The implementations that the contract is held against: places where stores can be opened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from fsd.limits import Limits
from fsd.stores.base import Store
from fsd.stores.hedge import HedgingStore
from fsd.stores.local import LocalStore
from fsd.stores.memory import MemoryStore
from fsd.stores.retry import RetryingStore
from tests.faulty import FaultyStore

LIMITS = Limits(store_timeout_s=20.0, store_threads=8)


@dataclass(frozen=True)
class Place:
    """Where a store can be opened any number of times."""

    open: Callable[[], Store]


MakePlace = Callable[[Path], Place]
"""Makes a new, empty place, which may use the folder for itself."""


def _memory(_: Path) -> Place:
    store = MemoryStore()
    return Place(lambda: store)


def _local(folder: Path) -> Place:
    return Place(lambda: LocalStore(folder, LIMITS))


def _local_named(folder: Path) -> Place:
    return Place(lambda: LocalStore(folder, LIMITS, unnamed_files=False))


def _faulty(folder: Path) -> Place:
    return Place(lambda: FaultyStore(LocalStore(folder, LIMITS)))


def _retrying(_: Path) -> Place:
    store = RetryingStore(MemoryStore(), LIMITS)
    return Place(lambda: store)


def _hedging(_: Path) -> Place:
    store = HedgingStore(MemoryStore(), replace(LIMITS, hedge_first_s=0.0, hedge_min_s=0.0, hedge_share=1.0))
    return Place(lambda: store)


PLACES: dict[str, MakePlace] = {
    "memory": _memory,
    "local": _local,
    "local-named": _local_named,
    "faulty": _faulty,
    "retrying": _retrying,
    "hedging": _hedging,
}
"""By the name that the tests show. A new implementation is a line here."""


async def listed(store: Store, prefix: str = "", start_after: str = "") -> list[str]:
    return [info.key async for info in store.list(prefix, start_after=start_after)]


async def content(store: Store, key: str) -> bytes:
    return (await store.get(key)).data
