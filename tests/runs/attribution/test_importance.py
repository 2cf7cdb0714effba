"""Over a log: found where there is something, silent where there is nothing, the same whatever things are called."""

from __future__ import annotations

import dataclasses
import json
import math
import random
import subprocess
import sys
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsd.errors import NotFoundError, UsageError
from fsd.runs.attribution.encoding import Floats
from fsd.runs.attribution.importance import Importance, importance
from fsd.runs.attribution.regression import LeastSquares, lmg, predict
from fsd.runs.attribution.reports import Effect, Method, Outcome, as_json
from fsd.runs.attribution.trials import Trial, Value
from tests.runs.attribution.logs import METRIC, of_numbers, random_log, run


def two_matter(factors: Mapping[str, Value]) -> float:
    return 0.5 * math.log2(of_numbers(factors["lr"])) + 3.0 * (factors["opt"] == "adam")


def by_name(report: Importance) -> dict[str, Effect]:
    return {effect.param: effect for effect in report.effects}


# --- the arithmetic


@st.composite
def columns(draw: st.DrawFn) -> tuple[Floats, Floats, list[slice]]:
    """Runs of a few blocks of columns, standardised, and their metric."""
    widths = draw(st.lists(st.integers(1, 2), min_size=1, max_size=4))
    n = sum(widths) + draw(st.integers(4, 12))
    chance = np.random.default_rng(draw(st.integers(0, 10_000)))
    x = chance.normal(size=(n, sum(widths)))
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    y = x @ chance.normal(size=sum(widths)) + chance.normal(size=n)
    starts = np.cumsum([0, *widths])
    return x, y - y.mean(), [slice(int(a), int(a) + width) for a, width in zip(starts, widths, strict=False)]


@given(columns())
@settings(max_examples=40)
def test_shares_sum_to_r2_and_none_is_negative(drawn: tuple[Floats, Floats, list[slice]]) -> None:
    x, y, blocks = drawn
    shares, r2 = lmg(x, y, blocks, 0.1, seed=0)
    assert math.fsum(shares) == pytest.approx(r2, abs=1e-9)
    assert min(shares) > -1e-9
    _, exact = lmg(x, y, blocks, 1e-9, seed=0)
    fit = LeastSquares(x, y)
    assert exact == pytest.approx(1 - ((y - fit.fitted) ** 2).sum() / (y**2).sum(), abs=1e-6)


def test_shares_of_columns_that_have_nothing_in_common_are_their_own_r2() -> None:
    x = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]], dtype=float)
    shares, r2 = lmg(x, x @ np.array([3.0, 4.0]), [slice(0, 1), slice(1, 2)], 1e-12, seed=0)
    assert shares == pytest.approx([9 / 25, 16 / 25])
    assert r2 == pytest.approx(1)


def test_what_two_columns_say_together_is_divided_between_them() -> None:
    x = np.array([[1, 1], [1, 1], [-1, -1], [-1, -1]], dtype=float)
    shares, _ = lmg(x, np.array([2.0, 2.0, -2.0, -2.0]), [slice(0, 1), slice(1, 2)], 1e-9, seed=0)
    assert shares == pytest.approx([0.5, 0.5])


def test_leaving_one_out_is_what_it_says() -> None:
    chance = np.random.default_rng(4)
    x = chance.normal(size=(9, 2))
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    y = x @ [1.0, -2.0] + chance.normal(size=9)
    y -= y.mean()
    found = predict(x, y, np.array([chance.permutation(9) for _ in range(9)]).T)
    left, unpredicted = 0.0, 0.0
    for out in range(9):
        rest = np.delete(np.arange(9), out)
        mean, centre = y[rest].mean(), x[rest].mean(axis=0)
        gram = (x[rest] - centre).T @ (x[rest] - centre)
        beta = np.linalg.solve(gram + found.penalty * np.eye(2), (x[rest] - centre).T @ (y[rest] - mean))
        left += (y[out] - mean - (x[out] - centre) @ beta) ** 2
        unpredicted += (y[out] - mean) ** 2
    assert found.loo_r2 == pytest.approx(1 - left / unpredicted)


# --- what is found


def test_known_effects_are_found_signed_in_their_units() -> None:
    report = importance(random_log(60, two_matter, seed=1), METRIC)
    assert (report.outcome, report.method, report.n) == (Outcome.FOUND, Method.REGRESSION, 60)
    assert [effect.param for effect in report.effects][:2] == ["lr", "opt"]
    lr, opt = by_name(report)["lr"], by_name(report)["opt"]
    assert (lr.unit, lr.method) == ("per doubling", Method.REGRESSION)
    assert lr.ci_low is not None
    assert lr.ci_high is not None
    assert lr.ci_low < 0.5 < lr.ci_high
    assert lr.ci_high - lr.ci_low < 0.3
    assert "adam" in opt.unit
    assert abs(opt.effect) == pytest.approx(3, abs=1)
    assert [effect.p is not None and effect.p <= 0.05 for effect in (lr, opt)] == [True, True]
    assert all(
        effect.p is not None and effect.p > 0.05
        for name, effect in by_name(report).items()
        if name in ("warm", "dropout")
    )
    assert report.r2 == pytest.approx(math.fsum(effect.share or 0.0 for effect in report.effects))
    assert report.loo_r2 is not None
    assert 0 < report.loo_r2 < report.r2 < 1


def test_a_best_value_within_the_range_is_found() -> None:
    trials = random_log(40, lambda factors: -((math.log10(of_numbers(factors["lr"])) + 3) ** 2) * 2, seed=3)
    report = importance(trials, METRIC)
    assert report.effects[0].param == "lr"
    assert report.effects[0].p is not None
    assert report.effects[0].p <= 0.05


def test_params_that_change_together_share_one_place() -> None:
    trials = [
        dataclasses.replace(trial, factors={**trial.factors, "wd": of_numbers(trial.factors["lr"]) * 3})
        for trial in random_log(40, two_matter, seed=4)
    ]
    report = importance(trials, METRIC)
    assert by_name(report)["lr"].aliased_with == ("wd",)
    assert "wd" not in by_name(report)


def test_few_runs_are_compared_by_pairs() -> None:
    trials = [run(n, n // 2 + (5 if n % 2 else 0) + n / 100, lr=1 + n // 2, warm=bool(n % 2)) for n in range(8)]
    report = importance(trials, METRIC)
    assert (report.method, report.outcome, report.loo_r2, report.r2) == (Method.PAIRS, Outcome.FOUND, None, None)
    assert {effect.param: round(effect.effect, 6) for effect in report.effects} == {"lr": 1.02, "warm": 5.01}
    assert "8 runs: matched pairs only, below 10" in report.notes


def test_more_params_than_runs_are_compared_by_pairs() -> None:
    chance = random.Random(1)
    trials = [run(n, chance.random(), **{f"p{k}": chance.random() for k in range(8)}) for n in range(12)]
    report = importance(trials, METRIC)
    assert (report.method, report.outcome) == (Method.PAIRS, Outcome.NOT_ENOUGH_EVIDENCE)
    assert "no two runs differ in one param only" in report.notes
    assert any(note.startswith("too few runs for so many params") for note in report.notes)


def test_one_metric_in_all_runs_is_no_evidence() -> None:
    report = importance(random_log(30, lambda _: 0.5, seed=1, noise=0.0), METRIC)
    assert (report.outcome, report.effects) == (Outcome.NOT_ENOUGH_EVIDENCE, ())


def test_many_params_are_sampled() -> None:
    chance = random.Random(2)
    trials = []
    for number in range(60):
        factors = {f"p{k:02}": chance.uniform(0.5, 1) for k in range(12)}
        trials.append(run(number, 20 * factors["p03"] + chance.gauss(0, 1), **factors))
    report = importance(trials, METRIC)
    assert report.effects[0].param == "p03"
    assert report.r2 == pytest.approx(math.fsum(effect.share or 0.0 for effect in report.effects))


# --- what is not found


def test_noise_is_ranked_no_more_often_than_it_may_be() -> None:
    ranked = [importance(random_log(15, lambda _: 0.0, seed=seed), METRIC).outcome for seed in range(60)]
    assert ranked.count(Outcome.FOUND) <= 0.05 * len(ranked)


def test_runs_on_a_subset_are_left_out_or_warned_of() -> None:
    log = random_log(20, two_matter, seed=1)
    whole = [run(n, one.metric(METRIC), **one.factors, subset="") for n, one in enumerate(log)]
    tiny = [run(f"tiny-{n}", one.metric(METRIC), **one.factors, subset="tiny") for n, one in enumerate(log[:5])]
    report = importance([*whole, *tiny], METRIC)
    assert (report.n, report.comparable_by) == (20, {"subset": ""})
    assert {one.id for one in report.left_out} == {trial.id for trial in tiny}
    assert report.left_out[0].reasons == ("subset the whole → tiny",)
    both = importance([*whole, *tiny], METRIC, across={"subset"})
    assert (both.n, both.left_out, both.comparable_by, both.across) == (25, (), {}, ("subset",))
    assert "runs on different subsets are compared: subset is a factor" in both.notes


# --- the same whatever things are called, and the same again


def test_the_same_log_gives_the_same_report() -> None:
    trials = random_log(20, two_matter, seed=6)
    assert importance(trials, METRIC, seed=3) == importance(trials, METRIC, seed=3)
    assert importance(trials, METRIC, seed=3) != importance(trials, METRIC, seed=4)


@pytest.mark.parametrize("n", [8, 25])
def test_the_order_of_runs_does_not_matter(n: int) -> None:
    trials = random_log(n, two_matter, seed=7)
    shuffled = random.Random(1).sample(trials, n)
    again = [dataclasses.replace(trial, id=f"x{trial.id}", time=number) for number, trial in enumerate(shuffled)]
    assert close(importance(again, METRIC), importance(trials, METRIC))


def test_names_do_not_matter() -> None:
    trials = random_log(25, two_matter, seed=8)
    names = {"lr": "z", "dropout": "y.x", "opt": "b", "warm": "a"}
    renamed = [
        dataclasses.replace(one, factors={names[name]: value for name, value in one.factors.items()}) for one in trials
    ]
    report = importance(renamed, METRIC)
    back = {new: old for old, new in names.items()}
    effects = tuple(dataclasses.replace(effect, param=back[effect.param]) for effect in report.effects)
    assert close(dataclasses.replace(report, effects=effects), importance(trials, METRIC))


def close(one: Importance, two: Importance) -> bool:
    """But for rounding."""
    numbers = [
        [
            value
            for effect in report.effects
            for value in (effect.effect, effect.share, effect.ci_low, effect.ci_high, effect.p)
        ]
        for report in (one, two)
    ]
    names = [[(effect.param, effect.unit, effect.n_pairs) for effect in report.effects] for report in (one, two)]
    assert one.outcome == two.outcome
    assert names[0] == names[1]
    assert numbers[0] == pytest.approx(numbers[1], abs=1e-9)
    return (one.loo_r2, one.r2, one.p) == pytest.approx((two.loo_r2, two.r2, two.p))


# --- what is asked wrongly, and what is installed


def test_what_cannot_be_asked() -> None:
    trials: list[Trial] = random_log(12, two_matter, seed=1)
    with pytest.raises(UsageError, match="no run has a param 'rl'"):
        importance(trials, METRIC, log={"rl"})
    with pytest.raises(UsageError, match="no run has a factor 'code'"):
        importance(trials, METRIC, across={"code"})
    with pytest.raises(NotFoundError, match="no run has the metric 'loss'"):
        importance(trials, "loss")


def test_it_is_ready_for_json() -> None:
    found = json.loads(json.dumps(as_json(importance(random_log(30, two_matter, seed=1), METRIC)), allow_nan=False))
    names = ["param", "effect", "unit", "share", "ci_low", "ci_high", "p", "n_pairs", "method", "aliased_with"]
    assert list(found["effects"][0]) == names
    assert {"n", "noise_sd", "loo_r2", "comparable_by"} <= found.keys()


WITHOUT = """
import sys
sys.modules["{library}"] = None
from fsd.errors import UsageError
from fsd.runs.attribution.importance import importance
from tests.runs.attribution.logs import random_log
assert importance(random_log(5, lambda _: 0.0, seed=1), "acc").n == 5
try:
    importance(random_log(20, lambda _: 0.0, seed=1), "acc")
except UsageError as error:
    print(error)
"""


def test_numpy_is_needed_for_a_model_only() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT.format(library="numpy")], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "this takes numpy, which is not installed; pip install 'fsd[exp]'\n"


def test_importing_loads_no_numpy() -> None:
    code = "import sys, fsd.runs.attribution.importance, fsd.runs.attribution.explaining, fsd.runs.attribution.steps"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; print('numpy' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == "False\n"
