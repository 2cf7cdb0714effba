"""The pictures of a story: each is the bytes of a PNG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime

from matplotlib import colormaps, ticker
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke

from fsd.runs.attribution.reports import Effect, Outcome
from fsd.runs.attribution.scales import show_level
from fsd.runs.attribution.steps import Step
from fsd.runs.attribution.trials import Change, Role, Trial, Value
from fsd.runs.plotting.curves import Curve
from fsd.runs.plotting.drawing import (
    BLUE,
    FAINT,
    GREY,
    INK,
    MAP,
    SERIES,
    SMALL,
    VERMILION,
    clean,
    new_figure,
    padded,
    plain,
    png_of,
    say_instead,
)
from fsd.runs.plotting.scales import Scale, scale_of
from fsd.runs.plotting.story import PER_DOUBLING, Story, axes_of, panels_of, ranges_of

_ROW_INCHES = 0.3
_PALE = 0.5
_LABEL_CHARACTERS = 56
_NAMED_CURVES = len(SERIES)
_HALO = (withStroke(linewidth=2.5, foreground="white"),)


def draw(story: Story) -> dict[str, bytes]:
    """All pictures, by name."""
    return {
        "metric": draw_metric(story),
        "steps": draw_steps(story),
        "effects": draw_effects(story),
        "parameters": draw_parameters(story),
        "curves": draw_curves(story),
    }


def _label(story: Story, run: str, characters: int = 24) -> str:
    name = story.names.get(run, "")
    return plain(f"{run[:8]} {name}".strip(), characters)


def _value(trial: Trial, metric: str) -> float:
    value = trial.metric(metric)
    assert value is not None
    return value


# --- the metric over time


def draw_metric(story: Story) -> bytes:
    """Each run at its time, the best so far as a line, and the numbered steps of the way."""
    figure = new_figure(4.2)
    axes = figure.subplots()
    clean(axes, grid="y")
    times = [datetime.fromtimestamp(trial.time, UTC) for trial in story.trials]
    values = [_value(trial, story.metric) for trial in story.trials]
    best_so_far: list[float] = []
    for value in values:
        better = min if story.minimized else max
        best_so_far.append(value if not best_so_far else better(best_so_far[-1], value))
    # By their order where they are: a night without runs says nothing, and a sweep of a minute a lot.
    places = list(range(1, len(times) + 1))
    axes.step(places, best_so_far, where="post", color=BLUE, linewidth=1.5, label="best so far", zorder=2)
    axes.scatter(places, values, s=18, color=FAINT, edgecolor=GREY, linewidth=0.5, label="a run", zorder=3)
    by_id = {trial.id: place for trial, place in zip(story.trials, places, strict=True)}
    way = [(story.way.first, story.way.old), *((step.child, step.new) for step in story.steps)]
    axes.plot(
        [by_id[run] for run, _ in way], [value for _, value in way], color=VERMILION, linewidth=1, linestyle="--",
        marker="o", markersize=4.5, label="the way, with its steps numbered", zorder=4,
    )  # fmt: skip
    _number_steps(axes, [(by_id[run], value) for run, value in way[1:]])
    axes.set_xlim(0.5, len(places) + 0.5)
    axes.set_ylim(*padded(values, 0.12))
    axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True, nbins=12))
    axes.set_xlabel(_span(times), color=INK, fontsize=SMALL + 1)
    axes.set_ylabel(plain(story.metric, 40), color=INK, fontsize=SMALL + 1)
    figure.legend(loc="outside upper right", ncols=3, frameon=False, fontsize=SMALL)
    return png_of(figure)


def _span(times: Sequence[datetime]) -> str:
    first, last = times[0].astimezone(), times[-1].astimezone()
    same_day = first.date() == last.date()
    return f"run, in the order of time: {first:%Y-%m-%d %H:%M} to {last:{'%H:%M' if same_day else '%Y-%m-%d %H:%M'}}"


def _number_steps(axes: Axes, points: Sequence[tuple[float, float]]) -> None:
    """A number above or below each point: away from the one before, so that lines do not cross it."""
    for number, (x, y) in enumerate(points, 1):
        up = number < 2 or y >= points[number - 2][1]
        axes.annotate(
            str(number), (x, y), xytext=(0, 6 if up else -6), textcoords="offset points", ha="center",
            va="bottom" if up else "top", fontsize=SMALL - 1, color=VERMILION, path_effects=_HALO, zorder=5,
        )  # fmt: skip


# --- what changed at each step


def draw_steps(story: Story) -> bytes:
    """A row for each step: what changed, and a bar from the old value to the new."""
    steps = story.steps
    figure = new_figure(max(2.0, 1.3 + _ROW_INCHES * (len(steps) + 1)))
    axes = figure.subplots()
    if not steps:
        say_instead(axes, f"one run on the way: {plain(story.metric, 40)} {story.way.new:.6g}")
        return png_of(figure)
    clean(axes, grid="x")
    rows = range(len(steps))
    for row, step in zip(rows, steps, strict=True):
        is_better = (step.diff < 0) == story.minimized
        color = GREY if not step.diff or step.is_within_noise else BLUE if is_better else VERMILION
        axes.barh(row, step.diff, left=step.old, height=0.62, color=color, alpha=1 if step.is_comparable else _PALE)
        if row:
            axes.plot([step.old, step.old], [row - 1 + 0.31, row - 0.31], color=GREY, linewidth=0.7)
        if not step.diff:
            axes.plot([step.old], [row], marker="|", color=GREY, markersize=9)
    low, high = padded([value for step in steps for value in (step.old, step.new)], 0.04)
    axes.set_xlim(low, high)
    axes.set_ylim(len(steps) - 0.4, -0.6)
    axes.set_yticks(list(rows), [_step_label(story, number, step) for number, step in enumerate(steps, 1)])
    changes = axes.secondary_yaxis("right")
    changes.set_yticks(list(rows), [f"{step.diff:+.4g} = {step.new:.4g}" for step in steps])
    changes.tick_params(length=0, labelsize=SMALL, colors=INK)
    changes.spines["right"].set_visible(False)
    axes.set_xlabel(
        f"{plain(story.metric, 40)}, from {story.way.old:.4g} to {story.way.new:.4g} ({story.way.total:+.4g} in all)",
        color=INK, fontsize=SMALL + 1,
    )  # fmt: skip
    figure.legend(handles=_key_of_steps(steps), loc="outside upper right", ncols=4, frameon=False, fontsize=SMALL)
    return png_of(figure)


def _key_of_steps(steps: Sequence[Step]) -> list[Patch]:
    found = [Patch(color=BLUE, label="better"), Patch(color=VERMILION, label="worse")]
    if any(step.is_within_noise or not step.diff for step in steps):
        found.append(Patch(color=GREY, label="within noise, or the same"))
    if not all(step.is_comparable for step in steps):
        found.append(Patch(color=BLUE, alpha=_PALE, label="pale: code, data or subset changed as well"))
    return found


def _step_label(story: Story, number: int, step: Step) -> str:
    shown = step.changes[:2]
    few = "; ".join(change_text(change, _LABEL_CHARACTERS // len(shown)) for change in shown)
    few += f"; {len(step.changes) - 2} more" if len(step.changes) > 2 else ""
    what = few or ("another seed" if step.seed_changes else "nothing changed")
    merged = f"[{story.merged[step.child]} steps] " if step.child in story.merged else ""
    return f"{merged}{plain(what, _LABEL_CHARACTERS + 12)}  {number}"


def change_text(change: Change, characters: int) -> str:
    """`lr 0.1 → 0.01`, cut to about so many characters: of a long name the end, of long values the beginning."""
    sides = [_level(change, side, characters // 4) for side in (change.old, change.new)]
    left = characters - sum(map(len, sides)) - len("  → ")
    name = change.param if len(change.param) <= left else f"…{change.param[1 - left :]}"
    return f"{name} {' → '.join(sides)}"


def _level(change: Change, value: Value, characters: int) -> str:
    if change.role is Role.SUBSET and value in (None, ""):
        return "the whole"
    text = f"{value:.4g}" if isinstance(value, float) else show_level(value)
    return text if len(text) <= characters else f"{text[: characters - 1]}…"


# --- effects


def draw_effects(story: Story) -> bytes:
    """Each param's effect with its interval, and the share of the variance that it explains."""
    report = story.importance
    is_ranked = report.outcome is Outcome.FOUND
    effects = ranges_of(story)
    figure = new_figure(max(2.2, 1.2 + 0.34 * len(effects)))
    if not effects:
        say_instead(figure.subplots(), f"not enough evidence: {report.n} comparable runs do not tell params apart")
        return png_of(figure)
    has_shares = any(effect.share is not None for effect in effects)
    if has_shares:
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
    else:
        left, right = figure.subplots(), None
    rows = list(range(len(effects)))
    clean(left, grid="x")
    left.axvline(0, color=GREY, linewidth=0.8)
    for row, effect in zip(rows, effects, strict=True):
        _draw_effect(left, row, effect, is_ranked=is_ranked)
    left.set_yticks(rows, [_effect_label(effect) for effect in effects])
    left.set_ylim(len(effects) - 0.5, -0.5)
    left.set_xlabel(
        f"effect on {plain(story.metric, 40)} over the range that was tried, 95 % interval",
        color=INK,
        fontsize=SMALL + 1,
    )
    if right is not None:
        clean(right, grid="x")
        right.barh(rows, [100 * (effect.share or 0) for effect in effects], height=0.55, color=BLUE)
        right.set_xlabel("share of variance, %", color=INK, fontsize=SMALL + 1)
        right.tick_params(left=False, labelleft=False)
        right.set_xlim(0, None)
    title = f"{report.n} comparable runs, {report.method}"
    if not is_ranked:
        title = f"not enough evidence for a ranking; what pairs of {report.n} runs show"
    figure.suptitle(title, fontsize=SMALL + 1, color=INK, x=0.01, ha="left")
    return png_of(figure)


def _draw_effect(axes: Axes, row: int, effect: Effect, *, is_ranked: bool) -> None:
    is_evident = is_ranked and effect.p is not None and effect.p <= 0.05
    color = BLUE if is_evident else GREY
    if effect.ci_low is not None and effect.ci_high is not None:
        axes.plot([effect.ci_low, effect.ci_high], [row, row], color=color, linewidth=2, solid_capstyle="butt")
    axes.plot(
        [effect.effect], [row], marker="o", markersize=6, color=color, markerfacecolor=color if is_evident else "white"
    )


def _effect_label(effect: Effect) -> str:
    names = " = ".join((effect.param, *effect.aliased_with))
    return f"{plain(names, 34)}  ({plain(effect.unit, 24)})"


# --- params side by side


def draw_parameters(story: Story) -> bytes:
    """A line for each run through the values of its params to its metric."""
    names, left_out = axes_of(story.trials, story.importance)
    figure = new_figure(4.6)
    axes = figure.subplots()
    if not names:
        say_instead(axes, "no param varies")
        return png_of(figure)
    log = {effect.param for effect in story.importance.effects if effect.unit == PER_DOUBLING}
    scales = [scale_of(name, [trial.factors.get(name) for trial in story.trials], is_log=name in log) for name in names]
    values = [_value(trial, story.metric) for trial in story.trials]
    metric_scale = scale_of(story.metric, values, is_log=False)
    columns = [*scales, metric_scale]
    # From blue to yellow as it gets better, whichever way that is.
    norm = Normalize(min(values), max(values))
    colors = colormaps[f"{MAP}_r" if story.minimized else MAP]
    is_many = len(story.trials) > 40
    order = sorted(range(len(values)), key=lambda at: values[at], reverse=story.minimized)
    for at in order:
        trial = story.trials[at]
        heights = [scale.place(trial.factors.get(name)) for name, scale in zip(names, scales, strict=True)]
        heights.append(metric_scale.place(values[at]))
        is_best = trial.id == story.best.id
        axes.plot(
            range(len(columns)), heights, color=VERMILION if is_best else colors(norm(values[at])),
            linewidth=2.4 if is_best else 0.8 if is_many else 1.3, alpha=1 if is_best else 0.45 if is_many else 0.8,
            zorder=4 if is_best else 2, label=f"best: {_label(story, trial.id)}" if is_best else None,
        )  # fmt: skip
    for number, scale in enumerate(columns):
        _draw_scale(axes, number, scale)
    axes.set_xlim(-0.35, len(columns) - 0.6)
    axes.set_ylim(-0.06, 1.06)
    axes.set_yticks([])
    width = max(10, round(110 / len(columns)))
    axes.set_xticks(range(len(columns)), [_wrapped(scale.name, width) for scale in columns])
    axes.tick_params(axis="x", length=0, labelsize=SMALL, colors=INK)
    axes.spines[:].set_visible(False)
    figure.legend(loc="outside upper right", frameon=False, fontsize=SMALL)
    if left_out:
        figure.suptitle(f"{left_out} more params vary", fontsize=SMALL + 1, color=INK, x=0.01, ha="left")
    return png_of(figure)


def _wrapped(name: str, width: int) -> str:
    """A name in up to two lines of that width, the end of it where it is still too long: there names differ."""
    if len(name) > 2 * width:
        name = f"…{name[1 - 2 * width :]}"
    if len(name) > width:
        first = len(name) - width
        cut = max((name.rfind(each, first - 1, width) + 1 for each in "._-/ "), default=0)
        cut = cut if first <= cut <= width else width
        name = f"{name[:cut]}\n{name[cut:]}"
    return "\n".join(plain(line, width) for line in name.split("\n"))


def _draw_scale(axes: Axes, number: int, scale: Scale) -> None:
    axes.plot([number, number], [0, 1], color=INK, linewidth=0.8, zorder=3)
    for height, text in scale.ticks:
        axes.plot([number - 0.015, number + 0.015], [height, height], color=INK, linewidth=0.8, zorder=5)
        axes.text(
            number - 0.03, height, plain(text, 14), ha="right", va="center", fontsize=SMALL - 1, color=INK,
            path_effects=_HALO, zorder=6,
        )  # fmt: skip


# --- learning curves


def draw_curves(story: Story) -> bytes:
    """How the metric, and others, went from step to step: the best and the latest runs in colour, the others grey."""
    metrics = panels_of(story.curves, story.metric)
    if not metrics:
        figure = new_figure(2.0)
        say_instead(figure.subplots(), "no learning curves: report fsd.log_metric(name, value, step), or use DVCLive")
        return png_of(figure)
    columns = min(2, len(metrics))
    lines = math.ceil(len(metrics) / columns)
    figure = new_figure(0.6 + 3.0 * lines)
    panels = figure.subplots(lines, columns, squeeze=False).flatten()
    named = _named_runs(story)
    for axes, metric in zip(panels, metrics, strict=False):
        _draw_panel(story, axes, [curve for curve in story.curves if curve.metric == metric], named)
        axes.set_title(plain(metric, 48), fontsize=SMALL + 1, color=INK, loc="left")
    for axes in panels[len(metrics) :]:
        axes.set_axis_off()
    found = {label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(found.values(), found.keys(), loc="outside lower center", ncols=3, frameon=False, fontsize=SMALL)
    return png_of(figure)


def _named_runs(story: Story) -> dict[str, str]:
    """The runs that stand out, and their colours: the best, the one it came from, the second best, the latest."""
    having = {curve.run for curve in story.curves}
    wanted = [story.best.id]
    wanted += [other.id for other in (story.best.parent, story.best.second) if other is not None]
    wanted += [trial.id for trial in reversed(story.trials)]
    chosen = list(dict.fromkeys(run for run in wanted if run in having))[:_NAMED_CURVES]
    return dict(zip(chosen, (VERMILION, *SERIES), strict=False))


def _draw_panel(story: Story, axes: Axes, curves: Sequence[Curve], named: dict[str, str]) -> None:
    clean(axes, grid="y")
    faint = 0.35 if len(curves) > 40 else 0.7
    others = 0
    for curve in curves:
        color = named.get(curve.run)
        if color is None:
            others += 1
        label = _label(story, curve.run) + (" (best)" if curve.run == story.best.id else "") if color else None
        if color is None and others == 1:
            label = "other runs"
        values = [value if math.isfinite(value) else math.nan for value in curve.values]
        axes.plot(
            curve.steps, values, color=color or FAINT, linewidth=1.8 if color else 0.8, alpha=1 if color else faint,
            zorder=3 if color else 2, label=label,
        )  # fmt: skip
        bad = next(
            (step for step, value in zip(curve.steps, curve.values, strict=True) if not math.isfinite(value)), None
        )
        if bad is not None:
            before = [value for step, value in zip(curve.steps, values, strict=True) if step < bad and value == value]
            if before:
                axes.plot(
                    [bad],
                    [before[-1]],
                    marker="x",
                    color=color or GREY,
                    markersize=6 if color else 3,
                    zorder=4,
                    label="no number from here on",
                )
    axes.set_xlabel("step", color=INK, fontsize=SMALL)
    finite = sorted(value for curve in curves for value in curve.values if math.isfinite(value))
    if finite:
        # A run that diverged would leave the others as one flat line.
        low, high = finite[0], finite[min(len(finite) - 1, int(0.995 * len(finite)))]
        axes.set_ylim(*padded([low, high], 0.06))
