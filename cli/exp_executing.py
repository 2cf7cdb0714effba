"""`fsd exp explain --run`: runs what an answer takes, by `fsd run`, in a temporary folder."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import trio

from fsd.errors import FsdError, UsageError
from fsd.pins import manifest, snapshots
from fsd.repo.repository import Repositories
from fsd.repo.runs import Run
from fsd.runs.attribution.explaining import Explanation
from fsd.runs.laying_out import check_out_code, lay_out
from fsd.runs.mixtures import Mixture, mixture_of, read_pair
from fsd_cli.context import Invocation
from fsd_cli.exp_runs import short_id
from fsd_cli.exp_values import plain
from fsd_cli.opening import run_on_store
from fsd_cli.output import note
from fsd_cli.text import shown

_STANDARD_ERROR = 2

Seen = TypeVar("Seen")


def run_missing(
    invocation: Invocation,
    look: Callable[[], tuple[Seen, Explanation]],
    seen: Seen,
    report: Explanation,
) -> tuple[Seen, Explanation]:
    """Run what `report` says is missing, look again, and so on until nothing is; what was seen last.

    Raises UsageError for what nobody can run, FsdError if a run failed, or its record is not what was asked for.
    """
    pair = run_on_store(invocation, partial(read_pair, ids=[report.a, report.b]))
    # All that can be wrong is found out before the first of what may be many hours.
    mixture_of(*pair, [change.param for change in report.changes if change.role != "seed"])
    tried: set[tuple[str, ...]] = set()
    while report.plan.configurations:
        for number, configuration in enumerate(report.plan.configurations, 1):
            if configuration.changed in tried:
                raise FsdError(
                    f"{short_id(report.a)} with {', '.join(configuration.changed)} was run, and is not among the runs",
                    hint="'fsd exp list' shows what came of it; the command may set params of its own",
                )
            mixture = mixture_of(*pair, configuration.changed)
            note(_announced(mixture, report, number))
            _run(invocation, mixture, pair)
        tried |= {configuration.changed for configuration in report.plan.configurations}
        seen, report = look()
    return seen, report


def _announced(mixture: Mixture, report: Explanation, number: int) -> str:
    values = ", ".join(f"{shown(name)}={plain(mixture.params.get(name, ''))}".rstrip("=") for name in mixture.changed)
    return f"run {number} of at most {report.plan.at_most}: {short_id(report.a)} with {values}"


def _run(invocation: Invocation, mixture: Mixture, pair: tuple[Run, Run]) -> None:
    with tempfile.TemporaryDirectory(prefix="fsd-exp-") as place:
        top = Path(os.path.realpath(place)) / "tree"

        async def prepare(repositories: Repositories) -> None:
            await check_out_code(repositories, mixture.code, top)
            await lay_out(top, mixture.command.directory, mixture.params, "", mixture.pins)
            await trio.to_thread.run_sync(snapshots.make_work_tree, top)

        run_on_store(invocation, prepare)
        ids = [short_id(run.start.name.run) for run in pair]
        label = f"{' to '.join(ids)}: {', '.join(mixture.changed)}"
        code = _wait_for(_command(invocation, mixture, top, label), top / mixture.command.directory, invocation)
    if code:
        raise FsdError(
            f"it ended with exit code {code}", hint="'fsd exp list -n 1' shows its record; what was run before is kept"
        )


def _command(invocation: Invocation, mixture: Mixture, top: Path, label: str) -> list[str]:
    start = mixture.command
    command = [sys.executable, "-m", "fsd_cli"]
    found = manifest.find(top)
    if found is None:
        command += ["--store", invocation.store_url]
    elif not found.is_store(invocation.store_url):
        raise UsageError(
            f"the pins of that code are in {found.store}, its runs in {invocation.store_url}",
            hint="run the mixtures yourself: --dry-run lists them",
        )
    if invocation.config is not None:
        command += ["--config", os.path.abspath(invocation.config)]
    command += ["run", "--repo", start.name.repository, "--name", label]
    for override in mixture.overrides:
        command += ["--set", f"{override.name}={override.text}"]
    for output in start.outputs:
        command += ["--output", os.fspath(top / output)]
    return [*command, "--", *start.argv]


def _wait_for(command: list[str], directory: Path, invocation: Invocation) -> int:
    """Its exit code. What it prints is no part of our result. Ctrl-C reaches it as well: its record says so."""
    directory.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(
        command, cwd=directory, env=dict(invocation.environment), stdin=subprocess.DEVNULL, stdout=_STANDARD_ERROR
    )
    interrupted: KeyboardInterrupt | None = None
    while True:
        try:
            code = process.wait()
            break
        except KeyboardInterrupt as error:
            interrupted = error
    if interrupted is not None:
        raise interrupted
    return code
