"""Runs as attribution sees them: the rows of runs that succeeded become trials, with a factor for each setting.

    a param's name     the param. One that is a path of the mount (`/fsd/imagenet/v1.2+tiny`) is a data version, and
                       `NAME.subset` its subset: the same code reads another part where that path says so
    `seed`, …          a param that is called so, or was declared one, is a seed
    `pins.LINK`        the data version that a pin led to, and `pins.LINK.subset` the subset of it
    `inputs`           what a run was seen to read beside that, and `inputs.subset` the subsets of it
    `code`             the tree of its code
    `command`          the command, and its folder where several have the same
    `repository`       what its record is kept with

The last four, and data and subsets, divide the runs into such as can be compared (`Role.is_context`). Pure functions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace
from typing import NamedTuple

from fsd.format.run import RunName, Scalar
from fsd.ids import ID_HEX_DIGITS, is_commit_prefix
from fsd.pins.links import Target, parse_target
from fsd.pins.manifest import DEFAULT_MOUNTPOINT
from fsd.runs.attribution.trials import Role, Trial, Value, key
from fsd.runs.table import INPUTS, METRICS, PARAMS, PINNED, PINS, Row, State, parse_subset

CODE = "code"
COMMAND = "command"
REPOSITORY = "repository"
SUBSET_SUFFIX = ".subset"

SHOWN_ID_DIGITS = 12

MAX_CANDIDATES = 1000
"""Earlier runs that are compared with a run to find its parent, the latest: someone who went back went back to one of
these."""

_SEED = re.compile(r"(?:.*[._-])?(?:seed|random_?state|rng)(?:[._-][0-9a-z]+)?\Z", re.IGNORECASE)


def trials_of(rows: Mapping[RunName, Row], *, seeds: Set[str] = frozenset()) -> list[Trial]:
    """The runs that succeeded, by time, without parents. `seeds` are params that change chance only, beside those whose
    names say so."""
    done = {name: row for name, row in rows.items() if row["state"] == State.DONE}
    steps: dict[Scalar, set[str]] = {}
    for name, row in done.items():
        steps.setdefault(row["command"], set()).add(name.step)
    found = [_trial(name, row, seeds, len(steps[row["command"]]) > 1) for name, row in done.items()]
    return sorted(found, key=lambda trial: (trial.time, trial.id))


def _trial(name: RunName, row: Row, seeds: Set[str], is_ambiguous: bool) -> Trial:
    step = f" [{name.step[:SHOWN_ID_DIGITS]}]" if is_ambiguous else ""
    factors: dict[str, Value] = {REPOSITORY: name.repository, COMMAND: f"{row['command']}{step}"}
    roles = {REPOSITORY: Role.CODE, COMMAND: Role.CODE}
    if row["code"] is not None:
        factors[CODE], roles[CODE] = str(row["code"])[:SHOWN_ID_DIGITS], Role.CODE
    unnamed = _read_versions(row)
    for column, value in row.items():
        if column.startswith(PARAMS):
            param = column.removeprefix(PARAMS)
            target = parse_target(value, DEFAULT_MOUNTPOINT) if isinstance(value, str) else None
            if target is not None:
                _add_data(param, *_version_of(target, unnamed), factors, roles)
            else:
                factors[param] = value
                if param in seeds or _SEED.match(param):
                    roles[param] = Role.SEED
        elif column.startswith(PINNED):
            _add_pin(column.removeprefix(PINNED), str(value), row, factors, roles)
    pinned = {row[column] for column in row if column.startswith(PINS)}
    left = [version for version in unnamed if version.commit not in pinned]
    if left:
        subsets = sorted({version.subset for version in left if version.subset})
        _add_data(INPUTS, " ".join(sorted({version.base for version in left})), " ".join(subsets), factors, roles)
    return Trial(
        id=name.run,
        parent=None,
        time=_number(row["time"]) / 1e6,
        factors=factors,
        metrics={column.removeprefix(METRICS): _number(row[column]) for column in row if column.startswith(METRICS)},
        roles=roles,
    )


class _Version(NamedTuple):
    """A version that a run was seen to read."""

    repository: str
    name: str
    """As it was looked up: symlinks were followed before."""
    commit: str
    """The commit's id, or that of a named subset."""

    @property
    def subset(self) -> str:
        """Of it; '' for the whole."""
        return parse_subset(self.name)

    @property
    def base(self) -> str:
        """What it is a version of, and which: a subset's commit goes by the name that it was looked up by."""
        base = self.name.removesuffix(f"+{self.subset}") if self.subset else self.commit
        return f"{self.repository}/{_shown_base(base)}"


def _read_versions(row: Row) -> list[_Version]:
    found = []
    for each in str(row.get(INPUTS) or "").split():
        place, _, commit = each.rpartition("@")
        repository, _, name = place.partition("/")
        found.append(_Version(repository, name, commit))
    return found


def _shown_base(base: str) -> str:
    return base[:SHOWN_ID_DIGITS] if len(base) == ID_HEX_DIGITS and is_commit_prefix(base) else base


def _version_of(target: Target, read: list[_Version]) -> tuple[str, str]:
    """The data version and the subset that a param leads to. A branch may have moved since: then it is what was seen
    to be read. What is found so in `read` is taken out of it."""
    base = f"{target.repository}/{_shown_base(target.base)}"
    alike = [each for each in read if (each.repository, each.subset) == (target.repository, target.subset)]
    named = [each for each in alike if each.name == target.revision] or (alike if len(alike) == 1 else [])
    if named:
        read.remove(named[0])
        if named[0].name != target.revision:
            base = named[0].base
    return "/".join(filter(None, (base, target.path))), target.subset


def _add_data(name: str, base: str, subset: str, factors: dict[str, Value], roles: dict[str, Role]) -> None:
    factors[name] = base
    factors[name + SUBSET_SUFFIX] = subset or None
    roles |= {name: Role.DATA, name + SUBSET_SUFFIX: Role.SUBSET}


def _add_pin(link: str, pinned: str, row: Row, factors: dict[str, Value], roles: dict[str, Role]) -> None:
    repository, revision, *path = pinned.split("/", 2)
    subset = parse_subset(revision)
    base = _shown_base(revision.removesuffix(f"+{subset}") if subset else revision)
    commit = row[f"{PINS}{link}"]
    if commit is not None and not subset:  # of a subset this is its own id
        base = _shown_base(str(commit))
    _add_data(f"{PINS}{link}", "/".join((repository, base, *path)), subset, factors, roles)


def _number(value: Scalar) -> float:
    assert isinstance(value, int | float)
    return float(value)


def unsuccessful(rows: Iterable[Row]) -> int:
    """How many runs are no trials since they did not succeed, or have not ended."""
    return sum(row["state"] != State.DONE for row in rows)


# --- parents


def ends_of(rows: Mapping[RunName, Row]) -> dict[str, float]:
    """When each run ended that did, by its id, in seconds since 1970."""
    return {
        name.run: _number(row["time"]) / 1e6 + _number(row["seconds"])
        for name, row in rows.items()
        if row["seconds"] is not None
    }


def with_parents(trials: Sequence[Trial], ends: Mapping[str, float], metric: str, to: Trial) -> list[Trial]:
    """The trials, those on the way to the run `to` with their parents.

    A run's parent is the one that it was most likely derived from: of the runs with that metric, kept with the same
    repository, that had ended when it began, one that differs from it in the fewest factors (seeds count for nothing),
    and of these the latest. So whoever goes back to a good run and changes one thing there has changed one thing. Runs
    that went on at the same time have the same parent, or none.
    """
    measured = [trial for trial in trials if trial.metric(metric) is not None]
    parents: dict[str, str] = {}
    child: Trial | None = to
    while child is not None:
        parent = parent_of(child, measured, ends)
        if parent is not None:
            parents[child.id] = parent.id
        child = parent
    return [replace(trial, parent=parents[trial.id]) if trial.id in parents else trial for trial in trials]


def parent_of(child: Trial, trials: Iterable[Trial], ends: Mapping[str, float]) -> Trial | None:
    """See `with_parents`; `trials` are by time."""
    earlier = [
        trial
        for trial in trials
        if trial.time < child.time
        and ends.get(trial.id, child.time) <= child.time
        and trial.factors.get(REPOSITORY) == child.factors.get(REPOSITORY)
    ][-MAX_CANDIDATES:]
    best: Trial | None = None
    fewest = -1
    for trial in reversed(earlier):
        differing = distance(trial, child, below=None if best is None else fewest)
        if best is None or differing < fewest:
            best, fewest = trial, differing
        if fewest == 0:
            break
    return best


def distance(a: Trial, b: Trial, *, below: int | None = None) -> int:
    """In how many factors two runs differ, seeds left out. Counting ends at `below`."""
    found = 0
    for name in a.factors.keys() | b.factors.keys():
        if a.role(name) is Role.SEED or b.role(name) is Role.SEED:
            continue
        found += key(a.factors.get(name)) != key(b.factors.get(name))
        if found == below:
            break
    return found
