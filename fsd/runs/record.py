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

from fsd.errors import FsdError, UsageError
from fsd.format.inputs import Inputs
from fsd.format.run import RUN_HEX_DIGITS, RunEnd, RunName, RunStart, Scalar, StoredTree
from fsd.pins import worktree
from fsd.pins.links import Target
from fsd.publish.guard import is_at_or_below, places_of_fsd
from fsd.publish.picked import store_picked
from fsd.repo.repository import Repositories
from fsd.runs import environment, metrics, nested, params, variables, written
from fsd.runs.code import files_of_code, files_to_store, store_code
from fsd.runs.declared import dependency_ids, found_ids
from fsd.runs.execute import Outcome
from fsd.runs.known_outputs import add_outputs, read_outputs
from fsd.runs.links import below, find_links, resolved_pins, text_of
from fsd.runs.process import this_process
from fsd.runs.reporting import read_report
from fsd.runs.sources import find_sources
from fsd.runs.staying import Statuses, statuses, what_changed
from fsd.runs.wanted import Wanted, check, check_outputs, read_params
from fsd.tasks import one_error

LOG = "log"
REPORT = "reported.jsonl"
METRICS = "metrics.json"


@dataclass(slots=True)
class Described:
    """What is about to run."""

    start: RunStart
    statuses: Statuses
    """How the files looked, before any was read, by which it is compared with other runs."""


@dataclass(slots=True)
class Begun:
    """A run whose start is written down."""

    start: RunStart
    folder: Path
    """Where its files are while it runs."""
    compared: Statuses = field(default_factory=dict)
    """See `Described.statuses`."""
    statuses: Mapping[str, Any] = field(default_factory=dict)
    """How files of metrics looked before."""


def folder_of_runs(state: Path) -> Path:
    """Where runs that go on have their files."""
    return state / "runs"


async def describe(
    repositories: Repositories, wanted: Wanted, state: Path, *, is_asked_only: bool = False
) -> Described:
    """What is about to run, as it will be written down. A lease is held: code and pins are kept from now on.

    With `is_asked_only` no file of the work tree is changed. Raises as `check` and `store_picked`, and what a store
    raises.
    """
    program = check(wanted)
    places = [
        place
        for place in places_of_fsd(repositories.store.url, state)
        if not is_at_or_below(os.fsencode(wanted.top), place)
    ]
    check_outputs(wanted, places)
    declared = await trio.to_thread.run_sync(statuses, [*wanted.dependencies, wanted.directory / params.FILE_NAME])
    values, in_file = await trio.to_thread.run_sync(lambda: read_params(wanted, write=not is_asked_only))
    if not is_asked_only and wanted.write_params:
        declared |= await trio.to_thread.run_sync(statuses, [wanted.directory / params.FILE_NAME])
    folder_of_runs(state).mkdir(parents=True, exist_ok=True)
    # Before anything is taken to be there: what gc is about to delete is known from now on.
    await repositories.leases.take()
    known = await trio.to_thread.run_sync(read_outputs, state, wanted.top)
    parts = _Parts(repositories, wanted, known, places, state)
    parts.statuses |= declared
    with one_error():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(parts.describe_surroundings, program)
            nursery.start_soon(parts.read_git)
            nursery.start_soon(parts.read_dependencies)
            nursery.start_soon(parts.read_links_and_code)
    start = replace(
        parts.start,
        name=RunName(wanted.repository, wanted.step, secrets.token_hex(RUN_HEX_DIGITS // 2)),
        time_us=repositories.clock(),
        params=values,
        in_file=in_file,
    )
    return Described(start, parts.statuses)


class _Parts:
    """What is found out side by side."""

    def __init__(
        self, repositories: Repositories, wanted: Wanted, known: Mapping[str, str], places: Sequence[bytes], state: Path
    ) -> None:
        self._repositories = repositories
        self._wanted = wanted
        self._known = known
        """Outputs of all steps, by path."""
        self._places = places
        self._state = state
        self.statuses: Statuses = {}
        self.start = RunStart(
            name=RunName(wanted.repository, wanted.step, ""),
            time_us=0,
            argv=tuple(map(text_of, wanted.command)),
            directory=text_of(below(wanted.directory, wanted.top)),
            process=this_process(),
            label=text_of(wanted.label),
            author=text_of(wanted.author),
            overrides=tuple(override.name for override in wanted.overrides),
            outputs=tuple(map(text_of, wanted.output_paths)),
            code_paths=tuple(text_of(below(path, wanted.top)) for path in wanted.code_paths),
            stdin=wanted.stdin,
            is_reusable=wanted.is_reusable,
        )

    async def describe_surroundings(self, program: str) -> None:
        wanted = self._wanted
        found = await trio.to_thread.run_sync(
            environment.describe, program, wanted.variables, wanted.directory, wanted.top
        )
        self.start = replace(self.start, environment=found)

    async def read_git(self) -> None:
        if self._wanted.has_git:
            git = await trio.to_thread.run_sync(worktree.state_of, self._wanted.top)
            self.start = replace(self.start, git=git._asdict())

    async def read_dependencies(self) -> None:
        declared = await dependency_ids(self._repositories, self._wanted)
        self.start = replace(self.start, dependencies=declared)
        found = await trio.to_thread.run_sync(found_ids, self._wanted, self._known)
        self.start = replace(self.start, found=found)

    async def read_links_and_code(self) -> None:
        wanted = self._wanted
        links = await trio.to_thread.run_sync(
            lambda: find_links(wanted.top, wanted.mountpoints, self._known, has_git=wanted.has_git)
        )
        own = set(wanted.output_paths)
        left_out = {*links, *own, *self._known}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._resolve, {link: target for link, target in links.items() if link not in own})
            nursery.start_soon(self._store_code, left_out)

    async def _resolve(self, links: dict[str, Target]) -> None:
        pins = await resolved_pins(self._repositories, links)
        self.start = replace(self.start, pins=pins)

    async def _store_code(self, left_out: set[str]) -> None:
        names = await trio.to_thread.run_sync(files_to_store, self._wanted, left_out, self._places)
        counted = [self._wanted.top / name for name in names if self._wanted.counts(name)]
        self.statuses |= await trio.to_thread.run_sync(statuses, counted)
        code = await store_code(self._repositories, self._wanted, names, self._state)
        self.start = replace(self.start, code=code)


async def begin(
    repositories: Repositories, wanted: Wanted, described: Described, there: Sequence[str], state: Path
) -> Begun:
    """Write down what `describe` found; `there` are the outputs that are there. The same lease is held. Raises
    UsageError for what cannot be written down, and what a store raises."""
    start = replace(described.start, outputs_before=tuple(map(text_of, there)))
    folder = folder_of_runs(state) / start.name.run
    folder.mkdir(parents=True, mode=0o700)
    try:
        await repositories.runs.write_start(start)
    except BaseException as error:
        folder.rmdir()
        if isinstance(error, ValueError):
            raise UsageError(f"the run cannot be written down: {error}") from error
        raise
    return Begun(start, folder, described.statuses, metrics.statuses(wanted.directory))


async def finish(
    repositories: Repositories,
    wanted: Wanted,
    begun: Begun,
    outcome: Outcome,
    inputs: Inputs,
    read: Sequence[str],
    state: Path,
    say: Callable[[str], None],
) -> RunEnd:
    """Write down what came of it; `read` is what was read of what it found. `say` is told what a person should know.

    What cannot be stored is a problem of the run's, and the rest is written down all the same. Raises what a store
    raises; the run's folder is then left.
    """
    problems = list(outcome.problems)
    found = metrics.measured(wanted.directory, begun.statuses)
    problems += found.problems
    metrics.keep_curves(wanted.directory, begun.statuses, begun.folder)
    reported, reported_params = _report(begun.folder / REPORT)
    values, left_out = metrics.finite({**found.metrics, **reported})
    for line in left_out:
        say(f"{line}, which is not kept")
    own_params: dict[str, Scalar] = {str(name): value for name, value in reported_params.items()}
    _write_json(begun.folder / METRICS, values)
    _write_json(begun.folder / params.FILE_NAME, {**begun.start.params, **own_params})
    _copy(found.files, wanted.directory, begun.folder / written.FOLDER)
    inner = await nested.read(repositories, begun.folder / nested.FILE_NAME)
    inputs = nested.merged(inputs, inner)
    compared = [Path(path) for path in begun.compared]
    changed = what_changed(begun.compared, await trio.to_thread.run_sync(statuses, compared), wanted.top)
    inputs = replace(inputs, problem=inputs.problem or changed)
    async with repositories.leases.held("run"):
        outputs = await _store_outputs(repositories, wanted, outcome, problems, state) if wanted.outputs else None
        names = list(map(os.fsencode, os.listdir(begun.folder)))
        files = await _stored(repositories, wanted, begun.folder, names, problems, state)
        sources = await _sources(repositories, wanted, begun.start, inputs)
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
            inputs=inputs,
            sources=sources,
            made=inner.made,
            read=tuple(read),
            problems=tuple(map(text_of, problems)),
        )
        await repositories.runs.write_end(end)
    theirs = [*wanted.output_paths, *(below(path, wanted.top) for path in found.files)]
    await trio.to_thread.run_sync(add_outputs, state, wanted.top, theirs, wanted.step)
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


async def _sources(repositories: Repositories, wanted: Wanted, start: RunStart, inputs: Inputs) -> Any:
    """By what the command came to what it read: see `fsd.runs.sources`."""
    counted = variables.compared(wanted.variables, os.fspath(wanted.top), wanted.variables.get("HOME", ""))
    texts = [*wanted.command, *map(str, start.params.values()), *counted.values()]
    code = await files_of_code(repositories, start, wanted.top) if inputs.names or inputs.versions else []
    return await trio.to_thread.run_sync(find_sources, inputs, start.pins, wanted.mountpoints, texts, code)


async def _store_outputs(
    repositories: Repositories, wanted: Wanted, outcome: Outcome, problems: list[str], state: Path
) -> StoredTree | None:
    if outcome.code == 0:
        problems += [f"there is no output {below(path, wanted.top)}" for path in wanted.outputs if not _is_there(path)]
    paths = [os.fsencode(path) for path in wanted.output_paths]
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


def _copy(files: Sequence[Path], directory: Path, target: Path) -> None:
    """Files of metrics, to be put in place again where nothing runs."""
    for path in files:
        copy = target / path.relative_to(directory)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
