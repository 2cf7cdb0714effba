"""A tree seen through a rule: entries are left out while it is read, and nothing is stored.

It numbers its entries as the tree below does, with gaps. What it leaves out is found to be missing as certainly as what
was never there.
"""

from __future__ import annotations

import json

from fsd.format.model import Kind
from fsd.format.outline import Outline
from fsd.ids import content_id
from fsd.repo.rules import Matcher, Rule
from fsd.repo.tree import PENDING, Found, Listed, Listing, Pending, Tree


class FilteredTree:
    """A `TreeView` of the entries of `tree` that `rule`, which is `per_entry`, selects."""

    def __init__(self, tree: Tree, rule: Rule) -> None:
        if not rule.per_entry:
            raise ValueError("a rule that must know all files cannot be applied while reading")
        self.tree = tree
        """What it is a part of."""
        self.rule = rule
        self._matcher = Matcher(rule)
        text = json.dumps(rule.to_json(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        self._id = content_id(tree.id + text.encode())

    @property
    def id(self) -> bytes:
        """The hash of the tree's id and the rule."""
        return self._id

    @property
    def totals(self) -> None:
        """Nobody knows without reading all of it."""
        return None

    def find_nowait(self, directory: bytes, name: bytes) -> Found | Pending | None:
        """See `TreeView`."""
        found = self.tree.find_nowait(directory, name)
        return found if found is None or found is PENDING else self._selected(found, directory, name)

    async def find(self, directory: bytes, name: bytes) -> Found | None:
        """See `TreeView`."""
        found = await self.tree.find(directory, name)
        return found and self._selected(found, directory, name)

    def list(self, directory: bytes, start: int = 0) -> FilteredListing:
        """See `TreeView`."""
        return FilteredListing(self.tree.list(directory, start), self._matcher)

    def list_below(self, directory: bytes = b"", start: int = 0) -> FilteredListing:
        """See `TreeView`."""
        return FilteredListing(self.tree.list_below(directory, start), self._matcher)

    async def locate(self, ordinal: int) -> Found:
        """See `TreeView`. The entry is not asked whether it is selected: its number came from a listing."""
        return await self.tree.locate(ordinal)

    def selects(self, page: Outline, position: int) -> bool:
        """Whether an entry of the tree is in this part of it."""
        return page.kind(position) == Kind.DIRECTORY or self._matcher.selects(
            page.directory(position), page.name(position)
        )

    def _selected(self, found: Found, directory: bytes, name: bytes) -> Found | None:
        if found.page.kind(found.position) == Kind.DIRECTORY or self._matcher.selects(directory, name):
            return found
        return None


class FilteredListing:
    """An async iterator over what of a listing is selected."""

    def __init__(self, listing: Listing, matcher: Matcher) -> None:
        self._listing = listing
        self._matcher = matcher

    def __aiter__(self) -> FilteredListing:
        return self

    async def __anext__(self) -> Listed:
        while True:
            page, positions, first = await anext(self._listing)
            selected = [
                position
                for position in positions
                if page.kind(position) == Kind.DIRECTORY
                or self._matcher.selects(page.directory(position), page.name(position))
            ]
            if selected:
                return Listed(page, selected, first)
