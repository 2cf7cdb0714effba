"""A store with real content, and a vfs over it: what the tests of this folder stand on.

Files are given as a dictionary from path to what is there: bytes, `Executable`, `Symlink`, or None for a directory.
Chunks are small, so that a few kilobytes make a file of several chunks, and a few more one with recipes.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fsd.cache.cache import Cache
from fsd.format.commit import Commit, encode_commit
from fsd.format.keys import ObjectKind, pack_key
from fsd.format.limits import MAX_INLINE_PIECES
from fsd.format.model import Entry, Kind, Piece, Placement
from fsd.format.pack import PackedChunk, encode_contents
from fsd.format.recipe import encode_recipe
from fsd.ids import content_id, new_pack_id
from fsd.limits import DEFAULT_LIMITS, Limits
from fsd.repo.builder import build_tree
from fsd.repo.objects import ObjectWriter, StoreLoader
from fsd.repo.packs import PackReader
from fsd.repo.repository import Repositories, init_store, open_repositories
from fsd.stores.memory import MemoryStore
from fsd.vfs.attributes import ROOT_INO, Attributes, Missing
from fsd.vfs.vfs import Vfs
from tests.faulty import FaultyStore
from tests.repo.trees import batches, in_order, model

CHUNK_BYTES = 1000
RECIPE_PIECES = 20

LIMITS = replace(DEFAULT_LIMITS, cache_bytes=64 * 1024 * 1024, range_gap_bytes=0)

ALWAYS_ASK = replace(LIMITS, refs_ttl_s=0)
"""What is known of refs is too old at once."""

SHORT_S, FOREVER_S = LIMITS.entry_timeout_s, LIMITS.immutable_timeout_s

COMMIT_TIME_US = 1_700_000_000_000_000


@dataclass(frozen=True)
class Executable:
    """An executable file."""

    data: bytes


@dataclass(frozen=True)
class Symlink:
    """A symlink."""

    target: bytes


Node = bytes | Executable | Symlink | None
Files = Mapping[bytes, Node]


LARGE = random.Random(0).randbytes(150 * CHUNK_BYTES + 17)
"""A file with a recipe."""

TREE: Files = {
    b"README": b"hello",
    b"empty": b"",
    b"run": Executable(b"hello"),
    b"link": Symlink(b"train/a.txt"),
    b"hollow": None,
    b"train/a.txt": b"a" * 2500,
    b"train/b.txt": b"b" * 10,
    b"train/deep/er/\xff\n": b"odd",
    b"large": LARGE,
}
"""One of each."""


class Builder:
    """Writes commits into a store."""

    def __init__(self, repositories: Repositories) -> None:
        self.repositories = repositories
        self._store = repositories.store
        self._writer = ObjectWriter(self._store)
        self.packs: list[bytes] = []

    async def commit(
        self,
        repository: str,
        files: Files,
        *,
        branch: str | None = "main",
        tag: str | None = None,
        time_us: int = COMMIT_TIME_US,
        message: str = "",
        one_pack_a_file: bool = False,
    ) -> bytes:
        """Commit a tree of `files` and move the refs. Returns the commit's id."""
        entries = [entry async for entry in self._entries(files, one_pack_a_file)]
        tree = in_order(model(entries))
        built = await build_tree(self._writer, batches(tree))
        commit = Commit(repository, built.id, built.totals, time_us, message=message)
        commit_id = await self._writer.write(ObjectKind.COMMIT, encode_commit(commit, built.root))
        refs = self.repositories.refs
        if branch is not None:
            before = await refs.read(repository, branch)
            expected = before.ref.target if before else None
            await refs.move_branch(repository, branch, commit_id, expected=expected, summary=message)
        if tag is not None:
            await refs.set_tag(repository, tag, commit_id, force=True)
        return commit_id

    async def _entries(self, files: Files, one_pack_a_file: bool) -> AsyncIterator[Entry]:
        pack = _Pack()
        for path, node in files.items():
            directory, _, name = path.rpartition(b"/")
            if node is None:
                yield Entry(directory, name, Kind.DIRECTORY)
            elif isinstance(node, Symlink):
                target = node.target
                yield Entry(directory, name, Kind.SYMLINK, size=len(target), content=content_id(target), target=target)
            else:
                data = node.data if isinstance(node, Executable) else node
                if one_pack_a_file:
                    await self._write_pack(pack)
                    pack = _Pack()
                level, pieces, placements = await self._pieces(pack, data)
                yield Entry(
                    directory,
                    name,
                    Kind.FILE,
                    isinstance(node, Executable),
                    len(data),
                    content_id(data),
                    b"",
                    level,
                    tuple(pieces),
                    tuple(placements),
                )
        await self._write_pack(pack)

    async def _pieces(self, pack: _Pack, data: bytes) -> tuple[int, list[Piece], list[Placement]]:
        parts = [data[at : at + CHUNK_BYTES] for at in range(0, len(data), CHUNK_BYTES)]
        placements = [pack.add(part) for part in parts]
        pieces = [Piece(content_id(part), len(part)) for part in parts]
        level = 0
        while len(pieces) > MAX_INLINE_PIECES:
            higher: list[Piece] = []
            for at in range(0, len(pieces), RECIPE_PIECES):
                run = pieces[at : at + RECIPE_PIECES]
                logical, placement = encode_recipe(
                    level, run, placements[at : at + RECIPE_PIECES] if level == 0 else ()
                )
                recipe = await self._writer.write(ObjectKind.RECIPE, logical, placement)
                higher.append(Piece(recipe, sum(piece.length for piece in run)))
            pieces, level = higher, level + 1
        return level, pieces, placements if level == 0 else []

    async def _write_pack(self, pack: _Pack) -> None:
        if pack.chunks:
            body = b"".join(pack.parts) + encode_contents(pack.chunks)
            await self._store.put_if_absent(pack_key(pack.id), body)
            self.packs.append(pack.id)


class _Pack:
    def __init__(self) -> None:
        self.id = new_pack_id()
        self.parts: list[bytes] = []
        self.chunks: list[PackedChunk] = []
        self._known: dict[bytes, Placement] = {}
        self._size = 0

    def add(self, data: bytes) -> Placement:
        """Stored as it is."""
        chunk = content_id(data)
        if chunk not in self._known:
            self._known[chunk] = Placement(self.id, self._size, len(data), self._size)
            self.parts.append(data)
            self.chunks.append(PackedChunk(chunk, len(data), len(data)))
            self._size += len(data)
        return self._known[chunk]


class World:
    """A store, and a vfs over it that keeps nothing of what was built."""

    def __init__(
        self, store: FaultyStore, builder: Builder, repositories: Repositories, cache: Cache, vfs: Vfs
    ) -> None:
        self.store = store
        self.builder = builder
        self.repositories = repositories
        self.cache = cache
        self.vfs = vfs

    async def commit(self, repository: str, files: Files, **options: Any) -> bytes:
        """See `Builder.commit`."""
        return await self.builder.commit(repository, files, **options)

    async def lookup(self, path: bytes) -> Attributes | Missing:
        """The node at a path from the top, symlinks not followed. Each step counts as a lookup."""
        ino = ROOT_INO
        found: Attributes | Missing = await self.vfs.getattr(ino)
        for name in path.split(b"/"):
            found = await self.vfs.lookup(ino, name)
            if isinstance(found, Missing):
                return found
            ino = found.ino
        return found

    async def stat(self, path: bytes) -> Attributes:
        """The node at a path, which exists."""
        found = await self.lookup(path)
        assert isinstance(found, Attributes), path
        return found

    async def listing(self, ino: int, start: int = 0) -> list[tuple[bytes, int, int, int, int, int]]:
        """All entries of a directory."""
        entries: list[tuple[bytes, int, int, int, int, int]] = []
        while True:
            batch = list((await self.vfs.list(ino, start)).entries)
            if not batch:
                return entries
            entries += batch
            start = batch[-1][-1]

    async def names(self, path: bytes) -> list[bytes]:
        """The names in a directory; b'' is the top."""
        ino = (await self.stat(path)).ino if path else ROOT_INO
        return [entry[0] for entry in await self.listing(ino)]

    async def read(self, ino: int, offset: int, size: int) -> bytes:
        """What the kernel would get."""
        data = self.vfs.read_nowait(ino, offset, size)
        return bytes(await self.vfs.read(ino, offset, size) if data is None else data)

    async def content(self, path: bytes) -> bytes:
        """A whole file."""
        found = await self.stat(path)
        return await self.read(found.ino, 0, found.size)

    def requests(self) -> list[str]:
        """What was asked of the store since the last time, as `operation key`."""
        asked = [f"{call.operation} {call.key}" for call in self.store.calls]
        self.store.calls.clear()
        return asked


async def new_store() -> Builder:
    """An empty store in memory."""
    store = MemoryStore()
    await init_store(store)
    return Builder(await open_repositories(store))


@asynccontextmanager
async def opened(builder: Builder, directory: Path, limits: Limits = LIMITS, **options: Any) -> AsyncIterator[World]:
    """A vfs over the builder's store, with a cache in `directory`, that has just been opened."""
    store = FaultyStore(builder.repositories.store)
    async with Cache.open(directory, PackReader(store), limits) as cache:
        loader = cache.loader(StoreLoader(store))
        repositories = await open_repositories(store, limits, loader=loader)
        async with Vfs.open(repositories, cache, limits, **options) as vfs:
            yield World(store, builder, repositories, cache, vfs)


def directories_of(files: Files) -> Iterator[bytes]:
    """The paths of all directories of a tree but its top."""
    found = {path for path, node in files.items() if node is None}
    for path in files:
        names = path.split(b"/")
        found.update(b"/".join(names[:depth]) for depth in range(1, len(names)))
    return iter(sorted(found))
