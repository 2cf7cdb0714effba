"""Trees: all paths of a commit, found and listed without reading more pages than it takes.

Entries are numbered through in key order: an entry's *ordinal*, never changing, is a listing's cookie and a compact
way to remember an entry. A directory exists if it has an entry in its parent (the top always does), so that an empty
listing does not mean that there is no such directory.

`TreeView` is what all trees can do, the filtered ones too; `Tree` is one that is stored.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from enum import Enum
from typing import NamedTuple, Protocol, TypeVar

import trio

from fsd.errors import CorruptDataError
from fsd.format.index import Index, IndexChild, Totals
from fsd.format.model import directory_key, entry_key
from fsd.format.outline import Outline
from fsd.format.page import Page
from fsd.tasks import gather


class Pending(Enum):
    """The answer of `find_nowait` when it would have to load something."""

    PENDING = "pending"


PENDING = Pending.PENDING

Shape = TypeVar("Shape", bound=Outline)

_FIRST_READ_AHEAD_PAGES = 2
"""What a listing loads at once to begin with. It goes on with as many as it has passed already, up to a bound."""


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

        Pages are loaded in parallel, the more of them the longer the listing has been. May be left at any point, with
        nothing to close.
        """

    def list_below(self, directory: bytes = b"", start: int = 0) -> AsyncIterator[Listed]:
        """The same for everything below a directory, in key order."""

    async def locate(self, ordinal: int) -> Found:
        """The entry with a number. Raises IndexError where there is none."""


class _Span(NamedTuple):
    """A run of keys: those of a directory's own entries, or of all below it."""

    low: bytes
    high: bytes | None
    """None: to the end."""
    directory: bytes
    below: bool

    def positions(self, page: Page) -> range:
        """Which of a page's entries are in it."""
        if not self.below:
            return range(*page.directory_range(self.directory))
        if not self.directory:
            return range(len(page))
        inside = self.directory + b"/"
        wanted = [path for path in page.directories if path == self.directory or path.startswith(inside)]
        if not wanted:
            return range(0)
        return range(page.directory_range(wanted[0])[0], page.directory_range(wanted[-1])[1])


def _own_span(directory: bytes) -> _Span:
    key = directory_key(directory)
    return _Span(key + b"\0\0", key + b"\0\1", directory, below=False)


def _below_span(directory: bytes) -> _Span:
    key = directory_key(directory)
    return _Span(key + b"\0", key + b"\1", directory, below=True) if directory else _Span(b"", None, b"", below=True)


class PageRef(NamedTuple):
    """A page's place in a tree."""

    child: IndexChild
    first: int
    """The ordinal of its first entry."""


class TreeObjects(Protocol):
    """What a tree needs of `fsd.repo.objects.Objects`."""

    def page_nowait(self, page: bytes) -> Page | None:
        """The page, if it is in memory."""

    def index_nowait(self, index: bytes) -> Index | None:
        """The index, if it is in memory."""

    async def page(self, page: bytes) -> Page:
        """A page."""

    async def outline(self, page: bytes) -> Outline:
        """A page's outline."""

    async def index(self, index: bytes) -> Index:
        """An index that is not a root."""


class Tree:
    """A stored tree. Holds its root; pages and deeper indexes come from `objects`."""

    def __init__(self, tree_id: bytes, root: Index, objects: TreeObjects, read_ahead_pages: int) -> None:
        """`root` is what a commit holds, `read_ahead_pages` the most that a listing loads at once."""
        self._id = tree_id
        self._root = root
        self._objects = objects
        self._read_ahead_pages = read_ahead_pages

    @property
    def id(self) -> bytes:
        """The hash of the root."""
        return self._id

    @property
    def root(self) -> Index:
        """The index that its commit holds."""
        return self._root

    @property
    def totals(self) -> Totals:
        """What is in it."""
        return self._root.totals

    def find_nowait(self, directory: bytes, name: bytes) -> Found | Pending | None:
        """See `TreeView`."""
        key = entry_key(directory, name)
        index, first = self._root, 0
        while True:
            at = index.find(key)
            if at < 0:
                return None
            first += index.starts[at]
            if index.level == 0:
                page = self.page_nowait(PageRef(index.children[at], first))
                return PENDING if page is None else _found(page, first, directory, name)
            deeper = self._objects.index_nowait(index.children[at].id)
            if deeper is None:
                return PENDING
            index = deeper

    async def find(self, directory: bytes, name: bytes) -> Found | None:
        """See `TreeView`."""
        key = entry_key(directory, name)
        index, first = self._root, 0
        while (at := index.find(key)) >= 0:
            first += index.starts[at]
            if index.level == 0:
                return _found(await self.page(PageRef(index.children[at], first)), first, directory, name)
            index = await self.deeper(index, at)
        return None

    def list(self, directory: bytes, start: int = 0) -> Listing:
        """See `TreeView`."""
        return Listing(self, _own_span(directory), start, self._read_ahead_pages)

    def list_below(self, directory: bytes = b"", start: int = 0) -> Listing:
        """See `TreeView`."""
        return Listing(self, _below_span(directory), start, self._read_ahead_pages)

    async def locate(self, ordinal: int) -> Found:
        """See `TreeView`."""
        if not 0 <= ordinal < self._root.totals.entries:
            raise IndexError(f"entry {ordinal} of {self._root.totals.entries}")
        index, first = self._root, 0
        while True:
            at = index.locate(ordinal - first)
            first += index.starts[at]
            if index.level == 0:
                return Found(await self.page(PageRef(index.children[at], first)), ordinal - first, ordinal)
            index = await self.deeper(index, at)

    async def page(self, ref: PageRef) -> Page:
        """A page of this tree."""
        page = self._objects.page_nowait(ref.child.id)
        return self._checked(await self._objects.page(ref.child.id) if page is None else page, ref.child)

    async def outline(self, ref: PageRef) -> Outline:
        """The outline of a page of this tree."""
        return self._checked(await self._objects.outline(ref.child.id), ref.child)

    def page_nowait(self, ref: PageRef) -> Page | None:
        """The page, if it is in memory."""
        page = self._objects.page_nowait(ref.child.id)
        return None if page is None else self._checked(page, ref.child)

    def walk_index(self, low: bytes = b"", high: bytes | None = None, start: int = 0) -> IndexWalk:
        """The places of the pages that may hold keys from `low` to before `high` and ordinals from `start`."""
        return IndexWalk(self._root, self.deeper, low, high, start)

    async def pages(self) -> Sequence[PageRef]:
        """The places of all pages."""
        refs: list[PageRef] = []
        walk = self.walk_index()
        while batch := await walk.next_pages():
            refs += batch
        return refs

    def _checked(self, page: Shape, child: IndexChild) -> Shape:
        """The hash says that the page is whole, this says that it is in its place: a tree is as good as its writer."""
        if len(page) != child.totals.entries or page.first_key != child.first_key:
            raise CorruptDataError(f"page {child.id.hex()} is not what the index of tree {self._id.hex()} says")
        return page

    async def deeper(self, index: Index, at: int) -> Index:
        """The index below the child at a position of one of this tree's indexes."""
        child = index.children[at]
        deeper = await self._objects.index(child.id)
        if (
            deeper.level != index.level - 1
            or not deeper.children
            or deeper.totals != child.totals
            or deeper.children[0].first_key != child.first_key
        ):
            raise CorruptDataError(f"index {child.id.hex()} is not what the one above it in tree {self._id.hex()} says")
        return deeper


def _found(page: Page, first: int, directory: bytes, name: bytes) -> Found | None:
    position = page.find(directory, name)
    return None if position is None else Found(page, position, first + position)


class IndexWalk:
    """Goes along the lowest level of a tree's indexes, from left to right."""

    def __init__(
        self,
        root: Index,
        deeper: Callable[[Index, int], Awaitable[Index]],
        low: bytes,
        high: bytes | None,
        start: int,
    ) -> None:
        self._deeper = deeper
        self._low = low
        self._high = high
        self._start = start
        self._stack: list[tuple[Index, int, int]] = []
        """Indexes from the top down, with the next child's position and the ordinal of the index's first entry."""
        self._push(root, 0)

    def _push(self, index: Index, first: int) -> None:
        at = max(0, index.find(self._low))
        if self._start > first:
            at = max(at, index.locate(self._start - first))
        self._stack.append((index, at, first))

    async def next_pages(self) -> list[PageRef]:
        """The next pages, those of one index; [] after the last."""
        while self._stack:
            index, at, first = self._stack.pop()
            end = len(index.children) if self._high is None else index.find(self._high) + 1
            if at >= end:
                continue
            if index.level == 0:
                return [PageRef(index.children[number], first + index.starts[number]) for number in range(at, end)]
            self._stack.append((index, at + 1, first))
            self._push(await self._deeper(index, at), first + index.starts[at])
        return []


class Listing:
    """An async iterator over a run of a tree's entries. May be left at any point, with nothing to close."""

    def __init__(self, tree: Tree, span: _Span, start: int, read_ahead_pages: int) -> None:
        self._tree = tree
        self._span = span
        self._start = start
        self._walk = tree.walk_index(span.low, span.high, start)
        self._refs: deque[PageRef] = deque()
        self._pages: deque[tuple[PageRef, Page]] = deque()
        # A listing that is being continued will be continued: only a new one may be of no more than a glance.
        self._read_ahead = read_ahead_pages if start else min(_FIRST_READ_AHEAD_PAGES, read_ahead_pages)
        self._most_read_ahead = read_ahead_pages

    def __aiter__(self) -> Listing:
        return self

    async def __anext__(self) -> Listed:
        while True:
            # Pages in memory follow each other at a page a millisecond, or faster: let the other tasks in between.
            await trio.lowlevel.checkpoint()
            if not self._pages:
                await self._load()
            ref, page = self._pages.popleft()
            positions = self._span.positions(page)
            positions = range(max(positions.start, self._start - ref.first), positions.stop)
            if positions:
                return Listed(page, positions, ref.first)

    async def _load(self) -> None:
        """At least one page; more of them where the next one is not in memory and must be waited for anyway."""
        if not self._refs:
            self._refs.extend(await self._walk.next_pages())
        if not self._refs:
            raise StopAsyncIteration
        page = self._tree.page_nowait(self._refs[0])
        if page is not None:
            self._pages.append((self._refs.popleft(), page))
            return
        refs = [self._refs.popleft() for _ in range(min(self._read_ahead, len(self._refs)))]
        self._pages.extend(zip(refs, await gather(self._tree.page, refs, tasks=len(refs)), strict=True))
        self._read_ahead = min(2 * self._read_ahead, self._most_read_ahead)
