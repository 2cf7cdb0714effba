"""Over all comparable runs: which params move a metric, and whether the runs say so at all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace

from fsd.errors import UsageError
from fsd.runs.attribution import numeric
from fsd.runs.attribution.aliases import FactorGroup, find_groups
from fsd.runs.attribution.comparing import LeftOut, choose_group, estimate_noise
from fsd.runs.attribution.pairs import matched_pairs
from fsd.runs.attribution.reports import Effect, Method, Model, Outcome, is_evident
from fsd.runs.attribution.thresholds import CROSS_CHECK_RUNS, REGRESSION_RUNS
from fsd.runs.attribution.trials import Role, Trial, Value, find_identifiers, identifier_notes, roles_of


@dataclass(frozen=True, slots=True)
class Importance:
    """What the runs of a log say of the params that vary in it."""

    metric: str
    outcome: Outcome
    method: Method
    effects: tuple[Effect, ...]
    """The ranking: those that explain most first. Empty unless the outcome is `FOUND`. An effect whose p is above 0.05
    may be none at all, wherever it stands."""
    pairs: tuple[Effect, ...]
    """What matched pairs show, by name: facts about these runs, and no ranking."""
    n: int
    """Runs that were compared."""
    noise_sd: float | None
    """Of one run, from replicates; None without any."""
    loo_r2: float | None
    """The part of the variance that the regression predicts of runs it has not seen; None for matched pairs."""
    r2: float | None
    """What the shares sum to."""
    p: float | None
    """The chance that runs whose metric has nothing to do with any param look as this log does, or more so."""
    comparable_by: Mapping[str, Value]
    """What all of these runs are equal in."""
    across: tuple[str, ...]
    """Code, data and subsets that were made factors."""
    left_out: tuple[LeftOut, ...]
    """The other runs, and why."""
    cross_check: Mapping[str, float] | None
    """Beside a ranking of many runs: the shares that Optuna's PED-ANOVA gives, which sum to 1 whatever there is to see.
    None where it was not asked."""
    notes: tuple[str, ...]
    """Warnings that have to be shown with the numbers."""


def importance(
    trials: Iterable[Trial],
    metric: str,
    *,
    across: Set[str] = frozenset(),
    log: Set[str] = frozenset(),
    seed: int = 0,
    maximize: bool | None = None,
) -> Importance:
    """Which params move the metric, over the largest group of comparable runs.

    `across` names code, data versions or subsets that shall be factors rather than divide the runs. `log` names params
    that are logarithmic beside those that evidently are. `maximize`, whether more of the metric is better, is wanted
    for the cross-check only: without it, or without Optuna, there is none. The same trials and `seed` give the same
    report.

    Raises NotFoundError if no run has the metric; UsageError for a name in `across` or `log` that no run has, for a
    logarithmic param that is not above 0, and where numpy is not installed.
    """
    trials = list(trials)
    unknown = sorted(log - {name for trial in trials for name in trial.factors})
    if unknown:
        raise UsageError(f"no run has a param {unknown[0]!r}", hint="name logarithmic params as the runs have them")
    group, left_out = choose_group(trials, metric, across=across)
    compared = sorted(group.trials, key=lambda trial: (trial.time, trial.id))
    identifiers = find_identifiers(trials)
    groups = find_groups(compared, log=log, ignored=identifiers)
    noise = estimate_noise(compared, metric, ignored=identifiers)
    pairs = matched_pairs(compared, metric, groups, noise)
    model = None
    if groups and len(compared) >= REGRESSION_RUNS:
        model = numeric.fit_model(compared, metric, groups, seed=seed)
    report = Importance(
        metric=metric,
        outcome=Outcome.NOT_ENOUGH_EVIDENCE,
        method=Method.PAIRS,
        effects=(),
        pairs=pairs,
        n=len(compared),
        noise_sd=noise.sd if noise else None,
        loo_r2=None,
        r2=None,
        p=None,
        comparable_by=group.comparable_by,
        across=tuple(sorted(across)),
        left_out=left_out,
        cross_check=None,
        notes=_notes(compared, identifiers, across, has_noise=noise is not None),
    )
    if model is None:
        return _by_pairs(report, groups)
    report = _by_model(report, model)
    if report.effects and report.n >= CROSS_CHECK_RUNS and maximize is not None and numeric.has_optuna():
        shares = numeric.ped_anova(compared, metric, groups, maximize=maximize)
        report = replace(report, cross_check=shares)
    return report


def _by_pairs(report: Importance, groups: Sequence[FactorGroup]) -> Importance:
    p = min((effect.p for effect in report.pairs if effect.p is not None), default=None)
    notes = report.notes
    if report.n < REGRESSION_RUNS:
        notes += (f"{report.n} runs: matched pairs only, below {REGRESSION_RUNS}",)
    elif groups:
        notes += ("too few runs for so many params, or one metric in all of them: matched pairs only",)
    if groups and not report.pairs:
        notes += ("no two runs differ in one param only",)
    if not any(map(is_evident, report.pairs)):
        return replace(report, p=p, notes=notes)
    ranked = sorted(report.pairs, key=lambda effect: (effect.p is None, effect.p or 0.0, effect.param, effect.unit))
    return replace(report, outcome=Outcome.FOUND, effects=tuple(ranked), p=p, notes=notes)


def _by_model(report: Importance, model: Model) -> Importance:
    report = replace(report, method=Method.REGRESSION, loo_r2=model.loo_r2, r2=model.r2, p=model.p)
    if not model.has_evidence:
        note = "together the params predict the metric, but none of them can be told from chance by itself"
        return replace(report, notes=(*report.notes, note)) if model.predicts else report
    counts: dict[str, int] = {}
    for pair in report.pairs:
        counts[pair.param] = counts.get(pair.param, 0) + (pair.n_pairs or 0)
    effects = (replace(effect, n_pairs=counts.get(effect.param, 0)) for effect in model.effects)
    ranked = sorted(effects, key=lambda effect: (-(effect.share or 0.0), effect.param))
    return replace(report, outcome=Outcome.FOUND, effects=tuple(ranked))


def _notes(
    trials: Sequence[Trial], identifiers: Sequence[str], across: Set[str], *, has_noise: bool
) -> tuple[str, ...]:
    roles = roles_of(trials)
    notes = []
    if not has_noise:
        notes.append("no replicates: repeat a run with another seed to know what chance does")
    notes += [
        f"runs on different subsets are compared: {name} is a factor"
        for name in sorted(across)
        if roles.get(name) is Role.SUBSET
    ]
    return (*notes, *identifier_notes(identifiers))
