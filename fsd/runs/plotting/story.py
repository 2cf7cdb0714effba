"""What there is to show of a metric, ready to be drawn and written. Pure functions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from fsd.runs.attribution.importance import Importance
from fsd.runs.attribution.reports import Effect, Outcome
from fsd.runs.attribution.steps import Step, StepLog
from fsd.runs.attribution.trials import Change, Role, Trial, Value, factor_names, find_identifiers, is_number, key
from fsd.runs.best import Best
from fsd.runs.plotting.curves import Curve

MAX_STEPS = 24
"""Of more, the largest are shown one by one, and what is between them in sums."""

MAX_AXES = 8
"""Params side by side; those that explain most, or vary most."""

MAX_EFFECTS = 20

PER_DOUBLING = "per doubling"
"""The unit of a logarithmic param's effect."""

MAX_PANELS = 4
"""Metrics of which learning curves are shown."""


@dataclass(frozen=True, slots=True)
class Story:
    """All of it."""

    metric: str
    minimized: bool
    where: str
    """Of which runs; '' for all."""
    trials: tuple[Trial, ...]
    """Those with the metric, by time."""
    names: Mapping[str, str]
    """What people call runs, by id."""
    best: Best
    way: StepLog
    steps: tuple[Step, ...]
    """Those of the way that are shown: some may stand for several (`merged`)."""
    merged: Mapping[str, int]
    """By the child of a step that stands for several: for how many."""
    importance: Importance
    curves: tuple[Curve, ...]
    without_metric: int
    """Runs that are not shown: they did not succeed, have no number for the metric, or are on another subset."""


def shown_steps(steps: Sequence[Step]) -> tuple[tuple[Step, ...], dict[str, int]]:
    """At most `MAX_STEPS`, in their order, which sum to the same: runs of small ones become one. With those that did,
    and of how many."""
    if len(steps) <= MAX_STEPS:
        return tuple(steps), {}
    # Between so many large ones there may be as many sums, and one more.
    largest = sorted(range(len(steps)), key=lambda at: -abs(steps[at].diff))[: (MAX_STEPS - 1) // 2]
    found: list[Step] = []
    merged: dict[str, int] = {}
    for at, step in enumerate(steps):
        if at not in largest and found and (at - 1) not in largest:
            before = found.pop()
            merged[step.child] = merged.pop(before.child, 1) + 1
            step = replace(
                step,
                parent=before.parent,
                old=before.old,
                diff=step.new - before.old,
                changes=_united(before.changes, step.changes),
                is_within_noise=None,
            )
        found.append(step)
    return tuple(found), merged


def _united(before: Sequence[Change], after: Sequence[Change]) -> tuple[Change, ...]:
    """Two changes after each other, as one."""
    found = {change.param: change for change in before}
    for change in after:
        earlier = found.get(change.param)
        found[change.param] = change if earlier is None else replace(change, old=earlier.old)
    return tuple(change for _, change in sorted(found.items()) if key(change.old) != key(change.new))


def axes_of(trials: Sequence[Trial], report: Importance) -> tuple[list[str], int]:
    """The factors that are worth an axis, and how many more vary: first those that explain most."""
    identifiers = find_identifiers(trials)
    varied = {}
    for name in factor_names(trials):
        if name in identifiers:
            continue
        counts = Counter(key(trial.factors.get(name)) for trial in trials)
        if len(counts) > 1:
            varied[name] = len(trials) - counts.most_common(1)[0][1]
    shares = {effect.param: effect.share or 0.0 for effect in report.effects}
    roles = {name: role for trial in trials for name, role in trial.roles.items()}
    ranked = sorted(
        varied,
        key=lambda name: (-shares.get(name, 0.0), roles.get(name, Role.PARAM) is not Role.PARAM, -varied[name], name),
    )
    return ranked[:MAX_AXES], max(0, len(ranked) - MAX_AXES)


def ranges_of(story: Story) -> list[Effect]:
    """The effects of the ranking, or of the pairs where there is none, over the whole range of values that was tried
    rather than per unit: so they are to be compared with each other."""
    report = story.importance
    left_out = {each.id for each in report.left_out}
    trials = [trial for trial in story.trials if trial.id not in left_out]
    effects = report.effects if report.outcome is Outcome.FOUND else report.pairs
    return [
        _over_range(effect, [trial.factors.get(effect.param) for trial in trials]) for effect in effects[:MAX_EFFECTS]
    ]


def _over_range(effect: Effect, values: Sequence[Value]) -> Effect:
    numbers = sorted(float(value) for value in values if is_number(value))  # type: ignore[arg-type]
    if not effect.unit.startswith("per ") or not numbers:
        return effect
    low, high = numbers[0], numbers[-1]
    times = math.log2(high / low) if effect.unit == PER_DOUBLING else high - low
    return replace(
        effect,
        effect=effect.effect * times,
        unit=f"{low:.4g} → {high:.4g}",
        ci_low=None if effect.ci_low is None else effect.ci_low * times,
        ci_high=None if effect.ci_high is None else effect.ci_high * times,
    )


def panels_of(curves: Sequence[Curve], metric: str) -> list[str]:
    """The metrics whose curves are shown: the one that is asked about, then those that most runs have."""
    counts = Counter(curve.metric for curve in curves)
    return sorted(counts, key=lambda name: (name != metric, -counts[name], name))[:MAX_PANELS]


def levels_of(values: Sequence[Value]) -> list[Value]:
    """Distinct values of a factor that is no number, in an order that people expect."""
    distinct = {key(value): value for value in values}.values()
    return sorted(
        distinct, key=lambda value: (value is None, isinstance(value, str), not is_number(value), _order(value))
    )


def _order(value: Value) -> tuple[float, str]:
    return (float(value), "") if isinstance(value, int | float) else (0.0, str(value))
