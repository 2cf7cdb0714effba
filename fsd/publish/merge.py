"""Merging trees, path by path: what two changes of one tree have in common, where they do not meet.

A path is changed by whoever added, replaced or removed it. Two changes meet where both changed the same path and left
it different, and where one put something below a directory that the other took away. What is inside a file is not
looked at. The merge costs what differs: pages that no change touches are neither read nor written.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing

from fsd.errors import ConflictError
from fsd.format.model import Kind
from fsd.repo.builder import Built, Change, Removal, build_tree
from fsd.repo.differences import Difference, differences, is_same
from fsd.repo.lookup import text_of_name
from fsd.repo.repository import Repositories
from fsd.repo.tree import Tree

SHOWN_PATHS = 10
"""Paths that a conflict names."""

_BATCH = 1000
"""Changes handed to the build at once."""


async def merge_trees(
    repositories: Repositories,
    base: Tree | None,
    ours: Tree,
    theirs: Tree,
    *,
    where: str,
    hint: str,
    moved: bytes | None = None,
) -> Built:
    """The tree `theirs` with the changes that lead from `base` to `ours`. Writes its pages.

    `moved` is a path whose contents ours has elsewhere: what theirs changed there would be lost, or come back.

    Raises ConflictError, which names the paths at which the changes meet, and with `where` what both changed; and what
    a store raises.
    """
    merge = _Merge(repositories.limits.listing_read_ahead_pages, where, hint, moved)
    return await build_tree(repositories.writer, merge.changes(base, ours, theirs), base=theirs)


class _Side:
    """One of the two changes, as far as it was seen."""

    def __init__(self, found: AsyncIterator[Difference]) -> None:
        self._found = found
        self.next: Difference | None = None
        self._gone: set[bytes] = set()
        """Directories of the base that it took away: in the order of keys, what is below them comes later."""

    async def step(self) -> None:
        """Go to the next difference."""
        passed = self.next
        if passed is not None and passed.old is not None and passed.old.kind is Kind.DIRECTORY:
            self._gone.add(passed.old.path)
        self.next = await anext(self._found, None)

    def took_away_above(self, directory: bytes) -> bool:
        """Whether `directory`, or one that it is in, is gone."""
        while self._gone and directory:
            if directory in self._gone:
                return True
            directory = directory.rpartition(b"/")[0]
        return False


class _Merge:
    """One merge: the changes to make to theirs, until the first place where the two meet; then a list of those places.

    So nobody is ever given changes that contradict each other: what has not been walked over cannot have been given.
    """

    def __init__(self, read_ahead_pages: int, where: str, hint: str, moved: bytes | None) -> None:
        self._read_ahead_pages = read_ahead_pages
        self._moved = moved
        self._where = where
        self._hint = hint
        self._shown: list[bytes] = []
        self._conflicts = 0

    async def changes(self, base: Tree | None, ours: Tree, theirs: Tree) -> AsyncGenerator[Sequence[Change]]:
        """In the order of trees. Raises ConflictError when all is walked over, if they meet anywhere."""
        batch: list[Change] = []
        async with aclosing(self._walk(base, ours, theirs)) as walk:
            async for change in walk:
                if self._conflicts:
                    continue
                batch.append(change)
                if len(batch) == _BATCH:
                    yield batch
                    batch = []
        if self._conflicts:
            raise self._error()
        yield batch

    async def _walk(self, base: Tree | None, ours: Tree, theirs: Tree) -> AsyncGenerator[Change]:
        async with (
            aclosing(differences(base, ours, read_ahead_pages=self._read_ahead_pages)) as our_changes,
            aclosing(differences(base, theirs, read_ahead_pages=self._read_ahead_pages)) as their_changes,
            aclosing(self._join(_Side(our_changes), _Side(their_changes))) as joined,
        ):
            async for change in joined:
                yield change

    async def _join(self, our_side: _Side, their_side: _Side) -> AsyncGenerator[Change]:
        await our_side.step()
        await their_side.step()
        while our_side.next is not None or their_side.next is not None:
            mine, other = our_side.next, their_side.next
            if other is None or (mine is not None and mine.key < other.key):
                assert mine is not None
                self._check_alone(mine, their_side)
                yield _change(mine)
                await our_side.step()
            elif mine is None or other.key < mine.key:
                if not self._check_moved(other):
                    self._check_alone(other, our_side)
                await their_side.step()
            else:
                if not self._check_moved(other) and not is_same(mine.new, other.new):
                    self._conflict(mine)
                await our_side.step()
                await their_side.step()

    def _check_moved(self, theirs: Difference) -> bool:
        """Whether theirs changed something that ours moved elsewhere, which is a conflict."""
        if self._moved is None or not (theirs.entry.path + b"/").startswith(self._moved + b"/"):
            return False
        self._conflict(theirs)
        return True

    def _check_alone(self, difference: Difference, other: _Side) -> None:
        """Only one side changed that path: it conflicts if there is no directory for it on the other."""
        if difference.new is not None and other.took_away_above(difference.new.directory):
            self._conflict(difference)

    def _conflict(self, difference: Difference) -> None:
        self._conflicts += 1
        if len(self._shown) < SHOWN_PATHS:
            self._shown.append(difference.entry.path)

    def _error(self) -> ConflictError:
        named = ", ".join(text_of_name(path) for path in self._shown)
        more = f" and {self._conflicts - len(self._shown):,} more" if self._conflicts > len(self._shown) else ""
        return ConflictError(
            f"{self._where} was changed by somebody else at the same paths: {named}{more}", hint=self._hint
        )


def _change(difference: Difference) -> Change:
    if difference.new is not None:
        return difference.new
    return Removal(difference.entry.directory, difference.entry.name)
