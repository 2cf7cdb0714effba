"""A trial: what attribution knows of a run. Values only; who records runs makes them.

Every setting that may explain a metric is a *factor*, by name: the params flattened with dots, and by names of their
own the code, each data version and each subset. What kind of factor a name is, its role says.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from fsd.errors import NotFoundError, UsageError, near_misses
from fsd.runs.attribution.thresholds import IDENTIFIER_RUNS

Value = bool | int | float | str | None
"""Of a factor. None: the run has no such setting, which is a value like any other."""

Key = tuple[str, float | str]
"""A value as what it is compared by: 1 is 1.0 and is not True; one NaN is another."""


class Role(StrEnum):
    """What kind of factor a name is."""

    PARAM = "param"
    SEED = "seed"
    """Changes chance only: runs that differ in nothing else are replicates."""
    DATA = "data"
    SUBSET = "subset"
    """Its value is None or '' for the whole."""
    CODE = "code"
    DEFINITION = "definition"
    """Of the metric."""

    @property
    def is_context(self) -> bool:
        """Runs that differ in such a factor are not compared unless it is made a factor by name."""
        return self not in (Role.PARAM, Role.SEED)


@dataclass(frozen=True, slots=True)
class Trial:
    """A run, as attribution sees it."""

    id: str
    parent: str | None
    """The id of the run it was derived from."""
    time: float
    """When it began, in seconds since 1970."""
    factors: Mapping[str, Value]
    metrics: Mapping[str, float]
    roles: Mapping[str, Role] = field(default_factory=dict)
    """Of the factors that are no params."""

    def role(self, factor: str) -> Role:
        """A factor without a declared role is a param."""
        return self.roles.get(factor, Role.PARAM)

    def metric(self, name: str) -> float | None:
        """Its value; None if the run has none, or one that is no finite number."""
        value = self.metrics.get(name)
        return float(value) if value is not None and math.isfinite(value) else None


@dataclass(frozen=True, slots=True)
class Change:
    """A factor with another value."""

    param: str
    role: Role
    old: Value
    new: Value

    @property
    def diff(self) -> float | None:
        """`new` less `old`; None unless both are numbers."""
        if is_number(self.old) and is_number(self.new):
            return float(self.new) - float(self.old)  # type: ignore[arg-type]
        return None


def key(value: Value) -> Key:
    """What values are compared by."""
    if value is None:
        return "none", ""
    if isinstance(value, bool):
        return "bool", value
    if isinstance(value, str):
        return "str", value
    return ("nan", "") if math.isnan(value) else ("number", value)


def is_number(value: Value) -> bool:
    """Whether it is a finite number; a boolean is none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def changes(a: Trial, b: Trial) -> tuple[Change, ...]:
    """The factors in which `b` differs from `a`, by name."""
    roles = roles_of((a, b))
    found = []
    for name in sorted({*a.factors, *b.factors}):
        old, new = a.factors.get(name), b.factors.get(name)
        if key(old) != key(new):
            found.append(Change(name, roles.get(name, Role.PARAM), old, new))
    return tuple(found)


def roles_of(trials: Iterable[Trial]) -> dict[str, Role]:
    """The roles of all factors that are no params. Raises UsageError if two trials differ about one."""
    roles: dict[str, Role] = {}
    for trial in trials:
        for name, role in trial.roles.items():
            if roles.setdefault(name, role) is not role:
                raise UsageError(f"{name!r} is a {role} in one run and a {roles[name]} in another")
    return roles


def setting(trial: Trial, names: Iterable[str]) -> tuple[Key, ...]:
    """The values of these factors: equal for trials that are alike in all of them."""
    return tuple(key(trial.factors.get(name)) for name in names)


def factor_names(trials: Iterable[Trial], *, seeds: bool = False) -> list[str]:
    """Every factor that some trial has, sorted; seeds are left out unless asked for."""
    trials = list(trials)
    roles = roles_of(trials)
    names = {name for trial in trials for name in trial.factors}
    return sorted(name for name in names if seeds or roles.get(name) is not Role.SEED)


def find_identifiers(trials: Iterable[Trial]) -> tuple[str, ...]:
    """Params with another text in every run, sorted: names of runs, which explain everything and so nothing."""
    trials = list(trials)
    if len(trials) < IDENTIFIER_RUNS:
        return ()
    roles = roles_of(trials)
    return tuple(
        name
        for name in factor_names(trials)
        if roles.get(name, Role.PARAM) is Role.PARAM
        and all(isinstance(trial.factors.get(name), str) for trial in trials)
        and len({trial.factors[name] for trial in trials}) == len(trials)
    )


def identifier_notes(identifiers: Iterable[str]) -> tuple[str, ...]:
    """What a report says of them."""
    return tuple(f"{name} is another in every run, and is left out" for name in identifiers)


def find(trials: Iterable[Trial], trial_id: str) -> Trial:
    """The trial of this id. Raises NotFoundError."""
    by_id = {trial.id: trial for trial in trials}
    if trial_id not in by_id:
        raise NotFoundError(f"there is no run {trial_id}", hint=near_misses(trial_id, by_id))
    return by_id[trial_id]


def measured(trial: Trial, metric: str) -> float:
    """The trial's metric. Raises NotFoundError if it has none that is a finite number."""
    value = trial.metric(metric)
    if value is None:
        hint = near_misses(metric, trial.metrics)
        raise NotFoundError(f"run {trial.id} has no number for the metric {metric!r}", hint=hint)
    return value
