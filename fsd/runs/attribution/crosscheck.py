"""A second opinion where there are runs enough: Optuna's PED-ANOVA (Watanabe et al. 2023).

Needs Optuna. It says which params set the best tenth of the runs apart, and not in which direction; its shares sum to 1
whether there is anything to see or not, so that they are no evidence and stand beside a ranking only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.importance import BaseImportanceEvaluator, PedAnovaImportanceEvaluator

from fsd.runs.attribution.aliases import FactorGroup
from fsd.runs.attribution.scales import Factor, Scale, show_level
from fsd.runs.attribution.trials import Trial, measured


def ped_anova(
    trials: Sequence[Trial], metric: str, groups: Sequence[FactorGroup], *, maximize: bool
) -> dict[str, float]:
    """The share of each group, by the name of its lead. `groups` must have been found over these trials in this order.

    `maximize`: whether more of the metric is better, which decides which runs are the best.
    """
    return evaluate(PedAnovaImportanceEvaluator(), study_of(trials, metric, groups, maximize=maximize))


def evaluate(evaluator: BaseImportanceEvaluator, study: optuna.Study) -> dict[str, float]:
    """Any of Optuna's evaluators, asked about a study."""
    shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: float(share) for name, share in shares.items()}


def study_of(trials: Sequence[Trial], metric: str, groups: Sequence[FactorGroup], *, maximize: bool) -> optuna.Study:
    """The runs as Optuna knows them. A run that lacks a number has the middle of its range."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize" if maximize else "minimize")
    leads = [group.lead for group in groups]
    distributions = {lead.name: _distribution(lead) for lead in leads}
    for number, trial in enumerate(trials):
        params = {lead.name: _param(lead, number) for lead in leads}
        study.add_trial(
            optuna.trial.create_trial(params=params, distributions=distributions, value=measured(trial, metric))
        )
    return study


def _distribution(factor: Factor) -> BaseDistribution:
    if factor.scale is Scale.LEVELS:
        return CategoricalDistribution([show_level(level) for level in sorted(factor.levels, key=show_level)])
    low, high = _range(factor)
    return FloatDistribution(low, high, log=factor.scale is Scale.LOG)


def _range(factor: Factor) -> tuple[float, float]:
    numbers = [float(value) for value in factor.values if factor.position(value) is not None]  # type: ignore[arg-type]
    return min(numbers), max(numbers)


def _param(factor: Factor, number: int) -> Any:
    value = factor.values[number]
    if factor.scale is Scale.LEVELS:
        return show_level(value)
    if factor.position(value) is not None:
        return float(value)  # type: ignore[arg-type]
    low, high = _range(factor)
    return math.sqrt(low * high) if factor.scale is Scale.LOG else (low + high) / 2
