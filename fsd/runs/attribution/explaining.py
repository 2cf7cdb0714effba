"""From one run to another: the difference in a metric, divided between the factors that differ."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace

from fsd.runs.attribution import numeric
from fsd.runs.attribution.aliases import find_groups
from fsd.runs.attribution.comparing import (
    Noise,
    choose_group,
    comparable_groups,
    describe,
    estimate_noise,
    subset_notes,
)
from fsd.runs.attribution.corners import Corners, Path, Plan, ablation_paths, plan
from fsd.runs.attribution.pairs import interval
from fsd.runs.attribution.reports import Effect, Method, Outcome
from fsd.runs.attribution.scales import show_level
from fsd.runs.attribution.shapley import shapley_values, shapley_weights
from fsd.runs.attribution.thresholds import REGRESSION_RUNS
from fsd.runs.attribution.trials import (
    Change,
    Role,
    Trial,
    Value,
    changes,
    find,
    find_identifiers,
    identifier_notes,
)


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a metric differs between two runs."""

    metric: str
    a: str
    b: str
    old: float
    new: float
    diff: float
    """`new` less `old`. The effects and `unexplained` sum to it."""
    changes: tuple[Change, ...]
    """What differs, seeds included."""
    outcome: Outcome
    method: Method | None
    """None where there is no answer."""
    effects: tuple[Effect, ...]
    """The largest first; each is what the param moved, from A's value to B's."""
    unexplained: float
    """What the effects leave: 0 but for rounding, unless they are estimated or missing."""
    paths: tuple[Path, ...]
    """Of an ablation: from A, and from B."""
    plan: Plan
    """The runs that an answer without a model takes beside those that are there."""
    n: int
    """Runs that the answer was taken from."""
    noise_sd: float | None
    """Of one run, from replicates; None without any."""
    loo_r2: float | None
    """Of the model, where it was asked."""
    comparable_by: Mapping[str, Value]
    """What these runs are equal in of code, data and subset."""
    notes: tuple[str, ...]
    """Warnings that have to be shown with the numbers."""


def explain(
    trials: Iterable[Trial], a: str, b: str, metric: str, *, log: Set[str] = frozenset(), seed: int = 0
) -> Explanation:
    """Divide the metric's difference between the factors in which run `b` differs from run `a`.

    One factor has it all. Where every mixture of both runs is among the trials, each factor has its Shapley value;
    where an ablation path from either end is, its mean over both. Otherwise a model of all comparable runs estimates
    it, if that has evidence, and `plan` says which runs would answer it without one: run them, add them to the trials,
    ask again. `log` and `seed` are for that model.

    Raises NotFoundError if there is no such run, or one lacks the metric; UsageError if a model is to be asked and
    numpy is not installed.
    """
    trials = list(trials)
    identifiers = find_identifiers(trials)
    corners = Corners(trials, find(trials, a), find(trials, b), metric, ignored=identifiers)
    ends = {corners.a.id, corners.b.id}
    groups = (group.trials for group in comparable_groups(trials, metric))
    near = [one for group in groups if ends & {one.id for one in group} for one in group]
    noise = estimate_noise(near, metric, ignored=identifiers)
    report = _blank(corners, metric, noise)
    report = replace(report, notes=(*report.notes, *identifier_notes(identifiers)))
    if not corners.players:
        return replace(report, outcome=Outcome.NOTHING_DIFFERS)
    if len(corners.players) == 1 or (corners.can_be_complete and not corners.missing()):
        return _answer(report, _by_corners(corners, noise), n=sum(map(corners.replicates, range(corners.all + 1))))
    ablation = ablation_paths(corners)
    if ablation is not None:
        paths, n = ablation
        note = "an effect is the mean of two paths, which may differ: see both"
        return _answer(replace(report, paths=paths, notes=(*report.notes, note)), _by_paths(corners, paths), n=n)
    return _estimate(report, trials, corners, log=log, seed=seed)


def _blank(corners: Corners, metric: str, noise: Noise | None) -> Explanation:
    changed = changes(corners.a, corners.b)
    context = [change for change in changed if change.role.is_context]
    notes = subset_notes(context)
    notes += tuple(f"{one.role} is a factor: {describe(one)}" for one in context if one.role is not Role.SUBSET)
    if noise is None:
        notes += ("no replicates: repeat a run with another seed to know what chance does",)
    same = {
        name: corners.a.factors.get(name)
        for name, role in sorted({**corners.a.roles, **corners.b.roles}.items())
        if role.is_context and name not in {change.param for change in context}
    }
    return Explanation(
        metric=metric,
        a=corners.a.id,
        b=corners.b.id,
        old=corners.old,
        new=corners.new,
        diff=corners.diff,
        changes=changed,
        outcome=Outcome.NOT_ENOUGH_EVIDENCE,
        method=None,
        effects=(),
        unexplained=corners.diff,
        paths=(),
        plan=plan(corners),
        n=2,
        noise_sd=noise.sd if noise else None,
        loo_r2=None,
        comparable_by=same,
        notes=notes,
    )


def _answer(report: Explanation, effects: Sequence[Effect], *, n: int) -> Explanation:
    ranked = sorted(effects, key=lambda effect: (-abs(effect.effect), effect.param))
    if report.diff:
        ranked = [replace(effect, share=effect.effect / report.diff) for effect in ranked]
    return replace(
        report,
        outcome=Outcome.FOUND,
        method=ranked[0].method,
        effects=tuple(ranked),
        unexplained=math.fsum([report.new, -report.old, *(-effect.effect for effect in ranked)]),
        n=n,
    )


def _by_corners(corners: Corners, noise: Noise | None) -> list[Effect]:
    """Exact: each corner was run. Its noise enters a factor's value by the corner's weight."""

    def worth(corner: int) -> float:
        value = corners.value(corner)
        assert value is not None
        return value

    count = len(corners.players)
    values = shapley_values(count, worth)
    effects = []
    for player, (change, value) in enumerate(zip(corners.players, values, strict=True)):
        ci_low = ci_high = p = None
        if noise is not None and noise.sd > 0:
            weights = shapley_weights(count, player)
            spread = math.fsum(weight**2 / corners.replicates(corner) for corner, weight in enumerate(weights))
            ci_low, ci_high, p = interval(value, noise.sd * math.sqrt(spread), noise.degrees)
        effects.append(
            Effect(
                param=change.param,
                effect=value,
                unit=_unit(change),
                share=None,
                ci_low=ci_low,
                ci_high=ci_high,
                p=p,
                n_pairs=1 << (count - 1),
                method=Method.DIRECT if count == 1 else Method.SHAPLEY,
            )
        )
    return effects


def _by_paths(corners: Corners, paths: Sequence[Path]) -> list[Effect]:
    """The mean of both directions, in each of which the steps sum to the difference."""
    forth, back = (dict(zip(path.order, path.diffs, strict=True)) for path in paths)
    return [
        Effect(
            param=change.param,
            effect=(forth[change.param] - back[change.param]) / 2,
            unit=_unit(change),
            share=None,
            ci_low=None,
            ci_high=None,
            p=None,
            n_pairs=2,
            method=Method.ABLATION,
        )
        for change in corners.players
    ]


def _unit(change: Change) -> str:
    return f"{show_level(change.old)} → {show_level(change.new)}"


def _estimate(
    report: Explanation, trials: Sequence[Trial], corners: Corners, *, log: Set[str], seed: int
) -> Explanation:
    """Ask a model of all runs that are comparable with both."""
    across = frozenset(change.param for change in corners.players if change.role.is_context)
    same = [
        trial
        for trial in trials
        if not any(one.role.is_context and one.param not in across for one in changes(corners.a, trial))
    ]
    group, _ = choose_group(same, report.metric, across=across)
    groups = find_groups(group.trials, log=log, ignored=find_identifiers(trials))
    report = replace(report, n=len(group.trials))
    if len(group.trials) < REGRESSION_RUNS:
        note = f"{len(group.trials)} comparable runs: too few for a model, below {REGRESSION_RUNS}"
        return replace(report, notes=(*report.notes, note))
    model = numeric.fit_model(
        group.trials, report.metric, groups, seed=seed, between=(corners.a.factors, corners.b.factors)
    )
    if model is None:
        note = "too few runs for a model of so many params, or one metric in all of them"
        return replace(report, notes=(*report.notes, note))
    report = replace(report, loo_r2=model.loo_r2)
    if not model.has_evidence or not model.between:
        return report
    note = "estimated by a model without interactions, which does not know what it leaves unexplained"
    return _answer(replace(report, notes=(*report.notes, note)), model.between, n=len(group.trials))
