"""Whether the directories of a tree that is being built make sense. Cheap: reads at most a page for each directory that
is touched, and mostly none, and remembers only what is still ahead in key order.

It finds what a mistaken caller does (an entry in no directory, a directory removed from around its entries). That the
base itself makes sense is taken for granted.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from heapq import heappop, heappush

from fsd.format.model import Entry, Kind, directory_key
from fsd.format.page import Page
from fsd.repo.tree import PageRef, Tree


class DirectoryChecks:
    """Told of every change and of every entry or page that is kept, in key order; raises ValueError."""

    def __init__(self, base: Tree | None) -> None:
        self._base = base
        # Heaps of directory keys: an entry's contents come later than it, but not in the order of the entries.
        self._added: list[bytes] = []
        self._gone: list[bytes] = []
        self._kept: bytes | None = None
        self._emptied: bytes | None = None

    def removed(self, directory: bytes, name: bytes, kind: Kind) -> None:
        """An entry of the base is left out."""
        if kind is Kind.DIRECTORY:
            heappush(self._gone, directory_key(_join(directory, name)))

    def emptied(self, directory: bytes) -> None:
        """All below a directory of the base is left out."""
        self._emptied = directory + b"/"

    def replaced(self, entry: Entry, kind: Kind | None) -> None:
        """An entry takes the place of one of that kind, or of none."""
        if entry.kind is kind:
            return
        if entry.kind is Kind.DIRECTORY:
            heappush(self._added, directory_key(entry.path))
        elif kind is Kind.DIRECTORY:
            heappush(self._gone, directory_key(entry.path))

    async def check_changed(self, directory: bytes, page: Page | None) -> None:
        """An entry is put into `directory`; `page` is the base's page at this place, if it was read."""
        key = directory_key(directory)
        if _next_is(self._gone, key):
            raise ValueError(f"an entry is put into {directory!r}, which is removed")
        if not directory or _next_is(self._added, key):
            return
        if self._emptied is not None and directory.startswith(self._emptied):
            raise ValueError(f"an entry is put into {directory!r}, which is removed")
        if page is not None and page.directory_range(directory)[0] < page.directory_range(directory)[1]:
            return
        parent, _, name = directory.rpartition(b"/")
        found = await self._base.find(parent, name) if self._base is not None else None
        if found is None or found.page.kind(found.position) != Kind.DIRECTORY:
            raise ValueError(f"an entry is put into {directory!r}, which is no directory")

    def check_kept(self, directory: bytes) -> None:
        """An entry of the base stays in `directory`."""
        if directory != self._kept:
            self._kept = directory
            if _next_is(self._gone, directory_key(directory)):
                raise ValueError(f"{directory!r} is removed, but not what is in it")

    async def check_taken_over(
        self, refs: Sequence[PageRef], first_keys: Sequence[bytes], start: int, end: int
    ) -> None:
        """Pages `start` to before `end` of the base are kept as they are."""
        last = end == len(refs)
        while self._gone and (last or self._gone[0] + b"\0\0" < first_keys[end]):
            key = self._gone[0]
            if await self._holds_entries(key, refs, first_keys, start, end):
                path = key.replace(b"\0", b"/")
                raise ValueError(f"{path!r} is removed, but not what is in it")
            if not last and first_keys[end] < key + b"\0\1":
                # It could go on behind the end.
                return
            heappop(self._gone)

    async def _holds_entries(
        self, key: bytes, refs: Sequence[PageRef], first_keys: Sequence[bytes], start: int, end: int
    ) -> bool:
        low = key + b"\0\0"
        at = bisect_right(first_keys, low) - 1
        if any(start <= number < end and first_keys[number].startswith(low) for number in (start, at, at + 1)):
            return True
        if not start <= at < end or self._base is None:
            return False
        first, after = (await self._base.page(refs[at])).directory_range(key.replace(b"\0", b"/"))
        return first < after


def _next_is(heap: list[bytes], key: bytes) -> bool:
    """Whether `key` is in the heap, from which all before it are dropped: they lie behind."""
    while heap and heap[0] < key:
        heappop(heap)
    return bool(heap) and heap[0] == key


def _join(directory: bytes, name: bytes) -> bytes:
    return directory + b"/" + name if directory else name
