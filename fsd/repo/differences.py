"""What differs between two trees, path by path, in time proportional to the difference.

A page that is in both trees holds the same entries in the same places, so it is left out on both sides, unread. What is
left is read and merged by key. Trees that were built by the same cuts share all pages but those around a change.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

from fsd.format.model import Entry, Kind
from fsd.repo.tree import PageRef, Tree
from fsd.tasks import gather


class Difference(NamedTuple):
    """A path that is not the same in both trees. One of the two may be None, not both."""

    old: Entry | None
    new: Entry | None

    @property
    def entry(self) -> Entry:
        """The new entry, or the old one if there is none: for the path."""
        entry = self.new or self.old
        assert entry is not None
        return entry

    @property
    def key(self) -> bytes:
        """Its place in the order of trees."""
        return self.entry.key


def is_same(one: Entry | None, other: Entry | None) -> bool:
    """Whether both are the same to a reader of the path they share: where chunks lie, and how they are cut, is not."""
    if one is None or other is None:
        return one is other
    return _facts(one) == _facts(other)


def _facts(entry: Entry) -> tuple[Kind, bool, int, bytes]:
    return entry.kind, entry.executable, entry.size, entry.content


async def differences(old: Tree | None, new: Tree | None, *, read_ahead_pages: int) -> AsyncIterator[Difference]:
    """All differences in the order of trees; None is the empty tree. Reads `read_ahead_pages` of each at once.

    May be left at any point, with nothing to close. Raises CorruptDataError, and what a store raises.
    """
    old_refs, new_refs = await _pages_of(old), await _pages_of(new)
    shared = {ref.child.id for ref in old_refs} & {ref.child.id for ref in new_refs}
    before = _Entries(old, [ref for ref in old_refs if ref.child.id not in shared], read_ahead_pages)
    after = _Entries(new, [ref for ref in new_refs if ref.child.id not in shared], read_ahead_pages)
    left, right = await before.next(), await after.next()
    while left is not None or right is not None:
        if right is None or (left is not None and left[0] < right[0]):
            assert left is not None
            yield Difference(left[1], None)
            left = await before.next()
        elif left is None or right[0] < left[0]:
            yield Difference(None, right[1])
            right = await after.next()
        else:
            if not is_same(left[1], right[1]):
                yield Difference(left[1], right[1])
            left, right = await before.next(), await after.next()


async def _pages_of(tree: Tree | None) -> list[PageRef]:
    refs: list[PageRef] = []
    if tree is not None:
        walk = tree.walk_index()
        while batch := await walk.next_pages():
            refs += batch
    return refs


class _Entries:
    """The entries of some pages, one after the other, each with its key."""

    def __init__(self, tree: Tree | None, refs: Sequence[PageRef], read_ahead_pages: int) -> None:
        self._tree = tree
        self._refs = refs
        self._read_ahead_pages = read_ahead_pages
        self._at = 0
        self._entries: list[Entry] = []

    async def next(self) -> tuple[bytes, Entry] | None:
        """The next, None after the last."""
        while not self._entries:
            refs = self._refs[self._at : self._at + self._read_ahead_pages]
            if self._tree is None or not refs:
                return None
            self._at += len(refs)
            pages = await gather(self._tree.page, refs, tasks=len(refs))
            self._entries = [entry for page in pages for entry in page.entries(0)]
            self._entries.reverse()
        entry = self._entries.pop()
        return entry.key, entry
