"""Waiting for what another process does in its own time, and never for ever."""

from __future__ import annotations

import time
from collections.abc import Callable

WITHIN_S = 20.0
POLL_S = 0.01


def wait_for(condition: Callable[[], bool], what: str, *, within_s: float = WITHIN_S) -> None:
    """Return once the condition holds; fails the test with what was waited for if that takes too long."""
    deadline_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline_s, f"waited {within_s:g} s in vain for {what}"
        time.sleep(POLL_S)
