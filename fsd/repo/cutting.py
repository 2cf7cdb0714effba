"""Where pages and indexes end. Pure: decides, and knows nothing of stores.

Both rules have no memory of what came before the page (or node) they are in: so a tree that is built from another one
finds back to the other's cuts, and the same entries make the same pages whoever builds them. Readers need none of this.

- A page ends with an entry whose key hashes to 0 modulo `page_entries`, and before an entry that would make its
  logical part longer than `page_bytes`.
- An index that would be longer than `index_bytes` is a level of its own: its children are divided among nodes, with a
  new level above. A node ends before a child whose first key hashes to 0 modulo `index_children`, unless the node is
  still shorter than `index_least_children` (which keeps a hostile choice of names from making nodes of one child each,
  without end), and before a child that would make it longer than `index_bytes`.

The hash is the first 4 bytes of the BLAKE3, as a little-endian number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from blake3 import blake3

from fsd.format.index import HEADER_BYTES as INDEX_HEADER_BYTES
from fsd.format.index import IndexChild, child_bytes
from fsd.format.limits import MAX_LOGICAL_BYTES
from fsd.format.model import Entry
from fsd.format.outline import HEADER_BYTES as PAGE_HEADER_BYTES
from fsd.format.page import directory_bytes, entry_bytes


@dataclass(frozen=True, slots=True)
class Cuts:
    """The rules' numbers. Others than the defaults are for tests: publishers that differ here share no pages."""

    page_entries: int = 1024
    page_bytes: int = MAX_LOGICAL_BYTES
    index_children: int = 256
    index_bytes: int = MAX_LOGICAL_BYTES
    index_least_children: int = 16


STANDARD_CUTS = Cuts()


def cut_hash(key: bytes) -> int:
    """32 bits that decide whether a cut is made at `key`."""
    return int.from_bytes(blake3(key).digest(4), "little")


class Added(Enum):
    """What became of an entry that was offered to a page."""

    OPEN = "it is on the page, and there may be more"
    LAST = "it is on the page, which ends with it"
    FULL = "it is not on the page, which ends before it"


class PageCutter:
    """Collects the entries of one page after the other."""

    def __init__(self, cuts: Cuts) -> None:
        self._cuts = cuts
        self._entries: list[Entry] = []
        self._bytes = PAGE_HEADER_BYTES
        self._directory: bytes | None = None

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: Entry, key: bytes) -> Added:
        """Put the next entry on the page, unless that is full. An empty page takes every entry."""
        cost = entry_bytes(entry)
        if entry.directory != self._directory:
            cost += directory_bytes(entry.directory)
        if self._bytes + cost > self._cuts.page_bytes and self._entries:
            return Added.FULL
        self._bytes += cost
        self._directory = entry.directory
        self._entries.append(entry)
        return Added.LAST if cut_hash(key) % self._cuts.page_entries == 0 else Added.OPEN

    def take(self) -> list[Entry]:
        """The page's entries. The next one goes on a new page."""
        entries, self._entries = self._entries, []
        self._bytes = PAGE_HEADER_BYTES
        self._directory = None
        return entries


def cut_index(children: Sequence[IndexChild], cuts: Cuts) -> list[list[IndexChild]]:
    """The nodes that the children of one level are divided into: one if they fit."""
    if INDEX_HEADER_BYTES + sum(map(child_bytes, children)) <= cuts.index_bytes:
        return [list(children)]
    nodes: list[list[IndexChild]] = []
    size = 0
    for child in children:
        size += child_bytes(child)
        if (
            not nodes
            or size > cuts.index_bytes
            or (len(nodes[-1]) >= cuts.index_least_children and cut_hash(child.first_key) % cuts.index_children == 0)
        ):
            nodes.append([])
            size = INDEX_HEADER_BYTES + child_bytes(child)
        nodes[-1].append(child)
    return nodes
