"""Gives each test of the contract every implementation in turn. (Those that need a server are in integration/.)"""

from __future__ import annotations

from pathlib import Path

import pytest

from fsd.stores.base import Store
from tests.contract.places import PLACES, MakePlace, Place


@pytest.fixture(params=PLACES, scope="session")
def make_place(request: pytest.FixtureRequest) -> MakePlace:
    return PLACES[request.param]


@pytest.fixture
def place(make_place: MakePlace, tmp_path: Path) -> Place:
    return make_place(tmp_path)


@pytest.fixture
def store(place: Place) -> Store:
    return place.open()
