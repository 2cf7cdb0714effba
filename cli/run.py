"""`fsd run`: run a command, and keep a record of what it was, what it used and what came of it."""

from __future__ import annotations

import os
from pathlib import Path

import click
import trio

from fsd.errors import FsdError, UsageError
from fsd.format.keys import is_repository_name
from fsd.format.run import RunEnd
from fsd.pins import manifest, worktree
from fsd.repo.repository import Repositories
from fsd.runs import params
from fsd.runs.execute import Outcome, execute
from fsd.runs.record import Begun, Wanted, begin, check, command_variables, finish
from fsd_cli.committing import this_user
from fsd_cli.completion import complete_repository
from fsd_cli.context import Invocation, pass_invocation
from fsd_cli.opening import create_own_store, run_on_store
from fsd_cli.output import note
from fsd_cli.text import shown
from fsd_cli.worktrees import WorkTree

_SHOWN_DIGITS = 8


@click.command(context_settings={"allow_interspersed_args": False})
@click.argument("command", metavar="-- COMMAND [ARGUMENT]...", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("-n", "--name", "label", metavar="NAME", default="", help="What to call the run.")
@click.option(
    "-S", "--set", "overrides", metavar="PARAM=VALUE", multiple=True, help="Run with another value of a param."
)
@click.option("--write-params", is_flag=True, help="Write what -S says into params.yaml as well.")
@click.option(
    "-o",
    "--output",
    "outputs",
    metavar="PATH",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A file or folder that the command makes: it is kept with the run.",
)
@click.option(
    "--repo",
    "repository",
    metavar="REPO",
    help="Keep the run with this repository. Default: the name of the work tree's folder.",
    shell_complete=complete_repository,
)
@pass_invocation
def run(
    invocation: Invocation,
    command: tuple[str, ...],
    label: str,
    overrides: tuple[str, ...],
    write_params: bool,
    outputs: tuple[Path, ...],
    repository: str | None,
) -> None:
    """Run a command and record it: what it was, what it used, and what came of it.

    The record has the command, the code as it is (also what is not committed to Git), the params in params.yaml, the
    pins, Python's packages and the machine; then the metrics (metrics.json, DVCLive, fsd.log_metric), the outputs, the
    log and the exit code, which is that of 'fsd run' as well. It is kept in the store. A run is over when no process of
    it is left.

    The command finds -S PARAM=VALUE in its environment as FSD_PARAM_<PARAM>, '_' standing for what is no letter or
    digit.
    """
    directory = Path.cwd()
    tree = _work_tree(directory)
    wanted = Wanted(
        repository=_default_repository(tree, directory) if repository is None else repository,
        command=command,
        directory=directory,
        top=directory if tree is None else tree.top,
        has_git=tree is not None,
        variables=invocation.environment,
        label=label,
        author=invocation.environment.get("FSD_AUTHOR") or this_user(),
        overrides=tuple(map(params.parse_override, overrides)),
        write_params=write_params,
        outputs=tuple(_real_place(path) for path in outputs),
        pins=() if tree is None else tuple((pin.link, pin.target) for pin in tree.pins()),
    )
    if tree is not None:
        invocation = tree.meant(invocation)
    check(wanted)
    made = trio.run(create_own_store, invocation)
    if made is not None:
        note(f"made a store of your own at {made}")
    if not wanted.has_git:
        note(f"{shown(str(wanted.directory))} is in no Git work tree: the run's code is not recorded")

    async def write_start(repositories: Repositories) -> Begun:
        return await begin(repositories, wanted, invocation.state)

    begun = run_on_store(invocation, write_start)
    outcome = trio.run(
        execute, wanted.command, wanted.directory, command_variables(wanted, begun), begun.folder / "log", note
    )
    _finish(invocation, wanted, begun, outcome)
    if outcome.exit_code:
        raise click.exceptions.Exit(outcome.exit_code)


def _finish(invocation: Invocation, wanted: Wanted, begun: Begun, outcome: Outcome) -> None:
    """Record the end. Where that fails, the command's own failure counts more."""

    async def write_end(repositories: Repositories) -> RunEnd:
        return await finish(repositories, wanted, begun, outcome, invocation.state, note)

    name = begun.start.name
    try:
        end = run_on_store(invocation, write_end)
    except FsdError as error:
        note(f"the end of run {name.run} is not recorded; its log is in {shown(str(begun.folder))}")
        if not outcome.exit_code:
            raise
        note(str(error))
        return
    for problem in end.problems:
        note(shown(problem))
    note(f"run {name.run} of {name.repository} is recorded: fsd exp show {name.run[:_SHOWN_DIGITS]}")


def _work_tree(directory: Path) -> WorkTree | None:
    top = worktree.find_top(directory)
    return None if top is None else WorkTree(top, manifest.find(top))


def _default_repository(tree: WorkTree | None, directory: Path) -> str:
    name = (directory if tree is None else tree.top).name
    if not is_repository_name(name):
        raise UsageError(f"{name!r} cannot be the name of a repository", hint="say with --repo where to keep the run")
    return name


def _real_place(path: Path) -> Path:
    """An output's place, absolute. It may not be there yet, or be a symlink itself."""
    absolute = Path(os.path.abspath(path))
    return Path(os.path.realpath(absolute.parent)) / absolute.name
