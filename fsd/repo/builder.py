"""Building trees: from changes in key order to pages and a root, the same bytes whoever builds it, from whatever base.

Signature only so far."""

from __future__ import annotations

from collections.abc import AsyncIterable, Sequence
from typing import NamedTuple

from fsd.format.index import Totals
from fsd.format.model import Entry, entry_key
from fsd.repo.objects import ObjectWriter
from fsd.repo.tree import Tree


class Removal(NamedTuple):
    """A path that the new tree does not have."""

    directory: bytes
    name: bytes

    @property
    def key(self) -> bytes:
        """Its place in the tree's order."""
        return entry_key(self.directory, self.name)


Change = Entry | Removal
"""An entry is added, or replaces the one of the same path."""


class Built(NamedTuple):
    """A tree whose pages are durable. Its root is part of the commit that is written next."""

    root: bytes
    """The logical part of the root index."""
    id: bytes
    totals: Totals
    pages: int
    """In the tree."""
    pages_written: int
    """The others are the base's, unread and unwritten."""


async def build_tree(
    writer: ObjectWriter,
    changes: AsyncIterable[Sequence[Change]],
    *,
    base: Tree | None = None,
    tasks: int = 4,
) -> Built:
    """Apply `changes` to `base` (None: the empty tree).

    `changes` are batches (any size; some thousands are fast), strictly ascending by key over all of them, directories
    among them: a directory's entry precedes what is in it by its key. At most `tasks` pages are written at once, and
    memory is bounded by them. Raises ValueError for changes that are out of order, that remove what is not there or put
    an entry into what is no directory, or that leave entries behind in a directory they remove.
    """
    raise NotImplementedError
