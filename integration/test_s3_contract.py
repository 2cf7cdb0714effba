"""What every store promises, held by obstore against moto's server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fsd.stores.base import Store
from integration.s3_places import s3_places
from tests.contract import test_store, test_store_races
from tests.contract.places import MakePlace, Place

# The same tests, with other places.
for module in (test_store, test_store_races):
    globals().update({name: value for name, value in vars(module).items() if name.startswith("test_")})

# On S3, equal bytes have equal versions: see docs/decisions/0013.
del globals()["test_every_write_has_a_version_of_its_own"]


@pytest.fixture(scope="module")
def make_place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakePlace]:
    with s3_places(tmp_path_factory.mktemp("aws")) as make:
        yield make


@pytest.fixture
def place(make_place: MakePlace, tmp_path: Path) -> Place:
    return make_place(tmp_path)


@pytest.fixture
def store(place: Place) -> Store:
    return place.open()
