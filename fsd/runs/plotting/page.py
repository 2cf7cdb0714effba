"""A story as one page of HTML that needs nothing else: pictures are in it, and what they show stands beside them."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from fsd.runs.attribution.comparing import describe
from fsd.runs.attribution.reports import Effect, Outcome
from fsd.runs.attribution.steps import Step
from fsd.runs.plotting.story import Story

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff; max-width: 62rem; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: 0; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .4rem; }
p { margin: .3rem 0; } .note { color: #555; } img { width: 100%; height: auto; display: block; }
table { border-collapse: collapse; font-size: 13px; margin: .6rem 0; }
th, td { text-align: left; padding: .15rem .8rem .15rem 0; border-bottom: 1px solid #eee; overflow-wrap: anywhere; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
code { font-size: 13px; }
"""

_TITLES = {
    "metric": "Over time",
    "steps": "What changed at each step",
    "effects": "Which params matter",
    "parameters": "Params side by side",
    "curves": "Learning curves",
}


def page_of(story: Story, pictures: Mapping[str, bytes]) -> str:
    """The whole page, by pictures with the names of `figures.draw`."""
    title = escape(f"{story.metric}{f' of {story.where}' if story.where else ''}")
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{title}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{title}</h1>",
        *_summary(story),
    ]
    tables = {"steps": _steps(story), "effects": _effects(story)}
    for name, heading in _TITLES.items():
        parts.append(f"<h2>{escape(heading)}</h2>")
        if name in pictures:
            data = base64.b64encode(pictures[name]).decode()
            parts.append(f'<img src="data:image/png;base64,{data}" alt="{escape(heading)} of {title}">')
        parts += tables.get(name, [])
    return "\n".join([*parts, "</body></html>", ""])


def _summary(story: Story) -> Iterable[str]:
    better = "less" if story.minimized else "more"
    count = len(story.trials)
    yield f"<p>{count:,} {'run' if count == 1 else 'runs'}, {better} is better.</p>"
    best = story.best
    yield f"<p>Best: <code>{escape(_run(story, best.id))}</code> with {best.value:.6g}</p>"
    notes = list(best.notes)
    if story.without_metric:
        notes.append(
            f"{story.without_metric:,} not shown: they did not succeed, have no number for it, or are on another subset"
        )
    for note in notes:
        yield f'<p class="note">{escape(note)}</p>'


def _run(story: Story, run: str) -> str:
    return f"{run[:8]} {story.names.get(run, '')}".strip()


def _steps(story: Story) -> list[str]:
    rows = [
        [
            str(number),
            _run(story, step.child),
            _changes(story, step),
            f"{step.diff:+.6g}",
            f"{step.new:.6g}",
            _remarks(step),
        ]
        for number, step in enumerate(story.steps, 1)
    ]
    if not rows:
        return []
    rows.append(["", "total", "", f"{story.way.total:+.6g}", "", ""])
    return _table(["", "run", "changed", "change", story.metric, ""], rows, numbers={3, 4})


def _changes(story: Story, step: Step) -> str:
    changed = "; ".join(map(describe, step.changes)) or "nothing but chance"
    merged = story.merged.get(step.child)
    return f"{merged} steps: {changed}" if merged else changed


def _remarks(step: Step) -> str:
    found = list(step.notes)
    if step.is_within_noise:
        found.append("within noise")
    return "; ".join(found)


def _effects(story: Story) -> list[str]:
    report = story.importance
    is_ranked = report.outcome is Outcome.FOUND
    effects = report.effects if is_ranked else report.pairs
    lines = [f"<p>{report.n:,} comparable runs, {escape(str(report.method))}.</p>"]
    if not is_ranked:
        lines.append("<p>Not enough evidence for a ranking.</p>")
    if effects:
        headings = ["param", "share", "effect", "unit", "95 % interval", "p", "pairs"]
        lines += _table(headings, [_effect(effect) for effect in effects], numbers={1, 2, 5, 6})
    reasons = Counter(reason for each in report.left_out for reason in each.reasons)
    notes = [*report.notes, *(f"{number:,} not compared: {reason}" for reason, number in reasons.most_common())]
    return [*lines, *(f'<p class="note">{escape(note)}</p>' for note in notes)]


def _effect(effect: Effect) -> list[str]:
    has_interval = effect.ci_low is not None and effect.ci_high is not None
    return [
        " = ".join((effect.param, *effect.aliased_with)),
        "" if effect.share is None else f"{effect.share:.0%}",
        f"{effect.effect:+.4g}",
        effect.unit,
        f"{effect.ci_low:+.4g} … {effect.ci_high:+.4g}" if has_interval else "",
        "" if effect.p is None else f"{effect.p:.3f}",
        "" if effect.n_pairs is None else str(effect.n_pairs),
    ]


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: set[int]) -> list[str]:
    def line(tag: str, cells: Sequence[str]) -> str:
        inner = (
            f'<{tag} class="number">{escape(cell)}</{tag}>' if at in numbers else f"<{tag}>{escape(cell)}</{tag}>"
            for at, cell in enumerate(cells)
        )
        return f"<tr>{''.join(inner)}</tr>"

    return ["<table>", line("th", headings), *(line("td", row) for row in rows), "</table>"]
