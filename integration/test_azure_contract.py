"""What every store promises, held by obstore against the small Azure server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from integration.azure_places import azure_places
from tests.contract.held import contract
from tests.contract.places import MakePlace

# The same tests, with other places.
globals().update(contract())


@pytest.fixture(scope="module")
def make_place() -> Iterator[MakePlace]:
    with azure_places() as make:
        yield make
