"""What changed from one version to another, as people want to read it: added, removed, changed, renamed.

On top of `fsd.repo.differences`, which costs what differs. A file that is gone from one path and appears at another
with the same content was renamed; that takes all changes at once, so of very many the renames are not looked for,
and they are handed on as they are found.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from fsd.format.model import Kind
from fsd.repo.differences import Fact, Part, differing_facts, fact_at
from fsd.repo.lookup import find_path

MAX_FOR_RENAMES = 200_000
"""Changes kept to look for renames: a hundred megabytes, and the first one is shown after a few seconds."""


class ChangeKind(StrEnum):
    """What happened to a path."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"
    """Its content, its kind, or whether it is executable."""
    RENAMED = "renamed"
    """The same content was at another path, which is gone."""


class Change(NamedTuple):
    """One line of a diff. `old` is None for what was added, `new` for what was removed."""

    kind: ChangeKind
    old: Fact | None
    new: Fact | None

    @property
    def path(self) -> bytes:
        """Where it is now, or was."""
        fact = self.new or self.old
        assert fact is not None
        return fact.path

    @property
    def size(self) -> int:
        """Bytes that it has there now, or had."""
        fact = self.new or self.old
        assert fact is not None
        return fact.size


@dataclass(slots=True)
class Sum:
    """Files (and symlinks) with a kind of change, and their bytes."""

    files: int = 0
    old_bytes: int = 0
    new_bytes: int = 0


@dataclass(slots=True)
class Summary:
    """What a diff comes to. Directories are not counted."""

    sums: dict[ChangeKind, Sum] = field(default_factory=lambda: {kind: Sum() for kind in ChangeKind})

    def add(self, change: Change) -> None:
        """Count a change."""
        facts = [fact for fact in (change.old, change.new) if fact is not None and fact.kind is not Kind.DIRECTORY]
        if not facts:
            return
        total = self.sums[change.kind]
        total.files += 1
        total.old_bytes += change.old.size if change.old is not None else 0
        total.new_bytes += change.new.size if change.new is not None else 0


async def changes_between(
    old: Part,
    new: Part,
    *,
    path: bytes = b"",
    where: str = "",
    read_ahead_pages: int,
    report: Callable[[Change], None] | None = None,
) -> AsyncGenerator[Change]:
    """The changes from `old` to `new` at and below `path`, in the order of trees by `Change.path`.

    `report` is told of each as it is found, while they are kept. Raises NotFoundError, with `where` for what `new` is
    called, if neither has the path. To be closed by whoever leaves it early.
    """
    kept: list[Change] = []
    async with aclosing(_from(old, new, path, where, read_ahead_pages)) as found:
        async for pair in found:
            kept.append(_change(pair))
            if report is not None:
                report(kept[-1])
            if len(kept) > MAX_FOR_RENAMES:
                break
        for change in kept if len(kept) > MAX_FOR_RENAMES else with_renames(kept):
            yield change
        async for pair in found:
            yield _change(pair)


Pair = tuple[Fact | None, Fact | None]


async def _from(old: Part, new: Part, path: bytes, where: str, read_ahead_pages: int) -> AsyncGenerator[Pair]:
    if path:
        directory, _, name = path.rpartition(b"/")
        before = await old.find(directory, name)
        if before is None:
            # It says what is missing where neither has it.
            await find_path(new, path, where)
        after = await new.find(directory, name)
        pair = fact_at(before and before[:2]), fact_at(after and after[:2])
        if pair[0] != pair[1]:
            yield pair
    async with aclosing(differing_facts(old, new, read_ahead_pages=read_ahead_pages, below=path)) as found:
        async for pair in found:
            yield pair


def _change(pair: Pair) -> Change:
    old, new = pair
    kind = ChangeKind.CHANGED
    if old is None:
        kind = ChangeKind.ADDED
    elif new is None:
        kind = ChangeKind.REMOVED
    return Change(kind, old, new)


def with_renames(changes: Sequence[Change]) -> Iterator[Change]:
    """The same changes, with each file that was removed and added elsewhere as one of them, where it was added.

    Where several have one content, those of the same name belong together, then each to the next. Empty files and
    directories are not told from each other by what is in them, so they are not renamed.
    """
    removed = [change.old for change in changes if change.new is None and change.old is not None and change.old.size]
    added = [change.new for change in changes if change.old is None and change.new is not None]
    sources: dict[bytes, Fact] = {}
    gone: set[bytes] = set()
    for key_of in (_named_identity, _identity):
        candidates: dict[object, deque[Fact]] = {}
        for fact in removed:
            if fact.path not in gone:
                candidates.setdefault(key_of(fact), deque()).append(fact)
        for fact in added:
            alike = candidates.get(key_of(fact))
            if alike and fact.path not in sources:
                sources[fact.path] = alike.popleft()
                gone.add(sources[fact.path].path)
    for change in changes:
        source = sources.get(change.path) if change.old is None else None
        if source is not None:
            yield Change(ChangeKind.RENAMED, source, change.new)
        elif change.new is not None or change.path not in gone:
            yield change


def _identity(fact: Fact) -> tuple[object, ...]:
    return fact.kind, fact.size, fact.content


def _named_identity(fact: Fact) -> tuple[object, ...]:
    return (*_identity(fact), fact.path.rpartition(b"/")[2])
