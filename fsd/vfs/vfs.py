"""The file system that a mount shows, without FUSE: what each request of the kernel means.

    /                     repositories; and `.fsd` and `.views`, not listed
    /REPO/                branches, tags and named subsets; and what `versions` resolves, not listed
    /REPO/VERSION/…       the version's tree

This composes: it knows which kind of node a number is and asks the module that owns it, counts requests, and keeps what
went wrong for `/.fsd/errors`.

Concurrency: for the tasks of one trio loop. What a request has learned it uses after an await only through numbers and
immutable objects, so a `forget` in between costs at most a StaleInodeError.
"""

from __future__ import annotations

import logging
import math
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, Self, TypeVar

import trio

from fsd.cache.cache import Cache, CacheStatistics
from fsd.clock import Clock, now_us
from fsd.errors import CorruptDataError, FsdError, StorePermissionError, StoreUnreachableError
from fsd.histogram import Histogram
from fsd.ids import Buffer
from fsd.limits import Limits
from fsd.repo.repository import Repositories
from fsd.repo.tree import PENDING
from fsd.vfs.attributes import (
    Attributes,
    FilesystemTotals,
    Listing,
    Missing,
    NoAttributeError,
    NotDirectoryError,
    NotFileError,
    NotSymlinkError,
    StaleInodeError,
)
from fsd.vfs.holdings import Holdings, Observer
from fsd.vfs.inodes import DIRECTORY, FIRST_TREE_INO, FLAVOUR_BITS, SYMLINK
from fsd.vfs.nodes import LinkNode, Node, RepositoryNode, VersionNode, VirtualFileNode
from fsd.vfs.reads import AGAIN_S, MAX_LATE, FileRange, Reads
from fsd.vfs.refcache import RefCache
from fsd.vfs.refmemory import SAVE_INTERVAL_S, RefMemory
from fsd.vfs.toplevel import TopLevel
from fsd.vfs.trees import Directory, Trees
from fsd.vfs.virtual import ErrorLog, Failure, VirtualFiles
from fsd.vfs.xattrs import FILE_NAMES, FROM_CHUNKS, chunk_attributes, content_attributes, version_attributes

_T = TypeVar("_T")


class Vfs:
    """See the module. Made by `Vfs.open`.

    Raises, wherever it takes a number: StaleInodeError for one that names nothing any more, and the other errors of
    `fsd.vfs.attributes` for the wrong kind of node. CorruptDataError and StoreUnreachableError where bytes cannot be
    had.
    """

    def __init__(
        self,
        repositories: Repositories,
        cache: Cache,
        limits: Limits,
        nursery: trio.Nursery,
        *,
        about: Mapping[str, Any],
        clock: Clock,
    ) -> None:
        self.repositories = repositories
        self._cache = cache
        self._limits = limits
        self.about = about
        self.errors = ErrorLog(clock)
        self.requests: Counter[str] = Counter()
        """Since the start, by kind."""
        self.read_bytes = 0
        """That the kernel got."""
        self.read_seconds = Histogram()
        """Of reads that were not at hand."""
        self.waiting_reads = 0
        self._late: OrderedDict[tuple[int, bytes], float] = OrderedDict()
        """By inode and name: when a request that is no read ran out of time."""
        self._saved_changes = 0
        self._refs = RefCache(repositories, limits, nursery)
        self._top = TopLevel(repositories, self._refs, VirtualFiles(self.status, self.errors), limits, clock)
        self._trees = Trees(repositories, limits, nursery)
        trees, objects = self._trees, repositories.objects
        self._reads = Reads(cache, objects, trees.entry, trees.fresh_entry, limits, nursery, trees)
        self._observers: list[Observer] = []
        """Told of each read."""
        self.holdings = Holdings(repositories, self._top.versions, self._trees, cache, limits, self._observers, clock)
        """What the cache holds of paths."""

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        repositories: Repositories,
        cache: Cache,
        limits: Limits,
        *,
        about: Mapping[str, Any] | None = None,
        known_refs: Path | None = None,
        known_repositories: Sequence[str] | None = None,
        clock: Clock = now_us,
    ) -> AsyncIterator[Self]:
        """The file system over a store. `about` goes into `/.fsd/status` as it is: JSON.

        What is known of refs is kept in the file `known_refs`, for a time when the store is out of reach.
        `known_repositories` are those that the store had a moment ago.
        """
        memory = RefMemory(known_refs)
        try:
            async with trio.open_nursery() as nursery:
                vfs = cls(repositories, cache, limits, nursery, about=about or {}, clock=clock)
                vfs._refs.recall(await memory.recall())
                vfs._refs.prime(known_repositories)
                if known_refs is not None:
                    nursery.start_soon(vfs._save_now_and_then, memory)
                try:
                    yield vfs
                finally:
                    nursery.cancel_scope.cancel()
                    with trio.CancelScope(shield=True):
                        await vfs._save(memory)
        except BaseExceptionGroup as group:
            # That there is a nursery is nobody's business: an error of the body stays what it was.
            raise group.exceptions[0] if len(group.exceptions) == 1 else group from None

    async def _save_now_and_then(self, memory: RefMemory) -> None:
        while True:
            await trio.sleep(SAVE_INTERVAL_S)
            await self._save(memory)

    async def _save(self, memory: RefMemory) -> None:
        changes = self._refs.changes
        if changes != self._saved_changes:
            await memory.save(self._refs.known())
            self._saved_changes = changes

    # --- names and attributes

    async def lookup(self, parent: int, name: bytes) -> Attributes | Missing:
        """The node of that name, counted as one lookup more, or that there is none."""
        self.requests["lookup"] += 1
        directory = self._directory_nowait(parent)
        found = PENDING if directory is None else self._trees.find_nowait(directory, name)
        if found is PENDING:
            return await self._answer(partial(self._lookup, parent, name), parent, name)
        return Missing(self._limits.immutable_timeout_s) if found is None else found

    async def _lookup(self, parent: int, name: bytes) -> Attributes | Missing:
        if parent < FIRST_TREE_INO:
            node = self._node(parent)
            if not isinstance(node, VersionNode):
                return await self._top.lookup(node, name) or _not_a_directory(parent)
            directory = Directory(node.version, b"")
        else:
            directory = await self._directory(parent)
        found = await self._trees.find(directory, name)
        return Missing(self._limits.immutable_timeout_s) if found is None else found

    async def getattr(self, ino: int) -> Attributes:
        """A node that is known."""
        self.requests["getattr"] += 1
        if ino >= FIRST_TREE_INO:
            return self._trees.getattr(ino)
        node = self._node(ino)
        if isinstance(node, VersionNode):
            await self._answer(partial(self._top.load_time, node), ino)
            self._node(ino)  # still known?
        return self._top.attributes(node, self._limits.entry_timeout_s)

    async def readlink(self, ino: int) -> bytes:
        """A symlink's target."""
        self.requests["readlink"] += 1
        if ino < FIRST_TREE_INO:
            node = self._node(ino)
            if isinstance(node, LinkNode):
                return node.target.encode()
        elif ino & FLAVOUR_BITS == SYMLINK:
            return (await self._answer(partial(self._trees.entry, ino), ino)).target
        raise NotSymlinkError(f"inode {ino} is not a symlink")

    def lists_for_ever(self, ino: int) -> bool:
        """Whether the directory's listing can never change."""
        return ino >= FIRST_TREE_INO or isinstance(self._node(ino), VersionNode)

    async def list(self, ino: int, start: int) -> Listing:
        """Entries after the cookie `start` (0: from the first), as many as are cheap; none at the end."""
        self.requests["list"] += 1
        return await self._answer(partial(self._list, ino, start), ino)

    async def _list(self, ino: int, start: int) -> Listing:
        if ino < FIRST_TREE_INO:
            node = self._node(ino)
            if not isinstance(node, VersionNode):
                return await self._top.list(node, start) or _not_a_directory(ino)
            directory = Directory(node.version, b"")
        else:
            directory = await self._directory(ino)
        return Listing(await self._trees.list(ino, directory, start), self._limits.immutable_timeout_s)

    def refuse(self, ino: int) -> None:
        """Undo the lookup of the entry that a listing yielded last: the kernel had no room for it."""
        self.forget(ino, 1)

    def forget(self, ino: int, lookups: int) -> None:
        """The kernel gives lookups back."""
        if ino < FIRST_TREE_INO:
            self._top.nodes.forget(ino, lookups)
        elif self._trees.forget(ino, lookups):
            self._reads.forget(ino)

    # --- files

    def read_nowait(self, ino: int, offset: int, size: int) -> Buffer | None:
        """Up to `size` bytes from `offset`, fewer only where the file ends; None if that takes `read`."""
        self.requests["read"] += 1
        wanted = self._file_range(ino, offset, size)
        if not isinstance(wanted, FileRange):
            return wanted
        for observe in self._observers:
            observe(wanted)
        data = self._reads.read_nowait(wanted)
        if data is not None:
            self.read_bytes += wanted.end - wanted.start
        return data

    async def read(self, ino: int, offset: int, size: int) -> Buffer:
        """The same, waiting for at most `limits.read_deadline_s`."""
        wanted = self._file_range(ino, offset, size)
        if not isinstance(wanted, FileRange):
            return wanted
        self.waiting_reads += 1
        began_s = trio.current_time()
        try:
            data = await self._reads.read(wanted)
        except FsdError as error:
            self._record(error, ino)
            raise
        finally:
            self.waiting_reads -= 1
            self.read_seconds.note(trio.current_time() - began_s)
        self.read_bytes += wanted.length
        return data

    def _file_range(self, ino: int, offset: int, size: int) -> FileRange | Buffer:
        """What is to be read, or the bytes themselves where there is nothing to it."""
        if ino < FIRST_TREE_INO:
            node = self._node(ino)
            if isinstance(node, VirtualFileNode):
                return node.content[offset : offset + size]
            raise NotFileError(f"inode {ino} is not a file")
        if ino & FLAVOUR_BITS >= SYMLINK:
            raise NotFileError(f"inode {ino} is not a file")
        content = self._trees.content(ino)
        if content is None:
            raise _stale(ino)
        identity, file_size = content
        if offset >= file_size or size <= 0:
            return b""
        return FileRange(ino, identity, file_size, offset, min(offset + size, file_size))

    # --- about it

    async def getxattr(self, ino: int, name: bytes) -> bytes:
        """The value of an extended attribute. Raises NoAttributeError."""
        self.requests["getxattr"] += 1
        value: bytes | None = None
        if ino < FIRST_TREE_INO:
            node = self._node(ino)
            if isinstance(node, VersionNode):
                value = version_attributes(node.version).get(name)
        elif name in FILE_NAMES and ino & FLAVOUR_BITS < SYMLINK:
            value = await self._answer(partial(self._file_attribute, ino, name), ino)
        if value is None:
            raise NoAttributeError(f"inode {ino} has no attribute {name!r}")
        return value

    async def _file_attribute(self, ino: int, name: bytes) -> bytes:
        entry = await self._trees.entry(ino)
        if name not in FROM_CHUNKS:
            return content_attributes(entry)[name]
        return (await chunk_attributes(entry, self.repositories.objects, self._cache))[name]

    async def listxattr(self, ino: int) -> Sequence[bytes]:
        """The names of all extended attributes."""
        self.requests["listxattr"] += 1
        if ino >= FIRST_TREE_INO:
            return FILE_NAMES if ino & FLAVOUR_BITS < SYMLINK else ()
        node = self._node(ino)
        return tuple(version_attributes(node.version)) if isinstance(node, VersionNode) else ()

    def statfs(self) -> FilesystemTotals:
        """What the versions that are open hold, each for itself."""
        totals = [tree.totals for tree in self._trees]
        return FilesystemTotals(
            bytes=sum(total.bytes for total in totals if total is not None),
            files=sum(total.entries for total in totals if total is not None),
        )

    def status(self) -> dict[str, Any]:
        """What `/.fsd/status` shows: JSON."""
        table = self._trees.table
        return {
            **self.about,
            "store": self.repositories.store.url,
            "cache": asdict(self._cache.statistics()),
            "pins": self.holdings.pins(),
            "inodes": {
                "in_trees": len(table),
                "in_trees_bytes": table.memory_bytes,
                "others": len(self._top.nodes),
                "pages": len(table.pages),
                "versions": len(table.trees),
            },
            "open_trees": len(self._trees),
            "files_being_read": len(self._reads),
            "waiting_reads": self.waiting_reads,
            "read_bytes": self.read_bytes,
            "requests": dict(self.requests),
            "errors": self.errors.total,
        }

    def cache_statistics(self) -> CacheStatistics:
        """What the cache holds and has done."""
        return self._cache.statistics()

    @property
    def fetch_seconds(self) -> Histogram:
        """How long the store took to answer for ranges of packs."""
        return self._cache.fetch_seconds

    def files_being_read(self) -> Sequence[Mapping[str, Any]]:
        """Files of several chunks, the one that was read last at the end: JSON."""
        return [{"path": self._describe(ino), "bytes": size} for ino, size in self._reads.being_read()]

    async def refresh(self) -> None:
        """Ask the store now what is new. Raises StoreUnreachableError."""
        await self._refs.refresh()

    # --- nodes

    def _node(self, ino: int) -> Node:
        node = self._top.nodes.get(ino)
        if node is None:
            raise _stale(ino)
        return node

    def _directory_nowait(self, ino: int) -> Directory | None:
        """The directory of a version that has this number, if that is known without loading anything."""
        if ino >= FIRST_TREE_INO:
            return self._trees.directory_nowait(ino) if ino & FLAVOUR_BITS == DIRECTORY else None
        node = self._top.nodes.get(ino)
        return Directory(node.version, b"") if isinstance(node, VersionNode) else None

    async def _directory(self, ino: int) -> Directory:
        if ino & FLAVOUR_BITS != DIRECTORY:
            _not_a_directory(ino)
        return await self._trees.directory(ino)

    async def _answer(self, function: Callable[[], Awaitable[_T]], ino: int, name: bytes = b"") -> _T:
        """Answer a request of the kernel: it waits no longer than a read may, and an error is recorded.

        The kernel looks up a name for one process at a time. Those who queued while it took too long are not to wait as
        long again, each in turn.
        """
        seconds = self._limits.read_deadline_s
        try:
            if self._late and trio.current_time() - self._late.get((ino, name), -math.inf) < AGAIN_S:
                raise self._cache.too_slow(seconds)
            with trio.move_on_after(seconds):
                return await function()
            self._late[ino, name] = trio.current_time()
            if len(self._late) > MAX_LATE:
                self._late.popitem(last=False)
            raise self._cache.too_slow(seconds)
        except FsdError as error:
            self._record(error, ino, name)
            raise

    def _record(self, error: FsdError, ino: int, name: bytes = b"") -> None:
        """Keep an error that is the store's or the network's doing, and say it in the log."""
        if isinstance(error, CorruptDataError | StoreUnreachableError):
            where = self._describe(ino)
            if name:
                where = f"{where}/{name.decode(errors='surrogateescape')}"
            # The network comes back; what was refused, or is bad, stays so until somebody does something.
            passing = isinstance(error, StoreUnreachableError) and not isinstance(error, StorePermissionError)
            self.errors.record(Failure.of(where, error), logging.WARNING if passing else logging.ERROR)

    def _describe(self, ino: int) -> str:
        """A node for people: where it was last seen."""
        if ino >= FIRST_TREE_INO:
            seen = self._trees.seen(ino)
            if seen is None:
                return f"inode {ino}"
            page, position = seen
            path = page.path(position).decode(errors="surrogateescape")
            return path if ino & FLAVOUR_BITS == DIRECTORY else f"{path} (content {page.content(position).hex()})"
        node = self._top.nodes.get(ino)
        if isinstance(node, RepositoryNode):
            return f"/{node.name}"
        if isinstance(node, VersionNode):
            return f"/{node.version.repository}/{node.version.label}"
        return ""


def _stale(ino: int) -> StaleInodeError:
    return StaleInodeError(f"inode {ino} is not known")


def _not_a_directory(ino: int) -> NoReturn:
    raise NotDirectoryError(f"inode {ino} is not a directory")
