"""Factors, what of them differs, and what is refused."""

from __future__ import annotations

import math

import pytest

from fsd.errors import NotFoundError, UsageError
from fsd.runs.attribution.reports import as_json
from fsd.runs.attribution.trials import (
    Change,
    Role,
    Trial,
    changes,
    factor_names,
    find,
    find_identifiers,
    measured,
    roles_of,
)
from tests.runs.attribution.logs import METRIC, run


def test_changes_are_by_name_with_what_was_missing_as_none() -> None:
    a = run(1, 0.5, lr=0.1, opt="adam", same=3, seed=1)
    b = run(2, 0.6, lr=0.01, wd=1e-4, same=3.0, seed=2)
    assert changes(a, b) == (
        Change("lr", Role.PARAM, 0.1, 0.01),
        Change("opt", Role.PARAM, "adam", None),
        Change("seed", Role.SEED, 1, 2),
        Change("wd", Role.PARAM, None, 1e-4),
    )


def test_true_is_not_one_and_nan_is_nan() -> None:
    assert [change.param for change in changes(run(1, 0, a=True, b=math.nan), run(2, 0, a=1, b=math.nan))] == ["a"]


def test_a_leaf_has_a_difference_for_numbers_only() -> None:
    lr, opt, flag = changes(run(1, 0, lr=1, opt="a", warm=False), run(2, 0, lr=4, opt="b", warm=True))
    assert as_json(lr) == {"param": "lr", "role": "param", "old": 1, "new": 4, "diff": 3}
    assert as_json(opt) == {"param": "opt", "role": "param", "old": "a", "new": "b"}
    assert as_json(flag) == {"param": "warm", "role": "param", "old": False, "new": True}


def test_json_has_no_numbers_that_json_lacks_and_no_surprises() -> None:
    assert as_json({"a": (math.nan, math.inf, 1.5), "b": None}) == {"a": [None, None, 1.5], "b": None}
    with pytest.raises(TypeError, match="set in a report"):
        as_json({1})


def test_seeds_are_no_factors_unless_asked_for() -> None:
    trials = [run(1, 0, lr=1, seed=1), run(2, 0, wd=1)]
    assert factor_names(trials) == ["lr", "wd"]
    assert factor_names(trials, seeds=True) == ["lr", "seed", "wd"]


def test_a_factor_has_one_role() -> None:
    trials = [run(1, 0, seed=1), Trial("2", None, 2, {"seed": 1}, {}, {"seed": Role.DATA})]
    with pytest.raises(UsageError, match="'seed' is a data in one run and a seed in another"):
        roles_of(trials)


def test_a_metric_that_is_no_number_is_none() -> None:
    assert run(1, math.nan).metric(METRIC) is None
    assert run(1, math.inf).metric(METRIC) is None
    assert run(1, None).metric(METRIC) is None
    with pytest.raises(NotFoundError, match="run 1 has no number for the metric 'acc'"):
        measured(run(1, math.nan), METRIC)


def test_what_is_not_there_is_said_with_what_looks_like_it() -> None:
    with pytest.raises(NotFoundError, match="there is no run run-12; did you mean 'run-1'"):
        find([run("run-1", 0)], "run-12")
    with pytest.raises(NotFoundError, match="did you mean 'acc'"):
        measured(run(1, 0), "acx")


def test_names_of_runs_are_no_settings_where_there_are_runs_enough_to_say_so() -> None:
    trials = [run(n, 0, tag=f"t{n}", opt="ab"[n % 2], code=f"c{n}", lr=n) for n in range(6)]
    assert find_identifiers(trials) == ("tag",)
    assert find_identifiers(trials[:5]) == ()
    assert find_identifiers([*trials, run(6, 0, tag="t0")]) == find_identifiers([*trials, run(6, 0)]) == ()
