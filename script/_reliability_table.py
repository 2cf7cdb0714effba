"""The figures that the tests of faults wrote, a line of JSON each, as the table of docs/reliability.md."""

from __future__ import annotations

import json
import sys
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
    """Print it."""
    rows = [row(json.loads(line)) for line in path.read_text().splitlines()]
    for cells in (HEADINGS, ("---", *["---:"] * (len(HEADINGS) - 1)), *rows):
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
