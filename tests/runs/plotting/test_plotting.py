"""What there is to show of runs: curves, steps, axes, a page that needs nothing else, and pictures."""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsd.runs.attribution.importance import importance
from fsd.runs.attribution.steps import Step, step_changes
from fsd.runs.attribution.trials import Change, Role, Trial, Value
from fsd.runs.best import best_of
from fsd.runs.factors import with_parents
from fsd.runs.plotting.curves import MAX_POINTS, Curve, parse_report, parse_tsv
from fsd.runs.plotting.loading import draw
from fsd.runs.plotting.page import page_of
from fsd.runs.plotting.scales import MAX_TICKS, scale_of
from fsd.runs.plotting.story import MAX_AXES, MAX_STEPS, Story, axes_of, panels_of, ranges_of, shown_steps

PNG = b"\x89PNG\r\n"


def trial(number: int, acc: float, **factors: Value) -> Trial:
    return Trial(f"{number:016x}", None, 1000.0 * number, factors, {"acc": acc})


def story_of(trials: list[Trial], curves: tuple[Curve, ...] = (), names: dict[str, str] | None = None) -> Story:
    ends = {each.id: each.time for each in trials}
    way = step_changes(with_parents(trials, ends, "acc", trials[-1]), "acc", to=trials[-1].id)
    steps, merged = shown_steps(way.steps)
    return Story(
        metric="acc",
        minimized=False,
        where="digits",
        trials=tuple(trials),
        names=names or {},
        best=best_of(trials, ends, "acc"),
        way=way,
        steps=steps,
        merged=merged,
        importance=importance(trials, "acc"),
        curves=curves,
        without_metric=2,
    )


def test_curves_that_a_program_reported() -> None:
    lines = b"""{"metric": "loss", "value": "0.5", "step": 2}
{"metric": "loss", "value": "1.0", "step": 1}
{"metric": "acc", "value": "nan"}
{"metric": "acc", "value": "0.5"}
{"params": {"a": 1}}
[] cut off
"""
    loss, acc = parse_report("r", lines)
    assert (loss.metric, loss.steps, loss.values) == ("loss", (1.0, 2.0), (1.0, 0.5))
    assert acc.steps == (0.0, 1.0)
    assert math.isnan(acc.values[0])


def test_curves_of_dvclive() -> None:
    curve = parse_tsv("r", "train.loss", b"timestamp\tstep\tloss\n17\t1\t0.5\nx\ty\tz\n18\t2\t0.25\n")
    assert (curve.steps, curve.values) == ((1.0, 2.0), (0.5, 0.25))
    long = parse_tsv("r", "x", b"step\tx\n" + b"".join(b"%d\t%d\n" % (n, n) for n in range(5000)))
    assert (len(long.steps), long.steps[0], long.steps[-1]) == (MAX_POINTS, 0.0, 4999.0)


def step(number: int, old: float, new: float) -> Step:
    changes = (Change("lr", Role.PARAM, number, number + 1),)
    return Step(str(number), str(number + 1), old, new, new - old, changes, (), (), True, None, ())


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=120))
def test_the_steps_that_are_shown_are_few_and_sum_to_the_same(values: list[float]) -> None:
    steps = [step(n, old, new) for n, (old, new) in enumerate(itertools.pairwise(values))]
    shown, merged = shown_steps(steps)
    assert len(shown) <= MAX_STEPS
    assert math.fsum(each.diff for each in shown) == pytest.approx(values[-1] - values[0], abs=1e-6)
    assert [each.old for each in shown[1:]] == [each.new for each in shown[:-1]]
    assert sum(merged.get(each.child, 1) for each in shown) == len(steps)
    assert [change.new for each in shown for change in each.changes][-1] == len(steps)


def test_axes_are_those_that_vary_most_and_no_names() -> None:
    trials = [trial(n, n, a=n % 2, b=1, name=f"run {n}", **{f"p{i}": n for i in range(9)}) for n in range(8)]
    names, left = axes_of(trials, importance(trials, "acc"))
    assert len(names) == MAX_AXES
    assert left == 2
    assert not {"b", "name"} & set(names)


def test_panels_begin_with_the_metric() -> None:
    curves = [Curve(run, metric, (0, 1), (0, 1)) for run, metric in (("a", "x"), ("b", "x"), ("a", "y"), ("a", "acc"))]
    assert panels_of(curves, "acc") == ["acc", "x", "y"]


def test_effects_over_the_range_that_was_tried() -> None:
    trials = [trial(n, 3.0 * n + (n % 3) * 0.01, lr=2 * n, opt="a") for n in range(12)]
    story = story_of(trials)
    (effect,) = ranges_of(story)
    (per_unit,) = story.importance.effects
    assert effect.unit == "0 → 22"
    assert effect.effect == pytest.approx(per_unit.effect * 22)


@given(st.lists(st.none() | st.floats(1e-9, 1e9) | st.integers(-5, 5), min_size=1))
def test_numbers_have_a_place_on_their_axis_and_ticks_apart(values: list[Value]) -> None:
    scale = scale_of("x", values, is_log=False)
    places = [scale.place(value) for value in values if value is not None]
    assert all(-1e-9 <= place <= 1 + 1e-9 for place in places)
    ordered = sorted(place for place, _ in scale.ticks)
    assert len(ordered) <= MAX_TICKS + 4
    assert all(after - before > 0.03 for before, after in itertools.pairwise(ordered))


def test_levels_stand_in_an_order_and_none_last() -> None:
    scale = scale_of("opt", ["sgd", None, "adam", True], is_log=False)
    assert [text for _, text in scale.ticks] == ["True", "adam", "sgd", "nothing"]
    assert scale.place("adam") < scale.place("sgd") < scale.place(None) == 1


AWKWARD = '<b>&"$x$\n\\frac{1}' + "long" * 30


@pytest.mark.parametrize("count", [1, 3, 40])
def test_a_page_holds_its_pictures_and_asks_nobody(count: int) -> None:
    pytest.importorskip("matplotlib")
    trials = [trial(n, math.sin(n), **{"lr": n, AWKWARD: "$y$" * (n % 3)}) for n in range(1, count + 1)]
    curves = tuple(Curve(each.id, "loss", (0, 1, 2), (1, math.nan, 0.5)) for each in trials)
    story = replace(story_of(trials, curves, {each.id: AWKWARD for each in trials}), metric="acc")
    pictures = draw(story)
    assert set(pictures) == {"metric", "steps", "effects", "parameters", "curves"}
    assert all(data.startswith(PNG) and len(data) > 2000 for data in pictures.values())
    page = page_of(story, pictures)
    assert page.count("data:image/png;base64,") == len(pictures)
    assert not re.search(r"<script|<link|https?://|url\(|<b>", page)
    assert "2 not shown" in page


def test_equal_values_everywhere_can_be_drawn() -> None:
    pytest.importorskip("matplotlib")
    trials = [trial(n, 1.0, lr=0.1) for n in range(1, 4)]
    assert all(data.startswith(PNG) for data in draw(story_of(trials)).values())
