"""Matched pairs, by hand."""

from __future__ import annotations

import math

import pytest

from fsd.runs.attribution.aliases import find_groups
from fsd.runs.attribution.comparing import Noise, estimate_noise
from fsd.runs.attribution.pairs import correct, fit_strata, matched_pairs
from fsd.runs.attribution.reports import Effect, Method
from fsd.runs.attribution.trials import Trial
from tests.runs.attribution.logs import METRIC, run


def pairs_of(trials: list[Trial], noise: Noise | None = None) -> tuple[Effect, ...]:
    return matched_pairs(trials, METRIC, find_groups(trials), noise)


def test_one_slope_for_all_strata() -> None:
    fit = fit_strata([[(0, 1), (1, 3)], [(0, 10), (2, 16)], [(5, 100)]])
    assert fit is not None
    # Slopes of 2 and 3, the second over twice the distance: a weight of 4.
    assert fit.slope == pytest.approx((2 * 1 + 3 * 4) / 5)
    assert (fit.spread, fit.degrees, fit.n_pairs, fit.reach) == (2.5, 1, 2, 2)
    assert fit_strata([[(0, 1)], [(1, 1), (1, 2)]]) is None


def test_pairs_differ_in_one_param_and_seeds_do_not_count() -> None:
    trials = [
        run(1, 0.50, lr=0.001, opt="sgd", seed=1),
        run(2, 0.60, lr=0.008, opt="sgd", seed=2),
        run(3, 0.55, lr=0.001, opt="adam", seed=3),
        run(4, 0.95, lr=0.064, opt="rms", seed=4),
    ]
    lr, opt = pairs_of(trials)
    assert (lr.param, lr.unit, lr.n_pairs, lr.method) == ("lr", "per doubling", 1, Method.PAIRS)
    assert lr.effect == pytest.approx(0.1 / 3)
    assert (opt.param, opt.unit, opt.n_pairs) == ("opt", "sgd → adam", 1)
    assert opt.effect == pytest.approx(0.05)
    assert [lr.share, lr.p, lr.ci_low] == [None, None, None]


def test_a_group_of_aliases_is_one() -> None:
    trials = [run(1, 1.0, lr=1, wd=10, drop=0), run(2, 2.0, lr=2, wd=20, drop=0), run(3, 5.0, lr=1, wd=10, drop=1)]
    drop, lr = pairs_of(trials)
    assert (lr.param, lr.aliased_with, lr.effect) == ("lr", ("wd",), 1.0)
    assert (drop.param, drop.aliased_with, drop.effect) == ("drop", (), 4.0)


def test_chance_is_told_by_replicates() -> None:
    trials = [run(1, 1.0, warm=False, seed=1), run(2, 3.0, warm=True, seed=1), run(3, 1.2, warm=False, seed=2)]
    noise = estimate_noise(trials, METRIC)
    assert noise is not None
    (warm,) = pairs_of(trials, noise)
    assert warm.unit == "False → True"
    assert warm.effect == pytest.approx(1.9)
    error = noise.sd * math.sqrt(1 + 1 / 2)
    assert warm.ci_high == pytest.approx(1.9 + 12.7062 * error, abs=1e-3)


def test_chance_is_told_by_pairs_that_disagree() -> None:
    trials = [run(1, 1, lr=1, d=1), run(2, 3, lr=2, d=1), run(3, 1, lr=1, d=5), run(4, 5, lr=2, d=5)]
    _, lr = pairs_of(trials)
    assert lr.effect == pytest.approx(3)
    assert lr.p is not None
    # Two pairs of 2 and 4: t = 3 with one degree of freedom, the smaller p of two effects.
    assert lr.p == pytest.approx(2 * (1 - 2 / math.pi * math.atan(3)))
    assert (lr.ci_low, lr.ci_high) == (pytest.approx(3 - 12.7062, abs=1e-3), pytest.approx(3 + 12.7062, abs=1e-3))


def test_pairs_that_agree_to_the_last_digit_are_no_proof() -> None:
    trials = [run(1, 1, lr=1, d=1), run(2, 3, lr=2, d=1), run(3, 2, lr=1, d=5), run(4, 4, lr=2, d=5)]
    assert [(effect.effect, effect.p) for effect in pairs_of(trials)] == [(0.25, None), (2.0, None)]


def test_holm() -> None:
    effects = [
        Effect(str(number), 1.0, "per 1", None, None, None, p, 1, Method.PAIRS)
        for number, p in enumerate((0.04, 0.01, None, 0.03, 0.9))
    ]
    corrected = [one.p for one in correct(effects)]
    assert corrected.pop(2) is None
    assert corrected == pytest.approx([0.09, 0.04, 0.09, 0.9])
