"""Trees: all paths of a commit, found and listed without reading more pages than it takes.

Entries are numbered through in key order: an entry's *ordinal*, never changing, is a listing's cookie and a compact
way to remember an entry. A directory exists if it has an entry in its parent (the top always does), so that an empty
listing does not mean that there is no such directory.

`TreeView` is what all trees can do, the filtered ones too; `Tree` is one that is stored.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from enum import Enum
from typing import NamedTuple, Protocol

from fsd.format.index import Index, Totals
from fsd.format.page import Page
from fsd.repo.objects import Objects


class Pending(Enum):
    """The answer of `find_nowait` when it would have to load something."""

    PENDING = "pending"


PENDING = Pending.PENDING


class Found(NamedTuple):
    """An entry: ask the page about what is at the position."""

    page: Page
    position: int
    ordinal: int
    """The entry's number in the tree."""


class Listed(NamedTuple):
    """Some entries of a page, in order."""

    page: Page
    positions: Sequence[int]
    """Ascending; never empty."""
    first: int
    """The ordinal of the page's position 0: the entry at a position has ordinal `first + position`."""


class TreeView(Protocol):
    """What can be asked of a tree. Raises CorruptDataError for a bad page, and what a store raises."""

    @property
    def id(self) -> bytes:
        """32 bytes that name this tree's content: equal for equal trees."""

    @property
    def totals(self) -> Totals | None:
        """What is in it; None where only reading all of it would tell."""

    def find_nowait(self, directory: bytes, name: bytes) -> Found | Pending | None:
        """The entry; None if there certainly is none; PENDING if pages must be loaded to know. Never blocks."""

    async def find(self, directory: bytes, name: bytes) -> Found | None:
        """The entry, or None. At most one page is loaded (and one index for each level above the first)."""

    def list(self, directory: bytes, start: int = 0) -> AsyncIterator[Listed]:
        """The entries of a directory with ordinals from `start`, page by page, in the order of their names.

        Pages are loaded in parallel, the more of them the longer the listing has been. Close it (`aclosing`).
        """

    def list_below(self, directory: bytes = b"", start: int = 0) -> AsyncIterator[Listed]:
        """The same for everything below a directory, in key order."""

    async def locate(self, ordinal: int) -> Found:
        """The entry with a number. Raises IndexError where there is none."""


class Tree:
    """A stored tree."""

    def __init__(self, tree_id: bytes, root: Index, objects: Objects, read_ahead_pages: int) -> None:
        """`root` is what a commit holds, `read_ahead_pages` the most that a listing loads at once."""
