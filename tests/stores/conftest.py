"""What the tests of the local store share."""

from __future__ import annotations

from pathlib import Path

import pytest

from fsd.limits import DEFAULT_LIMITS
from fsd.stores.local import LocalStore


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path, DEFAULT_LIMITS)
