"""The factors that vary over some runs, and which of them always change together: one group, never divided."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence, Set
from dataclasses import dataclass

from fsd.runs.attribution.scales import Factor, Scale, read_factor
from fsd.runs.attribution.thresholds import ALIAS_CORRELATION
from fsd.runs.attribution.trials import Trial, factor_names, key


@dataclass(frozen=True, slots=True)
class FactorGroup:
    """A factor, or several that always change together."""

    factors: tuple[Factor, ...]
    """The first stands for all: it has the most values, and of such the first name."""

    @property
    def lead(self) -> Factor:
        """The factor that stands for all."""
        return self.factors[0]

    @property
    def aliases(self) -> tuple[str, ...]:
        """The other names."""
        return tuple(factor.name for factor in self.factors[1:])

    @property
    def names(self) -> tuple[str, ...]:
        """All of them."""
        return tuple(factor.name for factor in self.factors)


def find_groups(
    trials: Sequence[Trial], *, log: Set[str] = frozenset(), ignored: Collection[str] = ()
) -> tuple[FactorGroup, ...]:
    """The factors that vary over the trials, by the name of the lead; seeds are not among them, nor what is `ignored`.

    `log`: those declared to be logarithmic. Raises UsageError if one of them is not above 0.
    """
    factors = []
    for name in factor_names(trials):
        if name not in ignored:
            factor = read_factor(name, [trial.factors.get(name) for trial in trials], log=log)
            if len(factor.levels) > 1:
                factors.append(factor)
    return _group(factors)


def _group(factors: Sequence[Factor]) -> tuple[FactorGroup, ...]:
    """Whatever is aliased, also by way of a third, is one group."""
    home = list(range(len(factors)))

    def root(number: int) -> int:
        while home[number] != number:
            number = home[number]
        return number

    for first in range(len(factors)):
        for second in range(first):
            if _always_together(factors[first], factors[second]):
                home[root(first)] = root(second)
    groups: dict[int, list[Factor]] = {}
    for number, factor in enumerate(factors):
        groups.setdefault(root(number), []).append(factor)
    found = [
        FactorGroup(tuple(sorted(group, key=lambda one: (-len(one.levels), one.name)))) for group in groups.values()
    ]
    return tuple(sorted(found, key=lambda group: group.lead.name))


def _always_together(a: Factor, b: Factor) -> bool:
    """Whether no run tells one from the other.

    In a small log of random numbers any two are different in all runs; that alone does not make them one. So what is
    determined must have fewer than half as many values as there are runs, or both be numbers on one straight line.
    """
    if Scale.LEVELS not in (a.scale, b.scale) and abs(_correlation(a, b)) >= ALIAS_CORRELATION:
        return True
    pairs = {(key(x), key(y)) for x, y in zip(a.values, b.values, strict=True)}
    a_values, b_values = len({x for x, _ in pairs}), len({y for _, y in pairs})
    few = max(2, len(a.values) // 2)
    if len(pairs) == a_values == b_values:
        return a_values <= few
    a_says_b = len(pairs) == a_values <= few and a.scale is Scale.LEVELS
    b_says_a = len(pairs) == b_values <= few and b.scale is Scale.LEVELS
    return a_says_b or b_says_a


def _correlation(a: Factor, b: Factor) -> float:
    both = [(x, y) for x, y in zip(a.positions, b.positions, strict=True) if x is not None and y is not None]
    if len(both) < max(3, len(a.values)):
        return 0.0
    x_mean = math.fsum(x for x, _ in both) / len(both)
    y_mean = math.fsum(y for _, y in both) / len(both)
    xx = math.fsum((x - x_mean) ** 2 for x, _ in both)
    yy = math.fsum((y - y_mean) ** 2 for _, y in both)
    xy = math.fsum((x - x_mean) * (y - y_mean) for x, y in both)
    return xy / math.sqrt(xx * yy) if xx and yy else 0.0
