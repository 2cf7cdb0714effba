"""The figures of `script/bench cloud`: each beside the link, rclone and the native file system, with its goals."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from report import machine

Yardstick = Literal["", "link", "rclone", "native", "beside"]


@dataclass(frozen=True, slots=True)
class Goal:
    """What should be reached: a number of the figure's unit, or so many times what it is compared with."""

    number: float
    of: Yardstick = ""
    least: bool = True
    """Whether it is the least that is wanted, or the most."""

    def text(self) -> str:
        """As the table shows it."""
        return f"{'≥' if self.least else '≤'} {_number(self.number)}{f' × {self.of}' if self.of else ''}"


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table: the median of `samples`."""

    name: str
    unit: str
    samples: Sequence[float]
    goals: Sequence[Goal] = ()
    link: float | None = None
    """What the link would give."""
    rclone: float | None = None
    native: float | None = None
    beside: float | None = None
    """What else it is compared with; `note` says what that is."""
    note: str = ""

    @property
    def value(self) -> float:
        """The median."""
        return statistics.median(self.samples)

    def measured(self, goal: Goal) -> float | None:
        """What `goal` speaks of; None where it was not measured."""
        if not goal.of:
            return self.value
        yardstick: float | None = getattr(self, goal.of)
        return self.value / yardstick if yardstick else None

    def reached(self, goal: Goal) -> bool | None:
        """Whether a goal was reached; None if nobody knows."""
        measured = self.measured(goal)
        if measured is None:
            return None
        return measured >= goal.number if goal.least else measured <= goal.number

    def ratio(self, of: Yardstick) -> float | None:
        """Of the value and what it is compared with."""
        return self.measured(Goal(0, of))


COLUMNS = ("figure", "fsd", "of the link", "rclone", "× rclone", "native", "of native", "goal", "reached", "")


@dataclass(slots=True)
class CloudReport:
    """All figures of a run, and what they were measured under."""

    figures: list[Figure] = field(default_factory=list)
    reference: str = ""
    load: list[float] = field(default_factory=list)
    """The system's load when each figure was added: what else was running."""

    def add(self, figure: Figure) -> None:
        """Keep a figure and print its line."""
        self.figures.append(figure)
        self.load.append(os.getloadavg()[0])
        print(line(figure), flush=True)

    def markdown(self) -> str:
        """The table, for docs/benchmarks.md."""
        rows = ["| " + " | ".join(COLUMNS) + " |", "|---|" + "---:|" * 6 + "---|---|---|"]
        rows += ["| " + " | ".join(_cells(figure)) + " |" for figure in self.figures]
        about = f"{machine()}; load {min(self.load, default=0):.1f} to {max(self.load, default=0):.1f}."
        return "\n".join([about, self.reference, "", *rows, ""])

    def json(self) -> str:
        """Everything, for programs."""
        return json.dumps(
            {"machine": machine(), "link": self.reference, "figures": [_described(each) for each in self.figures]},
            indent=2,
        )

    def plot(self, path: Path) -> None:
        """How far each goal was reached: bars of measured / goal, on a scale where 1 is the goal."""
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot

        rows = []
        for figure in self.figures:
            for goal in figure.goals:
                measured = figure.measured(goal)
                if measured:
                    share = measured / goal.number if goal.least else goal.number / measured
                    rows.append((f"{figure.name}\n{goal.text()}", min(share, 4.0), bool(figure.reached(goal))))
        shape, axes = pyplot.subplots(figsize=(9, 0.6 * len(rows) + 1.2))
        axes.barh(
            [name for name, _, _ in rows],
            [share for _, share, _ in rows],
            color=["#2a7f62" if reached else "#b5483a" for _, _, reached in rows],
        )
        axes.axvline(1.0, color="black", linewidth=1)
        axes.invert_yaxis()
        axes.set_xlabel("share of the goal (cut off at 4)")
        axes.tick_params(axis="y", labelsize=7)
        shape.tight_layout()
        shape.savefig(path, dpi=120)
        pyplot.close(shape)


def in_turn(rounds: int, *measures: Callable[[], float]) -> list[list[float]]:
    """The samples of each, measured in turn, so that a machine that slows down slows all."""
    samples: list[list[float]] = [[] for _ in measures]
    for _ in range(rounds):
        for measure, taken in zip(measures, samples, strict=True):
            taken.append(measure())
    return samples


def header() -> str:
    """Of the lines that `add` prints."""
    return _aligned(list(COLUMNS))


def line(figure: Figure) -> str:
    """A figure as a line of text."""
    return _aligned(_cells(figure))


_WIDTHS = (72, 9, 11, 8, 8, 8, 9)


def _aligned(cells: Sequence[str]) -> str:
    name, *numbers = (cell.rjust(width) for cell, width in zip(cells[1:7], _WIDTHS[1:], strict=True))
    return " ".join([cells[0].ljust(_WIDTHS[0]), name, *numbers, "", *[cell for cell in cells[7:] if cell]])


def _cells(figure: Figure) -> list[str]:
    verdicts = {None: "not measured", True: "reached", False: "**missed**"}
    return [
        f"{figure.name} ({figure.unit})" if figure.unit else figure.name,
        _number(figure.value),
        _number(figure.ratio("link")),
        _number(figure.rclone),
        _number(figure.ratio("rclone")),
        _number(figure.native),
        _number(figure.ratio("native")),
        "; ".join(goal.text() for goal in figure.goals),
        "; ".join(verdicts[figure.reached(goal)] for goal in figure.goals),
        figure.note,
    ]


def _described(figure: Figure) -> dict[str, object]:
    goals = [
        asdict(goal) | {"measured": figure.measured(goal), "reached": figure.reached(goal)} for goal in figure.goals
    ]
    return asdict(figure) | {"value": figure.value, "goals": goals}


def _number(value: float | None) -> str:
    if value is None:
        return ""
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"
