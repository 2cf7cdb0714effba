"""Who goes through the pages of a tree one after the other: `find`, `ls -R`, a program that lists a dataset of folders.

One listing reads its own pages ahead, but a tree of many small directories is many listings, each of a page or less,
and each would wait for its page. They come in the order of the tree, though, so that the pages do. When one page that
was asked for follows the one before it, those that follow are loaded beside the reader, as many at once as a long
listing loads, and no more than twice as many ahead.

Decides and owns the tasks that load; knows nothing of names. For the event loop's thread.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable

import trio

from fsd.errors import FsdError
from fsd.limits import Limits
from fsd.repo.tree import Listed
from fsd.vfs.nodes import Version

MAX_READERS = 8
"""Versions that are gone through at the same time."""

BEHIND_PAGES = 8
"""Pages so far back are still those of somebody who goes through them, with others before them."""

IDLE_S = 10.0
"""Whoever has not turned a page for so long is no longer waited for."""


class _Reader:
    """A place in a version's pages. Ordinals are those of entries."""

    __slots__ = ("ahead", "end", "is_loading", "scope", "turned")

    def __init__(self, end: int) -> None:
        self.end = end
        """After the last page that was asked for."""
        self.ahead = end
        """After the last page that was loaded for it."""
        self.is_loading = False
        self.scope = trio.CancelScope()
        self.turned = trio.Event()


class Leafing:
    """See the module."""

    def __init__(
        self, pages: Callable[[Version, int], Awaitable[AsyncIterator[Listed]]], limits: Limits, nursery: trio.Nursery
    ) -> None:
        """`pages` gives a version's pages from an ordinal on, several loaded at once."""
        self._pages = pages
        self._most_ahead = 2 * limits.listing_read_ahead_pages
        self._nursery = nursery
        self._readers: OrderedDict[Version, _Reader] = OrderedDict()

    def note(self, version: Version, first: int, end: int) -> None:
        """The page with the ordinals from `first` to before `end` is being looked at."""
        reader = self._readers.get(version)
        if reader is None:
            self._readers[version] = _Reader(end)
            if len(self._readers) > MAX_READERS:
                self._readers.popitem(last=False)[1].scope.cancel()
            return
        if reader.end - BEHIND_PAGES * (end - first) <= first < reader.end:
            return  # another program, or another thread of the same, is a little behind
        self._readers.move_to_end(version)
        if first != reader.end:
            reader.scope.cancel()
            self._readers[version] = _Reader(end)
            return
        reader.end = end
        turned, reader.turned = reader.turned, trio.Event()
        turned.set()
        if not reader.is_loading:
            reader.is_loading = True
            reader.scope = trio.CancelScope()
            self._nursery.start_soon(self._load, version, reader)

    async def _load(self, version: Version, reader: _Reader) -> None:
        """Load what follows, a bounded number of pages ahead, until nobody turns to them."""
        ahead: list[int] = []
        try:
            with reader.scope:
                async for page, _, first in await self._pages(version, max(reader.end, reader.ahead)):
                    reader.ahead = first + len(page)
                    ahead.append(reader.ahead)
                    while len(ahead) >= self._most_ahead:
                        with trio.move_on_after(IDLE_S) as waited:
                            await reader.turned.wait()
                        if waited.cancelled_caught:
                            return
                        ahead = [end for end in ahead if end > reader.end]
        except FsdError:
            pass  # whoever reads on will be told
        finally:
            reader.is_loading = False
