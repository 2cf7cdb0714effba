"""A store to be spoiled, a cache that a reader filled while it was whole, and what of it reads right."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from fsd.cache.cache import Cache
from fsd.errors import FsdError
from fsd.format.keys import PACKS, ObjectKind
from fsd.format.model import Entry, PlacedChunk
from fsd.format.pack import decode_chunk
from fsd.ids import Buffer
from fsd.limits import KIB, MIB, Limits
from fsd.maintenance.mending import Donor
from fsd.maintenance.repair import Repaired, repair
from fsd.maintenance.verify import Report, verify
from fsd.repo.objects import StoreLoader
from fsd.repo.packs import PackReader
from fsd.repo.repository import Repositories, open_repositories
from fsd.repo.rules import Rule
from fsd.repo.subsets import create_subset
from fsd.stores.base import Store
from fsd.stores.local import LocalStore, create_local_root
from fsd.stores.memory import MemoryStore
from tests.maintenance.desks import Quiet
from tests.publish.folders import DIRECTORY, Desk, Folder, chunks_of, file, keys_of

LIMITS = replace(
    Limits(),
    pack_bytes=64 * KIB,
    own_pack_bytes=256 * KIB,
    range_bytes=64 * KIB,
    cache_bytes=256 * MIB,
    extent_bytes=64 * KIB,
)

Wanted = Callable[[bytes], bool]
"""Which paths a reader reads."""


@dataclass
class DictDonor:
    """A donor that has what it was given."""

    objects: Mapping[tuple[ObjectKind, bytes], bytes] = field(default_factory=dict)
    chunks: Mapping[bytes, bytes] = field(default_factory=dict)
    name: str = "a friend"

    async def look_for(self, chunks: Mapping[bytes, int]) -> None:
        """It has a dictionary."""

    async def stored_object(self, kind: ObjectKind, object_id: bytes) -> bytes | None:
        return self.objects.get((kind, object_id))

    async def chunk(self, chunk: bytes, length: int) -> Buffer | None:  # noqa: ARG002 - the protocol's
        return self.chunks.get(chunk)


class Needs(NamedTuple):
    """What reading a file of a version takes."""

    objects: frozenset[tuple[ObjectKind, bytes]]
    chunks: Sequence[PlacedChunk]


Files = dict[tuple[bytes, bytes], Needs]
"""By commit and path."""


def noise(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def text(seed: int, size: int) -> bytes:
    """What compresses."""
    words = [b"%x " % random.Random(seed + number).getrandbits(16) for number in range(200)]
    return b"".join(random.Random(seed).choices(words, k=size // 4))[:size]


def folder(version: int) -> Folder:
    """Small files in several packs, some of which compress, and a file with a recipe and a pack of its own."""
    found = {b"small": DIRECTORY, b"large": file(noise(1000, 3 * MIB) + text(5, MIB))}
    found |= {b"small/%d" % number: file((text if number % 3 else noise)(number, 8_000)) for number in range(30)}
    found[b"small/new"] = file(noise(2000 + version, 8_000))
    return found


class Original:
    """What was published: two versions, a tag and a subset. (No dataclass: nobody wants to see it printed.)"""

    def __init__(self, objects: dict[str, bytes], commits: list[bytes], files: Files, top: Path) -> None:
        self.objects = objects
        self.commits = commits
        self.files = files
        self.top = top
        """The folder of the second version."""

    @classmethod
    async def publish(cls, place: Path) -> Original:
        store = MemoryStore()
        desk = Desk(place, limits=LIMITS, store=store)
        commits = [(await desk.commit(folder(1), tag="v1")).commit, (await desk.commit(folder(2))).commit]
        subset = await create_subset(await desk.repositories(), "repo", commits[0], "few", Rule(limit=3))
        commits.append(subset.id)
        objects = {key: (await store.get(key)).data for key in await keys_of(store)}
        return cls(objects, commits, await _files(store, commits), desk.top)

    async def copy(self, place: Path | None) -> Store:
        """The store, in memory or in a folder."""
        store: Store = MemoryStore()
        if place is not None:
            create_local_root(place)
            store = LocalStore(place, LIMITS)
        for key, data in self.objects.items():
            await store.put_if_absent(key, data)
        return store

    def packs(self) -> list[str]:
        """The keys of the packs, the smallest first."""
        return sorted((key for key in self.objects if key.startswith(PACKS)), key=lambda key: len(self.objects[key]))

    @asynccontextmanager
    async def cache(self, directory: Path, wanted: Wanted = lambda _: True) -> AsyncIterator[Cache]:
        """A cache through which the wanted paths of all versions were read."""
        store = await self.copy(None)
        async with Cache.open(directory, PackReader(store), LIMITS) as cache:
            repositories = await open_repositories(store, LIMITS, loader=cache.loader(StoreLoader(store)))
            for commit in self.commits:
                async for entry in _entries(repositories, commit):
                    if entry.size and wanted(entry.path):
                        chunks = await chunks_of(repositories, entry)
                        await cache.read(chunks, 0, entry.size, widen=False)
            yield cache


async def _entries(repositories: Repositories, commit: bytes) -> AsyncIterator[Entry]:
    async for listed in (await repositories.tree(commit)).list_below():
        for position in listed.positions:
            yield listed.page.entry(position)


async def _files(store: Store, commits: Sequence[bytes]) -> Files:
    repositories = await open_repositories(store, LIMITS)
    files: Files = {}
    for commit in commits:
        _, root = await repositories.objects.commit(commit)
        above = {(ObjectKind.COMMIT, commit), *((ObjectKind.PAGE, child.id) for child in root.children)}
        async for entry in _entries(repositories, commit):
            recipes = {(ObjectKind.RECIPE, piece.id) for piece in entry.pieces} if entry.level else set()
            files[commit, entry.path] = Needs(frozenset(above | recipes), await chunks_of(repositories, entry))
    return files


async def readable(store: Store, files: Files) -> set[tuple[bytes, bytes]]:
    """What reads right, as a process finds it that has just been started."""
    repositories = await open_repositories(store, LIMITS)
    found = set()
    for commit in {commit for commit, _ in files}:
        try:
            async for entry in _entries(repositories, commit):
                try:
                    for chunk in await chunks_of(repositories, entry):
                        place = chunk.placement
                        stored = await repositories.packs.read(place.pack, place.offset, place.stored)
                        decode_chunk(chunk.id, stored, chunk.length)
                except FsdError:
                    continue
                found.add((commit, entry.path))
        except FsdError:
            continue
    return found


async def to_be_had(store: Store, files: Files, cache: Cache) -> set[tuple[bytes, bytes]]:
    """What could be read from the store and the cache together."""
    repositories = await open_repositories(store, LIMITS)
    loader = {
        ObjectKind.COMMIT: repositories.objects.commit,
        ObjectKind.PAGE: repositories.objects.page,
        ObjectKind.RECIPE: repositories.objects.recipe,
    }

    async def has_object(kind: ObjectKind, object_id: bytes) -> bool:
        try:
            await loader[kind](object_id)
        except FsdError:
            return await cache.stored_object(kind, object_id) is not None
        return True

    async def has_chunk(chunk: PlacedChunk) -> bool:
        place = chunk.placement
        try:
            decode_chunk(chunk.id, await repositories.packs.read(place.pack, place.offset, place.stored), chunk.length)
        except FsdError:
            return await cache.read_chunk(chunk.id, chunk.length, 0, chunk.length) is not None
        return True

    found = set()
    for name, path in files.items():
        objects = [await has_object(kind, object_id) for kind, object_id in path.objects]
        chunks = [await has_chunk(chunk) for chunk in path.chunks]
        if all(objects + chunks):
            found.add(name)
    return found


async def spoil(store: Store, key: str, way: str, at: float = 0.5) -> None:
    """Damage an object: `gone`, `short`, `empty`, or with a `flip` of a bit at a share of its length."""
    data = (await store.get(key)).data
    if way == "gone":
        await store.delete(key)
    elif way == "short":
        await store.overwrite(key, data[: len(data) // 3])
    elif way == "empty":
        await store.overwrite(key, b"")
    else:
        spoiled = bytearray(data)
        spoiled[min(int(at * len(data)), len(data) - 1)] ^= 4
        await store.overwrite(key, bytes(spoiled))


async def repaired(store: Store, *donors: Donor, data: bool = True) -> Repaired:
    """Mend a store as a new process would."""
    return await repair(await open_repositories(store, LIMITS), donors, Quiet(), data=data)


async def verified(store: Store, *, data: bool = True) -> list[tuple[str, ...]]:
    """What is wrong with a store now."""
    return told(await verify(await open_repositories(store, LIMITS), Quiet(), data=data))


def told(report: Report) -> list[tuple[str, ...]]:
    """What is wrong. Which of several ways led there is a matter of who was first."""
    return [tuple(damage)[:3] for damage in report.damages]


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
