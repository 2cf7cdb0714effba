"""A run that is asked for, and what can be said of it before anything is done."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from fsd.errors import NotFoundError, UsageError
from fsd.format.keys import check_repository_name
from fsd.format.run import STEP_HEX_DIGITS, Scalar
from fsd.ids import content_id
from fsd.publish.guard import is_at_or_below
from fsd.runs import environment, params
from fsd.runs.links import below, is_below_any


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
    mountpoints: tuple[str, ...] = ()
    """Where the store is mounted, and what pins begin with."""
    code_paths: tuple[Path, ...] = ()
    """What of the code counts; () for all of it."""
    dependencies: tuple[Path, ...] = ()
    """What it reads outside of the mount, as it was said."""
    stdin: str | None = ""
    """See `RunStart.stdin`."""
    is_reusable: bool = True
    """See `RunStart.is_reusable`."""

    @property
    def step(self) -> str:
        """What two runs have in common that are runs of the same: the command, and the folder it runs in."""
        words = [os.fsencode(below(self.directory, self.top)), *map(os.fsencode, self.command)]
        return content_id(b"".join(b"%d:%s" % (len(word), word) for word in words)).hex()[:STEP_HEX_DIGITS]

    @property
    def output_paths(self) -> tuple[str, ...]:
        """The outputs, from the top."""
        return tuple(below(path, self.top) for path in self.outputs)

    def counts(self, name: str) -> bool:
        """Whether a path from the top is of the code that counts."""
        paths = [below(path, self.top) for path in self.code_paths]
        return not paths or "" in paths or is_below_any(name, paths)


def check(wanted: Wanted) -> str:
    """The program that is going to run. Raises what can be known before anything is done: UsageError, NotFoundError."""
    check_repository_name(wanted.repository)
    params.variables(wanted.overrides)
    for what, hint, paths in (
        ("output", "an output lies in the work tree of the run", wanted.outputs),
        ("code", "name with --dep what lies elsewhere", wanted.code_paths),
    ):
        for path in paths:
            if not path.is_relative_to(wanted.top) or (what == "output" and path == wanted.top):
                raise UsageError(f"{path} is not below {wanted.top}", hint=hint)
    for path in wanted.code_paths:
        if not os.path.lexists(path):
            raise NotFoundError(f"there is no {path} to be taken for code")
        try:
            os.fspath(path).encode()
        except UnicodeEncodeError:
            raise UsageError(f"{os.fspath(path)!r} is not UTF-8", hint="name the folder that it is in") from None
    program = environment.find_program(wanted.command[0], wanted.variables, wanted.directory)
    if program is None:
        raise NotFoundError(f"there is no program {wanted.command[0]!r}")
    return program


def check_outputs(wanted: Wanted, places: Sequence[bytes]) -> None:
    """Raises UsageError for an output that has to do with fsd's own `places`."""
    for path in map(os.fsencode, wanted.outputs):
        for place in places:
            if is_at_or_below(path, place) or is_at_or_below(place, path):
                raise UsageError(
                    f"{os.fsdecode(path)} cannot be an output: {os.fsdecode(place)} is fsd's own",
                    hint="name what the command itself makes",
                )


class Params(NamedTuple):
    """What a run is told."""

    values: dict[str, Scalar]
    """Those that count, by name."""
    in_file: dict[str, Scalar]
    """What the file says of those that the command line overrides."""


def read_params(wanted: Wanted, *, write: bool) -> Params:
    """The params of a run. With `write`, those that are overridden are written to the file if that is asked for.
    Blocks. Raises UsageError, NotFoundError."""
    path = wanted.directory / params.FILE_NAME
    try:
        text = path.read_text()
    except FileNotFoundError:
        if wanted.write_params and wanted.overrides:
            raise NotFoundError(f"there is no {path} to write params to") from None
        return Params(params.overridden({}, wanted.overrides), {})
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not UTF-8") from None
    if wanted.write_params and wanted.overrides:
        text = params.rewritten(text, wanted.overrides, os.fspath(path))
        if write:
            path.write_text(text)
    said = params.parse_params(text, os.fspath(path))
    names = {override.name for override in wanted.overrides}
    in_file = {name: value for name, value in said.items() if name in names}
    return Params(params.overridden(said, wanted.overrides), in_file)
