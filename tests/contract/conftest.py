"""Gives each test of the contract every implementation in turn."""

from __future__ import annotations

from pathlib import Path

import pytest

from fsd.stores.base import Store
from tests.contract.places import PLACES, Place


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return PLACES[request.param](tmp_path)


@pytest.fixture
def store(place: Place) -> Store:
    return place.open()
