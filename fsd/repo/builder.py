"""Building trees: from changes in key order to pages and a root, the same bytes whoever builds it and from which base.

A build goes along the base and the changes at once. Where a page of the new tree starts as one of the base does (the
two are *aligned*), whole pages are taken over, unread, up to the page of the next change. That page is read and cut
anew, with the change, and so are those behind it until the two are aligned again. `fsd.repo.cutting` makes that sound:
where a page ends depends on nothing before its start.

Order of writes: all pages and indexes are durable when `build_tree` returns. What names them, a commit, comes after.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import AsyncGenerator, AsyncIterable, Sequence
from functools import partial
from typing import NamedTuple

from fsd.format.commit import tree_id
from fsd.format.index import IndexChild, Totals, encode_index
from fsd.format.keys import ObjectKind
from fsd.format.model import Entry, Kind, directory_key, entry_key
from fsd.format.page import Page, encode_page
from fsd.repo.cutting import STANDARD_CUTS, Added, Cuts, PageCutter, cut_index
from fsd.repo.directories import DirectoryChecks
from fsd.repo.objects import ObjectWriter
from fsd.repo.tree import PageRef, Tree
from fsd.tasks import gather

PAGES_AT_ONCE = 32
"""Pages collected, then written in parallel: 3 MiB, and a round trip of 100 ms costs 3 µs an entry."""


class Removal(NamedTuple):
    """A path that the new tree does not have."""

    directory: bytes
    name: bytes

    @property
    def key(self) -> bytes:
        """Its place in the tree's order."""
        return entry_key(self.directory, self.name)


class RemovalBelow(NamedTuple):
    """A directory of the base whose contents, down to the deepest, the new tree does not have: pages that hold nothing
    else are not read. The directory's own entry is another change, or stays."""

    directory: bytes
    """Not the top."""

    @property
    def key(self) -> bytes:
        """Its place in the tree's order: before all that is below the directory."""
        return directory_key(self.directory) + b"\0"


Change = Entry | Removal | RemovalBelow
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
    pages_at_once: int = PAGES_AT_ONCE,
    cuts: Cuts = STANDARD_CUTS,
) -> Built:
    """Apply `changes` to `base` (None: the empty tree).

    `changes` are batches (any size; some thousands are fast), strictly ascending by key over all of them, directories
    among them: a directory's entry precedes what is in it by its key. If they are an async generator, it is closed in
    the end. Memory is bounded by `pages_at_once`.

    Raises ValueError for changes that are out of order, remove what is not there, put an entry into what is no
    directory, or leave entries behind in a directory they remove; and what reading `base`, the store and `changes`
    raise. Whatever was written by then is garbage that nothing names.
    """
    try:
        build = _Build(writer, base, [] if base is None else await base.pages(), pages_at_once, cuts)
        async for batch in changes:
            await build.apply(batch)
    finally:
        if isinstance(changes, AsyncGenerator):
            # One that is left early must be closed, and only who leaves it knows when.
            await changes.aclose()
    return await build.finish()


class _Build:
    """One build. The base's next entry is at `_position` of `_page`, which is None before the first of page `_at`."""

    def __init__(
        self, writer: ObjectWriter, base: Tree | None, refs: Sequence[PageRef], pages_at_once: int, cuts: Cuts
    ) -> None:
        self._base = base
        self._refs = refs
        self._first_keys = [ref.child.first_key for ref in refs]
        self._at = 0
        self._page: Page | None = None
        self._position = 0
        self._cutter = PageCutter(cuts)
        self._untouched = False
        """Whether the page being cut holds the first `_position` entries of base page `_at` and no others."""
        self._same_as: IndexChild | None = None
        """The base's page, if the page being cut holds all its entries and no others."""
        self._last_key = b""
        self._directories = DirectoryChecks(base)
        self._pages = _Pages(writer, pages_at_once, cuts)

    async def apply(self, batch: Sequence[Change]) -> None:
        directory: bytes | None = None
        for change in batch:
            key = change.key
            if key <= self._last_key:
                raise ValueError(f"changes out of order: {key!r} comes too late")
            self._last_key = key
            if self._at < len(self._refs):
                await self._advance(key)
            if isinstance(change, RemovalBelow):
                await self._skip_below(change.directory)
                continue
            replaced = self._skip_base_entry(key) if self._page is not None else None
            if isinstance(change, Removal):
                if replaced is None:
                    raise ValueError(f"{change.name!r} in {change.directory!r} is not there to be removed")
                self._directories.removed(change.directory, change.name, replaced)
                continue
            if change.directory != directory:
                directory = change.directory
                await self._directories.check_changed(directory, self._page)
            if change.kind is Kind.DIRECTORY or replaced is Kind.DIRECTORY:
                self._directories.replaced(change, replaced)
            added = self._cutter.add(change, key)
            if added is Added.FULL:
                await self._close()
                added = self._cutter.add(change, key)
            self._untouched, self._same_as = False, None
            if added is Added.LAST:
                await self._close()

    async def finish(self) -> Built:
        await self._advance(None)
        if len(self._cutter):
            await self._close()
        return await self._pages.finish()

    def _skip_base_entry(self, key: bytes) -> Kind | None:
        """Leave out the base's next entry if it has that key; what it was."""
        page, position = self._page, self._position
        if page is None or position == len(page) or _key_at(page, position) != key:
            return None
        self._untouched = False
        self._position += 1
        return Kind(page.kind(position))

    async def _skip_below(self, directory: bytes) -> None:
        """Leave out all that the base has below a directory. Its next entry is the first of that, or behind it."""
        self._directories.emptied(directory)
        end = directory_key(directory) + b"\1"
        while self._at < len(self._refs):
            if self._page is None:
                if self._first_keys[self._at] >= end:
                    return
                self._untouched = False
                if self._at + 1 < len(self._refs) and self._first_keys[self._at + 1] <= end:
                    self._at += 1
                    continue
                assert self._base is not None
                self._page, self._position = await self._base.page(self._refs[self._at]), 0
            page = self._page
            at = bisect_left(range(len(page)), end, self._position, key=partial(_key_at, page))
            if at > self._position:
                self._position, self._untouched = at, False
            if at < len(page):
                return
            self._page = None
            self._at += 1

    async def _advance(self, key: bytes | None) -> None:
        """Take over what the base has before `key` (None: all the rest), so that its next entry is at or behind it."""
        while self._at < len(self._refs):
            if self._page is None:
                if not len(self._cutter):
                    await self._take_over(key)
                if self._at == len(self._refs) or (key is not None and key < self._first_keys[self._at]):
                    return
                assert self._base is not None
                self._page, self._position = await self._base.page(self._refs[self._at]), 0
            if not await self._feed(self._page, key):
                return

    async def _take_over(self, key: bytes | None) -> None:
        """Aligned: the pages up to the one where `key` belongs are those of the new tree."""
        end = len(self._refs)
        if key is not None:
            end = max(bisect_right(self._first_keys, key) - 1, self._at)
            if end > self._at and self._first_keys[end] == key:
                # The page before may have ended only because this entry did not fit any more.
                end -= 1
        if end > self._at:
            await self._directories.check_taken_over(self._refs, self._first_keys, self._at, end)
            self._pages.reuse([ref.child for ref in self._refs[self._at : end]])
            self._at = end

    async def _feed(self, page: Page, key: bytes | None) -> bool:
        """Put the base's entries before `key` on the new page(s), as far as this base page goes.

        False if its next entry is at or behind `key`. True if the page is used up, or if it was found to be aligned.
        """
        for entry in page.entries(self._position):
            at = entry.key
            if key is not None and at >= key:
                return False
            starts_page = not len(self._cutter)
            added = self._cutter.add(entry, at)
            if added is Added.FULL:
                await self._close()
                if self._position == 0:
                    self._page = None
                    return True
                starts_page = True
                added = self._cutter.add(entry, at)
            self._directories.check_kept(entry.directory)
            if starts_page:
                self._untouched = self._position == 0
            self._position += 1
            whole = self._untouched and self._position == len(page)
            self._same_as = self._refs[self._at].child if whole else None
            if added is Added.LAST:
                await self._close()
        self._page, self._untouched = None, False
        self._at += 1
        return True

    async def _close(self) -> None:
        """The page being cut ends here."""
        entries = self._cutter.take()
        if self._same_as is not None:
            self._pages.reuse([self._same_as])
        else:
            await self._pages.add(entries)
        self._untouched, self._same_as = False, None


def _key_at(page: Page, position: int) -> bytes:
    return entry_key(page.directory(position), page.name(position))


class _Encoded(NamedTuple):
    """A page or index that waits to be written."""

    kind: ObjectKind
    first_key: bytes
    totals: Totals
    logical: bytes
    placement: bytes


class _Pages:
    """The pages of the new tree, and the indexes over them."""

    def __init__(self, writer: ObjectWriter, at_once: int, cuts: Cuts) -> None:
        self._writer = writer
        self._at_once = at_once
        self._cuts = cuts
        self._children: list[IndexChild] = []
        """As far as all before them are written."""
        self._waiting: list[_Encoded | IndexChild] = []
        """What comes after these: pages to be written, and the base's pages among them."""
        self._unwritten = 0
        self._written = 0

    def reuse(self, children: Sequence[IndexChild]) -> None:
        """Pages of the base."""
        self._waiting.extend(children)

    async def add(self, entries: Sequence[Entry]) -> None:
        """A new page."""
        files = [entry.size for entry in entries if entry.kind is Kind.FILE]
        totals = Totals(len(entries), len(files), sum(files))
        self._waiting.append(_Encoded(ObjectKind.PAGE, entries[0].key, totals, *encode_page(entries)))
        self._unwritten += 1
        if self._unwritten == self._at_once:
            await self._flush()

    async def finish(self) -> Built:
        """Write what is left, and the indexes."""
        await self._flush()
        pages, level, children = len(self._children), 0, self._children
        while len(nodes := cut_index(children, self._cuts)) > 1:
            encoded = [
                _Encoded(ObjectKind.INDEX, node[0].first_key, _sum(node), encode_index(level, node), b"")
                for node in nodes
            ]
            children = await gather(self._write, encoded, tasks=self._at_once)
            level += 1
        root = encode_index(level, children)
        return Built(root, tree_id(root), _sum(children), pages, self._written)

    async def _flush(self) -> None:
        encoded = [page for page in self._waiting if isinstance(page, _Encoded)]
        written = iter(await gather(self._write, encoded, tasks=self._at_once))
        self._children += [next(written) if isinstance(page, _Encoded) else page for page in self._waiting]
        self._waiting = []
        self._written += self._unwritten
        self._unwritten = 0

    async def _write(self, encoded: _Encoded) -> IndexChild:
        object_id = await self._writer.write(encoded.kind, encoded.logical, encoded.placement)
        return IndexChild(encoded.first_key, object_id, encoded.totals)


def _sum(children: Sequence[IndexChild]) -> Totals:
    return Totals(
        sum(child.totals.entries for child in children),
        sum(child.totals.files for child in children),
        sum(child.totals.bytes for child in children),
    )
