"""What of a configuration can change while it is mounted. (That it does: integration/test_service.py.)"""

from __future__ import annotations

from dataclasses import fields

from fsd.daemon.reloading import CHANGEABLE
from fsd.limits import Limits


def test_what_can_change_is_a_limit() -> None:
    assert {field.name for field in fields(Limits)} >= CHANGEABLE
