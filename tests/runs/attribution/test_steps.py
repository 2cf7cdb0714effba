"""The log of steps: exact, along parents, and complete."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsd.errors import ConflictError, NotFoundError
from fsd.runs.attribution.steps import step_changes
from fsd.runs.attribution.trials import Value
from tests.runs.attribution.logs import METRIC, run

metrics = st.one_of(st.none(), st.floats(-1e6, 1e6))


@given(st.lists(metrics, min_size=1, max_size=12), st.floats(-1e6, 1e6), st.data())
def test_steps_telescope(before: list[float | None], last: float, data: st.DataObject) -> None:
    trials = []
    for number, metric in enumerate([*before, last]):
        factors: dict[str, Value] = {name: data.draw(st.integers(0, 1)) for name in ("lr", "wd", "seed")}
        trials.append(run(number, metric, parent=number - 1 if number else None, **factors))
    log = step_changes(data.draw(st.permutations(trials)), METRIC)
    having = [metric for metric in [*before, last] if metric is not None]
    assert (log.old, log.new, log.n) == (having[0], having[-1], len(having))
    assert all(one.new == two.old and one.child == two.parent for one, two in pairwise(log.steps))
    exact = sum((Fraction(step.new) - Fraction(step.old) for step in log.steps), Fraction(0))
    assert exact == Fraction(log.new) - Fraction(log.old)
    assert all(step.diff == step.new - step.old for step in log.steps)
    assert math.fsum(one.diff for one in log.contributions) == pytest.approx(log.total, abs=1e-7)
    assert sum(one.steps for one in log.contributions) == len(log.steps)


def test_a_step_of_several_params_is_one_group_and_seeds_are_told_apart() -> None:
    trials = [
        run(1, 0.5, lr=0.1, wd=0, seed=1),
        run(2, 0.7, parent=1, lr=0.01, wd=1, seed=2),
        run(3, 0.6, parent=2, lr=0.01, wd=1, seed=3),
        run(4, 0.8, parent=3, lr=0.1, wd=1, seed=3),
        run(5, 0.9, parent=1, lr=5, wd=0, seed=1),
    ]
    log = step_changes(trials, METRIC, to="4")
    assert [[change.param for change in step.changes] for step in log.steps] == [["lr", "wd"], [], ["lr"]]
    assert [[change.param for change in step.seed_changes] for step in log.steps] == [["seed"], ["seed"], []]
    assert [one.params for one in log.contributions] == [("lr",), ("lr", "wd"), ()] or [
        one.params for one in log.contributions
    ] == [("lr", "wd"), ("lr",), ()]
    assert log.noise_sd == pytest.approx(0.1 / math.sqrt(2))
    # 0.1 apart, of a noise known from two runs: twelve times as much would be needed.
    assert [step.is_within_noise for step in log.steps] == [True, True, True]


def test_contributions_add_up_over_steps_the_largest_first() -> None:
    trials = [
        run(1, 1, lr=1, wd=1),
        run(2, 3, parent=1, lr=2, wd=1),
        run(3, 2, parent=2, lr=2, wd=2),
        run(4, 7, parent=3, lr=3, wd=2),
    ]
    log = step_changes(trials, METRIC)
    assert [(one.params, one.diff, one.steps) for one in log.contributions] == [(("lr",), 7, 2), (("wd",), -1, 1)]
    assert log.total == 6
    assert [step.is_within_noise for step in log.steps] == [None, None, None]


def test_runs_without_the_metric_are_stepped_over_with_their_changes() -> None:
    trials = [
        run(0, None, lr=9),
        run(1, 0.5, parent=0, lr=1),
        run(2, None, parent=1, lr=1, wd=1),
        run(3, 0.6, parent=2, lr=2, wd=1),
    ]
    log = step_changes(trials, METRIC)
    (step,) = log.steps
    assert (step.parent, step.child, step.skipped) == ("1", "3", ("2",))
    assert [change.param for change in step.changes] == ["lr", "wd"]


def test_a_step_to_another_subset_or_data_says_so() -> None:
    trials = [
        run(1, 0.5, subset="tiny", data="v1"),
        run(2, 0.9, parent=1, subset="", data="v1"),
        run(3, 0.8, parent=2, subset="", data="v2"),
        run(4, 0.8, parent=3, subset="", data="v2", lr=1),
    ]
    log = step_changes(trials, METRIC)
    assert [step.is_comparable for step in log.steps] == [False, False, True]
    assert [step.notes for step in log.steps] == [
        ("runs on different subsets are compared: subset tiny → the whole",),
        ("data changed: data v1 → v2",),
        (),
    ]


def test_noise_is_that_of_comparable_runs() -> None:
    trials = [
        run(1, 0.0, subset="tiny", seed=1),
        run(2, 10.0, subset="tiny", seed=2, parent=1),
        run(3, 0.50, subset="", seed=1, parent=2),
        run(4, 0.51, subset="", seed=2, parent=3),
    ]
    assert step_changes(trials, METRIC).noise_sd == pytest.approx(0.01 / math.sqrt(2))
    assert step_changes(trials, METRIC, to="2").noise_sd == pytest.approx(10 / math.sqrt(2))


def test_what_cannot_be() -> None:
    with pytest.raises(NotFoundError, match="there is no run 7"):
        step_changes([run(1, 0.5)], METRIC, to="7")
    with pytest.raises(NotFoundError, match="no number for the metric"):
        step_changes([run(1, None)], METRIC)
    with pytest.raises(ConflictError, match="is its own ancestor"):
        step_changes([run(1, 0.5, parent=2), run(2, 0.5, parent=1)], METRIC)


def test_a_parent_that_is_not_known_ends_the_way() -> None:
    log = step_changes([run(2, 0.5, parent=1)], METRIC)
    assert (log.steps, log.total, log.first, log.last) == ((), 0.0, "2", "2")


def test_names_of_runs_are_no_changes() -> None:
    trials = [run(n, n, parent=n - 1 if n else None, tag=f"t{n}", lr=n // 3) for n in range(6)]
    log = step_changes(trials, METRIC)
    assert [[change.param for change in step.changes] for step in log.steps] == [[], [], ["lr"], [], []]
    assert log.notes == ("tag is another in every run, and is left out",)
    with pytest.raises(NotFoundError, match="there are no runs"):
        step_changes([], METRIC)
