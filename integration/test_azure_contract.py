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

# Thousands of requests; pages of listings are tested in `test_s3_store`.
del globals()["test_a_long_listing_can_be_left_and_taken_up"]


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
