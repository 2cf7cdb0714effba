"""A run's record for programs: everything that is recorded, as JSON."""

from __future__ import annotations

from typing import Any

from fsd.clock import iso_time, moment_of
from fsd.repo.runs import Run
from fsd.runs.table import params_of, state_of


def run_json(run: Run) -> dict[str, Any]:
    """What `fsd exp show --json` prints, and `.runs` of a mount shows."""
    start, end = run.start, run.end
    return {
        "run": start.name.run,
        "repository": start.name.repository,
        "step": start.name.step,
        "name": start.label,
        "author": start.author,
        "state": str(state_of(run)),
        "started": _time(start.time_us),
        "ended": None if end is None else _time(end.time_us),
        "argv": list(start.argv),
        "directory": start.directory,
        "exit_code": None if end is None else end.code,
        "signal": None if end is None else end.signal,
        "params": params_of(run),
        "overrides": list(start.overrides),
        "metrics": {} if end is None else dict(end.metrics),
        "code": None if start.code is None else start.code.commit.hex(),
        "git": start.git,
        "pins": [pin._asdict() | {"commit": pin.commit and pin.commit.hex()} for pin in start.pins],
        "outputs": list(start.outputs),
        "output_commit": None if end is None or end.outputs is None else end.outputs.commit.hex(),
        "files_commit": None if end is None or end.files is None else end.files.commit.hex(),
        "observed": end is not None and not end.inputs.problem,
        "problems": [] if end is None else list(end.problems),
        "environment": start.environment,
    }


def _time(time_us: int) -> str:
    return iso_time(moment_of(time_us))
