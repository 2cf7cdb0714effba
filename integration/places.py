"""Places for the stores' contract in buckets of a server."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, TypeVar

import trio

from fsd.stores.base import Store
from tests.contract.places import Place

PREFIX = "some/prefix"
"""Of the stores: there may be strangers on both sides of it."""

_S = TypeVar("_S", bound=Store)


class Places(Generic[_S]):
    """Makes places in one server. The stores that were opened there are closed by `aclose`."""

    def __init__(
        self,
        create_bucket: Callable[[str], object],
        connect: Callable[[str], _S],
        *,
        wrap: Callable[[_S], Store] = lambda store: store,
    ) -> None:
        """`connect` gives a store below PREFIX of a bucket; what the contract sees of it is what `wrap` makes of it."""
        self._create_bucket = create_bucket
        self._connect = connect
        self._wrap = wrap
        self._numbers = itertools.count()
        self._opened: list[_S] = []

    def make(self, _: Path) -> Place:
        """A bucket of its own."""
        name = f"bucket{next(self._numbers)}"
        self._create_bucket(name)
        return Place(lambda: self._wrap(self.open(name)))

    def open(self, bucket: str) -> _S:
        """A store that will be closed."""
        self._opened.append(self._connect(bucket))
        return self._opened[-1]

    async def aclose(self) -> None:
        """Leave no connection open."""
        for store in self._opened:
            await store.aclose()


@contextmanager
def closing(places: Places[_S]) -> Iterator[Places[_S]]:
    """Close them at the end, where no event loop runs."""
    try:
        yield places
    finally:
        trio.run(places.aclose)
