"""What every store promises, held by obstore against moto's server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from integration.s3_places import s3_places
from tests.contract.held import contract
from tests.contract.places import MakePlace

# The same tests, with other places.
globals().update(contract())

# On S3, equal bytes have equal versions: see docs/decisions/0013.
del globals()["test_every_write_has_a_version_of_its_own"]


@pytest.fixture(scope="module")
def make_place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakePlace]:
    with s3_places(tmp_path_factory.mktemp("aws")) as make:
        yield make
