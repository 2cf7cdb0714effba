"""How a metric came to be what it is: its changes along parent → child runs, each exact, which sum to the total."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from fsd.errors import ConflictError, NotFoundError
from fsd.runs.attribution import student
from fsd.runs.attribution.comparing import Group, Noise, comparable_groups, describe, estimate_noise, subset_notes
from fsd.runs.attribution.thresholds import CONFIDENCE
from fsd.runs.attribution.trials import Change, Role, Trial, changes, find, find_identifiers, identifier_notes, measured


@dataclass(frozen=True, slots=True)
class Step:
    """From one run that has the metric to the next one that has it."""

    parent: str
    child: str
    old: float
    new: float
    diff: float
    changes: tuple[Change, ...]
    """By name; several are one group, between which the step cannot be divided. Seeds are not among them."""
    seed_changes: tuple[Change, ...]
    skipped: tuple[str, ...]
    """Runs in between that have no such metric: the changes include those made for them."""
    is_comparable: bool
    """Neither code, data nor subset nor the metric's definition changed."""
    is_within_noise: bool | None
    """Two replicates of the child differ as much by chance, in one of twenty cases; None without replicates."""
    notes: tuple[str, ...]
    """Warnings that have to be shown with the number."""


@dataclass(frozen=True, slots=True)
class Contribution:
    """What the steps that changed one thing, or one group of things together, made in all."""

    params: tuple[str, ...]
    diff: float
    steps: int


@dataclass(frozen=True, slots=True)
class StepLog:
    """The way to a run from the first of its ancestors that has the metric."""

    metric: str
    first: str
    last: str
    old: float
    new: float
    total: float
    steps: tuple[Step, ...]
    contributions: tuple[Contribution, ...]
    """The largest first; they sum to the total as well. What changed nothing but a seed, or nothing, has no params."""
    n: int
    """Runs on the way that have the metric."""
    noise_sd: float | None
    """Of one run, from the replicates among the trials that are comparable with the last; None without any."""
    notes: tuple[str, ...]
    """Warnings that have to be shown with the numbers."""


def step_changes(trials: Iterable[Trial], metric: str, *, to: str | None = None) -> StepLog:
    """The metric's changes on the way to the run `to`; by default to the latest run that has the metric.

    A parent that is not among the trials ends the way. Raises NotFoundError if there is no such run, or it has no such
    metric; ConflictError if runs are each other's ancestors.
    """
    trials = list(trials)
    last = find(trials, to) if to is not None else _latest(trials, metric)
    measured(last, metric)
    way = _way(trials, last)
    while way[0].metric(metric) is None:
        way = way[1:]
    identifiers = find_identifiers(trials)
    noises = {trial.id: noise for group, noise in _with_noise(trials, metric, identifiers) for trial in group.trials}
    stops = [number for number, trial in enumerate(way) if trial.metric(metric) is not None]
    steps = tuple(
        _step(way[start : end + 1], metric, noises[way[end].id], identifiers) for start, end in pairwise(stops)
    )
    old, new = measured(way[0], metric), measured(last, metric)
    return StepLog(
        metric=metric,
        first=way[0].id,
        last=last.id,
        old=old,
        new=new,
        total=new - old,
        steps=steps,
        contributions=_contributions(steps),
        n=len(stops),
        noise_sd=noise.sd if (noise := noises[last.id]) else None,
        notes=identifier_notes(identifiers),
    )


def _with_noise(
    trials: Iterable[Trial], metric: str, identifiers: Collection[str]
) -> Iterator[tuple[Group, Noise | None]]:
    for group in comparable_groups(trials, metric):
        yield group, estimate_noise(group.trials, metric, ignored=identifiers)


def _latest(trials: list[Trial], metric: str) -> Trial:
    if not trials:
        raise NotFoundError("there are no runs")
    having = [trial for trial in trials if trial.metric(metric) is not None] or trials
    return max(having, key=lambda trial: (trial.time, trial.id))


def _way(trials: Iterable[Trial], last: Trial) -> list[Trial]:
    by_id = {trial.id: trial for trial in trials}
    way, seen = [last], {last.id}
    while way[-1].parent in by_id:
        parent = by_id[str(way[-1].parent)]
        if parent.id in seen:
            raise ConflictError(f"run {parent.id} is its own ancestor", hint="mend the parents of these runs")
        seen.add(parent.id)
        way.append(parent)
    return way[::-1]


def _step(way: list[Trial], metric: str, noise: Noise | None, identifiers: Collection[str]) -> Step:
    parent, *between, child = way
    old, new = measured(parent, metric), measured(child, metric)
    changed = [change for change in changes(parent, child) if change.param not in identifiers]
    visible = tuple(change for change in changed if change.role is not Role.SEED)
    forbidding = [change for change in visible if change.role.is_context]
    notes = subset_notes(forbidding)
    notes += tuple(
        f"{change.role} changed: {describe(change)}" for change in forbidding if change.role is not Role.SUBSET
    )
    within = None
    if noise is not None:
        within = abs(new - old) <= student.quantile(CONFIDENCE, noise.degrees) * noise.sd * math.sqrt(2)
    return Step(
        parent=parent.id,
        child=child.id,
        old=old,
        new=new,
        diff=new - old,
        changes=visible,
        seed_changes=tuple(change for change in changed if change.role is Role.SEED),
        skipped=tuple(trial.id for trial in between),
        is_comparable=not forbidding,
        is_within_noise=within,
        notes=notes,
    )


def _contributions(steps: Iterable[Step]) -> tuple[Contribution, ...]:
    by_params: dict[tuple[str, ...], list[float]] = {}
    for step in steps:
        by_params.setdefault(tuple(change.param for change in step.changes), []).append(step.diff)
    found = [Contribution(params, math.fsum(diffs), len(diffs)) for params, diffs in by_params.items()]
    return tuple(sorted(found, key=lambda one: (-abs(one.diff), one.params)))
