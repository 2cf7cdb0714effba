"""How the values of a factor are laid out: as a number, as one whose doublings count, or as one of several levels."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from fsd.errors import UsageError
from fsd.runs.attribution.thresholds import LOG_RATIO, LOG_RATIO_OF_TWO
from fsd.runs.attribution.trials import Value, is_number, key


class Scale(StrEnum):
    """What a step of a factor is."""

    LINEAR = "linear"
    LOG = "log"
    LEVELS = "levels"


@dataclass(frozen=True)
class Factor:
    """A factor that varies, over some runs."""

    name: str
    scale: Scale
    values: tuple[Value, ...]
    """Of each run."""

    @property
    def unit(self) -> str:
        """Of an effect, for numbers."""
        return "per doubling" if self.scale is Scale.LOG else "per 1"

    def position(self, value: Value) -> float | None:
        """Where a number lies on its scale, in units; None for a run that has none."""
        if not is_number(value):
            return None
        return math.log2(float(value)) if self.scale is Scale.LOG else float(value)  # type: ignore[arg-type]

    @cached_property
    def positions(self) -> tuple[float | None, ...]:
        """Of each run."""
        return tuple(map(self.position, self.values))

    @cached_property
    def levels(self) -> tuple[Value, ...]:
        """The different values, the most frequent first, and of equally frequent ones the least."""
        first = {key(value): value for value in self.values}
        counts = Counter(map(key, self.values))
        return tuple(first[one] for one in sorted(counts, key=lambda one: (-counts[one], _order(one))))


def _order(one: tuple[str, float | str]) -> tuple[str, float, str]:
    kind, value = one
    return (kind, 0.0, value) if isinstance(value, str) else (kind, float(value), "")


def show_level(value: Value) -> str:
    """A level as units name it: six digits of a number."""
    if value is None:
        return "nothing"
    return f"{value:g}" if isinstance(value, float) else str(value)


def read_factor(name: str, values: Sequence[Value], *, log: Set[str] = frozenset()) -> Factor:
    """A factor of these values. Where only numbers vary it is a number, also if some runs have none.

    `log` names the factors that are declared to be logarithmic. Raises UsageError if one of them is not above 0.
    """
    numbers = [float(value) for value in values if is_number(value)]  # type: ignore[arg-type]
    others = {key(value) for value in values if not is_number(value)}
    if len(set(numbers)) < 2 or others - {key(None)}:
        return Factor(name, Scale.LEVELS, tuple(values))
    if name in log and min(numbers) <= 0:
        raise UsageError(
            f"{name} is declared to be logarithmic, and is {min(numbers):g} in a run", hint="declare it no more"
        )
    scale = Scale.LOG if name in log or is_evidently_log(numbers) else Scale.LINEAR
    return Factor(name, scale, tuple(values))


def is_evidently_log(numbers: Sequence[float]) -> bool:
    """Whether the values lie more evenly by their logarithms, over a range for which that matters."""
    distinct = sorted(set(numbers))
    if len(distinct) < 2 or distinct[0] <= 0:
        return False
    ratio = distinct[-1] / distinct[0]
    if len(distinct) == 2:
        return ratio >= LOG_RATIO_OF_TWO
    return ratio >= LOG_RATIO and _unevenness([math.log(value) for value in distinct]) < _unevenness(distinct)


def _unevenness(points: Sequence[float]) -> float:
    """The furthest that a sorted sequence is from equal steps, in parts of its range."""
    low, high = points[0], points[-1]
    last = len(points) - 1
    return max(abs((point - low) / (high - low) - number / last) for number, point in enumerate(points))
