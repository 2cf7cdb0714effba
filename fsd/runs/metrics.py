"""Metrics: the numbers that came out of a run, from the files in which programs leave them.

    metrics.json, dvclive/metrics.json                      numbers by name; mappings are flattened with dots
    plots/metrics/**/*.tsv, dvclive/plots/metrics/**/*.tsv  a curve each (DVCLive): the last row counts

A file counts only if it was written during the run: one that an earlier run left says nothing of this one.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

JSON_FILES = ("metrics.json", "dvclive/metrics.json")
CURVE_FOLDERS = ("plots/metrics", "dvclive/plots/metrics")
WRITTEN = ("metrics.json", "dvclive", "plots/metrics")
"""What commands write here is no code."""

_SHOWN_CHARACTERS = 40

_Status = tuple[int, int, int, int]


class Measured(NamedTuple):
    """What a run's files say."""

    metrics: dict[str, float]
    problems: list[str]
    """Files that cannot be read; a line each."""


def statuses(directory: Path) -> dict[str, _Status]:
    """What the files look like now, by path."""
    found = {}
    for path in _files(directory):
        try:
            status = path.stat()
        except OSError:
            continue
        found[os.fspath(path)] = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return found


def measured(directory: Path, before: Mapping[str, _Status]) -> Measured:
    """What files say that do not look as they did `before`."""
    found = Measured({}, [])
    now = statuses(directory)
    for path in _files(directory):
        if before.get(os.fspath(path)) == now.get(os.fspath(path)):
            continue
        try:
            if path.suffix == ".json":
                found.metrics.update(_numbers(json.loads(path.read_bytes()), ""))
            else:
                found.metrics.update(_last_of_curve(path, directory))
        except (OSError, ValueError, RecursionError) as error:
            found.problems.append(f"{path.relative_to(directory)} cannot be read: {' '.join(str(error).split())}")
    return found


def _files(directory: Path) -> Iterator[Path]:
    # Curves first: where both speak of a metric, the summary counts.
    for folder in CURVE_FOLDERS:
        yield from sorted((directory / folder).rglob("*.tsv"))
    for name in reversed(JSON_FILES):
        if (directory / name).is_file():
            yield directory / name


def _numbers(value: Any, name: str) -> Iterator[tuple[str, float]]:
    if isinstance(value, dict | list):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _numbers(each, f"{name}.{key}" if name else str(key))
    elif isinstance(value, int | float) and not isinstance(value, bool) and name:
        yield name, value


def _last_of_curve(path: Path, directory: Path) -> Iterator[tuple[str, float]]:
    """The metric of a curve: named by its path, as DVCLive does it; its last column in its last row."""
    folder = next(directory / each for each in CURVE_FOLDERS if path.is_relative_to(directory / each))
    rows = [line.split("\t") for line in path.read_text().splitlines() if line]
    if len(rows) > 1:
        name = path.relative_to(folder).with_suffix("").as_posix().replace("/", ".")
        yield name, float(rows[-1][-1])


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that no float can hold
        return False


def finite(metrics: Mapping[str, float]) -> tuple[dict[str, float], list[str]]:
    """Those that a record can hold, and a line on each of the others: NaN and infinities are no values to compare."""
    kept = {name: value for name, value in metrics.items() if _is_finite(value)}
    return kept, [f"metric {name} is {str(metrics[name])[:_SHOWN_CHARACTERS]}" for name in metrics if name not in kept]
