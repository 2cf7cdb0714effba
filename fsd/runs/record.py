"""A run's record: what is written down before the command starts, and what once it has ended.

    start   code and pins are stored or made sure of, then the start object
    (the command runs; whoever is killed here leaves a record without an end, which says so)
    end     outputs, log and the files of params and metrics are stored, then the end object

Both under a lease of their own, so that gc sees either the lease or the record. Neither object is ever changed.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import trio

from fsd.errors import FsdError, NotFoundError, UsageError
from fsd.format.keys import check_repository_name
from fsd.format.run import RUN_HEX_DIGITS, STEP_HEX_DIGITS, RunEnd, RunName, RunPin, RunStart, Scalar, StoredTree
from fsd.ids import content_id
from fsd.pins import worktree
from fsd.pins.links import Target
from fsd.publish.guard import is_at_or_below, places_of_fsd
from fsd.publish.picked import store_picked
from fsd.repo.repository import Repositories
from fsd.repo.revisions import resolve
from fsd.runs import environment, metrics, params
from fsd.runs.execute import Outcome
from fsd.runs.process import this_process
from fsd.runs.reporting import read_report

LOG = "log"
REPORT = "reported.jsonl"
METRICS = "metrics.json"

_BEGIN_ATTEMPTS = 3
"""An editor that saves a file while it is being read is waited out."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A run that is asked for. Paths of the machine are absolute and without symlinks."""

    repository: str
    command: tuple[str, ...]
    directory: Path
    top: Path
    """Of the work tree; `directory` where there is none."""
    has_git: bool
    variables: Mapping[str, str]
    """The command's environment."""
    label: str = ""
    author: str = ""
    overrides: tuple[params.Override, ...] = ()
    write_params: bool = False
    outputs: tuple[Path, ...] = ()
    pins: tuple[tuple[str, Target], ...] = ()
    """Link and target of each."""


@dataclass(slots=True)
class Begun:
    """A run whose start is written down."""

    start: RunStart
    folder: Path
    """Where its files are while it runs."""
    statuses: Mapping[str, Any] = field(default_factory=dict)
    """How files of metrics looked before."""


def check(wanted: Wanted) -> str:
    """The program that is going to run. Raises what can be known before anything is done: UsageError, NotFoundError."""
    check_repository_name(wanted.repository)
    params.variables(wanted.overrides)
    for path in wanted.outputs:
        if path == wanted.top or not path.is_relative_to(wanted.top):
            raise UsageError(f"{path} is not below {wanted.top}", hint="an output lies in the work tree of the run")
    program = environment.find_program(wanted.command[0], wanted.variables, wanted.directory)
    if program is None:
        raise NotFoundError(f"there is no program {wanted.command[0]!r}")
    return program


async def begin(repositories: Repositories, wanted: Wanted, state: Path) -> Begun:
    """Write down what is about to run. Raises as `check` and `store_picked`, and what a store raises."""
    repositories.check_writable()
    program = check(wanted)
    places = [
        place
        for place in places_of_fsd(repositories.store.url, state)
        if not is_at_or_below(os.fsencode(wanted.top), place)
    ]
    _check_outputs(wanted, places)
    values = await trio.to_thread.run_sync(_params, wanted)
    name = RunName(wanted.repository, _step(wanted), secrets.token_hex(RUN_HEX_DIGITS // 2))
    git = await trio.to_thread.run_sync(worktree.state_of, wanted.top) if wanted.has_git else None
    surroundings = await trio.to_thread.run_sync(environment.describe, program, wanted.variables, wanted.directory)
    start = RunStart(
        name=name,
        time_us=repositories.clock(),
        argv=tuple(map(_text, wanted.command)),
        directory=_text(_below(wanted.directory, wanted.top)),
        process=this_process(),
        label=_text(wanted.label),
        author=_text(wanted.author),
        git=None if git is None else git._asdict(),
        params=values,
        overrides=tuple(override.name for override in wanted.overrides),
        outputs=tuple(_text(_below(path, wanted.top)) for path in wanted.outputs),
        environment=surroundings,
    )
    folder = state / "runs" / name.run
    folder.mkdir(parents=True, mode=0o700)
    try:
        start = await _write_start(repositories, wanted, start, places, state)
    except BaseException:
        folder.rmdir()
        raise
    return Begun(start, folder, metrics.statuses(wanted.directory))


async def _write_start(
    repositories: Repositories, wanted: Wanted, start: RunStart, places: Sequence[bytes], state: Path
) -> RunStart:
    """Write it down, with the code and the pins, which are kept from then on."""
    async with repositories.leases.held("run"):
        # Before anything is taken to be there: what gc is about to delete is known from now on.
        await repositories.leases.take()
        code = await _store_code(repositories, wanted, places, state) if wanted.has_git else None
        pins = tuple([await _pin(repositories, *pin) for pin in wanted.pins])
        start = replace(start, code=code, pins=pins)
        try:
            await repositories.runs.write_start(start)
        except ValueError as error:
            raise UsageError(f"the run cannot be written down: {error}") from error
    return start


async def finish(
    repositories: Repositories, wanted: Wanted, begun: Begun, outcome: Outcome, state: Path, say: Callable[[str], None]
) -> RunEnd:
    """Write down what came of it. `say` is told what a person should know.

    What cannot be stored is a problem of the run's, and the rest is written down all the same. Raises what a store
    raises; the run's folder is then left.
    """
    problems = list(outcome.problems)
    found = metrics.measured(wanted.directory, begun.statuses)
    problems += found.problems
    reported, reported_params = _report(begun.folder / REPORT)
    values, left_out = metrics.finite({**found.metrics, **reported})
    for line in left_out:
        say(f"{line}, which is not kept")
    own_params: dict[str, Scalar] = {str(name): value for name, value in reported_params.items()}
    _write_json(begun.folder / METRICS, values)
    _write_json(begun.folder / params.FILE_NAME, {**begun.start.params, **own_params})
    async with repositories.leases.held("run"):
        outputs = await _store_outputs(repositories, wanted, outcome, problems, state) if wanted.outputs else None
        names = list(map(os.fsencode, os.listdir(begun.folder)))
        files = await _stored(repositories, wanted, begun.folder, names, problems, state)
        end = RunEnd(
            name=begun.start.name,
            time_us=repositories.clock(),
            code=outcome.code,
            signal=outcome.signal,
            interrupted=outcome.interrupted,
            metrics=values,
            params=own_params,
            outputs=outputs,
            files=files,
            problems=tuple(map(_text, problems)),
        )
        await repositories.runs.write_end(end)
    shutil.rmtree(begun.folder, ignore_errors=True)
    return end


def command_variables(wanted: Wanted, begun: Begun) -> dict[str, str]:
    """The environment of the command: its own, what was overridden, and where to report."""
    return {
        "PYTHONUNBUFFERED": "1",  # what it prints is to be seen when it prints it, although it goes through us
        **wanted.variables,
        **params.variables(wanted.overrides),
        "FSD_RUN": begun.start.name.run,
        "FSD_RUN_REPORT": os.fspath(begun.folder / REPORT),
    }


# --- before


def _step(wanted: Wanted) -> str:
    """What two runs have in common that are runs of the same: the command, and the folder it runs in."""
    words = [os.fsencode(_below(wanted.directory, wanted.top)), *map(os.fsencode, wanted.command)]
    return content_id(b"".join(b"%d:%s" % (len(word), word) for word in words)).hex()[:STEP_HEX_DIGITS]


def _params(wanted: Wanted) -> dict[str, Scalar]:
    """The params that count; those that are overridden are written to the file if that is asked for."""
    path = wanted.directory / params.FILE_NAME
    try:
        text = path.read_text()
    except FileNotFoundError:
        if wanted.write_params and wanted.overrides:
            raise NotFoundError(f"there is no {path} to write params to") from None
        return params.overridden({}, wanted.overrides)
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not UTF-8") from None
    if wanted.write_params and wanted.overrides:
        text = params.rewritten(text, wanted.overrides, os.fspath(path))
        path.write_text(text)
    return params.overridden(params.parse_params(text, os.fspath(path)), wanted.overrides)


def _check_outputs(wanted: Wanted, places: Sequence[bytes]) -> None:
    for path in map(os.fsencode, wanted.outputs):
        for place in places:
            if is_at_or_below(path, place) or is_at_or_below(place, path):
                raise UsageError(
                    f"{os.fsdecode(path)} cannot be an output: {os.fsdecode(place)} is fsd's own",
                    hint="name what the command itself makes",
                )


async def _store_code(repositories: Repositories, wanted: Wanted, places: Sequence[bytes], state: Path) -> StoredTree:
    """All files of the work tree but pins, params, what runs write, and what fsd itself keeps in it."""
    names = await trio.to_thread.run_sync(worktree.files, wanted.top)
    names -= {link for link, _ in wanted.pins}
    here = _below(wanted.directory, wanted.top)
    left_out = [_below(path, wanted.top) for path in wanted.outputs]
    left_out += [os.path.join(here, name) for name in (params.FILE_NAME, *metrics.WRITTEN)]
    left_out += _those_in(wanted.top, places)
    chosen = [os.fsencode(name) for name in names if not _is_below_any(name, left_out)]
    for attempt in range(_BEGIN_ATTEMPTS):
        try:
            return await store_picked(repositories, wanted.repository, wanted.top, chosen, state=state)
        except FsdError as error:
            if error.exit_code != FsdError.exit_code or attempt == _BEGIN_ATTEMPTS - 1:
                raise
    raise AssertionError("the last attempt returns or raises")


async def _pin(repositories: Repositories, link: str, target: Target) -> RunPin:
    """A pin with the commit that it leads to, which is kept from now on."""
    commit: bytes | None = None
    try:
        resolved = await resolve(repositories, target.repository, target.revision)
        # (A built-in subset is no object: what it is of, is.)
        commit = (resolved.subset and resolved.subset.id) or resolved.commit
        await repositories.leases.check_kept(commit)
    except (NotFoundError, UsageError):
        commit = None
    return RunPin(_text(link), target.repository, target.revision, _text(target.path), commit)


# --- after


async def _store_outputs(
    repositories: Repositories, wanted: Wanted, outcome: Outcome, problems: list[str], state: Path
) -> StoredTree | None:
    if outcome.code == 0:
        problems += [f"there is no output {_below(path, wanted.top)}" for path in wanted.outputs if not _is_there(path)]
    paths = [os.fsencode(_below(path, wanted.top)) for path in wanted.outputs]
    return await _stored(repositories, wanted, wanted.top, paths, problems, state)


async def _stored(
    repositories: Repositories, wanted: Wanted, folder: Path, paths: Sequence[bytes], problems: list[str], state: Path
) -> StoredTree | None:
    try:
        return await store_picked(repositories, wanted.repository, folder, paths, state=state)
    except FsdError as error:
        if error.exit_code != FsdError.exit_code:
            raise
        problems.append(str(error))
        return None


def _those_in(top: Path, places: Sequence[bytes]) -> list[str]:
    """Of some places those in the work tree, from its top."""
    inside = os.fsencode(top)
    return [os.fsdecode(os.path.relpath(place, inside)) for place in places if is_at_or_below(place, inside)]


def _is_there(path: Path) -> bool:
    return os.path.lexists(path)


def _report(path: Path) -> tuple[dict[str, float], dict[str, Any]]:
    try:
        with path.open("rb") as lines:
            return read_report(lines)
    except FileNotFoundError:
        return {}, {}


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    """JSON is YAML as well."""
    path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")


def _below(path: Path, top: Path) -> str:
    """A path from the top, '' for the top itself."""
    return "" if path == top else os.fspath(path.relative_to(top))


def _is_below_any(name: str, folders: Sequence[str]) -> bool:
    return any(name == folder or name.startswith(f"{folder}/") for folder in folders)


def _text(text: str) -> str:
    """As UTF-8 can hold it."""
    return os.fsencode(text).decode(errors="backslashreplace")
