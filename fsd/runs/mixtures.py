"""Runs that were never made: mixtures of two that were, of which attribution asks what would have come of them.

Each of the factors in which two runs differ is taken from one or the other. What a mixture cannot have (a param that
the command itself tells of, data that nothing but the command knows) is an error that says so. Reads no
store, but for `read_pair`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from fsd.errors import UsageError
from fsd.format.run import RunStart, Scalar
from fsd.pins.links import parse_target
from fsd.pins.manifest import DEFAULT_MOUNTPOINT
from fsd.repo.repository import Repositories
from fsd.repo.runs import Run
from fsd.runs.factors import CODE, COMMAND, REPOSITORY, SUBSET_SUFFIX
from fsd.runs.laying_out import Pin, pin_of
from fsd.runs.params import FILE_NAME, Override, override_of
from fsd.runs.table import INPUTS, PINS


@dataclass(frozen=True, slots=True)
class Mixture:
    """What to run."""

    code: RunStart
    """The run whose code it has."""
    command: RunStart
    """The run whose command, folder and outputs it has."""
    params: dict[str, Scalar]
    overrides: tuple[Override, ...]
    """Those that the command learns of by its environment, as it did in either of both runs."""
    pins: tuple[Pin, ...]
    changed: tuple[str, ...]
    """The factors that are the second run's."""


def mixture_of(a: Run, b: Run, changed: Collection[str]) -> Mixture:
    """Run `a` with some factors of run `b`. Raises UsageError where nobody can run that."""
    reported = {} if b.end is None else b.end.params
    for name in changed:
        if name in (REPOSITORY, INPUTS, INPUTS + SUBSET_SUFFIX):
            raise UsageError(f"{name} cannot be mixed", hint="these two runs differ in more than params, pins and code")
        if name in reported and name not in b.start.params:
            raise UsageError(
                f"{name} cannot be set: the command told of it itself",
                hint=f"have the command read it from {FILE_NAME}",
            )
    values = _params(a.start, b.start, changed)
    said = {*a.start.overrides, *b.start.overrides}
    return Mixture(
        code=b.start if CODE in changed else a.start,
        command=b.start if COMMAND in changed else a.start,
        params=values,
        overrides=tuple(override_of(name, values[name]) for name in sorted(said) if name in values),
        pins=_pins(a.start, b.start, changed),
        changed=tuple(sorted(changed)),
    )


def _params(a: RunStart, b: RunStart, changed: Collection[str]) -> dict[str, Scalar]:
    found = {}
    for name in [*a.params, *(name for name in b.params if name not in a.params)]:
        whole, subset = name in changed, name + SUBSET_SUFFIX in changed
        source = b if whole else a
        if name not in source.params:
            continue
        found[name] = source.params[name]
        if whole != subset:
            found[name] = _with_subset(found[name], (b if subset else a).params.get(name))
    return found


def _with_subset(value: Scalar, other: Scalar) -> Scalar:
    """A path of the mount, of the subset that another one has."""
    targets = [parse_target(each, DEFAULT_MOUNTPOINT) if isinstance(each, str) else None for each in (value, other)]
    if targets[0] is None or targets[1] is None:
        return value
    return targets[0]._replace(subset=targets[1].subset).text(DEFAULT_MOUNTPOINT)


def _pins(a: RunStart, b: RunStart, changed: Collection[str]) -> tuple[Pin, ...]:
    sides = [{pin.link: pin_of(pin) for pin in start.pins} for start in (a, b)]
    found = []
    for link in sorted({*sides[0], *sides[1]}):
        name = f"{PINS}{link}"
        base, subset = (sides[each in changed].get(link) for each in (name, name + SUBSET_SUFFIX))
        if base is not None:
            target = base.target if subset is None else base.target._replace(subset=subset.target.subset)
            found.append(base._replace(target=target))
    return tuple(found)


async def read_pair(repositories: Repositories, ids: Sequence[str]) -> tuple[Run, Run]:
    """The records of two runs. Raises as `Runs.find` and `Runs.read`."""
    a, b = [await repositories.runs.read(await repositories.runs.find(each)) for each in ids]
    return a, b
