"""What is taken for logarithmic, and what is taken for one param."""

from __future__ import annotations

import random

import pytest

from fsd.errors import UsageError
from fsd.runs.attribution.aliases import find_groups
from fsd.runs.attribution.scales import Scale, is_evidently_log, read_factor
from fsd.runs.attribution.trials import Trial
from tests.runs.attribution.logs import run


@pytest.mark.parametrize(
    ("values", "is_log"),
    [
        ((1e-4, 1e-3, 1e-2), True),
        ((16, 32, 64, 128), True),
        ((0.001, 0.1), True),
        ((1, 2, 3, 4, 5, 6, 7, 8), False),
        ((1, 2), False),
        ((0, 0.1, 10), False),
        ((-1, 1, 100), False),
        ((10, 20, 30), False),
        ((5,), False),
    ],
)
def test_what_is_evidently_logarithmic(values: tuple[float, ...], is_log: bool) -> None:
    assert is_evidently_log(values) is is_log


def test_random_numbers_are_taken_for_what_they_were_drawn_as() -> None:
    chance = random.Random(1)
    seen = [is_evidently_log([10 ** chance.uniform(-5, -1) for _ in range(12)]) for _ in range(200)]
    mistaken = [is_evidently_log([chance.uniform(0, 1) for _ in range(12)]) for _ in range(200)]
    assert sum(seen) > 190
    assert sum(mistaken) < 40


def test_a_declared_logarithm_has_to_exist() -> None:
    assert read_factor("lr", [1, 2], log={"lr"}).scale is Scale.LOG
    with pytest.raises(UsageError, match="lr is declared to be logarithmic, and is 0 in a run"):
        read_factor("lr", [0, 2], log={"lr"})


def test_numbers_that_some_runs_lack_are_numbers_and_mixtures_are_levels() -> None:
    assert read_factor("momentum", [0.9, None, 0.95]).scale is Scale.LINEAR
    assert read_factor("momentum", [0.9, None, 0.9]).scale is Scale.LEVELS
    assert read_factor("lr", [0.1, 0.2, "auto"]).scale is Scale.LEVELS
    assert read_factor("warm", [True, False]).scale is Scale.LEVELS
    assert read_factor("opt", ["b", "a", "a", None]).levels == ("a", None, "b")


def groups_of(trials: list[Trial]) -> list[tuple[str, ...]]:
    return [group.names for group in find_groups(trials)]


def test_params_that_always_change_together_are_one_group() -> None:
    trials = [
        run(
            number,
            0,
            lr=lr,
            wd=lr / 10,
            opt="adam" if number % 2 else "sgd",
            momentum=None if number % 2 else 0.9,
            drop=drop,
        )
        for number, (lr, drop) in enumerate([(0.1, 1), (0.01, 2), (0.1, 2), (0.01, 1), (0.001, 1), (0.001, 2)])
    ]
    assert groups_of(trials) == [("drop",), ("lr", "wd"), ("momentum", "opt")]


def test_one_that_is_determined_by_levels_goes_with_them() -> None:
    trials = [run(n, 0, opt="abc"[n % 3], momentum=0.9 if n % 3 == 0 else 0.0, drop=n % 2) for n in range(6)]
    assert groups_of(trials) == [("drop",), ("opt", "momentum")]


def test_numbers_that_merely_differ_everywhere_are_not_one() -> None:
    chance = random.Random(3)
    assert groups_of([run(n, 0, lr=chance.random(), drop=chance.random()) for n in range(6)]) == [("drop",), ("lr",)]


def test_two_runs_that_differ_in_all_are_one_group() -> None:
    assert groups_of([run(1, 0, lr=1, wd="a"), run(2, 0, lr=2, wd="b")]) == [("lr", "wd")]


def test_what_is_ignored_is_in_no_group() -> None:
    trials = [run(n, 0, tag=f"t{n}", lr=n % 2, code=f"c{n}") for n in range(4)]
    assert [group.names for group in find_groups(trials, ignored=("tag",))] == [("code",), ("lr",)]
