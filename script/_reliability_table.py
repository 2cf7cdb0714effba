"""The figures that the tests of faults wrote, a line of JSON each, as the tables of docs/reliability.md."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HEADINGS = (
    "fault",
    "reads",
    "failed",
    "to failure (s)",
    "to recovery (s)",
    "cached: median (ms)",
    "p99 (ms)",
    "longest (ms)",
)


def row(figures: dict[str, Any]) -> list[str]:
    """A line of the table."""
    cached = figures["cached"]
    seconds = [figures["longest_failure_s"], figures["recovered_s"]]
    return [
        figures["fault"],
        str(figures["reads"]),
        str(figures["failed"]),
        *("" if value is None else f"{value:.2f}" for value in seconds),
        *(f"{1000 * cached[name]:.1f}" for name in ("p50_s", "p99_s", "longest_s")),
    ]


def main(path: Path) -> None:
    """Print them."""
    figures = [json.loads(line) for line in path.read_text().splitlines()]
    faults = [row(each) for each in figures if "fault" in each]
    if faults:
        _print([HEADINGS, *faults])
    care = [each for each in figures if "care" in each]
    if care:
        _print([("", *(f"`{each['care']}://`" for each in care)), *care_rows(care)])


def care_rows(care: list[dict[str, Any]]) -> list[list[str]]:
    """What was counted of machines that publish and collect garbage, a store a column."""
    names = [name for name in care[0] if name != "care"]
    return [[name.replace("_", " "), *(f"{each[name]:,.0f}" for each in care)] for name in names]


def _print(rows: Sequence[Sequence[str]]) -> None:
    """A table: headings, then the others."""
    heading, *others = rows
    for cells in (heading, ("---", *["---:"] * (len(heading) - 1)), *others):
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
