"""How long things took, counted in steps: what a Prometheus histogram is made of, at the cost of a bisection."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

LATENCY_STEPS_S = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
"""From a disk's answer to a read's deadline, three times as long each."""


class Histogram:
    """For one thread."""

    __slots__ = ("_counts", "steps", "total")

    def __init__(self, steps: Sequence[float] = LATENCY_STEPS_S) -> None:
        self.steps = steps
        """Upper bounds, rising; what is over the last one counts as well."""
        self._counts = [0] * (len(steps) + 1)
        self.total = 0.0
        """Of all values."""

    def note(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self.steps, value)] += 1
        self.total += value

    @property
    def count(self) -> int:
        """How many there were."""
        return sum(self._counts)

    def cumulative(self) -> list[int]:
        """How many were no more than each step, and in all."""
        return list(accumulate(self._counts))
