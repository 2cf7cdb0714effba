"""The mixtures of two runs: which are there, which are planned, and how many runs a plan takes at most."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsd.errors import NotFoundError
from fsd.runs.attribution.corners import Corners, PlanKind, plan
from fsd.runs.attribution.trials import Trial, Value
from tests.runs.attribution.logs import METRIC, run

Response = Callable[[Mapping[str, Value]], float]


def two_runs(count: int, response: Response) -> list[Trial]:
    """All zeros and all ones, of so many params."""
    return [run(name, response(factors), **factors) for name, factors in (("a", _all(count, 0)), ("b", _all(count, 1)))]


def _all(count: int, value: Value) -> dict[str, Value]:
    return {f"p{number}": value for number in range(count)}


def follow(trials: list[Trial], response: Response) -> tuple[list[Trial], int, PlanKind]:
    """Run what is planned until nothing is; how many runs that took."""
    trials, first = list(trials), plan(Corners(trials, trials[0], trials[1], METRIC))
    now, done = first, 0
    while now.configurations:
        assert len(now.configurations) <= now.at_most
        for configuration in now.configurations:
            done += 1
            trials.append(run(f"run-{done}", response(configuration.factors), **configuration.factors))
        later = plan(Corners(trials, trials[0], trials[1], METRIC))
        assert later.at_most <= now.at_most - len(now.configurations)
        now = later
    assert done <= first.at_most
    return trials, done, first.kind


def random_response(seed: int) -> Response:
    """Another number for each configuration."""
    return lambda factors: random.Random(f"{seed} {sorted(factors.items())}").gauss(0, 1)


@pytest.mark.parametrize(
    ("count", "kind", "most"),
    [(0, PlanKind.SHAPLEY, 0), (1, PlanKind.SHAPLEY, 0), (2, PlanKind.SHAPLEY, 2), (4, PlanKind.SHAPLEY, 14),
     (5, PlanKind.ABLATION, 28), (7, PlanKind.ABLATION, 54)],
)  # fmt: skip
def test_how_many_runs_are_planned(count: int, kind: PlanKind, most: int) -> None:
    trials = two_runs(count, random_response(1))
    found = plan(Corners(trials, *trials, METRIC))
    assert (found.kind, found.at_most) == (kind, most)


@given(st.integers(2, 7), st.integers())
@settings(max_examples=30)
def test_a_plan_that_is_followed_comes_to_its_end_in_time(count: int, seed: int) -> None:
    response = random_response(seed)
    _, done, kind = follow(two_runs(count, response), response)
    if kind is PlanKind.SHAPLEY:
        assert done == 2**count - 2
    else:
        assert done <= 2 * (count * (count + 1) // 2 - 1)


def test_what_was_run_is_not_planned_again_and_replicates_are_averaged() -> None:
    trials = [
        run("a", 1.0, lr=1, wd=0, other="x", seed=1),
        run("b", 4.0, lr=2, wd=1, other="x", seed=2),
        run("c", 2.0, lr=2, wd=0, other="x", seed=3),
        run("d", 3.0, lr=2, wd=0, other="x", seed=4),
        run("e", 9.0, lr=1, wd=1, other="y", seed=1),
        run("f", None, lr=1, wd=1, other="x", seed=1),
    ]
    corners = Corners(trials, trials[0], trials[1], METRIC)
    assert [change.param for change in corners.players] == ["lr", "wd"]
    assert (corners.value(0b01), corners.replicates(0b01), corners.value(0b10)) == (2.5, 2, None)
    (missing,) = plan(corners).configurations
    assert missing.factors == {"lr": 1, "wd": 1, "other": "x", "seed": 1}
    assert missing.changed == ("wd",)


def test_the_ends_are_the_two_runs_themselves() -> None:
    trials = [run("a", 1.0, lr=1), run("again", 9.0, lr=1), run("b", 2.0, lr=2)]
    corners = Corners(trials, trials[0], trials[2], METRIC)
    assert (corners.value(0), corners.value(1), corners.diff) == (1.0, 2.0, 1.0)


def test_a_param_that_only_one_run_has_is_there_or_not() -> None:
    trials = [run("a", 1.0, opt="sgd", momentum=0.9), run("b", 2.0, opt="adam")]
    both = [one.factors for one in plan(Corners(trials, *trials, METRIC)).configurations]
    assert both == [{"opt": "sgd"}, {"opt": "adam", "momentum": 0.9}]


def test_runs_without_the_metric_have_no_corners() -> None:
    with pytest.raises(NotFoundError):
        Corners([], run("a", None, lr=1), run("b", 1.0, lr=2), METRIC)
