"""The order in which files are read: recorded, and fetched in that order ahead of who reads.

Both see the reads that reach the daemon. What the kernel has in its own cache it does not ask for, so a recording is of
a first epoch.

    Recorder    the paths of files below a target, each once, as they are first read
    Replay      stretches of files in a given order, at most so far ahead of the reader
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable

import trio

from fsd.errors import FsdError
from fsd.format.model import Kind
from fsd.format.page import Page
from fsd.repo.tree import Found
from fsd.vfs.pieces import Recipes
from fsd.vfs.reads import FileRange
from fsd.vfs.targets import LargeFile, Stretch, Target

MAX_RECORDED_FILES = 4_000_000
"""Told apart in one recording, at about 70 bytes each. Those beyond are not recorded."""


class Recorder:
    """See the module. `note` is called for each read, `run` gives the paths."""

    def __init__(
        self,
        target: Target,
        seen: Callable[[int], tuple[bytes, int] | None],
        load_page: Callable[[bytes], Awaitable[Page]],
    ) -> None:
        """`seen` gives, for an inode, the page that it was last seen in, and where."""
        self._target = target
        self._seen = seen
        self._load_page = load_page
        self._known: set[int] = set()
        self._waiting: deque[tuple[bytes, int]] = deque()
        self._wake = trio.Event()

    def note(self, wanted: FileRange) -> None:
        """A read. Costs a look at a set."""
        if wanted.ino in self._known or len(self._known) >= MAX_RECORDED_FILES:
            return
        self._known.add(wanted.ino)
        seen = self._seen(wanted.ino)
        if seen is not None:
            self._waiting.append(seen)
            self._wake.set()

    async def run(self, emit: Callable[[bytes], Awaitable[None]]) -> None:
        """Give each path, from the version's top, for ever. A file whose page cannot be had is left out."""
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            while self._waiting:
                page_id, position = self._waiting.popleft()
                try:
                    path = await self._path(page_id, position)
                except FsdError:
                    continue  # its reader is told
                if path is not None:
                    await emit(path)

    async def _path(self, page_id: bytes, position: int) -> bytes | None:
        """The file's path if it is one of the target's."""
        page = await self._load_page(page_id)
        path = page.path(position)
        if not _is_below(path, self._target.place.path):
            return None
        found = await self._target.tree.find(page.directory(position), page.name(position))
        if found is None or found.page.identity(found.position) != page.identity(position):
            return None
        return path


class Replay:
    """See the module. `note` is called for each read. Memory is bounded by `ahead_bytes`.

    Positions are bytes from the start of the order, as if its files were one.
    """

    def __init__(self, target: Target, order: AsyncIterator[bytes], ahead_bytes: int | None) -> None:
        """`order` has paths from the version's top. `ahead_bytes`: how far to be ahead of the reader; None where
        everything fits, and nobody need be waited for."""
        self._target = target
        self._order = order
        self._ahead_bytes = ahead_bytes
        self._starts: dict[bytes, int] = {}
        """Of files that the reader may come to, by identity."""
        self._unread: deque[tuple[bytes, int]] = deque()
        """The same in their order."""
        self._asked_bytes = 0
        self._read_bytes = 0
        self._moved = trio.Event()
        self.unknown_paths = 0
        """Left out: they are not in the target."""

    @property
    def is_waiting(self) -> bool:
        """Whether it is as far ahead as it may be."""
        return self._ahead_bytes is not None and self._asked_bytes - self._read_bytes > self._ahead_bytes

    def note(self, wanted: FileRange) -> None:
        """A read. Readers do not keep an order exactly, so the one who is farthest counts."""
        start = self._starts.get(wanted.identity)
        if start is None or start + wanted.end <= self._read_bytes:
            return
        self._read_bytes = start + wanted.end
        while self._unread and self._unread[0][1] < start:
            identity, passed = self._unread.popleft()
            if self._starts.get(identity) == passed:
                del self._starts[identity]
        self._moved.set()

    def in_stretches(self, stretch_bytes: int) -> OrderedStretches:
        """The files, about `stretch_bytes` at a time."""
        return OrderedStretches(self, self._target.objects, stretch_bytes)

    async def next_file(self) -> Found | None:
        """The next file; None after the last. Raises what loading raises."""
        async for path in self._order:
            found = await self._find(path)
            if found is None:
                self.unknown_paths += 1
                continue
            self._expect(found)
            return found
        return None

    def note_asked(self, size_bytes: int) -> None:
        """So much more is being fetched."""
        self._asked_bytes += size_bytes

    async def _find(self, path: bytes) -> Found | None:
        if not _is_below(path, self._target.place.path):
            return None
        directory, _, name = path.rpartition(b"/")
        found = await self._target.tree.find(directory, name)
        return found if found is not None and found.page.kind(found.position) == Kind.FILE else None

    def _expect(self, found: Found) -> None:
        if self._ahead_bytes is not None:
            identity = found.page.identity(found.position)
            self._starts[identity] = self._asked_bytes
            self._unread.append((identity, self._asked_bytes))

    async def wait_for_reader(self) -> None:
        """Wait while it is as far ahead as it may be."""
        while self.is_waiting:
            await self._moved.wait()
            self._moved = trio.Event()


class OrderedStretches:
    """An async iterator over the files of a replay, which waits for the reader. Nothing to close."""

    def __init__(self, replay: Replay, recipes: Recipes, stretch_bytes: int) -> None:
        self._replay = replay
        self._recipes = recipes
        self._stretch_bytes = stretch_bytes
        self._large: LargeFile | None = None

    def __aiter__(self) -> OrderedStretches:
        return self

    async def __anext__(self) -> Stretch:
        await self._replay.wait_for_reader()
        stretch = Stretch()
        while not stretch.is_full(self._stretch_bytes):
            if self._large is None and not await self._begin_file(stretch):
                break
            if self._large is not None:
                await self._add_run(stretch, self._large)
        if not stretch.ends and not stretch.chunks:
            raise StopAsyncIteration
        return stretch

    async def _begin_file(self, stretch: Stretch) -> bool:
        """Add a small file, or begin a large one; False after the last."""
        following = await self._replay.next_file()
        if following is None:
            return False
        page, position = following.page, following.position
        chunk = page.single_chunk(position)
        if chunk is None:
            self._large = LargeFile(page, position, self._recipes)
        else:
            stretch.pages.add(page.id)
            stretch.add(chunk)
            stretch.end_file()
            self._replay.note_asked(chunk.length)
        return True

    async def _add_run(self, stretch: Stretch, large: LargeFile) -> None:
        if not large.is_over:
            self._replay.note_asked(await large.add_run(stretch, self._stretch_bytes))
        if large.is_over:
            stretch.end_file()
            self._large = None


def _is_below(path: bytes, directory: bytes) -> bool:
    return not directory or path == directory or path.startswith(directory + b"/")
