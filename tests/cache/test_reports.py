"""Log lines that would repeat themselves."""

from __future__ import annotations

import logging
import time

import pytest

from fsd.cache import reports


def test_one_line_a_cause_and_interval(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    some = reports.Reports(logging.getLogger("test"))
    for number in range(3):
        some.report(logging.WARNING, "a", "line %d", number)
    some.report(logging.WARNING, "b", "other")
    now_s = reports.INTERVAL_S
    some.report(logging.WARNING, "a", "line %d", 3)
    assert caplog.messages == ["line 0", "other", "line 3"]


def test_causes_are_bounded() -> None:
    some = reports.Reports(logging.getLogger("test"))
    for number in range(3 * reports.MAX_CAUSES):
        some.report(logging.DEBUG, f"{number}", "line")
    assert len(some._last) <= reports.MAX_CAUSES
