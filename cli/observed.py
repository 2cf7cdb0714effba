"""Watching what the command of `fsd run` reads: which mounts there are, and what becomes of it where that cannot be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

from fsd.daemon import mounts
from fsd.daemon.observing import Observing
from fsd.errors import FsdError
from fsd.format.inputs import Inputs
from fsd.pins.manifest import Manifest
from fsd.runs.code import names_of_code
from fsd.runs.execute import Observer, Outcome
from fsd.runs.landlock import Ruleset, prepare
from fsd.runs.record import Begun
from fsd.runs.reporting import REPORT_VARIABLE
from fsd.runs.strict import allowed
from fsd.runs.wanted import Wanted, check
from fsd_cli.context import Invocation
from fsd_cli.output import note
from fsd_cli.text import shown
from fsd_cli.worktrees import WorkTree

_VIEWS = "/.views/r"
"""How the root of a mount begins that shows a run's view."""


def mountpoints_of(store_url: str, tree: WorkTree | None) -> tuple[str, ...]:
    """Where the store is mounted, the latest first; and what the work tree's pins begin with, first of all if that is
    one of them."""
    is_store = Manifest(store_url).is_store
    found = [mount.mountpoint for mount in reversed(_mounts()) if is_store(mount.source)]
    if tree is None:
        return tuple(dict.fromkeys(found))
    is_mounted = tree.mountpoint in found
    return tuple(dict.fromkeys([tree.mountpoint, *found] if is_mounted else [*found, tree.mountpoint]))


def nests_unseen(invocation: Invocation) -> bool:
    """Whether this is a part of another run that cannot be told of it: somebody took the variables away."""
    is_inside = any(mount.root.startswith(_VIEWS) for mount in _mounts())
    return is_inside and not invocation.environment.get(REPORT_VARIABLE)


def _mounts() -> list[mounts.Mount]:
    return [mount for mount in mounts.list_mounts() if mount.type == mounts.FILESYSTEM_TYPE]


@contextmanager
def denying(wanted: Wanted, begun: Begun, variables: dict[str, str]) -> Iterator[Ruleset]:
    """Rules that deny the command what is not declared. It gets a temporary folder of its own, for which TMPDIR is set
    in `variables`. Raises FsdError where the kernel has no such rules."""
    program = check(wanted)
    with TemporaryDirectory(prefix="fsd-run-") as temporary:
        variables["TMPDIR"] = temporary
        code = [wanted.top / name for name in names_of_code(wanted)]
        with prepare(allowed(wanted, program, code, Path(temporary), begun.folder)) as ruleset:
            yield ruleset


class _Starting:
    """What happens between the fork and the command: see `fsd.runs.execute.Observer`."""

    def __init__(self, observing: Observing | None, ruleset: Ruleset | None) -> None:
        self._observing = observing
        self._ruleset = ruleset

    def enter(self) -> None:
        """Views first: under the rules nothing can be mounted."""
        if self._observing is not None:
            self._observing.enter()
        if self._ruleset is not None:
            self._ruleset.restrict_self()

    def entering(self) -> AbstractContextManager[None]:
        """See `Observing.entering`."""
        return nullcontext() if self._observing is None else self._observing.entering()


class Observed:
    """The start of a command, watched as well as can be."""

    def __init__(self, observing: Observing | None, ruleset: Ruleset | None, *, has_declared: bool) -> None:
        self._observing = observing
        self._ruleset = ruleset
        self._has_declared = has_declared
        self._problem = ""

    @classmethod
    @contextmanager
    def begin(cls, store_url: str, ruleset: Ruleset | None, *, has_declared: bool) -> Iterator[Self]:
        """`has_declared`: whether it was said what the command reads, so that it is believed where nobody can see."""
        if not _mounts():
            yield cls(None, ruleset, has_declared=has_declared)
            return
        with Observing.begin(Manifest(store_url).is_store) as observing:
            yield cls(observing, ruleset, has_declared=has_declared)

    def run(self, execute: Callable[[Observer | None], Outcome]) -> Outcome:
        """Start it so that it is seen; or, where that cannot be, all the same."""
        if self._observing is not None:
            try:
                return execute(_Starting(self._observing, self._ruleset))
            except FsdError as error:
                self._problem = str(error)
        return execute(None if self._ruleset is None else _Starting(None, self._ruleset))

    def inputs(self) -> Inputs:
        """What it read."""
        inputs = self._seen()
        if inputs.problem and self._problem and self._has_declared:
            return Inputs()
        if inputs.problem:
            note(f"what it read is not known, so that this run is not reused: {shown(inputs.problem)}")
        return inputs

    def _seen(self) -> Inputs:
        if self._problem:
            return Inputs(problem=self._problem)
        if self._observing is not None:
            return self._observing.inputs()
        return Inputs(problem="there was no mount when it began") if _mounts() else Inputs()
