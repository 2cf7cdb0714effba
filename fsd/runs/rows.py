"""The rows of all runs of a store, quickly: those of runs that have ended never change, and are kept in a file.

The file is a hint of this user's: missing, damaged or of another version it is as good as empty, and of two that write
at once the later counts.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import trio

from fsd.durable import replace_file
from fsd.format.run import END, RunName, Scalar
from fsd.repo.repository import Repositories
from fsd.runs.table import Row, row_of
from fsd.tasks import gather

_VERSION = 1
"""To be raised when `row_of` says something else of the same run."""

_BATCH = 1000
"""Runs whose records are in memory at once."""


async def read_rows(repositories: Repositories, repository: str, state: Path) -> list[Row]:
    """The rows of a repository's runs (of all, if it is ''), in no order. One listing, and two requests for each run
    that is new or has not ended. Raises CorruptDataError, and what a store raises."""
    runs = repositories.runs
    path = state / "rows" / f"{repositories.marker.id}.json"
    known = await trio.to_thread.run_sync(_load, path)
    names = await runs.names(repository)
    rows: dict[RunName, Row] = {name: row for name in names if (row := known.get(name.key(END))) is not None}
    fresh = {}
    waiting = sorted(names.keys() - rows.keys())
    for at in range(0, len(waiting), _BATCH):
        for run in await gather(runs.read, waiting[at : at + _BATCH], tasks=repositories.limits.fetch_requests):
            row = rows[run.start.name] = row_of(run)
            if run.end is not None:
                fresh[run.start.name.key(END)] = row
    if fresh:
        await trio.to_thread.run_sync(_save, path, {**known, **fresh})
    return list(rows.values())


def _load(path: Path) -> dict[str, dict[str, Scalar]]:
    try:
        held = json.loads(path.read_bytes())
        rows = held["rows"] if held["version"] == _VERSION else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return rows if isinstance(rows, dict) and all(isinstance(row, dict) for row in rows.values()) else {}


def _save(path: Path, rows: Mapping[str, Row]) -> None:
    with suppress(OSError):  # then the next list takes longer
        path.parent.mkdir(parents=True, exist_ok=True)
        # Whole under a name of our own first: somebody else may be writing as well.
        own = path.with_suffix(f".{os.getpid()}")
        replace_file(own, json.dumps({"version": _VERSION, "rows": rows}).encode())
        own.rename(path)
