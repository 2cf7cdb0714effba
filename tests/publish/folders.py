"""Folders as dictionaries, and a reader of stores that shares no code with the publisher: what was published, and
whether all of it is there."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fsd.clock import Clock, now_us
from fsd.errors import NotFoundError
from fsd.format.model import Entry, Kind, PlacedChunk
from fsd.format.pack import decode_chunk
from fsd.ids import content_id
from fsd.limits import DEFAULT_LIMITS, Limits
from fsd.publish.landing import Request
from fsd.publish.progress import NoProgress
from fsd.publish.publisher import Published, publish
from fsd.repo.repository import Repositories, init_store, open_repositories
from fsd.repo.tree import Tree
from fsd.stores.base import Store
from fsd.stores.local import LocalStore, create_local_root


class Item(NamedTuple):
    """What a path is: "d", "l" with its target, "f" or "x" (executable) with its content."""

    kind: str
    data: bytes = b""


Folder = Mapping[bytes, Item]
"""By path."""

DIRECTORY = Item("d")


def file(data: bytes = b"") -> Item:
    """A plain file."""
    return Item("f", data)


def program(data: bytes = b"") -> Item:
    """An executable file."""
    return Item("x", data)


def link(target: bytes) -> Item:
    """A symlink."""
    return Item("l", target)


def write_folder(top: Path, folder: Folder) -> Path:
    """Make the folder what `folder` says, touching nothing that is right already."""
    top.mkdir(exist_ok=True)
    root = os.fsencode(top)
    present = read_folder(top)
    for path in sorted(present, reverse=True):
        if folder.get(path) != present[path]:
            full = os.path.join(root, path)
            if present[path] == DIRECTORY:
                os.rmdir(full)
            elif path in folder and {present[path].kind, folder[path].kind} <= {"f", "x"}:
                continue
            else:
                os.unlink(full)
    for path, item in sorted(folder.items()):
        if present.get(path) == item:
            continue
        full = os.path.join(root, path)
        if item.kind == "d":
            os.mkdir(full)
        elif item.kind == "l":
            os.symlink(item.data, full)
        else:
            with open(full, "wb") as opened:
                opened.write(item.data)
            os.chmod(full, 0o755 if item.kind == "x" else 0o644)
    return top


def read_folder(top: Path) -> dict[bytes, Item]:
    """What is in a folder."""
    found: dict[bytes, Item] = {}
    root = os.fsencode(top)

    def read(directory: bytes) -> None:
        for name in os.listdir(os.path.join(root, directory)):
            path = os.path.join(directory, name)
            full = os.path.join(root, path)
            mode = os.lstat(full).st_mode
            if stat.S_ISDIR(mode):
                found[path] = DIRECTORY
                read(path)
            elif stat.S_ISLNK(mode):
                found[path] = link(os.readlink(full))
            else:
                with open(full, "rb") as opened:
                    found[path] = Item("x" if mode & stat.S_IXUSR else "f", opened.read())

    read(b"")
    return found


class Counting(NoProgress):
    """Counts what a publisher says it does."""

    def __init__(self, *, wants_total: bool = False) -> None:
        self.wants_total = wants_total
        self.phases: list[str] = []
        self.expected: list[tuple[int, int]] = []
        self.unread = (0, 0)
        self.was_read = (0, 0)
        self.stored_bytes = 0

    def phase(self, name: str) -> None:
        self.phases.append(name)

    def expect(self, entries: int, size_bytes: int) -> None:
        self.expected.append((entries, size_bytes))

    def unchanged(self, entries: int, size_bytes: int) -> None:
        self.unread = (self.unread[0] + entries, self.unread[1] + size_bytes)

    def read(self, files: int, size_bytes: int) -> None:
        self.was_read = (self.was_read[0] + files, self.was_read[1] + size_bytes)

    def stored(self, stored_bytes: int) -> None:
        self.stored_bytes += stored_bytes


def an_hour_later() -> int:
    """A clock by which every file of a test is old enough to be recorded as unchanged."""
    return now_us() + 3_600_000_000


class Desk:
    """Somebody who publishes: a store, a folder, and a state of their own."""

    def __init__(
        self,
        place: Path,
        name: str = "",
        limits: Limits = DEFAULT_LIMITS,
        clock: Clock = an_hour_later,
        store: Store | None = None,
    ) -> None:
        """The store is in `place` unless one is given; what belongs to this one alone goes by `name`."""
        if store is None:
            create_local_root(place / "store")
            store = LocalStore(place / "store", limits)
        self.store = store
        self.top = place / f"folder{name}"
        self.state = place / f"state{name}"
        self.limits = limits
        self.clock = clock
        self.wants_total = False
        self.progress = Counting()
        self.top.mkdir(exist_ok=True)

    async def repositories(self) -> Repositories:
        """The store, opened as a new process would, and made if it is not there."""
        try:
            return await open_repositories(self.store, self.limits, clock=self.clock)
        except NotFoundError:
            await init_store(self.store)
            return await open_repositories(self.store, self.limits, clock=self.clock)

    async def commit(self, folder: Folder | None = None, repository: str = "repo", **request: Any) -> Published:
        """Make the folder what is said, and publish it."""
        if folder is not None:
            write_folder(self.top, folder)
        self.progress = Counting(wants_total=self.wants_total)
        return await publish(
            await self.repositories(),
            os.fsencode(self.top),
            Request(repository, **request),
            state=self.state,
            progress=self.progress,
        )

    async def read_back(self, commit: bytes) -> dict[bytes, Item]:
        """What a commit holds, every chunk read from its pack and checked."""
        return await read_commit(await self.repositories(), commit)


async def read_commit(repositories: Repositories, commit: bytes) -> dict[bytes, Item]:
    """Every path of a commit, with the bytes that its chunks have in the store."""
    found: dict[bytes, Item] = {}
    packs: dict[bytes, bytes] = {}
    tree = await repositories.tree(commit)
    async for listed in tree.list_below():
        for position in listed.positions:
            entry = listed.page.entry(position)
            found[entry.path] = await _read_entry(repositories, entry, packs)
    return found


async def _read_entry(repositories: Repositories, entry: Entry, packs: dict[bytes, bytes]) -> Item:
    if entry.kind is Kind.DIRECTORY:
        return DIRECTORY
    if entry.kind is Kind.SYMLINK:
        assert content_id(entry.target) == entry.content
        return link(entry.target)
    parts = []
    for chunk in await chunks_of(repositories, entry):
        place = chunk.placement
        if place.pack not in packs:
            contents = await repositories.packs.contents(place.pack)
            packs[place.pack] = await repositories.packs.read(place.pack, 0, sum(packed.stored for packed in contents))
        stored = packs[place.pack][place.offset : place.offset + place.stored]
        parts.append(bytes(decode_chunk(chunk.id, stored, chunk.length)))
    data = b"".join(parts)
    assert len(data) == entry.size
    assert content_id(data) == entry.content
    return Item("x" if entry.executable else "f", data)


async def chunks_of(repositories: Repositories, entry: Entry) -> list[PlacedChunk]:
    """All chunks of a file, through its recipes."""
    if entry.level == 0:
        return list(entry.chunks())
    chunks: list[PlacedChunk] = []

    async def read(recipe_id: bytes, level: int) -> None:
        recipe = await repositories.objects.recipe(recipe_id)
        assert recipe.level == level
        if level == 0:
            chunks.extend(recipe.chunks(0, len(recipe)))
            return
        for position in range(len(recipe)):
            await read(recipe.id(position), level - 1)

    for piece in entry.pieces:
        await read(piece.id, entry.level - 1)
    return chunks


async def tree_of(repositories: Repositories, commit: bytes) -> Tree:
    """The tree of a commit."""
    return await repositories.tree(commit)


async def verify_store(store: Store) -> dict[str, dict[bytes, Item]]:
    """Read everything that any ref of any repository names, with all that came before; the branches' content.

    Fails if anything reachable is missing, does not parse, or does not hash to its name.
    """
    repositories = await open_repositories(store)
    branches: dict[str, dict[bytes, Item]] = {}
    seen: set[bytes] = set()
    for repository in await repositories.refs.repositories():
        for name, stored in (await repositories.refs.read_all(repository)).items():
            branches[f"{repository}/{name}"] = await read_commit(repositories, stored.ref.target)
            waiting = [stored.ref.target]
            while waiting:
                commit = waiting.pop()
                if commit not in seen:
                    seen.add(commit)
                    await read_commit(repositories, commit)
                    waiting += (await repositories.commit(commit)).parents
    return branches


async def keys_of(store: Store, prefix: str = "") -> list[str]:
    """All keys."""
    return [info.key async for info in store.list(prefix)]


async def snapshot(store: Store, wanted: Callable[[str], bool]) -> dict[str, bytes]:
    """The objects whose key is wanted."""
    return {key: (await store.get(key)).data for key in await keys_of(store) if wanted(key)}
