"""What every store promises, held by the real google-cloud-storage client against the test server, faults included."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from integration.gcs_places import KINDS, gcs_places
from tests.contract.held import contract
from tests.contract.places import MakePlace

# The same tests, with other places.
globals().update(contract())


@pytest.fixture(params=KINDS, scope="module")
def make_place(request: pytest.FixtureRequest) -> Iterator[MakePlace]:
    with gcs_places(request.param) as make:
        yield make
