"""What differs between two runs: command, params, code, pins, surroundings, metrics, outputs.

Code and outputs are compared by their trees, so that what two runs share costs nothing. Reads the store, but for the
headers of runs, which it is given.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any, NamedTuple

from fsd.format.model import Kind
from fsd.format.run import StoredTree
from fsd.repo.diff import changes_between
from fsd.repo.differences import Fact
from fsd.repo.repository import Repositories
from fsd.repo.runs import Run
from fsd.runs.table import METRICS, PARAMS, PINS, row_of

MAX_FILES = 1000
"""Differing files that are named, of code and of outputs."""


class Difference(NamedTuple):
    """One thing that is not the same. Values are as JSON has them; None where a run has none."""

    what: str
    """`command`, `params`, `code`, `pins`, `git`, `environment`, `metrics` or `outputs`."""
    name: str
    """Which of these; of files the path, of a command ''."""
    before: Any
    after: Any

    @property
    def delta(self) -> float | None:
        """By how much a number differs."""
        numbers = (self.before, self.after)
        if all(isinstance(value, int | float) and not isinstance(value, bool) for value in numbers):
            return float(self.after - self.before)
        return None


async def compare(repositories: Repositories, old: Run, new: Run) -> list[Difference]:
    """All differences from one run to another. Raises CorruptDataError, and what a store raises."""
    before, after = row_of(old), row_of(new)
    found = [
        *_differing("command", {"": shlex.join(old.start.argv)}, {"": shlex.join(new.start.argv)}),
        *_differing("directory", {"": old.start.directory}, {"": new.start.directory}),
        *_differing("params", _below(before, PARAMS), _below(after, PARAMS)),
        *await _files(repositories, "code", old.start.code, new.start.code),
        *_differing("pins", _below(before, PINS), _below(after, PINS)),
        *_differing("git", dict(old.start.git or {}), dict(new.start.git or {})),
        *_nested("", old.start.environment, new.start.environment),
        *_differing("metrics", _below(before, METRICS), _below(after, METRICS)),
    ]
    if old.end is not None and new.end is not None:
        found += await _files(repositories, "outputs", old.end.outputs, new.end.outputs)
    return found


def _below(row: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in row.items() if name.startswith(prefix)}


def _nested(name: str, before: Any, after: Any) -> list[Difference]:
    """Member by member, named with dots, where both have members."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        below = [(f"{name}.{inner}" if name else inner, inner) for inner in sorted({*before, *after})]
        return [each for path, inner in below for each in _nested(path, before.get(inner), after.get(inner))]
    return [] if before == after else [Difference("environment", name, _summary(before), _summary(after))]


def _summary(value: Any) -> Any:
    """What one has of which the other has nothing: of a Python its version, not all of its packages."""
    return value.get("version", "…") if isinstance(value, Mapping) else value


def _differing(what: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Difference]:
    return [
        Difference(what, name, before.get(name), after.get(name))
        for name in sorted({*before, *after})
        if (name in before, before.get(name)) != (name in after, after.get(name))
        or type(before.get(name)) is not type(after.get(name))
    ]


async def _files(
    repositories: Repositories, what: str, before: StoredTree | None, after: StoredTree | None
) -> list[Difference]:
    """The files in which two trees differ: by content, in hex. A renamed one counts as two."""
    if before is None or after is None:
        trees = [None if tree is None else tree.tree.hex() for tree in (before, after)]
        return [] if before == after else [Difference(what, "", *trees)]
    if before.tree == after.tree:
        return []
    found: list[Difference] = []
    changes = changes_between(
        await repositories.tree(before.commit),
        await repositories.tree(after.commit),
        read_ahead_pages=repositories.limits.listing_read_ahead_pages,
    )
    async with aclosing(changes):
        async for change in changes:
            for path in sorted({fact.path for fact in (change.old, change.new) if fact is not None}):
                old, new = (
                    None if each is None or each.path != path else _content(each) for each in (change.old, change.new)
                )
                found.append(Difference(what, path.decode(errors="backslashreplace"), old, new))
            if len(found) >= MAX_FILES:
                break
    return found


def _content(fact: Fact) -> str:
    return "directory" if fact.kind is Kind.DIRECTORY else fact.content.hex()
