"""Which entries of a stored tree a rule selects: one pass, or two where a rule must know all files first."""

from __future__ import annotations

from array import array
from collections.abc import AsyncIterator, Iterator, Sequence
from heapq import nsmallest

from fsd.format.model import Entry, Kind
from fsd.format.page import Page
from fsd.repo.rules import Matcher, Rule
from fsd.repo.tree import Tree

_ALL = (1 << 64) - 1


class Selection:
    """The entries of a tree that a rule selects, in key order."""

    def __init__(self, tree: Tree, rule: Rule) -> None:
        self._tree = tree
        self._rule = rule
        self._matcher = Matcher(rule)
        self.matched = 0
        """Files seen so far that the rule selects by more than its `keep`."""

    async def batches(self) -> AsyncIterator[Sequence[Entry]]:
        """The entries, page by page. To be gone through once."""
        bounds = None if self._rule.per_entry else await self._bounds()
        async for listed in self._tree.list_below():
            yield [listed.page.entry(position) for position in self._selected(listed.page, bounds)]

    def _selected(self, page: Page, bounds: Bounds | None) -> Iterator[int]:
        for directory, position in _positions(page):
            if page.kind(position) == Kind.DIRECTORY:
                yield position
                continue
            name = page.name(position)
            found = self._matcher.candidate_hash(directory, name)
            if self._matcher.kept(directory, name):
                self.matched += found is not None
                yield position
            elif found is not None and (bounds is None or bounds.admits(directory, found)):
                self.matched += 1
                yield position

    async def _bounds(self) -> Bounds:
        bounds = Bounds(self._rule.per_dir, self._rule.limit)
        async for listed in self._tree.list_below():
            page = listed.page
            for directory, position in _positions(page):
                if page.kind(position) != Kind.DIRECTORY:
                    name = page.name(position)
                    found = self._matcher.candidate_hash(directory, name)
                    if found is not None and not self._matcher.kept(directory, name):
                        bounds.add(directory, found)
        bounds.finish()
        return bounds


def _positions(page: Page) -> Iterator[tuple[bytes, int]]:
    for directory in page.directories:
        for position in range(*page.directory_range(directory)):
            yield directory, position


class Bounds:
    """The greatest hash that is in, for each directory and for all. 8 bytes for each file and each directory.

    First `add` every file, those of a directory one after the other, and `finish`; then ask `admits` for the same files
    in the same order. Files of equal hash are in or out together, so that there can be more than the number asked for.
    """

    def __init__(self, per_dir: int | None, limit: int | None) -> None:
        self._per_dir = per_dir
        self._limit = limit
        self._directory: bytes | None = None
        self._hashes = array("Q")
        """Of the present directory."""
        self._left = array("Q")
        """Of all files that `per_dir` left, if they are to be limited."""
        self._directory_bounds = array("Q")
        self._bound = _ALL
        self._number = -1
        """Of the directory that is being asked about."""

    def add(self, directory: bytes, found: int) -> None:
        """A candidate."""
        if directory != self._directory:
            self._end_directory()
            self._directory = directory
        self._hashes.append(found)

    def finish(self) -> None:
        """There are no more."""
        self._end_directory()
        self._directory = None
        if self._limit is not None:
            self._bound = _nth_least(self._left, self._limit)
            self._left = array("Q")

    def admits(self, directory: bytes, found: int) -> bool:
        """Whether a candidate is in."""
        if directory != self._directory:
            self._directory = directory
            self._number += 1
        return found <= self._bound and found <= self._directory_bounds[self._number]

    def _end_directory(self) -> None:
        if self._directory is None:
            return
        bound = _ALL if self._per_dir is None else _nth_least(self._hashes, self._per_dir)
        self._directory_bounds.append(bound)
        if self._limit is not None:
            self._left.extend(found for found in self._hashes if found <= bound)
        self._hashes = array("Q")


def _nth_least(hashes: Sequence[int], number: int) -> int:
    return _ALL if len(hashes) <= number else nsmallest(number, hashes)[-1]
