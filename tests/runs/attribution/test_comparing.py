"""Which runs are compared, what is said of the others, and how noise is told."""

from __future__ import annotations

import math

import pytest

from fsd.errors import NotFoundError, UsageError
from fsd.runs.attribution.comparing import (
    LeftOut,
    Noise,
    choose_group,
    comparable_groups,
    estimate_noise,
    why_not_comparable,
)
from tests.runs.attribution.logs import METRIC, ids, run


def test_runs_are_divided_by_code_data_subset_and_definition_only() -> None:
    trials = [
        run(1, 0.1, lr=1, code="a", data="v1", subset="", definition="d"),
        run(2, 0.2, lr=2, code="a", data="v1", subset="", definition="d"),
        run(3, 0.3, lr=1, code="b", data="v1", subset="", definition="d"),
        run(4, 0.4, lr=1, code="a", data="v2", subset="", definition="d"),
        run(5, 0.5, lr=1, code="a", data="v1", subset="tiny", definition="d"),
        run(6, 0.6, lr=1, code="a", data="v1", subset="", definition="e"),
        run(7, None, lr=1, code="a", data="v1", subset="", definition="d"),
    ]
    groups = comparable_groups(trials, METRIC)
    assert [ids(group.trials) for group in groups] == [["1", "2"], ["6"], ["5"], ["4"], ["3"]]
    assert groups[0].comparable_by == {"code": "a", "data": "v1", "definition": "d", "subset": ""}
    chosen, left = choose_group(trials, METRIC)
    assert ids(chosen.trials) == ["1", "2"]
    assert left == (
        LeftOut("3", ("code a → b",)),
        LeftOut("4", ("data v1 → v2",)),
        LeftOut("5", ("subset the whole → tiny",)),
        LeftOut("6", ("definition d → e",)),
        LeftOut("7", ("it has no number for acc",)),
    )


def test_what_is_made_a_factor_divides_no_more() -> None:
    a, b = run(1, 0.1, code="a", subset=""), run(2, 0.2, code="b", subset="tiny")
    assert why_not_comparable(a, b) == ("code a → b", "subset the whole → tiny")
    assert why_not_comparable(a, b, across={"code"}) == ("subset the whole → tiny",)
    (group,) = comparable_groups([a, b], METRIC, across={"code", "subset"})
    assert group.comparable_by == {}
    with pytest.raises(UsageError, match="no run has a factor 'cod'; did you mean 'code'"):
        comparable_groups([a, b], METRIC, across={"cod"})


def test_no_metric_no_comparison() -> None:
    with pytest.raises(NotFoundError, match="no run has the metric 'ac'; did you mean 'acc'"):
        choose_group([run(1, 0.5)], "ac")


def test_noise_is_pooled_over_settings() -> None:
    trials = [
        run(1, 1.0, lr=1, seed=1),
        run(2, 3.0, lr=1, seed=2),
        run(3, 10.0, lr=2, seed=1),
        run(4, 10.0, lr=2, seed=2),
    ]
    assert estimate_noise(trials, METRIC) == Noise(math.sqrt(2 / 2), 2)
    assert estimate_noise(trials[1:3], METRIC) is None


def test_a_seed_that_is_repeated_counts_once() -> None:
    trials = [run(1, 1.0, lr=1, seed=1), run(2, 1.2, lr=1, seed=1), run(3, 3.1, lr=1, seed=2)]
    noise = estimate_noise(trials, METRIC)
    assert noise is not None
    assert noise.degrees == 1
    assert noise.sd == pytest.approx(2 / math.sqrt(2))


def test_runs_that_repeat_a_hidden_seed_say_nothing_of_noise() -> None:
    same = [run(1, 1.0, lr=1), run(2, 1.0, lr=1)]
    assert estimate_noise(same, METRIC) is None
    noise = estimate_noise([*same, run(3, 2.0, lr=1)], METRIC)
    assert noise is not None
    assert noise.degrees == 2
