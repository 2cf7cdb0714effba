"""What a report of a simulated log got right, and what Optuna's evaluators say of the same log."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from optuna.importance import (
    BaseImportanceEvaluator,
    FanovaImportanceEvaluator,
    MeanDecreaseImpurityImportanceEvaluator,
    PedAnovaImportanceEvaluator,
)
from scenarios import Scenario, simulate

from fsd.runs.attribution import crosscheck
from fsd.runs.attribution.aliases import find_groups
from fsd.runs.attribution.importance import importance
from fsd.runs.attribution.numeric import fit_model
from fsd.runs.attribution.reports import Effect, Outcome, is_evident
from fsd.runs.attribution.thresholds import REGRESSION_RUNS
from fsd.runs.attribution.trials import Trial

METRIC = "score"


@dataclass(frozen=True)
class Verdict:
    """Of one report."""

    method: str
    ranked: bool
    """It gave a ranking."""
    top_is_right: bool
    """And the param that matters most stands first."""
    false_effects: int
    """Params that do nothing, with a p of at most 0.05 in the ranking."""
    true_effects: int
    """Params that matter, with a p of at most 0.05 in the ranking."""
    shown: tuple[int, int]
    """Intervals that a user sees which hold the truth, of how many."""
    all: tuple[int, int]
    """The same, had the report shown everything that it knows."""


def judge(scenario: Scenario, n: int, seed: int) -> Verdict:
    """Ask for the importance of a simulated log."""
    trials = simulate(scenario, n, seed)
    report = importance(trials, METRIC)
    ranked = report.outcome is Outcome.FOUND
    names = [{effect.param, *effect.aliased_with} for effect in report.effects if is_evident(effect)]
    matter = set(scenario.matter)
    top = {report.effects[0].param, *report.effects[0].aliased_with} if ranked else set()
    return Verdict(
        method=str(report.method),
        ranked=ranked,
        top_is_right=bool(scenario.matter) and scenario.matter[0] in top,
        false_effects=sum(not group & matter for group in names),
        true_effects=sum(bool(group & matter) for group in names),
        shown=coverage(scenario, report.effects or report.pairs),
        all=coverage(scenario, everything(trials) or report.pairs),
    )


def everything(trials: Sequence[Trial]) -> tuple[Effect, ...]:
    """The effects of the model, whether it has evidence or not."""
    groups = find_groups(trials)
    model = fit_model(trials, METRIC, groups, seed=0) if groups and len(trials) >= REGRESSION_RUNS else None
    return model.effects if model else ()


def coverage(scenario: Scenario, effects: Sequence[Effect]) -> tuple[int, int]:
    """Intervals that hold the truth, of all that there are."""
    hits = count = 0
    for effect in effects:
        if effect.ci_low is not None and effect.ci_high is not None:
            count += 1
            truth = scenario.truth(effect.param, effect.unit)
            hits += effect.ci_low - 1e-9 <= truth <= effect.ci_high + 1e-9
    return hits, count


@dataclass(frozen=True)
class Other:
    """What an evaluator of Optuna said."""

    evaluator: str
    top_is_right: bool
    top_share: float
    false_share: float
    """Of all params that do nothing."""
    changed: bool
    """Asked again, with another seed or none, another param stands first."""


def evaluators(seed: int) -> dict[str, BaseImportanceEvaluator]:
    """Optuna's, with a seed where they take one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            "PED-ANOVA": PedAnovaImportanceEvaluator(),
            "fANOVA": FanovaImportanceEvaluator(seed=seed),
            "MDI": MeanDecreaseImpurityImportanceEvaluator(seed=seed),
        }


def ask_others(scenario: Scenario, n: int, seed: int) -> list[Other]:
    """Ask them about a simulated log, in which more is better."""
    trials = simulate(scenario, n, seed)
    study = crosscheck.study_of(trials, METRIC, find_groups(trials), maximize=True)
    found = []
    for (name, evaluator), again in zip(evaluators(0).items(), evaluators(1).values(), strict=True):
        shares = crosscheck.evaluate(evaluator, study)
        top = max(shares, key=lambda param: shares[param])
        other = crosscheck.evaluate(again, study)
        found.append(
            Other(
                evaluator=name,
                top_is_right=scenario.matter[:1] == (top,),
                top_share=shares[top],
                false_share=sum(share for param, share in shares.items() if param not in scenario.matter),
                changed=max(other, key=lambda param: other[param]) != top,
            )
        )
    return found
