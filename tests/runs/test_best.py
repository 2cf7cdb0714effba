"""The best run, and which runs it is the best of."""

from __future__ import annotations

import pytest

from fsd.errors import NotFoundError
from fsd.runs.attribution.trials import Role, Trial, Value
from fsd.runs.best import best_of


def trial(number: int, metrics: dict[str, float], subset: str | None = None, **params: Value) -> Trial:
    factors = {"repository": "digits", "data.subset": subset, **params}
    return Trial(str(number), None, number, factors, metrics, {"repository": Role.CODE, "data.subset": Role.SUBSET})


def test_the_direction_follows_from_the_name_or_is_said() -> None:
    trials = [trial(n, {"acc": value, "loss": 1 - value}, lr=n) for n, value in enumerate((0.5, 0.9, 0.7))]
    ends = {one.id: one.time for one in trials}
    best = best_of(trials, ends, "acc")
    assert (best.id, best.minimized, best.by_name, best.n) == ("1", False, True, 3)
    assert best.second is not None
    assert (best.second.id, round(best.second.diff, 9)) == ("2", 0.2)
    assert [(change.param, change.old, change.new) for change in best.second.changes] == [("lr", 2, 1)]
    assert best.parent is not None
    assert (best.parent.id, best.parent.value) == ("0", 0.5)
    assert best_of(trials, ends, "loss").id == "1"
    assert (best_of(trials, ends, "loss", minimize=False).id, best_of(trials, ends, "acc", minimize=True).id) == (
        "0",
        "0",
    )


def test_of_equal_ones_the_first() -> None:
    assert best_of([trial(1, {"acc": 1.0}), trial(2, {"acc": 1.0})], {}, "acc").id == "1"


def test_runs_on_a_subset_are_not_compared_with_those_on_the_whole_unless_asked() -> None:
    trials = [trial(1, {"acc": 0.9}, "tiny"), trial(2, {"acc": 0.95}, "tiny"), trial(3, {"acc": 0.7})]
    best = best_of(trials, {}, "acc")
    assert (best.id, best.n, best.second, best.subsets) == ("3", 1, None, {"data.subset": None})
    assert best.notes == ("2 runs on another subset not compared: data.subset tiny",)
    across = best_of(trials, {}, "acc", across=frozenset({"data.subset"}))
    assert (across.id, across.n) == ("2", 3)
    assert across.notes == ("runs on different subsets are compared: data.subset is a factor",)


def test_where_none_is_on_the_whole_the_subset_with_most_runs_counts() -> None:
    trials = [trial(1, {"acc": 0.9}, "a"), trial(2, {"acc": 0.5}, "b"), trial(3, {"acc": 0.6}, "b")]
    assert best_of(trials, {}, "acc").id == "3"


def test_no_such_metric() -> None:
    with pytest.raises(NotFoundError, match="did you mean 'accuracy'"):
        best_of([trial(1, {"accuracy": 1.0})], {}, "acuracy")
    with pytest.raises(NotFoundError, match="no run that succeeded"):
        best_of([], {}, "accuracy")
    with pytest.raises(NotFoundError, match="has the metric 'x'; there are accuracy"):
        best_of([trial(1, {"accuracy": 1.0})], {}, "x")
