"""Run records: what was started (the start object), and what came of it (the end object, absent where nobody lived to
write it).

    runs/<repository>/<step>/<run>.start
    runs/<repository>/<step>/<run>.end

<step> is 32 hex digits, the same for the same command in the same folder; <run> 16 random ones. Both objects are sealed
lists (`fsd.format.sealed`): a JSON header, and in an end object the inputs (`fsd.format.inputs`). `docs/format.md` has
the bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from fsd.errors import CorruptDataError
from fsd.format.fields import (
    as_free_mapping,
    as_id,
    as_integer,
    as_list,
    as_mapping,
    as_text,
    as_time,
    member,
)
from fsd.format.headed import encode_header, split_header
from fsd.format.inputs import Inputs, decode_inputs, encode_inputs
from fsd.format.keys import RUNS, is_repository_name
from fsd.format.limits import MAX_RUN_BYTES
from fsd.format.sealed import seal_list, unseal_list

START_MAGIC = b"fsdruns1"
END_MAGIC = b"fsdrune1"

STEP_HEX_DIGITS = 32
RUN_HEX_DIGITS = 16

START = "start"
END = "end"

Scalar = str | int | float | bool | None
"""What a param may be."""

NOT_OBSERVED = Inputs(problem="nobody looked at what it read")

_Part = TypeVar("_Part")

_KEY = re.compile(
    rf"{RUNS}(?P<repository>[^/]+)/(?P<step>[0-9a-f]{{{STEP_HEX_DIGITS}}})/(?P<run>[0-9a-f]{{{RUN_HEX_DIGITS}}})"
    rf"\.(?P<part>{START}|{END})\Z"
)


class RunName(NamedTuple):
    """Where a run's record is."""

    repository: str
    step: str
    run: str

    def key(self, part: str) -> str:
        """The key of its start or end object."""
        return f"{RUNS}{self.repository}/{self.step}/{self.run}.{part}"


def parse_run_key(key: str) -> tuple[RunName, str] | None:
    """The run and the part of it that a key names; None for what somebody else put there."""
    match = _KEY.match(key)
    if match is None or not is_repository_name(match["repository"]):
        return None
    return RunName(match["repository"], match["step"], match["run"]), match["part"]


class StoredTree(NamedTuple):
    """Files that were stored for a run: a commit that no ref names, and its tree."""

    commit: bytes
    tree: bytes


class RunPin(NamedTuple):
    """A pin of the work tree, as it was when the run began."""

    link: str
    """Its path from the top of the work tree."""
    repository: str
    revision: str
    """As the link has it."""
    path: str
    """Below the revision."""
    commit: bytes | None
    """The commit or subset that it led to; None if that was not to be had."""


class RunProcess(NamedTuple):
    """Which process kept the record: by this, who is on the same machine can tell whether it still does."""

    host: str
    boot: str
    """The id of the machine's start."""
    pid: int
    started_ticks: int
    """When the process began, in clock ticks since the machine's start: a process id may come again."""


@dataclass(frozen=True, slots=True)
class RunStart:
    """What was started. Texts that are not UTF-8 are shown with escapes; `step` is of what they were."""

    name: RunName
    time_us: int
    argv: tuple[str, ...]
    directory: str
    """Where, from the top of the work tree; '' for the top itself."""
    process: RunProcess
    label: str = ""
    """What people call it."""
    author: str = ""
    code: StoredTree | None = None
    git: Mapping[str, Any] | None = None
    params: Mapping[str, Scalar] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()
    """Those of the params that were said on the command line."""
    pins: tuple[RunPin, ...] = ()
    outputs: tuple[str, ...] = ()
    """Paths from the top of the work tree."""
    environment: Mapping[str, Any] = field(default_factory=dict)

    @property
    def commits(self) -> frozenset[bytes]:
        """What is kept for it."""
        found = {pin.commit for pin in self.pins if pin.commit is not None}
        return frozenset(found if self.code is None else {*found, self.code.commit})


@dataclass(frozen=True, slots=True)
class RunEnd:
    """What came of it."""

    name: RunName
    time_us: int
    code: int | None
    """What the command's process ended with; None if a signal ended it, or it could not be started."""
    signal: int | None = None
    """That ended it."""
    interrupted: bool = False
    """Whether somebody asked for the end: by Ctrl-C, or a signal to who kept the record."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    params: Mapping[str, Scalar] = field(default_factory=dict)
    """Those that the command itself told of."""
    outputs: StoredTree | None = None
    files: StoredTree | None = None
    """The log, and the files of params and metrics."""
    inputs: Inputs = NOT_OBSERVED
    """What was read below the mountpoint."""
    problems: tuple[str, ...] = ()
    """What did not go as it should have; a line each, for people."""

    @property
    def is_success(self) -> bool:
        """Whether it did what it was to do."""
        return self.code == 0 and not self.interrupted and not self.problems

    @property
    def commits(self) -> frozenset[bytes]:
        """What is kept for it."""
        trees = {tree.commit for tree in (self.outputs, self.files) if tree is not None}
        return frozenset(trees | self.inputs.commits)


# --- writing


def encode_run_start(start: RunStart) -> bytes:
    """The bytes of a start object. Raises ValueError where a reader would refuse it."""
    header = {
        **start.name._asdict(),
        "time_us": start.time_us,
        "argv": list(start.argv),
        "directory": start.directory,
        "process": start.process._asdict(),
        "label": start.label,
        "author": start.author,
        "code": _tree_json(start.code),
        "git": None if start.git is None else dict(start.git),
        "params": dict(start.params),
        "overrides": list(start.overrides),
        "pins": [pin._asdict() | {"commit": None if pin.commit is None else pin.commit.hex()} for pin in start.pins],
        "outputs": list(start.outputs),
        "environment": dict(start.environment),
    }
    data = seal_list(START_MAGIC, encode_header(header), MAX_RUN_BYTES)
    _check_same(start, data, parse_run_start)
    return data


def encode_run_end(end: RunEnd) -> bytes:
    """The bytes of an end object. Raises ValueError where a reader would refuse it."""
    header = {
        **end.name._asdict(),
        "time_us": end.time_us,
        "code": end.code,
        "signal": end.signal,
        "interrupted": end.interrupted,
        "metrics": dict(end.metrics),
        "params": dict(end.params),
        "outputs": _tree_json(end.outputs),
        "files": _tree_json(end.files),
        "problems": list(end.problems),
    }
    data = seal_list(END_MAGIC, encode_header(header) + encode_inputs(end.inputs), MAX_RUN_BYTES)
    _check_same(end, data, parse_run_end)
    return data


def _check_same(meant: _Part, data: bytes, parse: Callable[[bytes, str], _Part]) -> None:
    """What is written once and for all is read once before. Raises ValueError."""
    try:
        read = parse(data, "it")
    except CorruptDataError as error:
        raise ValueError(error.message) from error
    if meant != read:
        raise ValueError("it would be read as another one")


def _tree_json(tree: StoredTree | None) -> dict[str, str] | None:
    return None if tree is None else {"commit": tree.commit.hex(), "tree": tree.tree.hex()}


# --- reading


def parse_run_start(data: bytes, what: str) -> RunStart:
    """What was started. `what` names it in errors. Raises CorruptDataError."""
    header, rest = split_header(unseal_list(START_MAGIC, data, what, MAX_RUN_BYTES), what)
    try:
        if rest:
            raise ValueError("there is more than a header")
        git = member(header, "git")
        return RunStart(
            name=_name(header),
            time_us=as_time(member(header, "time_us"), "time_us"),
            argv=_texts(header, "argv"),
            directory=as_text(member(header, "directory"), "directory"),
            process=_process(as_mapping(member(header, "process"), "process")),
            label=as_text(member(header, "label"), "label"),
            author=as_text(member(header, "author"), "author"),
            code=_tree(header, "code"),
            git=None if git is None else as_free_mapping(git, "git"),
            params=_params(header),
            overrides=_texts(header, "overrides"),
            pins=tuple(_pin(as_mapping(pin, "a pin")) for pin in as_list(member(header, "pins"), "pins")),
            outputs=_texts(header, "outputs"),
            environment=as_free_mapping(member(header, "environment"), "environment"),
        )
    except ValueError as error:
        raise CorruptDataError(f"{what} cannot be read: {error}") from error


def parse_run_end(data: bytes, what: str) -> RunEnd:
    """What came of a run. `what` names it in errors. Raises CorruptDataError."""
    header, rest = split_header(unseal_list(END_MAGIC, data, what, MAX_RUN_BYTES), what)
    try:
        return RunEnd(
            name=_name(header),
            time_us=as_time(member(header, "time_us"), "time_us"),
            code=_number(header, "code"),
            signal=_number(header, "signal"),
            interrupted=_flag(header, "interrupted"),
            metrics=_metrics(header),
            params=_params(header),
            outputs=_tree(header, "outputs"),
            files=_tree(header, "files"),
            inputs=decode_inputs(rest, what),
            problems=_texts(header, "problems"),
        )
    except ValueError as error:
        raise CorruptDataError(f"{what} cannot be read: {error}") from error


def _name(header: Mapping[str, Any]) -> RunName:
    name = RunName(*(as_text(member(header, each), each) for each in RunName._fields))
    if parse_run_key(name.key(START)) != (name, START):
        raise ValueError("an impossible name")
    return name


def _process(body: Mapping[str, Any]) -> RunProcess:
    return RunProcess(
        as_text(member(body, "host"), "host"),
        as_text(member(body, "boot"), "boot"),
        as_integer(member(body, "pid"), "pid"),
        as_integer(member(body, "started_ticks"), "started_ticks"),
    )


def _tree(header: Mapping[str, Any], name: str) -> StoredTree | None:
    value = member(header, name)
    if value is None:
        return None
    body = as_mapping(value, name)
    return StoredTree(as_id(member(body, "commit"), "commit"), as_id(member(body, "tree"), "tree"))


def _pin(body: Mapping[str, Any]) -> RunPin:
    commit = member(body, "commit")
    link, repository, revision, path = (as_text(member(body, each), each) for each in RunPin._fields[:4])
    return RunPin(link, repository, revision, path, None if commit is None else as_id(commit, "commit"))


def _params(header: Mapping[str, Any]) -> dict[str, Scalar]:
    params = as_mapping(member(header, "params"), "params")
    if not all(value is None or isinstance(value, str | int | float) for value in params.values()):
        raise ValueError("a param that is no text, number or truth value")
    return params


def _metrics(header: Mapping[str, Any]) -> dict[str, float]:
    metrics = as_mapping(member(header, "metrics"), "metrics")
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in metrics.values()):
        raise ValueError("a metric that is no number")
    return metrics


def _texts(header: Mapping[str, Any], name: str) -> tuple[str, ...]:
    return tuple(as_text(each, name) for each in as_list(member(header, name), name))


def _number(header: Mapping[str, Any], name: str) -> int | None:
    value = member(header, name)
    return None if value is None else as_integer(value, name)


def _flag(header: Mapping[str, Any], name: str) -> bool:
    value = member(header, name)
    if not isinstance(value, bool):
        raise ValueError(f"{name} is neither true nor false")
    return value
