"""Trees of versions, opened when they are needed, and the inodes of what lies in them.

Owns the open trees (an LRU; one that was dropped is opened again by its commit and rule) and the inode table. A
directory knows its version, so it goes on working when the ref that led to it is gone.

In a view (`fsd.vfs.toplevel`) files too are keyed by their path. What such a file really is, and so by what its bytes
are found, stands beside the table: views are few, and so are their files that the kernel knows.

A row holds no path. That of a directory is in the page where it was last seen, in front of which there is a small LRU.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from itertools import compress
from typing import NamedTuple

import trio

from fsd.errors import CorruptDataError
from fsd.format.model import Entry, Kind
from fsd.format.outline import EXECUTABLE as EXECUTABLE_BIT
from fsd.format.page import Page
from fsd.ids import content_id
from fsd.limits import Limits
from fsd.repo.repository import Repositories
from fsd.repo.revisions import Resolved, ResolvedSubset, RevisionKind
from fsd.repo.rules import Rule
from fsd.repo.subsets import open_tree
from fsd.repo.tree import PENDING, Found, Listed, Pending, TreeView
from fsd.vfs.attributes import (
    DIRECTORY_MODE,
    EXECUTABLE_MODE,
    FILE_MODE,
    FILE_MTIME_NS,
    SYMLINK_MODE,
    WRITABLE,
    Attributes,
    StaleInodeError,
)
from fsd.vfs.inodes import DIRECTORY, EXECUTABLE, FILE, FLAVOUR_BITS, SYMLINK, InodeTable
from fsd.vfs.leafing import Leafing
from fsd.vfs.nodes import Version
from fsd.vfs.procession import Place

MODES = (FILE_MODE, EXECUTABLE_MODE, SYMLINK_MODE, DIRECTORY_MODE)
"""By flavour."""

_MODES_IN_VIEWS = (FILE_MODE | WRITABLE, EXECUTABLE_MODE | WRITABLE, SYMLINK_MODE, DIRECTORY_MODE | WRITABLE)
"""The overlay goes by them: its owner may write. The mount below it lets nobody."""

MAX_PATHS = 4096
"""Paths of directories remembered beside the pages."""

MAX_PLACES = 4096
"""Pages whose place in a tree is remembered: 1 MB."""

FOLLOWING_ENTRIES = 64
"""Of a tree handed out at once by `following`."""

MAX_LISTINGS = 16
"""Listings under way that are remembered; the others find their page again."""

_FLAVOURS: dict[int, int] = {
    Kind.FILE: FILE,
    Kind.FILE | EXECUTABLE_BIT: EXECUTABLE,
    Kind.SYMLINK: SYMLINK,
    Kind.DIRECTORY: DIRECTORY,
}
"""By kind, with the executable bit."""


class Directory(NamedTuple):
    """A directory of a version."""

    version: Version
    path: bytes
    """From the version's top, b'' for that itself."""


class Trees:
    """See the module. Raises CorruptDataError for bad objects, and what a store raises."""

    def __init__(self, repositories: Repositories, limits: Limits, nursery: trio.Nursery) -> None:
        """The nursery is for pages that are loaded ahead."""
        self._repositories = repositories
        self._limits = limits
        self._open: OrderedDict[tuple[bytes, Rule | None], TreeView] = OrderedDict()
        self._paths: OrderedDict[int, bytes] = OrderedDict()
        self._last_pages: tuple[Page | None, Page | None] = None, None
        """That somebody looked at; two, since readers meet at the end of a page."""
        self._places: OrderedDict[bytes, tuple[Version, int]] = OrderedDict()
        """By page, in which tree it was seen last, and the ordinal of its first entry there."""
        self._leafing = Leafing(self._pages_from, limits, nursery)
        self._listed: OrderedDict[int, Listed] = OrderedDict()
        """By directory, the part of a page that was listed last."""
        self.table = InodeTable()
        self._in_views: dict[int, bytes] = {}
        """The identity of a view's files, by number."""

    # --- trees

    def __iter__(self) -> Iterator[TreeView]:
        """Those that are open."""
        return iter(self._open.values())

    def __len__(self) -> int:
        return len(self._open)

    async def tree(self, version: Version) -> TreeView:
        """The tree of a version. One request if neither it nor its commit is in memory."""
        key = (version.tree_of, version.rule)
        tree = self._open.get(key)
        if tree is None:
            if version.rule is None:
                tree = await self._repositories.tree(version.tree_of)
            else:
                tree = await open_tree(self._repositories, _resolved(version, version.rule))
            self._open[key] = tree
            if len(self._open) > self._limits.open_trees:
                self._open.popitem(last=False)
        self._open.move_to_end(key)
        return tree

    # --- names

    def find_nowait(self, directory: Directory, name: bytes) -> Attributes | Pending | None:
        """As `find`; PENDING if it takes loading anything to tell."""
        key = (directory.version.tree_of, directory.version.rule)
        tree = self._open.get(key)
        if tree is not None:
            self._open.move_to_end(key)
        found = PENDING if tree is None else tree.find_nowait(directory.path, name)
        return self._looked_up(directory, name, found) if isinstance(found, Found) else found

    async def find(self, directory: Directory, name: bytes) -> Attributes | None:
        """The entry of that name, looked up once more; None if there certainly is none."""
        tree = await self.tree(directory.version)
        found = await tree.find(directory.path, name)
        return None if found is None else self._looked_up(directory, name, found)

    def _looked_up(self, directory: Directory, name: bytes, found: Found) -> Attributes:
        page, position = found.page, found.position
        self._keep_place(page, directory.version, found.ordinal - position)
        flavour = _flavour(page, position)
        size = page.size(position)
        tree_number = self.table.trees.hold(directory.version)
        page_number = self.table.pages.hold(page.id)
        try:
            if flavour == DIRECTORY:
                path = directory.path + b"/" + name if directory.path else name
                key, value = content_id(directory.version.digest + path), tree_number
            else:
                identity = key = page.identity(position)
                value = size
                if directory.version.view:
                    key = _key_in_view(directory, name, identity)
            ino = self.table.remember(key, flavour, value, page_number, position)
        finally:
            self.table.pages.drop(page_number)
            self.table.trees.drop(tree_number)
        if flavour == DIRECTORY:
            self._keep_path(ino, path)
        elif directory.version.view:
            self._in_views[ino] = identity
        forever = self._limits.immutable_timeout_s
        modes = _MODES_IN_VIEWS if directory.version.view else MODES
        return Attributes(ino, modes[flavour], size, FILE_MTIME_NS, forever, forever)

    async def list(self, ino: int, directory: Directory, start: int) -> Iterator[tuple[bytes, int, int, int, int, int]]:
        """Entries from number `start` on, as many as are in one page; each looked up once more when it is yielded.

        `ino` is the directory's: the kernel asks for a page in several pieces, and the page is kept for it.
        """
        listed = self._listed.get(ino)
        if listed is not None and start >= listed.first + listed.positions[0]:
            positions = listed.positions[bisect_left(listed.positions, start - listed.first) :]
            if positions:
                return self._entries(directory, listed._replace(positions=positions))
            if listed.page.directory_range(directory.path)[1] < len(listed.page):
                return iter(())  # the directory ends in this page
        tree = await self.tree(directory.version)
        listed = await anext(aiter(tree.list(directory.path, start)), None)
        if listed is None:
            return iter(())
        self._keep_place(listed.page, directory.version, listed.first)
        # Not for lookups: who goes down into a directory finds its name in a page far above.
        self._leafing.note(directory.version, listed.first, listed.first + len(listed.page))
        self._listed[ino] = listed
        self._listed.move_to_end(ino)
        if len(self._listed) > MAX_LISTINGS:
            self._listed.popitem(last=False)
        return self._entries(directory, listed)

    def _entries(self, directory: Directory, listed: Listed) -> Iterator[tuple[bytes, int, int, int, int, int]]:
        page, positions, following = listed.page, listed.positions, listed.first + 1
        rows = page.rows(positions[0], positions[-1] + 1)
        if not isinstance(positions, range):
            shown = set(positions)
            rows = compress(rows, map(shown.__contains__, range(positions[0], positions[-1] + 1)))
        table, digest, view = self.table, directory.version.digest, directory.version.view
        modes = _MODES_IN_VIEWS if view else MODES
        remember = table.remember
        inside = directory.path + b"/" if directory.path else b""
        tree_number = table.trees.hold(directory.version)
        page_number = table.pages.hold(page.id)
        try:
            for position, (name, kind, size, key) in zip(positions, rows, strict=False):
                flavour = _FLAVOURS[kind]
                value = size
                if flavour == DIRECTORY:
                    key, value = content_id(digest + inside + name), tree_number
                elif view:
                    identity, key = key, _key_in_view(directory, name, key)
                ino = remember(key, flavour, value, page_number, position)
                if view and flavour != DIRECTORY:
                    self._in_views[ino] = identity
                yield name, ino, modes[flavour], size, FILE_MTIME_NS, following + position
        finally:
            table.pages.drop(page_number)
            table.trees.drop(tree_number)

    # --- the order of files

    def place(self, ino: int) -> Place | None:
        """Where in a tree a file or symlink was last seen; None if that is not known any more."""
        seen = self.table.seen(ino)
        if seen is None:
            return None
        known = self._places.get(self.table.pages[seen.page])
        return None if known is None else Place(known[0], known[1] + seen.position)

    async def following(self, place: Place) -> AsyncGenerator[tuple[int, Sequence[Entry]], None]:
        """See `fsd.vfs.procession.Order`."""
        version = place.tree
        assert isinstance(version, Version)
        async for page, positions, first in await self._pages_from(version, place.ordinal):
            self._remember_place(page.id, version, first)
            for start in range(0, len(positions), FOLLOWING_ENTRIES):
                some = positions[start : start + FOLLOWING_ENTRIES]
                yield first + some[-1] + 1, [page.entry(position) for position in some]

    async def _pages_from(self, version: Version, start: int) -> AsyncIterator[Listed]:
        return (await self.tree(version)).list_below(b"", start)

    def _keep_place(self, page: Page, version: Version, first: int) -> None:
        """Somebody looks at a page, whose first entry has that ordinal in the version's tree."""
        if page in self._last_pages:
            return
        self._last_pages = page, self._last_pages[0]
        self._remember_place(page.id, version, first)

    def _remember_place(self, page: bytes, version: Version, first: int) -> None:
        self._places[page] = version, first
        self._places.move_to_end(page)
        while len(self._places) > MAX_PLACES:
            self._places.popitem(last=False)

    # --- inodes

    def getattr(self, ino: int) -> Attributes:
        """Raises StaleInodeError."""
        value = self.table.value(ino)
        if value is None:
            raise StaleInodeError(f"inode {ino} is not known")
        flavour = ino & FLAVOUR_BITS
        size = 0 if flavour == DIRECTORY else value
        forever = self._limits.immutable_timeout_s
        modes = _MODES_IN_VIEWS if self._is_in_view(ino, value) else MODES
        return Attributes(ino, modes[flavour], size, FILE_MTIME_NS, forever, forever)

    def _is_in_view(self, ino: int, value: int) -> bool:
        if ino & FLAVOUR_BITS != DIRECTORY:
            return ino in self._in_views
        version = self.table.trees[value]
        return isinstance(version, Version) and bool(version.view)

    def directory_nowait(self, ino: int) -> Directory | None:
        """The directory of an inode of that flavour, if its path is remembered."""
        row, path = self.table.content(ino), self._paths.get(ino)
        if row is None or path is None:
            return None
        version = self.table.trees[row[1]]
        assert isinstance(version, Version)
        return Directory(version, path)

    async def directory(self, ino: int) -> Directory:
        """The directory of an inode of that flavour. Raises StaleInodeError."""
        row = self.table.content(ino)
        if row is None:
            raise StaleInodeError(f"inode {ino} is not known")
        key, tree_number = row
        version = self.table.trees[tree_number]
        assert isinstance(version, Version)
        path = self._paths.get(ino)
        if path is None:
            page, position = await self._page(ino)
            path = page.path(position)
            if content_id(version.digest + path) != key:
                raise CorruptDataError(f"page {page.id.hex()} has another directory at {position} than it had")
            self._keep_path(ino, path)
        return Directory(version, path)

    def content(self, ino: int) -> tuple[bytes, int] | None:
        """By what the bytes of a file or symlink are found, and how many there are; None if it is not known."""
        row = self.table.content(ino)
        if row is None or not self._in_views:
            return row
        return self._in_views.get(ino, row[0]), row[1]

    async def entry(self, ino: int) -> Entry:
        """The entry of a file or symlink, from where it was last seen. Raises StaleInodeError."""
        page, position = await self._page(ino)
        if self.content(ino) != (page.identity(position), page.size(position)):
            raise CorruptDataError(f"page {page.id.hex()} does not have the file at {position} that other pages have")
        return page.entry(position)

    async def fresh_entry(self, ino: int) -> Entry:
        """The same with the placements that the store has now (`Objects.fresh_page`)."""
        seen = self.table.seen(ino)
        if seen is None:
            raise StaleInodeError(f"inode {ino} is not known")
        await self._repositories.objects.fresh_page(self.table.pages[seen.page])
        return await self.entry(ino)

    def forget(self, ino: int, count: int) -> bool:
        """Undo lookups; True if nobody knows the node any more."""
        if not self.table.forget(ino, count):
            return False
        # The number may come to mean something else.
        self._paths.pop(ino, None)
        self._listed.pop(ino, None)
        self._in_views.pop(ino, None)
        return True

    def seen(self, ino: int) -> tuple[Page, int] | None:
        """The page where a node was last seen and its position there; None if the page is not in memory."""
        seen = self.table.seen(ino)
        page = None if seen is None else self._repositories.objects.page_nowait(self.table.pages[seen.page])
        return None if seen is None or page is None else (page, seen.position)

    async def _page(self, ino: int) -> tuple[Page, int]:
        seen = self.table.seen(ino)
        if seen is None:
            raise StaleInodeError(f"inode {ino} is not known")
        page_id = self.table.pages[seen.page]
        page = self._repositories.objects.page_nowait(page_id)
        return page or await self._repositories.objects.page(page_id), seen.position

    def _keep_path(self, ino: int, path: bytes) -> None:
        self._paths[ino] = path
        self._paths.move_to_end(ino)
        if len(self._paths) > MAX_PATHS:
            self._paths.popitem(last=False)


def _key_in_view(directory: Directory, name: bytes, identity: bytes) -> bytes:
    """Of a file or symlink that is to have an inode of its own."""
    return content_id(b"\0".join((directory.version.digest, directory.path, name, identity)))


def _flavour(page: Page, position: int) -> int:
    return EXECUTABLE if page.executable(position) else _FLAVOURS[page.kind(position)]


def _resolved(version: Version, rule: Rule) -> Resolved:
    subset = ResolvedSubset(version.subset, None, rule)
    return Resolved(version.repository, version.commit, RevisionKind.COMMIT, version.commit.hex(), subset)
