"""Figures of simulated logs as Markdown: a line for each kind of log, a column for each number of runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from explained import Answer
from judging import Other, Verdict
from scenarios import Scenario

Verdicts = Sequence[Verdict]
Figures = Mapping[tuple[str, int], Verdicts]


def percent(part: float, whole: float) -> str:
    """Of nothing, nothing."""
    return f"{100 * part / whole:.1f}" if whole else ""


def ratio(parts: Iterable[tuple[int, int]]) -> str:
    """Sums of both as a percentage."""
    pairs = list(parts)
    return percent(sum(hits for hits, _ in pairs), sum(count for _, count in pairs))


def ranked(_: Scenario, verdicts: Verdicts) -> str:
    """Reports with a ranking."""
    return percent(sum(one.ranked for one in verdicts), len(verdicts))


def first_is_right(scenario: Scenario, verdicts: Verdicts) -> str:
    """Of the rankings."""
    right = sum(one.top_is_right for one in verdicts)
    return percent(right, sum(one.ranked for one in verdicts)) if scenario.matter else ""


def true_effects(scenario: Scenario, verdicts: Verdicts) -> str:
    """Of all params that matter, those that a ranking calls evident."""
    return percent(sum(one.true_effects for one in verdicts), len(verdicts) * len(scenario.matter))


def false_effects(_: Scenario, verdicts: Verdicts) -> str:
    """Reports in which a param that does nothing is evident."""
    return percent(sum(one.false_effects > 0 for one in verdicts), len(verdicts))


def shown(_: Scenario, verdicts: Verdicts) -> str:
    """Of the intervals that are shown, those that hold."""
    return ratio(one.shown for one in verdicts)


def everything(_: Scenario, verdicts: Verdicts) -> str:
    """The same, had each report shown them."""
    return ratio(one.all for one in verdicts)


MEASURES: Mapping[str, Callable[[Scenario, Verdicts], str]] = {
    "ranked": ranked,
    "first is right, of the rankings": first_is_right,
    "true effects evident": true_effects,
    "a false effect evident": false_effects,
    "intervals shown that hold": shown,
    "intervals that hold, had all been shown": everything,
}


def report_tables(scenarios: Sequence[Scenario], figures: Figures) -> str:
    """A table for each measure; kinds of logs of which it says nothing are left out."""
    sizes = sorted({n for _, n in figures})
    tables = []
    for name, measure in MEASURES.items():
        rows = [[one.name, *(measure(one, figures[one.name, n]) for n in sizes)] for one in scenarios]
        tables.append(table([f"{name} (%), runs:", *map(str, sizes)], [row for row in rows if any(row[1:])]))
    return "\n\n".join(tables)


def explained_table(figures: Mapping[tuple[str, int], Sequence[Answer]]) -> str:
    """Both of the ways to ask; no runs means those that were planned."""
    sizes = sorted({n for _, n in figures}, key=lambda n: (n == 0, n))
    asked = [f"log of {n}" if n else "planned runs" for n in sizes]
    headings = ["", *(f"answered, {one} (%)" for one in asked), *(f"intervals that hold, {one} (%)" for one in asked)]
    rows = []
    for name in dict.fromkeys(name for name, _ in figures):
        answers = [figures[name, n] for n in sizes]
        answered = [percent(sum(one.answered for one in some), len(some)) for some in answers]
        rows.append([name, *answered, *(ratio(one.holds for one in some) for some in answers)])
    return table(headings, rows)


def other_table(scenarios: Sequence[Scenario], figures: Mapping[tuple[str, int], Sequence[Sequence[Other]]]) -> str:
    """A line for each kind of log and evaluator."""
    sizes = sorted({n for _, n in figures})
    headings = ["", "evaluator"]
    for measure in ("first is right", "share of what does nothing", "another seed, another first"):
        headings += [f"{measure}, {n} runs (%)" for n in sizes]
    rows = []
    for scenario in scenarios:
        if (scenario.name, sizes[0]) not in figures:
            continue
        names = [one.evaluator for one in figures[scenario.name, sizes[0]][0]]
        for number, name in enumerate(names):
            answers = [[answer[number] for answer in figures[scenario.name, n]] for n in sizes]
            right = [percent(sum(one.top_is_right for one in some), len(some)) for some in answers]
            false = [percent(sum(one.false_share for one in some), len(some)) for some in answers]
            changed = [percent(sum(one.changed for one in some), len(some)) for some in answers]
            rows.append([scenario.name, name, *(right if scenario.matter else [""] * len(sizes)), *false, *changed])
    return table(headings, rows)


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lines of Markdown; figures to the right."""
    lines = [headings, ["---", *["---:"] * (len(headings) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def write(page: Path, name: str, text: str) -> None:
    """Between the page's two comments of that name."""
    before, rest = page.read_text().split(f"<!-- {name} -->\n")
    _, after = rest.split(f"<!-- end of {name} -->\n")
    page.write_text(f"{before}<!-- {name} -->\n{text}\n<!-- end of {name} -->\n{after}")
