"""Optuna's PED-ANOVA beside a ranking of many runs, and only there."""

from __future__ import annotations

import math

import pytest

from fsd.runs.attribution import numeric
from fsd.runs.attribution.importance import importance
from tests.runs.attribution.logs import METRIC, of_numbers, random_log

pytest.importorskip("optuna")


def test_many_runs_are_asked_about_twice() -> None:
    trials = random_log(60, lambda factors: math.log2(of_numbers(factors["lr"])), seed=1)
    report = importance(trials, METRIC, maximize=True)
    assert report.cross_check is not None
    assert sum(report.cross_check.values()) == pytest.approx(1)
    assert max(report.cross_check, key=report.cross_check.__getitem__) == "lr"
    assert report == importance(trials, METRIC, maximize=True)
    assert importance(trials, METRIC, maximize=False).cross_check != report.cross_check


def test_it_is_asked_about_a_ranking_of_many_runs_in_a_known_direction_only(monkeypatch: pytest.MonkeyPatch) -> None:
    trials = random_log(60, lambda factors: math.log2(of_numbers(factors["lr"])), seed=1)
    assert importance(trials, METRIC).cross_check is None
    assert importance(trials[:40], METRIC, maximize=True).cross_check is None
    assert importance(random_log(60, lambda _: 0.0, seed=1), METRIC, maximize=True).cross_check is None
    monkeypatch.setattr(numeric, "has_optuna", lambda: False)
    assert importance(trials, METRIC, maximize=True).cross_check is None
