"""What `explain` says of two runs of a simulated log: by a model of the log, and after the runs that it plans."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace

from judging import METRIC
from scenarios import Scenario, random_settings, simulate

from fsd.runs.attribution.corners import Corners
from fsd.runs.attribution.explaining import Explanation, explain
from fsd.runs.attribution.reports import Outcome
from fsd.runs.attribution.shapley import shapley_values
from fsd.runs.attribution.trials import Role, Trial, Value

REPLICATES = 4
"""Of run A, beside it: what noise is known from."""
CHANGED = ("dropout", "lr", "optimizer")


@dataclass(frozen=True)
class Answer:
    """About one pair of runs."""

    method: str
    answered: bool
    holds: tuple[int, int]
    """Intervals that hold the true Shapley value, of how many."""


def from_the_log(scenario: Scenario, n: int, seed: int) -> Answer:
    """The first and the last run of a random search."""
    trials = simulate(scenario, n, seed)
    return _answer(scenario, trials, explain(trials, trials[0].id, trials[-1].id, METRIC))


def from_planned_runs(scenario: Scenario, seed: int) -> Answer:
    """Two runs that differ in three params, and whatever is planned for them."""
    chance = random.Random(f"{scenario.name} explained {seed}")
    drawn = random_settings(chance)
    a = _run(scenario, "a", random_settings(chance), chance)
    b = _run(scenario, "b", {**a.factors, **{name: drawn[name] for name in CHANGED}}, chance)
    trials = [a, b, *(_run(scenario, f"again-{number}", a.factors, chance) for number in range(REPLICATES))]
    for number, missing in enumerate(explain(trials, "a", "b", METRIC).plan.configurations):
        trials.append(_run(scenario, f"planned-{number}", missing.factors, chance))
    return _answer(scenario, trials, explain(trials, "a", "b", METRIC))


def _run(scenario: Scenario, name: str, settings: Mapping[str, Value], chance: random.Random) -> Trial:
    factors = {**settings, "seed": chance.random()}
    metric = scenario.response(factors) + scenario.noise(chance)
    return Trial(name, None, 0.0, factors, {METRIC: metric}, {"seed": Role.SEED})


def _answer(scenario: Scenario, trials: list[Trial], report: Explanation) -> Answer:
    """The truth is the Shapley value of the metric without noise."""
    ends = [trial for name in (report.a, report.b) for trial in trials if trial.id == name]
    quiet = [replace(trial, metrics={METRIC: scenario.response(trial.factors)}) for trial in ends]
    corners = Corners(quiet, *quiet, METRIC)
    values = shapley_values(
        len(corners.players), lambda corner: scenario.response(corners.configuration(corner).factors)
    )
    truth = dict(zip((change.param for change in corners.players), values, strict=True))
    bounds = [(one.ci_low, truth[one.param], one.ci_high) for one in report.effects]
    holds = [low - 1e-9 <= true <= high + 1e-9 for low, true, high in bounds if low is not None and high is not None]
    return Answer(str(report.method or ""), report.outcome is Outcome.FOUND, (sum(holds), len(holds)))
