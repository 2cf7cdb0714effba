"""`fsd exp plot`: a metric, what moved it and how runs learned, as pictures and a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from fsd.errors import FsdError
from fsd.repo.repository import Repositories
from fsd.runs.attribution.importance import importance
from fsd.runs.attribution.steps import step_changes
from fsd.runs.attribution.trials import find
from fsd.runs.best import best_of
from fsd.runs.factors import with_parents
from fsd.runs.plotting.curves import Curve, read_curves
from fsd.runs.plotting.loading import draw
from fsd.runs.plotting.page import page_of
from fsd.runs.plotting.story import Story, shown_steps
from fsd.tasks import gather
from fsd_cli.context import Invocation, pass_invocation
from fsd_cli.exp_completion import complete_run
from fsd_cli.exp_runs import (
    Log,
    across_option,
    direction_options,
    is_less,
    metric_option,
    read_log,
    repository_argument,
    seed_option,
    where_option,
)
from fsd_cli.opening import run_on_store
from fsd_cli.output import json_option, print_json, say
from fsd_cli.text import count, shown

MAX_CURVE_RUNS = 200
"""So many runs' learning curves are read, the latest, and the best one's."""

PAGE = "index.html"


@click.command("plot")
@repository_argument
@metric_option
@click.option(
    "-o",
    "--output",
    metavar="FOLDER|FILE.html",
    required=True,
    type=click.Path(path_type=Path),
    help="A folder for the page and its pictures, or a file for the page alone.",
)
@click.option(
    "--to", metavar="RUN", help="Show the way to this run. Default: to the best.", shell_complete=complete_run
)
@direction_options
@where_option
@across_option
@seed_option
@json_option
@pass_invocation
def plot_runs(
    invocation: Invocation,
    repository: str,
    metric: str,
    output: Path,
    to: str | None,
    direction: str | None,
    conditions: tuple[str, ...],
    across: tuple[str, ...],
    seeds: tuple[str, ...],
    as_json: bool,
) -> None:
    """Draw a metric: over time with what changed at each step, effects, params, learning curves.

    One page of HTML that has all of it inside and needs no network, and in a folder the pictures as PNG beside it. It
    takes matplotlib: pip install 'fsd[plot]'.
    """
    log = read_log(invocation, repository, conditions, seeds)
    chosen = frozenset(across)
    best = best_of(log.trials, log.ends, metric, minimize=is_less(direction), across=chosen)
    # Those that the best one is the best of: runs on a subset stand in no picture with runs on the whole.
    alike = (
        trial for trial in log.trials if all(trial.factors.get(name) == best.subsets[name] for name in best.subsets)
    )
    trials = tuple(trial for trial in alike if trial.metric(metric) is not None)
    last = find(trials, best.id if to is None else log.find(to))
    way = step_changes(with_parents(trials, log.ends, metric, last), metric, to=last.id)
    steps, merged = shown_steps(way.steps)
    story = Story(
        metric=metric,
        minimized=best.minimized,
        where=repository,
        trials=trials,
        names=log.names,
        best=best,
        way=way,
        steps=steps,
        merged=merged,
        importance=importance(trials, metric, across=chosen, maximize=not best.minimized),
        curves=tuple(_curves(invocation, log, [trial.id for trial in trials], best.id)),
        without_metric=len(log.rows) - len(trials),
    )
    pictures = draw(story)
    written = _write(output, page_of(story, pictures), pictures)
    if as_json:
        print_json({"runs": len(trials), "best": best.id, "files": [str(path) for path in written]})
        return
    for path in written:
        say(shown(str(path)))
    say(f"{count(len(trials), 'run')}, {count(len(way.steps), 'step')} to {last.id}")


def _curves(invocation: Invocation, log: Log, ids: Sequence[str], best: str) -> list[Curve]:
    wanted = {*ids[-MAX_CURVE_RUNS:], best}
    names = sorted(name for name in log.rows if name.run in wanted)

    async def work(repositories: Repositories) -> list[Curve]:
        runs = await gather(repositories.runs.read, names, tasks=repositories.limits.fetch_requests)
        return await read_curves(repositories, runs)

    return run_on_store(invocation, work)


def _write(output: Path, page: str, pictures: Mapping[str, bytes]) -> list[Path]:
    """The files that were written. Raises FsdError."""
    is_page = output.suffix.lower() in (".html", ".htm")
    try:
        if is_page:
            output.write_text(page, "utf-8")
            return [output]
        output.mkdir(parents=True, exist_ok=True)
        (output / PAGE).write_text(page, "utf-8")
        for name, data in pictures.items():
            (output / f"{name}.png").write_bytes(data)
    except OSError as error:
        raise FsdError(f"cannot write {shown(str(output))}: {error.strerror}") from error
    return [output / PAGE, *(output / f"{name}.png" for name in pictures)]
