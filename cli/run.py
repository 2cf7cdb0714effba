"""`fsd run`: run a command, and keep a record of what it was, what it used and what came of it; or take what an earlier
run of the same made."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import click
import trio

from fsd.errors import FsdError, UsageError
from fsd.format.inputs import Inputs
from fsd.format.keys import is_repository_name
from fsd.format.run import RunEnd, RunStart
from fsd.pins import manifest, worktree
from fsd.repo.repository import Repositories
from fsd.runs import nested, params
from fsd.runs.by_hand import differing_output
from fsd.runs.execute import Outcome, execute
from fsd.runs.landlock import denial
from fsd.runs.placing import take_away, what_is_there
from fsd.runs.reading import Reading
from fsd.runs.record import LOG, Begun, begin, command_variables, describe, finish
from fsd.runs.reuse import NEVER_RUN, Verdict, look_up
from fsd.runs.stdin import identity_of_stdin
from fsd.runs.wanted import Wanted, check
from fsd.runs.written import read_written
from fsd_cli.committing import this_user
from fsd_cli.completion import complete_repository
from fsd_cli.context import Invocation, pass_invocation
from fsd_cli.observed import Observed, denying, mountpoints_of, nests_unseen
from fsd_cli.opening import create_own_store, run_on_store
from fsd_cli.output import json_option, note, print_json, say
from fsd_cli.placed import put_hit, put_links
from fsd_cli.text import shown
from fsd_cli.worktrees import WorkTree

_SHOWN_DIGITS = 8

_PATH = click.Path(path_type=Path)


@dataclass(frozen=True, slots=True)
class _How:
    """What is asked for besides the run itself."""

    force: bool
    is_dry: bool
    as_json: bool
    copy: bool
    strict: bool


class _Hit(NamedTuple):
    """An earlier run that is the same."""

    end: RunEnd
    written: dict[str, bytes]
    """Its files of metrics."""


class _Done(NamedTuple):
    """What came of a command."""

    outcome: Outcome
    inputs: Inputs
    read: tuple[str, ...]
    """Of what other steps had left."""


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
    type=_PATH,
    help="A file or folder that the command makes: it is kept with the run, and a link to that takes its place.",
)
@click.option("--copy", is_flag=True, help="Leave outputs as plain files, no links.")
@click.option(
    "--dep",
    "dependencies",
    metavar="PATH",
    multiple=True,
    type=_PATH,
    help="A file or folder outside of the mount that the command reads.",
)
@click.option(
    "--code",
    "code_paths",
    metavar="PATH",
    multiple=True,
    type=_PATH,
    help="Of the code, only this counts. Default: all files of the work tree.",
)
@click.option("--force", is_flag=True, help="Run, also if an earlier run is the same.")
@click.option("--no-reuse", is_flag=True, help="Run, and let no later run take what this one makes.")
@click.option("--dry", "is_dry", is_flag=True, help="Say whether an earlier run is the same, and why not; do nothing.")
@click.option("--strict", is_flag=True, help="Deny the command files that are not declared (Landlock).")
@click.option(
    "--repo",
    "repository",
    metavar="REPO",
    help="Keep the run with this repository. Default: the name of the work tree's folder.",
    shell_complete=complete_repository,
)
@json_option
@pass_invocation
def run(
    invocation: Invocation,
    command: tuple[str, ...],
    label: str,
    overrides: tuple[str, ...],
    write_params: bool,
    outputs: tuple[Path, ...],
    copy: bool,
    dependencies: tuple[Path, ...],
    code_paths: tuple[Path, ...],
    force: bool,
    no_reuse: bool,
    is_dry: bool,
    strict: bool,
    repository: str | None,
    as_json: bool,
) -> None:
    """Run a command and record it: what it was, what it used, and what came of it.

    The record has the command, the code as it is (also what is not committed to Git), the params in params.yaml, the
    pins, Python's packages and the machine, and what the command read in the mount; then the metrics (metrics.json,
    DVCLive, fsd.log_metric), the outputs, the log and the exit code, which is that of 'fsd run' as well. It is kept in
    the store. A run is over when no process of it is left.

    If an earlier run was the same, and everything that it read in the mount is as it was in the versions that are
    pinned now, this is a HIT: its outputs and metrics are put in place, and nothing runs. Else it says what is
    otherwise. What a command reads outside of the mount and the work tree is to be declared (--dep); the clock, the
    network and chance cannot be seen.

    The command finds -S PARAM=VALUE in its environment as FSD_PARAM_<PARAM>, '_' standing for what is no letter or
    digit.
    """
    if as_json and not is_dry:
        raise UsageError("--json is for --dry", hint="'fsd exp show --json' prints what is recorded")
    directory = Path.cwd()
    tree = _work_tree(directory)
    if tree is not None:
        invocation = tree.meant(invocation)
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
        code_paths=tuple(_real_place(path) for path in code_paths),
        dependencies=tuple(Path(os.path.abspath(path)) for path in dependencies),
        stdin=identity_of_stdin(),
        is_reusable=not no_reuse,
    )
    check(wanted)
    made = trio.run(create_own_store, invocation)
    if made is not None:
        note(f"made a store of your own at {made}")
    wanted = replace(wanted, mountpoints=mountpoints_of(invocation.store_url, tree))
    _run(invocation, wanted, _How(force or no_reuse, is_dry, as_json, copy, strict))


def _run(invocation: Invocation, wanted: Wanted, how: _How) -> None:
    """Look for an earlier run, and where there is none, run."""
    if how.is_dry:
        _say_verdict(run_on_store(invocation, lambda repositories: _look(repositories, invocation, wanted)), how)
        return
    if not wanted.has_git and not wanted.code_paths:
        note(f"{shown(str(wanted.directory))} is in no Git work tree: the run's code is not recorded")

    async def prepare(repositories: Repositories) -> _Hit | Begun:
        return await _prepare(repositories, invocation, wanted, how)

    prepared = run_on_store(invocation, prepare)
    if isinstance(prepared, _Hit):
        put_hit(invocation, wanted, prepared.end, prepared.written, copy=how.copy)
        return
    done = _execute(invocation, wanted, prepared, how)
    outcome = done.outcome
    end = _finish(invocation, wanted, prepared, done)
    if end is not None and end.is_success and not how.copy:
        put_links(wanted, end)
    if outcome.exit_code:
        raise click.exceptions.Exit(outcome.exit_code)


async def _look(repositories: Repositories, invocation: Invocation, wanted: Wanted) -> Verdict:
    async with repositories.leases.held("run"):
        described = await describe(repositories, wanted, invocation.state, is_asked_only=True)
        return await _verdict(repositories, invocation, wanted, described.start)


async def _verdict(repositories: Repositories, invocation: Invocation, wanted: Wanted, start: RunStart) -> Verdict:
    """What comes of looking, what lies at the outputs included."""
    if nests_unseen(invocation):
        return Verdict(None, ("it is part of another run, which it cannot tell of what it takes",))
    verdict = await look_up(repositories, start)
    if verdict.run is None:
        return verdict
    there = [path for path in wanted.output_paths if path in what_is_there(wanted)]
    differing = await differing_output(repositories, wanted, there, verdict.run, invocation.state)
    return Verdict(None, (f"{differing} was changed by hand",)) if differing else verdict


async def _prepare(repositories: Repositories, invocation: Invocation, wanted: Wanted, how: _How) -> _Hit | Begun:
    """The run whose outputs are to be taken, or the one that has begun."""
    repositories.check_writable()
    async with repositories.leases.held("run"):
        described = await describe(repositories, wanted, invocation.state)
        if not how.force:
            verdict = await _verdict(repositories, invocation, wanted, described.start)
            if verdict.run is not None:
                end = verdict.run.end
                assert end is not None
                assert end.files is not None
                return _Hit(end, await read_written(repositories, end.files))
            if verdict.reasons != (NEVER_RUN,):
                note(f"MISS: {shown('; '.join(verdict.reasons))}")
        there = await trio.to_thread.run_sync(what_is_there, wanted)
        is_stored = wanted.is_reusable and not await differing_output(
            repositories, wanted, there, None, invocation.state
        )
        before = [] if is_stored else there
        begun = await begin(repositories, wanted, described, before, invocation.state)
    await trio.to_thread.run_sync(take_away, wanted, there if is_stored else ())
    for path in before:
        note(f"{shown(path)} was there already: as the command may read it, this run is not reused")
    return begun


def _execute(invocation: Invocation, wanted: Wanted, begun: Begun, how: _How) -> _Done:
    variables = command_variables(wanted, begun)
    with ExitStack() as stack:
        ruleset = stack.enter_context(denying(wanted, begun, variables)) if how.strict else None
        has_declared = bool(wanted.dependencies)
        reading = stack.enter_context(Reading.watched({path: wanted.top / path for path in begun.start.found}))
        observed = stack.enter_context(Observed.begin(invocation.store_url, ruleset, has_declared=has_declared))
        outcome = observed.run(
            lambda observer: trio.run(
                execute, wanted.command, wanted.directory, variables, begun.folder / LOG, note, observer
            )
        )
        if ruleset is not None and outcome.exit_code:
            note(denial(begun.folder / LOG))
        return _Done(outcome, observed.inputs(), reading.names())


def _finish(invocation: Invocation, wanted: Wanted, begun: Begun, done: _Done) -> RunEnd | None:
    """Record the end. Where that fails, the command's own failure counts more."""

    async def write_end(repositories: Repositories) -> RunEnd:
        return await finish(repositories, wanted, begun, done.outcome, done.inputs, done.read, invocation.state, note)

    name = begun.start.name
    try:
        end = run_on_store(invocation, write_end)
    except FsdError as error:
        note(f"the end of run {name.run} is not recorded; its log is in {shown(str(begun.folder))}")
        if not done.outcome.exit_code:
            raise
        note(str(error))
        return None
    for problem in end.problems:
        note(shown(problem))
    nested.report(wanted.variables, name, end, is_hit=False)
    note(f"run {name.run} of {name.repository} is recorded: fsd exp show {name.run[:_SHOWN_DIGITS]}")
    return end


def _say_verdict(verdict: Verdict, how: _How) -> None:
    if how.as_json:
        run = None if verdict.run is None else verdict.run.start.name.run
        print_json({"hit": verdict.is_hit, "run": run, "reasons": list(verdict.reasons)})
    elif verdict.run is not None:
        say(f"HIT: run {verdict.run.start.name.run[:_SHOWN_DIGITS]}")
    else:
        for reason in verdict.reasons:
            say(f"MISS: {shown(reason)}")


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
