"""Who goes through the pages of a tree one after the other: `find`, `ls -R`, a program that lists a dataset of folders.

One listing reads its own pages ahead, but a tree of many small directories is many listings, each of a page or less,
and each would wait for its page. They come in the order of the tree, though, so that the pages do. When one page that
was asked for follows the one before it, those that follow are loaded beside the reader, as many at once as a long
listing loads, and no more than twice as many ahead. A program that keeps the directories to be listed on a stack goes
through them backwards, and is served as well.

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

TURNING_STEPS = 2
"""Behind, and in one direction: then it is no straggler."""

IDLE_S = 10.0
"""Whoever has not turned a page for so long is no longer waited for."""


class _Reader:
    """A place in a version's pages, and which way somebody goes from it. Ordinals are those of entries."""

    __slots__ = ("ahead", "behind", "end", "first", "is_loading", "scope", "step", "turned")

    def __init__(self, first: int, end: int) -> None:
        self.first = first
        self.end = end
        """Of the last page that was asked for."""
        self.step = 0
        """1 for who goes on, -1 for who goes back, 0 while that is not known."""
        self.behind = _Behind()
        self.ahead = end
        """Where what was loaded for it ends: after the last page, or before the first one."""
        self.is_loading = False
        self.scope = trio.CancelScope()
        self.turned = trio.Event()

    def step_to(self, first: int, end: int) -> int | None:
        """By which step a page is reached: 1, -1; 0 if by none; None if it says nothing.

        A page a little behind is that of another program, or of another thread of the same. Some of these, one after
        the other, are somebody who has turned around.
        """
        if first == self.first:
            return None
        if self.step >= 0 and first == self.end:
            return 1
        if self.step <= 0 and end == self.first:
            return -1
        near = BEHIND_PAGES * (end - first)
        is_behind = first < self.first if self.step > 0 else first > self.first if self.step < 0 else True
        if not is_behind or abs(first - self.first) > near:
            return 0
        return self.behind.step_to(first, end)


class _Behind:
    """Pages that were asked for since the last one, and lie behind it."""

    __slots__ = ("end", "first", "steps")

    def __init__(self) -> None:
        self.first = self.end = -1
        self.steps = 0
        """In one direction; negative backwards."""

    def step_to(self, first: int, end: int) -> int | None:
        """As of the reader; a direction only after several steps."""
        if first == self.end:
            self.steps = max(self.steps, 0) + 1
        elif end == self.first:
            self.steps = min(self.steps, 0) - 1
        elif first != self.first:
            self.steps = 0
        self.first, self.end = first, end
        return (self.steps > 0) - (self.steps < 0) if abs(self.steps) >= TURNING_STEPS else None


class Leafing:
    """See the module."""

    def __init__(
        self, pages: Callable[[Version, int], Awaitable[AsyncIterator[Listed]]], limits: Limits, nursery: trio.Nursery
    ) -> None:
        """`pages` gives a version's pages from an ordinal on, several loaded at once."""
        self._pages = pages
        self._pages_at_once = limits.listing_read_ahead_pages
        self._nursery = nursery
        self._readers: OrderedDict[Version, _Reader] = OrderedDict()

    def note(self, version: Version, first: int, end: int) -> None:
        """The page with the ordinals from `first` to before `end` is being looked at."""
        reader = self._readers.get(version)
        if reader is None:
            self._readers[version] = _Reader(first, end)
            if len(self._readers) > MAX_READERS:
                self._readers.popitem(last=False)[1].scope.cancel()
            return
        self._readers.move_to_end(version)
        step = reader.step_to(first, end)
        if step is None:
            return
        if not step or step != reader.step:
            reader.scope.cancel()
            reader = self._readers[version] = _Reader(first, end)
            reader.step = step
            reader.ahead = first if step < 0 else end
            if not step:
                return
        reader.first, reader.end, reader.behind = first, end, _Behind()
        turned, reader.turned = reader.turned, trio.Event()
        turned.set()
        if not reader.is_loading:
            reader.is_loading = True
            reader.scope = trio.CancelScope()
            load = self._load_before if step < 0 else self._load_behind
            self._nursery.start_soon(self._load, load, version, reader)

    async def _load(
        self, load: Callable[[Version, _Reader], Awaitable[None]], version: Version, reader: _Reader
    ) -> None:
        """Load ahead of a reader, until nobody turns to it any more."""
        try:
            with reader.scope:
                await load(version, reader)
        except FsdError:
            pass  # whoever reads on will be told
        finally:
            reader.is_loading = False

    async def _load_behind(self, version: Version, reader: _Reader) -> None:
        """What follows, one page after the other, a bounded number of them ahead."""
        ahead: list[int] = []
        async for page, _, first in await self._pages(version, max(reader.end, reader.ahead)):
            reader.ahead = first + len(page)
            ahead.append(reader.ahead)
            while len(ahead) >= 2 * self._pages_at_once:
                if not await self._is_turned(reader):
                    return
                ahead = [end for end in ahead if end > reader.end]

    async def _load_before(self, version: Version, reader: _Reader) -> None:
        """What comes before, as many pages together as are loaded at once, and no more than that ahead."""
        while reader.ahead > 0:
            entries = self._pages_at_once * (reader.end - reader.first)
            if reader.first - reader.ahead >= entries:
                if not await self._is_turned(reader):
                    return
                continue
            start = max(0, reader.ahead - entries)
            async for _, _, first in await self._pages(version, start):
                if first >= reader.ahead:
                    break
            reader.ahead = start

    async def _is_turned(self, reader: _Reader) -> bool:
        """Wait for the next page to be looked at; False if that takes too long."""
        with trio.move_on_after(IDLE_S):
            await reader.turned.wait()
            return True
        return False
