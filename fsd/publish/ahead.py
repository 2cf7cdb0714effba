"""Pages of the base, loaded before the build asks for them.

A build reads the base's page around each change, one after the other as it gets to them, and each is a round trip. What
changed is known earlier, while files are still being read: the pages of these changes are loaded in parallel, a bounded
number ahead of the build. They are found in memory then (`fsd.repo.objects`), or on their way.

It is a hint: a page that cannot be loaded is left for the build to stumble over.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from contextlib import suppress

import trio

from fsd.errors import FsdError
from fsd.format.model import entry_key
from fsd.publish.ingest import ToRead
from fsd.repo.tree import PageRef, Tree


class PagesAhead:
    """See the module's docstring. For the tasks of one trio loop."""

    def __init__(self, base: Tree, refs: Sequence[PageRef], pages: int, nursery: trio.Nursery) -> None:
        """`refs` are those of all pages; at most `pages` are loaded ahead, by tasks in `nursery`."""
        self._base = base
        self._refs = refs
        self._first_keys = [ref.child.first_key for ref in refs]
        self._most = pages
        self._nursery = nursery
        self._wanted: deque[int] = deque()
        """Numbers of pages to be loaded, ascending."""
        self._ahead: deque[int] = deque()
        """Those that were loaded, or are being so, and that the build has not passed."""
        self._last = -1

    def expect(self, changes: Sequence[ToRead]) -> None:
        """These changes will come, in this order, and after all that were announced before."""
        for change in changes:
            at = self._page_at(entry_key(change.directory, change.name))
            if at > self._last:
                self._last = at
                self._wanted.append(at)
        self._load_more()

    def reached(self, key: bytes) -> None:
        """The build is at that key: it needs no page before it any more."""
        at = self._page_at(key)
        while self._ahead and self._ahead[0] < at:
            self._ahead.popleft()
        while self._wanted and self._wanted[0] < at:
            self._wanted.popleft()
        self._load_more()

    def _page_at(self, key: bytes) -> int:
        return bisect_right(self._first_keys, key) - 1

    def _load_more(self) -> None:
        while self._wanted and len(self._ahead) < self._most:
            self._ahead.append(self._wanted.popleft())
            self._nursery.start_soon(self._load, self._refs[self._ahead[-1]])

    async def _load(self, ref: PageRef) -> None:
        with suppress(FsdError):
            await self._base.page(ref)
