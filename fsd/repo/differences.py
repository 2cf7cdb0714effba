"""What differs between two trees, path by path, in time proportional to the difference.

A page or an index that is in both trees holds the same entries in the same places, so it is left out on both sides,
unread. What is left is read and merged by key. Trees that were built by the same cuts share all pages but those around
a change. Within the pages that are read, runs of equal entries are passed over by comparing columns of bytes.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from functools import partial
from typing import Generic, NamedTuple

import trio

from fsd.format.index import Index, IndexChild
from fsd.format.model import Entry, Kind, directory_key
from fsd.format.outline import Outline
from fsd.repo.filtered import FilteredTree
from fsd.repo.tree import PageRef, Shape, Tree
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


Part = Tree | FilteredTree
"""A tree, stored or filtered while it is read."""


def is_same(one: Entry | None, other: Entry | None) -> bool:
    """Whether both are the same to a reader of the path they share: where chunks lie, and how they are cut, is not."""
    if one is None or other is None:
        return one is other
    return _facts(one) == _facts(other)


def _facts(entry: Entry) -> tuple[Kind, bool, int, bytes]:
    return entry.kind, entry.executable, entry.size, entry.content


class Fact(NamedTuple):
    """What a version has at a path, without its chunks."""

    path: bytes
    kind: Kind
    executable: bool
    size: int
    content: bytes


async def differences(
    old: Part | None, new: Part | None, *, read_ahead_pages: int, below: bytes = b""
) -> AsyncGenerator[Difference]:
    """All differences below a directory in the order of trees; None is the empty tree.

    Reads `read_ahead_pages` of each at once. Of two trees that are filtered by different rules all pages are read: an
    entry that is the same may be in one of them only. To be closed by who leaves it early. Raises CorruptDataError, and
    what a store raises.
    """
    async with aclosing(_pairs(old, new, Tree.page, below, read_ahead_pages)) as pairs:
        async for one, other in pairs:
            yield Difference(
                None if one is None else one.page.entry(one.position),
                None if other is None else other.page.entry(other.position),
            )


async def differing_facts(
    old: Part | None, new: Part | None, *, read_ahead_pages: int, below: bytes = b""
) -> AsyncGenerator[tuple[Fact | None, Fact | None]]:
    """The same without chunks, in a third of the time."""
    async with aclosing(_pairs(old, new, Tree.outline, below, read_ahead_pages)) as pairs:
        async for one, other in pairs:
            yield fact_at(one), fact_at(other)


class _Spot(NamedTuple, Generic[Shape]):
    """An entry of a page."""

    page: Shape
    position: int


def fact_at(spot: tuple[Outline, int] | None) -> Fact | None:
    """What stands at a position of a page."""
    if spot is None:
        return None
    page, at = spot
    return Fact(page.path(at), Kind(page.kind(at)), page.executable(at), page.size(at), page.content(at))


Load = Callable[[Tree, PageRef], Awaitable[Shape]]
"""How pages are read: whole, or their outlines."""


async def _pairs(
    old: Part | None, new: Part | None, load: Load[Shape], below: bytes, read_ahead_pages: int
) -> AsyncGenerator[tuple[_Spot[Shape] | None, _Spot[Shape] | None]]:
    """Where the two differ, on both sides."""
    is_alike = (old.rule if isinstance(old, FilteredTree) else None) == (
        new.rule if isinstance(new, FilteredTree) else None
    )
    old_pages, new_pages = await _unshared(_tree(old), _tree(new), below, may_share=is_alike, tasks=read_ahead_pages)
    before = _Side(old, load, old_pages, below, read_ahead_pages)
    after = _Side(new, load, new_pages, below, read_ahead_pages)
    while True:
        has_old, has_new = await before.load(), await after.load()
        if not (has_old or has_new):
            return
        if has_old and has_new and before.directory == after.directory:
            if is_alike and before.skip(after):
                continue
            order = _compare(before.name, after.name)
        elif has_old and has_new:
            order = _compare(before.key, after.key)
        else:
            order = -1 if has_old else 1
        one = before.take() if order <= 0 else None
        other = after.take() if order >= 0 else None
        if one is None or other is None or _seen(one) != _seen(other):
            yield one, other


def _seen(spot: tuple[Outline, int]) -> tuple[int, bool, int, bytes]:
    page, at = spot
    return page.kind(at), page.executable(at), page.size(at), page.content(at)


def _tree(part: Part | None) -> Tree | None:
    return part.tree if isinstance(part, FilteredTree) else part


def _compare(one: bytes, other: bytes) -> int:
    return (one > other) - (one < other)


# --- which pages


class _Node(NamedTuple):
    """A page or an index: a child of an index."""

    parent: Index
    at: int

    @property
    def child(self) -> IndexChild:
        return self.parent.children[self.at]


class _Frontier:
    """The nodes of one level of a tree that are still to be looked at, from left to right."""

    def __init__(self, tree: Tree | None, low: bytes, high: bytes | None) -> None:
        self._tree = tree
        self._low = low
        self._high = high
        self.level = 0 if tree is None else tree.root.level
        """0: they are pages."""
        self.nodes = [] if tree is None else self._children(tree.root)

    def _children(self, index: Index) -> list[_Node]:
        end = len(index.children) if self._high is None else index.find(self._high) + 1
        return [_Node(index, at) for at in range(max(0, index.find(self._low)), end)]

    async def descend(self, tasks: int) -> None:
        """Go down by one level."""
        tree = self._tree
        assert tree is not None
        found = await gather(lambda node: tree.deeper(node.parent, node.at), self.nodes, tasks=tasks)
        self.nodes = [node for index in found for node in self._children(index)]
        self.level -= 1

    def drop(self, ids: set[bytes]) -> None:
        self.nodes = [node for node in self.nodes if node.child.id not in ids]

    @property
    def ids(self) -> set[bytes]:
        return {node.child.id for node in self.nodes}


async def _unshared(
    old: Tree | None, new: Tree | None, below: bytes, *, may_share: bool, tasks: int
) -> tuple[list[PageRef], list[PageRef]]:
    """The pages of each tree that may hold what is below a directory and are not in the other as well."""
    low = directory_key(below) + b"\0" if below else b""
    high = directory_key(below) + b"\1" if below else None
    one, other = _Frontier(old, low, high), _Frontier(new, low, high)
    while True:
        if may_share and one.level == other.level:
            shared = one.ids & other.ids
            one.drop(shared)
            other.drop(shared)
        deepest = max(one.level, other.level)
        if deepest == 0:
            return [PageRef(node.child, 0) for node in one.nodes], [PageRef(node.child, 0) for node in other.nodes]
        for frontier in (one, other):
            if frontier.level == deepest:
                await frontier.descend(tasks)


# --- what is in them


class _Run(NamedTuple, Generic[Shape]):
    """Entries of one directory in one page."""

    page: Shape
    directory: bytes
    start: int
    end: int


class _Side(Generic[Shape]):
    """One of the two trees: a place in the entries of its pages."""

    def __init__(
        self, part: Part | None, load: Load[Shape], pages: Sequence[PageRef], below: bytes, read_ahead_pages: int
    ) -> None:
        self._tree = _tree(part)
        self._load = load
        self._filter = part if isinstance(part, FilteredTree) else None
        self._pages = pages
        self._below = below
        self._read_ahead_pages = read_ahead_pages
        self._next_page = 0
        self._runs: list[_Run[Shape]] = []
        """Those loaded, the next one last."""
        self._page: Shape | None = None
        self._position = 0
        self._end = 0
        self.directory = b""

    async def load(self) -> bool:
        """Stand at the next entry; False if there is none."""
        while True:
            if self._position == self._end and not await self._next_run():
                return False
            if self._filter is None or self._filter.selects(self.page, self._position):
                return True
            self._position += 1

    async def _next_run(self) -> bool:
        while not self._runs:
            refs = self._pages[self._next_page : self._next_page + self._read_ahead_pages]
            if self._tree is None or not refs:
                return False
            self._next_page += len(refs)
            pages = await gather(partial(self._load, self._tree), refs, tasks=len(refs))
            self._runs = [run for page in reversed(pages) for run in reversed(self._runs_of(page))]
        self._page, self.directory, self._position, self._end = self._runs.pop()
        if self._position == 0:
            # A page takes a millisecond: let the other tasks in between.
            await trio.lowlevel.checkpoint()
        return True

    def _runs_of(self, page: Shape) -> list[_Run[Shape]]:
        inside = self._below + b"/"
        return [
            _Run(page, directory, *page.directory_range(directory))
            for directory in page.directories
            if not self._below or directory == self._below or directory.startswith(inside)
        ]

    @property
    def page(self) -> Shape:
        assert self._page is not None
        return self._page

    @property
    def name(self) -> bytes:
        return self.page.name(self._position)

    @property
    def key(self) -> bytes:
        return directory_key(self.directory)

    def take(self) -> _Spot[Shape]:
        """The entry, which is passed."""
        self._position += 1
        return _Spot(self.page, self._position - 1)

    def skip(self, other: _Side[Shape]) -> bool:
        """Pass over equal entries of both, which are in the same directory. False if the next two differ."""
        count = _common(self.page, self._position, self._end, other.page, other._position, other._end)
        self._position += count
        other._position += count
        return count > 0


def _common(one: Outline, start: int, end: int, other: Outline, other_start: int, other_end: int) -> int:
    """How many entries from both starts on are equal: at once where the first differs, and by doubling steps."""
    most = min(end - start, other_end - other_start)
    known, step = 0, 1
    while known < most:
        length = min(step, most - known)
        at, other_at = start + known, other_start + known
        if one.columns(at, at + length) == other.columns(other_at, other_at + length):
            known, step = known + length, 2 * step
        else:
            most = known + length - 1
            step = max(1, (most - known) // 2)
    return known
