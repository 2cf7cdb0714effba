"""Figures: measured, beside what they are compared with and what they should reach; printed as a table and as JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table."""

    name: str
    unit: str
    value: float
    native: float | None = None
    """The same on this machine's own file system, measured in the same run."""
    goal: float | None = None
    goal_is_ratio: bool = False
    """Whether the goal is for value / native."""
    least: bool = True
    """Whether the goal is the least that is wanted, or the most."""
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """value / native."""
        return self.value / self.native if self.native else None

    @property
    def reached(self) -> bool | None:
        """Whether the goal was reached; None without one."""
        measured = self.ratio if self.goal_is_ratio else self.value
        if self.goal is None or measured is None:
            return None
        return measured >= self.goal if self.least else measured <= self.goal


@dataclass(slots=True)
class Report:
    """All figures of a run."""

    figures: list[Figure] = field(default_factory=list)

    def add(self, figure: Figure) -> None:
        """Keep a figure and print its line."""
        self.figures.append(figure)
        print(_line(figure), flush=True)

    def markdown(self) -> str:
        """The table, for docs/benchmarks.md."""
        rows = ["| figure | fsd | native | ratio | goal | |", "|---|---:|---:|---:|---:|---|"]
        rows += ["| " + " | ".join(_cells(figure)) + " |" for figure in self.figures]
        return "\n".join([machine(), "", *rows, ""])

    def json(self) -> str:
        """Everything, for programs."""
        figures = [asdict(figure) | {"ratio": figure.ratio, "reached": figure.reached} for figure in self.figures]
        return json.dumps({"machine": machine(), "figures": figures}, indent=2)


def paired(ours: Callable[[], float], native: Callable[[], float], rounds: int = 3) -> tuple[float, float]:
    """Medians of both, measured in turn, so that a machine that slows down slows both."""
    pairs = [(ours(), native()) for _ in range(rounds)]
    return statistics.median(pair[0] for pair in pairs), statistics.median(pair[1] for pair in pairs)


def machine() -> str:
    """What this was measured on."""
    try:
        commit = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            capture_output=True,
            text=True,
            cwd=Path(__file__).parent,
            check=False,
        ).stdout.strip()
    except OSError:
        commit = "unknown"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**30
    return (
        f"Linux {platform.release().split('-')[0]}, {os.cpu_count()} cores, {memory} GiB, "
        f"Python {platform.python_version()}, fsd {commit}"
    )


def _number(value: float | None) -> str:
    if value is None:
        return ""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _cells(figure: Figure) -> list[str]:
    goal = ""
    if figure.goal is not None:
        sign = "≥" if figure.least else "≤"
        goal = f"{sign} {_number(figure.goal)}{' × native' if figure.goal_is_ratio else ''}"
    verdict = {None: "", True: "reached", False: "**missed**"}[figure.reached]
    return [
        f"{figure.name} ({figure.unit})",
        _number(figure.value),
        _number(figure.native),
        _number(figure.ratio),
        goal,
        "; ".join(part for part in (verdict, figure.note) if part),
    ]


def _line(figure: Figure) -> str:
    name, value, native, ratio, goal, note = _cells(figure)
    return f"{name:<66} {value:>10} {native:>10} {ratio:>6}  {goal:<18} {note}"
