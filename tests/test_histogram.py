"""Counting in steps."""

from __future__ import annotations

import pytest

from fsd.histogram import LATENCY_STEPS_S, Histogram


def test_values_are_counted_up_to_and_with_each_step() -> None:
    histogram = Histogram((1.0, 10.0))
    assert (histogram.cumulative(), histogram.count, histogram.total) == ([0, 0, 0], 0, 0.0)
    for value in (0.0, 1.0, 1.5, 10.0, 11.0):
        histogram.note(value)
    assert histogram.cumulative() == [2, 4, 5]
    assert (histogram.count, histogram.total) == (5, pytest.approx(23.5))


def test_the_steps_rise() -> None:
    assert list(LATENCY_STEPS_S) == sorted(set(LATENCY_STEPS_S))
