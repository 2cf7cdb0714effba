"""What every store promises, held by obstore against the small Azure server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fsd.stores.base import Store
from integration.azure_places import azure_places
from tests.contract import test_store, test_store_races
from tests.contract.places import MakePlace, Place

# The same tests, with other places.
for module in (test_store, test_store_races):
    globals().update({name: value for name, value in vars(module).items() if name.startswith("test_")})


@pytest.fixture(scope="module")
def make_place() -> Iterator[MakePlace]:
    with azure_places() as make:
        yield make


@pytest.fixture
def place(make_place: MakePlace, tmp_path: Path) -> Place:
    return make_place(tmp_path)


@pytest.fixture
def store(place: Place) -> Store:
    return place.open()
