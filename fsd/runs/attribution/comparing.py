"""Which runs may be compared, why the others may not, and how much a metric varies by chance."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Set
from dataclasses import dataclass

from fsd.errors import NotFoundError, UsageError, near_misses
from fsd.runs.attribution.trials import Change, Role, Trial, Value, changes, factor_names, roles_of, setting


@dataclass(frozen=True, slots=True)
class Group:
    """Runs that are equal in code, data, subset and the metric's definition, but for what was made a factor."""

    comparable_by: Mapping[str, Value]
    """What they are equal in."""
    trials: tuple[Trial, ...]
    """In order of time. All have the metric."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A run that was not compared."""

    id: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Noise:
    """How much a metric varies between runs that differ in nothing but a seed."""

    sd: float
    degrees: int
    """Of freedom: replicates, less one for each setting that was replicated."""


def comparable_groups(trials: Iterable[Trial], metric: str, *, across: Set[str] = frozenset()) -> tuple[Group, ...]:
    """Runs that may be compared with each other, the largest group first, and of equal ones the latest.

    `across` names factors (code, a data version, a subset) that shall be factors like params rather than divide the
    runs. Runs without the metric are in no group. Raises UsageError for a name in `across` that no run has.
    """
    trials = list(trials)
    roles = roles_of(trials)
    known = factor_names(trials, seeds=True)
    for name in sorted(across):
        if trials and name not in known:
            raise UsageError(f"no run has a factor {name!r}", hint=near_misses(name, known))
    names = sorted(name for name, role in roles.items() if role.is_context and name not in across)
    groups = defaultdict(list)
    for trial in sorted(trials, key=lambda trial: (trial.time, trial.id)):
        if trial.metric(metric) is not None:
            groups[setting(trial, names)].append(trial)
    found = [Group({name: group[0].factors.get(name) for name in names}, tuple(group)) for group in groups.values()]
    return tuple(sorted(found, key=lambda group: (-len(group.trials), -group.trials[-1].time)))


def choose_group(
    trials: Iterable[Trial], metric: str, *, across: Set[str] = frozenset()
) -> tuple[Group, tuple[LeftOut, ...]]:
    """The largest group of runs that may be compared, and why each of the others is not in it.

    Raises NotFoundError if no run has the metric.
    """
    trials = list(trials)
    groups = comparable_groups(trials, metric, across=across)
    if not groups:
        known = {name for trial in trials for name in trial.metrics}
        raise NotFoundError(f"no run has the metric {metric!r}", hint=near_misses(metric, known))
    chosen = groups[0]
    inside = {trial.id for trial in chosen.trials}
    left = []
    for trial in trials:
        if trial.metric(metric) is None:
            left.append(LeftOut(trial.id, (f"it has no number for {metric}",)))
        elif trial.id not in inside:
            left.append(LeftOut(trial.id, why_not_comparable(chosen.trials[-1], trial, across=across)))
    return chosen, tuple(left)


def why_not_comparable(a: Trial, b: Trial, *, across: Set[str] = frozenset()) -> tuple[str, ...]:
    """A reason for each factor that forbids it, to follow "is not comparable:"; empty if nothing does."""
    return tuple(describe(change) for change in changes(a, b) if change.role.is_context and change.param not in across)


def describe(change: Change) -> str:
    """The change in a few words: `lr 0.1 → 0.01`, `imagenet.subset the whole → tiny`."""
    return f"{change.param} {_shown(change, change.old)} → {_shown(change, change.new)}"


def _shown(change: Change, value: Value) -> str:
    if change.role is Role.SUBSET and value in (None, ""):
        return "the whole"
    return "nothing" if value is None else str(value)


def subset_notes(changed: Iterable[Change]) -> tuple[str, ...]:
    """What must be said wherever runs on a subset are compared with others after all."""
    return tuple(
        f"runs on different subsets are compared: {describe(change)}"
        for change in changed
        if change.role is Role.SUBSET
    )


def estimate_noise(trials: Iterable[Trial], metric: str, *, ignored: Collection[str] = ()) -> Noise | None:
    """From replicates: runs that differ in nothing but a seed, or what is `ignored`. None where there are none.

    Runs with the same declared seed count once, as their mean. Where no seed was declared and all runs of a setting
    give the same number to the last digit, they repeat a seed that nobody declared, and say nothing of noise.
    """
    trials = [trial for trial in trials if trial.metric(metric) is not None]
    roles = roles_of(trials)
    seeds = sorted(name for name, role in roles.items() if role is Role.SEED)
    names = [name for name in factor_names(trials) if name not in ignored]
    settings = defaultdict(list)
    for trial in trials:
        settings[setting(trial, names)].append(trial)
    squares, degrees = [], 0
    for replicates in settings.values():
        values = _replicated(replicates, seeds, metric)
        mean = math.fsum(values) / len(values)
        squares += [(value - mean) ** 2 for value in values]
        degrees += len(values) - 1
    return Noise(math.sqrt(math.fsum(squares) / degrees), degrees) if degrees else None


def _replicated(replicates: Iterable[Trial], seeds: Iterable[str], metric: str) -> list[float]:
    """One value for each seed; of runs without any, each one's."""
    seeds = list(seeds)
    by_seed = defaultdict(list)
    undeclared = []
    for trial in replicates:
        value = trial.metric(metric)
        assert value is not None
        declared = [name for name in seeds if trial.factors.get(name) is not None]
        if declared:
            by_seed[setting(trial, seeds)].append(value)
        else:
            undeclared.append(value)
    if len(set(undeclared)) == 1:
        del undeclared[1:]
    return undeclared + [math.fsum(values) / len(values) for values in by_seed.values()]
