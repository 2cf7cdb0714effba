"""A store opened for reading without a mount: versions, their entries, and files by ranges. Async; `store` is not.

The same cache, read-ahead and verification as a mount has. A cache belongs to one process: where a daemon or another
program holds it, the next of a few others beside it is taken.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self, cast

import trio

from fsd.cache.cache import Cache
from fsd.config import default_cache_path
from fsd.errors import ConflictError, NotFoundError
from fsd.format.model import Entry, Kind
from fsd.ids import Buffer
from fsd.limits import Limits
from fsd.repo.lookup import find_path
from fsd.repo.objects import StoreLoader
from fsd.repo.packs import PackReader
from fsd.repo.repository import Repositories, open_repositories, read_marker
from fsd.repo.revisions import Resolved, resolve
from fsd.repo.subsets import open_tree
from fsd.repo.tree import Found, TreeView
from fsd.stores.open import open_store
from fsd.stores.retry import single_attempts
from fsd.vfs.procession import Place
from fsd.vfs.reads import FileRange, Reads

CACHES = 16
"""Beside the one that daemons use: as many processes of one user may read a store at the same time."""

MAX_LINKS = 40
"""Symlinks followed for one path, as Linux does."""


@dataclass(frozen=True, slots=True)
class ReaderSettings:
    """What to open."""

    store: str
    """As `open_store` takes it."""
    cache: Path | None
    """The cache's folder; None: by the store's id below `cache_home`."""
    cache_home: Path
    """The folder of the user's caches."""
    state: Path
    """The folder of a publisher's notes."""
    limits: Limits


@dataclass(frozen=True, slots=True)
class OpenVersion:
    """A revision that was resolved, and its tree."""

    resolved: Resolved
    tree: TreeView
    label: str
    """How it was asked for, in messages: REPO/REV."""


class OpenFile:
    """A file being read; give it to `Reader.read`, and at the end to `Reader.close_file`."""

    __slots__ = ("identity", "ino", "size")

    def __init__(self, ino: int, identity: bytes, size: int) -> None:
        self.ino = ino
        self.identity = identity
        self.size = size


class Reader:
    """See the module. Made by `Reader.open`. Raises FsdErrors."""

    def __init__(self, repositories: Repositories, cache: Cache, limits: Limits, nursery: trio.Nursery) -> None:
        self.repositories = repositories
        self.cache = cache
        self._open: dict[int, tuple[TreeView, Found]] = {}
        """Open files, by a number that stands for an inode's."""
        self._numbers = itertools.count(1)
        self._reads = Reads(cache, repositories.objects, self._entry, self._fresh_entry, limits, nursery, self)

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: ReaderSettings) -> AsyncIterator[Self]:
        """Open the store and a cache."""
        limits = settings.limits
        async with AsyncExitStack() as stack:
            store = open_store(settings.store, limits)
            stack.push_async_callback(store.aclose)
            marker = await read_marker(store)
            folder = settings.cache or default_cache_path(settings.cache_home, marker.id)
            cache = await _first_free_cache(stack, folder, PackReader(single_attempts(store)), limits)
            loader = cache.loader(StoreLoader(store))
            repositories = await open_repositories(store, limits, marker=marker, loader=loader)
            nursery = await stack.enter_async_context(trio.open_nursery())
            stack.callback(nursery.cancel_scope.cancel)
            yield cls(repositories, cache, limits, nursery)

    async def _entry(self, ino: int) -> Entry:
        page, position, _ = self._open[ino][1]
        return page.entry(position)

    async def _fresh_entry(self, ino: int) -> Entry:
        """The same from its page as the store has it now, which is what is gone by from then on."""
        tree, found = self._open[ino]
        page = await self.repositories.objects.fresh_page(found.page.id)
        if ino in self._open:
            self._open[ino] = tree, found._replace(page=page)
        return page.entry(found.position)

    # --- the order of files (fsd.vfs.procession)

    def place(self, ino: int) -> Place | None:
        """Where an open file stands in its tree."""
        tree, found = self._open[ino]
        return Place(tree, found.ordinal)

    async def following(self, place: Place) -> AsyncGenerator[tuple[int, Sequence[Entry]], None]:
        """The entries from a place on, page by page, with the ordinal after each page's last."""
        tree = cast("TreeView", place.tree)
        async for page, positions, first in tree.list_below(b"", place.ordinal):
            yield first + positions[-1] + 1, [page.entry(position) for position in positions]

    # --- versions and entries

    async def version(self, repository: str, revision: str) -> OpenVersion:
        """Resolve a revision, with or without a subset."""
        resolved = await resolve(self.repositories, repository, revision)
        tree = await open_tree(self.repositories, resolved)
        return OpenVersion(resolved, tree, f"{repository}/{revision}")

    async def find(self, version: OpenVersion, path: bytes, *, follow: bool = True) -> Found | None:
        """The entry at a path, None for the top. With `follow`, symlinks within the version are gone through."""
        links = 0
        while True:
            if not path:
                return None
            found = await self._find(version, path, follow_last=follow)
            if isinstance(found, Found):
                return found
            links += 1
            if links > MAX_LINKS:
                raise NotFoundError(f"too many symlinks on the way to {_text(path)} in {version.label}")
            path = found

    async def _find(self, version: OpenVersion, path: bytes, *, follow_last: bool) -> Found | bytes:
        """The entry, or the path to go on with after the first symlink on the way."""
        parts = path.split(b"/")
        for depth in range(1, len(parts)):
            way = b"/".join(parts[:depth])
            found = await version.tree.find(*_split(way))
            if found is not None and found.page.kind(found.position) == Kind.SYMLINK:
                return _target(version, way, found.page.target(found.position), parts[depth:])
        found = await find_path(version.tree, path, version.label)
        if follow_last and found.page.kind(found.position) == Kind.SYMLINK:
            return _target(version, path, found.page.target(found.position), [])
        return found

    # --- files

    def open_file(self, version: OpenVersion, found: Found) -> OpenFile:
        """Begin to read a file."""
        number = next(self._numbers)
        page, position, _ = found
        self._open[number] = version.tree, found
        return OpenFile(number, page.identity(position), page.size(position))

    def close_file(self, file: OpenFile) -> None:
        """Forget it, and what was being fetched ahead for it."""
        self._open.pop(file.ino, None)
        self._reads.forget(file.ino)

    async def read(self, file: OpenFile, start: int, length: int) -> Buffer:
        """Up to `length` bytes from byte `start`, fewer only where the file ends."""
        end = min(start + length, file.size)
        if start >= end:
            return b""
        wanted = FileRange(file.ino, file.identity, file.size, start, end)
        data = self._reads.read_nowait(wanted)
        return await self._reads.read(wanted) if data is None else data


async def _first_free_cache(stack: AsyncExitStack, folder: Path, packs: PackReader, limits: Limits) -> Cache:
    for number in range(1, CACHES + 1):
        beside = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        try:
            return await stack.enter_async_context(Cache.open(beside, packs, limits, purpose="a Python program"))
        except ConflictError:
            if number == CACHES:
                raise
    raise AssertionError


def _split(path: bytes) -> tuple[bytes, bytes]:
    directory, _, name = path.rpartition(b"/")
    return directory, name


def _target(version: OpenVersion, link: bytes, target: bytes, rest: list[bytes]) -> bytes:
    """Where a symlink leads, as a path from the version's top. Raises NotFoundError if that is outside of it."""
    where = f"{_text(link)} in {version.label} is a symlink to {_text(target)}"
    if target.startswith(b"/"):
        raise NotFoundError(f"{where}, which is outside of the version")
    parts = link.split(b"/")[:-1]
    for part in target.split(b"/"):
        if part == b"..":
            if not parts:
                raise NotFoundError(f"{where}, which is outside of the version")
            parts.pop()
        elif part not in (b"", b"."):
            parts.append(part)
    return b"/".join([*parts, *rest])


def _text(path: bytes) -> str:
    return path.decode(errors="surrogateescape")
