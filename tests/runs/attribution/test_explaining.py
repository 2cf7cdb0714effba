"""From one run to another: exact where it can be, estimated where it must be, and silent where nothing is known."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsd.errors import NotFoundError
from fsd.runs.attribution.corners import PlanKind
from fsd.runs.attribution.explaining import explain
from fsd.runs.attribution.reports import Method, Outcome, as_json
from fsd.runs.attribution.trials import Value
from tests.runs.attribution.logs import METRIC, of_numbers, random_log, run
from tests.runs.attribution.test_corners import follow, random_response, two_runs


def test_one_param_has_it_all() -> None:
    report = explain([run("a", 0.5, lr=0.1, seed=1), run("b", 0.75, lr=0.01, seed=2)], "a", "b", METRIC)
    (effect,) = report.effects
    assert (report.outcome, report.method) == (Outcome.FOUND, Method.DIRECT)
    assert (effect.param, effect.effect, effect.unit, effect.share) == ("lr", 0.25, "0.1 → 0.01", 1.0)
    assert (effect.ci_low, effect.ci_high, effect.p) == (None, None, None)
    assert (report.unexplained, report.n, report.plan.at_most) == (0.0, 2, 0)
    assert report.notes == ("no replicates: repeat a run with another seed to know what chance does",)


def test_replicates_say_how_sure_that_is() -> None:
    trials = [run("a", 1.0, lr=1, seed=1), run("b", 3.0, lr=2, seed=1), run("a2", 1.2, lr=1, seed=2)]
    report = explain(trials, "a", "b", METRIC)
    (effect,) = report.effects
    sd = 0.2 / math.sqrt(2)
    assert report.noise_sd == pytest.approx(sd)
    assert effect.ci_low == pytest.approx(2 - 12.7062 * sd * math.sqrt(2), abs=1e-4)
    assert effect.ci_high == pytest.approx(2 + 12.7062 * sd * math.sqrt(2), abs=1e-4)
    assert effect.p == pytest.approx(2 / math.pi * math.atan(0.2 / 2))  # of Student's t with one degree of freedom


def test_corners_give_shapley_values() -> None:
    trials = [
        run("a", 10.0, lr=1, wd=1),
        run("b", 20.0, lr=2, wd=2),
        run("c", 14.0, lr=2, wd=1),
        run("d", 12.0, lr=1, wd=2),
    ]
    report = explain(trials, "a", "b", METRIC)
    assert report.method is Method.SHAPLEY
    # lr: 4 first and 8 second; wd: 2 first and 6 second.
    assert [(effect.param, effect.effect, effect.share) for effect in report.effects] == [
        ("lr", 6.0, 0.6),
        ("wd", 4.0, 0.4),
    ]
    back = explain(trials, "b", "a", METRIC)
    assert [effect.effect for effect in back.effects] == [-6.0, -4.0]


@given(st.integers(2, 4), st.integers())
@settings(max_examples=20)
def test_what_is_planned_makes_it_exact(count: int, seed: int) -> None:
    response = random_response(seed)
    trials, done, _ = follow(two_runs(count, response), response)
    report = explain(trials, "a", "b", METRIC)
    assert (report.method, report.n, report.plan.configurations) == (Method.SHAPLEY, done + 2, ())
    assert math.fsum(effect.effect for effect in report.effects) == pytest.approx(report.diff, abs=1e-9)
    assert report.unexplained == pytest.approx(0, abs=1e-9)


@given(st.integers(5, 7), st.integers())
@settings(max_examples=20)
def test_many_params_are_ablated_from_both_ends(count: int, seed: int) -> None:
    response = random_response(seed)
    trials, done, kind = follow(two_runs(count, response), response)
    report = explain(trials, "a", "b", METRIC)
    assert (kind, report.method, report.n) == (PlanKind.ABLATION, Method.ABLATION, done + 2)
    forth, back = report.paths
    assert sorted(forth.order) == sorted(back.order) == sorted(effect.param for effect in report.effects)
    assert math.fsum(forth.diffs) == pytest.approx(report.diff, abs=1e-9)
    assert math.fsum(back.diffs) == pytest.approx(-report.diff, abs=1e-9)
    assert math.fsum(effect.effect for effect in report.effects) == pytest.approx(report.diff, abs=1e-9)


def test_an_ablation_of_what_adds_up_finds_each_part() -> None:
    parts = {"p0": 5.0, "p1": -3.0, "p2": 1.0, "p3": 0.0, "p4": 0.5}

    def response(factors: Mapping[str, Value]) -> float:
        return sum(part * of_numbers(factors[name]) for name, part in parts.items())

    trials, _, _ = follow(two_runs(5, response), response)
    report = explain(trials, "a", "b", METRIC)
    assert {effect.param: effect.effect for effect in report.effects} == pytest.approx(parts)
    assert [path.order for path in report.paths] == [("p0", "p2", "p4", "p3", "p1"), ("p0", "p2", "p4", "p3", "p1")]


def test_without_corners_and_without_runs_there_is_no_answer_but_a_plan() -> None:
    trials = [run("a", 0.5, lr=1, wd=1), run("b", 0.9, lr=2, wd=2)]
    report = explain(trials, "a", "b", METRIC)
    assert (report.outcome, report.method, report.effects) == (Outcome.NOT_ENOUGH_EVIDENCE, None, ())
    assert report.unexplained == report.diff == pytest.approx(0.4)
    assert [one.changed for one in report.plan.configurations] == [("lr",), ("wd",)]
    assert "2 comparable runs: too few for a model, below 10" in report.notes


def test_a_model_of_the_log_estimates_and_says_so() -> None:
    trials = random_log(
        60, lambda factors: 2 * math.log2(of_numbers(factors["lr"])) + 6 * (factors["opt"] == "sgd"), seed=5
    )
    report = explain(trials, "0", "1", METRIC)
    assert (report.outcome, report.method, report.n) == (Outcome.FOUND, Method.ESTIMATED, 60)
    assert report.loo_r2 is not None
    assert report.loo_r2 > 0.8
    whole = math.fsum(effect.effect for effect in report.effects) + report.unexplained
    assert whole == pytest.approx(report.diff)
    by_name = {effect.param: effect for effect in report.effects}
    doublings = math.log2(of_numbers(trials[1].factors["lr"])) - math.log2(of_numbers(trials[0].factors["lr"]))
    assert by_name["lr"].ci_low is not None
    assert by_name["lr"].ci_high is not None
    assert by_name["lr"].ci_low < 2 * doublings < by_name["lr"].ci_high
    assert report.notes[-1].startswith("estimated by a model")
    assert report.plan.configurations


def test_a_model_of_noise_says_nothing() -> None:
    report = explain(random_log(30, lambda _: 0.0, seed=2), "0", "1", METRIC)
    assert (report.outcome, report.effects) == (Outcome.NOT_ENOUGH_EVIDENCE, ())
    assert report.unexplained == report.diff


def test_runs_that_differ_in_a_seed_only_differ_by_chance() -> None:
    report = explain([run("a", 0.5, lr=1, seed=1), run("b", 0.6, lr=1, seed=2)], "a", "b", METRIC)
    assert (report.outcome, report.effects, report.plan.at_most) == (Outcome.NOTHING_DIFFERS, (), 0)
    assert [change.param for change in report.changes] == ["seed"]
    assert (report.old, report.new, report.unexplained) == (0.5, 0.6, report.diff)
    assert report.diff == pytest.approx(0.1)


def test_data_code_and_subset_are_factors_by_name_and_are_warned_of() -> None:
    trials = [
        run("a", 0.5, lr=1, code="x", data="v1", subset="tiny"),
        run("b", 0.9, lr=1, code="x", data="v2", subset=""),
        run("c", 0.6, lr=1, code="x", data="v2", subset="tiny"),
        run("d", 0.8, lr=1, code="x", data="v1", subset=""),
    ]
    report = explain(trials, "a", "b", METRIC)
    assert [(effect.param, pytest.approx(effect.effect)) for effect in report.effects] == [
        ("subset", 0.3),
        ("data", 0.1),
    ]
    assert report.comparable_by == {"code": "x"}
    assert report.notes[:2] == (
        "runs on different subsets are compared: subset tiny → the whole",
        "data is a factor: data v1 → v2",
    )


def test_it_is_ready_for_json() -> None:
    trials = [run("a", 0.5, lr=1, wd=1), run("b", 0.9, lr=2, wd=2)]
    text = json.dumps(as_json(explain(trials, "a", "b", METRIC)), allow_nan=False)
    assert json.loads(text)["changes"][0] == {"param": "lr", "role": "param", "old": 1, "new": 2, "diff": 1}
    assert json.loads(text)["plan"]["configurations"][0] == {"factors": {"lr": 2, "wd": 1}, "changed": ["lr"]}


def test_no_such_run() -> None:
    with pytest.raises(NotFoundError, match="there is no run c"):
        explain([run("a", 0.5, lr=1)], "a", "c", METRIC)


def test_names_of_runs_are_left_out() -> None:
    trials = [run(n, 0.5 + n, lr=n // 3, seed=n, tag=f"t{n}") for n in range(6)]
    report = explain(trials, "0", "3", METRIC)
    assert [effect.param for effect in report.effects] == ["lr"]
    assert report.noise_sd == pytest.approx(1)
    assert report.notes == ("tag is another in every run, and is left out",)
