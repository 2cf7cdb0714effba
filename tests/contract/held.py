"""The contract as a whole, for modules that hold other places to it.

globals().update(contract())

@pytest.fixture(scope="module")
def make_place() -> Iterator[MakePlace]: ...
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from tests.contract import conftest, test_store, test_store_races


def contract() -> dict[str, Any]:
    """Its tests, and the fixtures that they ask for, by name: all but `make_place`."""
    found: dict[str, Any] = {"place": conftest.place, "store": conftest.store}
    modules: tuple[ModuleType, ...] = (test_store, test_store_races)
    for module in modules:
        found |= {name: value for name, value in vars(module).items() if name.startswith("test_")}
    return found
