"""Stores of somebody who means harm, looked at through a whole reader: names, listings, reads, all that a mount does.

Each case is a version of its own in one store, in which one object or more are hostile, sealed so that everything above
names them. A healthy version beside it has to stay readable.
"""

from __future__ import annotations

import json
import random
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import trio

from fsd.cache.cache import Cache
from fsd.errors import CorruptDataError, FsdError
from fsd.format.commit import Commit, encode_commit, tree_id
from fsd.format.index import Index, IndexChild, Totals, encode_index
from fsd.format.keys import ObjectKind, object_key, pack_key
from fsd.format.limits import MAX_CHUNK_BYTES, MAX_FILE_BYTES, MAX_PACK_BYTES
from fsd.format.model import Entry, Kind, Piece, Placement
from fsd.format.page import Page, encode_page
from fsd.format.recipe import encode_recipe
from fsd.format.ref import Move, Ref, RefKind, encode_ref
from fsd.ids import content_id
from fsd.limits import DEFAULT_LIMITS, MIB
from fsd.repo.objects import StoreLoader
from fsd.repo.packs import PackReader
from fsd.repo.repository import init_store, open_repositories
from fsd.stores.memory import MemoryStore
from fsd.vfs.attributes import ROOT_INO, Attributes
from fsd.vfs.vfs import Vfs
from tests.format.samples import TIME_US
from tests.format.spoiling import commit_of, spoilt
from tests.hostile.forging import checked, enveloped, spoilt_json
from tests.hostile.judging import MESSAGE_CHARACTERS, MOST_MEMORY_BYTES, Finding, Tally, forget_peak, peak_bytes

ANSWER_S = 6.0
"""One request, of which one is allowed; the rest is for a busy machine."""

MOST_NODES = 60
MOST_BATCHES = 20
READ_BYTES = 1024 * 1024
CHUNK = random.Random(7).randbytes(3000)
HEALTHY = b"healthy"

LIMITS = replace(
    DEFAULT_LIMITS,
    cache_bytes=32 * MIB,
    page_memory_bytes=2 * MIB,
    open_trees=8,
    # Nobody is coming back: what fails once need not be tried again for long.
    fetch_attempts=2,
    retry_min_s=0.001,
    retry_max_s=0.002,
    read_deadline_s=1.0,
    refs_ttl_s=0.0,
    fresh_hints_s=0.0,
    hedge_first_s=1.0,
)

PACK, OTHER_PACK, NO_PACK = b"p" * 16, b"q" * 16, b"n" * 16
CHUNKS = [CHUNK[:1000], CHUNK[1000:1700], CHUNK[1700:]]
_STARTS = (0, 1000, 1700)


@dataclass
class Hostile:
    """The objects of one version, as they are made: children before those who name them."""

    rng: random.Random
    objects: dict[str, bytes] = field(default_factory=dict)

    def tag(self, name: str) -> None:
        """A version with that name; whatever may be wrong with it, chosen by the dice."""
        where = self.rng.choice(["entries", "page", "placement", "index", "recipe", "commit", "ref", "tree", "packs"])
        pages = [self._page(self._entries(where), where)]
        root = self._root(pages, where)
        commit = self._commit(root, where)
        kind, moves = RefKind.TAG, (Move(commit, TIME_US),)
        data = encode_ref(Ref(kind, moves))
        if where == "ref":
            data = checked(spoilt_json(data.split(b"\n")[0], self.rng))
        self.objects[f"refs/r/{name}"] = data

    # --- entries, and what they name

    def _entries(self, where: str) -> list[Entry]:
        found = [
            self._file(b"", b"one", CHUNKS[:1]),
            self._file(b"", b"several", CHUNKS),
            self._file(b"deep/er", b"again", CHUNKS[1:], executable=True),
            Entry(b"", b"empty", Kind.FILE, False, 0, content_id(b"")),
            Entry(b"", b"deep", Kind.DIRECTORY),
            Entry(b"deep", b"er", Kind.DIRECTORY),
            Entry(b"", b"link", Kind.SYMLINK, size=3, content=content_id(b"one"), target=b"one"),
            self._recipes(where),
        ]
        if where == "entries":
            found = self._lying(found)
        return sorted(found, key=lambda entry: entry.key)

    def _file(self, directory: bytes, name: bytes, chunks: list[bytes], *, executable: bool = False) -> Entry:
        data = b"".join(chunks)
        pieces = tuple(Piece(content_id(chunk), len(chunk)) for chunk in chunks)
        placements = tuple(
            Placement(PACK, _STARTS[CHUNKS.index(chunk)], len(chunk), _STARTS[CHUNKS.index(chunk)]) for chunk in chunks
        )
        return Entry(directory, name, Kind.FILE, executable, len(data), content_id(data), b"", 0, pieces, placements)

    def _placement(self, length: int) -> Placement:
        """A hint that leads anywhere."""
        offsets = [0, 1, 999, 1000, 2999, 3000, 2**31, 2**40, MAX_PACK_BYTES]
        return Placement(
            self.rng.choice([PACK, OTHER_PACK, NO_PACK]),
            self.rng.choice(offsets),
            self.rng.choice([1, min(length, 1000), length]),
            self.rng.choice(offsets),
        )

    def _lying(self, entries: list[Entry]) -> list[Entry]:
        """Files that say something else of themselves: content, lengths, where their chunks are."""
        changed = []
        for entry in entries:
            if entry.kind is not Kind.FILE or not entry.pieces or entry.level or self.rng.random() < 0.4:
                changed.append(entry)
                continue
            lengths = [
                self.rng.choice([piece.length, piece.length, 1, 65_536, MAX_CHUNK_BYTES]) for piece in entry.pieces
            ]
            ids = [self.rng.choice([piece.id, content_id(b"nobody has it")]) for piece in entry.pieces]
            content = ids[0] if len(ids) == 1 else self.rng.choice([entry.content, content_id(CHUNKS[0]), bytes(32)])
            changed.append(
                entry._replace(
                    size=sum(lengths),
                    content=content,
                    pieces=tuple(map(Piece, ids, lengths)),
                    placements=tuple(map(self._placement, lengths)),
                )
            )
        return changed

    def _recipes(self, where: str) -> Entry:
        """A file of which one recipe names the next one many times: small to store, and of any size."""
        pieces = [(content_id(chunk), len(chunk)) for chunk in CHUNKS] * 30
        places = [Placement(PACK, start, len(chunk), start) for start, chunk in zip(_STARTS, CHUNKS, strict=True)] * 30
        if where == "recipe":
            lying = [self._placement(length) for _, length in pieces]
            places = [self.rng.choice([place, place, lie]) for place, lie in zip(places, lying, strict=True)]
            if self.rng.random() < 0.2:  # dust
                pieces = [(content_id(CHUNK[:1]), 1)] * 6000
                places = [Placement(PACK, 0, 1, 0)] * 6000
        size, recipe = sum(length for _, length in pieces), self._recipe(0, pieces, places, where)
        levels = self.rng.choice([0, 1, 2, 3]) if where == "recipe" else self.rng.choice([0, 1])
        for level in range(1, levels + 1):
            most = min(self.rng.choice([2, 100, 6000]), MAX_FILE_BYTES // size // 64)
            pieces = [(recipe, self.rng.choice([size] * 30 + [size - 1, 1]))] * max(1, most)
            recipe, size = self._recipe(level, pieces, [], where), sum(length for _, length in pieces)
        count = self.rng.choice([1, 2, 64])
        named = tuple(Piece(recipe, size) for _ in range(count))
        return Entry(b"", b"large", Kind.FILE, False, size * count, content_id(b"large"), b"", levels + 1, named)

    def _recipe(self, level: int, pieces: list[tuple[bytes, int]], places: list[Placement], where: str) -> bytes:
        logical, placement = encode_recipe(level, pieces, places)
        if where == "recipe" and self.rng.random() < 0.3:
            logical = logical[:8] + spoilt(logical[8:], self.rng)
        return self._put(ObjectKind.RECIPE, logical, placement, is_spoilt=where == "recipe")

    # --- the tree

    def _page(self, entries: list[Entry], where: str) -> IndexChild:
        logical, placement = encode_page(entries)
        key = entries[0].key
        files = [entry.size for entry in entries if entry.kind is not Kind.DIRECTORY]
        totals = Totals(len(entries), len(files), min(sum(files), 2**63))
        if where == "page":
            logical = logical[:8] + spoilt(logical[8:], self.rng)
            try:
                page = Page(logical, placement)
            except CorruptDataError:
                pass
            else:
                key = page.first_key
                totals = Totals(len(page), self.rng.choice([0, len(page)]), self.rng.choice([0, 1, 2**62]))
        elif where == "placement":
            placement = spoilt(placement, self.rng)
        return IndexChild(key, self._put(ObjectKind.PAGE, logical, placement, is_spoilt=where == "page"), totals)

    def _root(self, children: list[IndexChild], where: str) -> bytes:
        if where == "tree":
            return self._endless(children[0])
        root = encode_index(0, children)
        return root[:8] + spoilt(root[8:], self.rng) if where == "index" else root

    def _endless(self, page: IndexChild) -> bytes:
        """Indexes that name the same child many times, under keys that ascend: small to store, and without an end."""
        child, level = page, 0
        for level in range(self.rng.choice([1, 2, 8])):
            count = self.rng.choice([1, 2, 50])
            keys = [child.first_key, *(b"a\0\0%06d" % number for number in range(1, count))]
            totals = child.totals._replace(bytes=0) if self.rng.random() < 0.5 else Totals(1, 0, 0)
            if totals.entries * count >= 2**47:
                break
            children = [IndexChild(key, child.id, totals) for key in sorted(set(keys))]
            logical = encode_index(level, children)
            if self.rng.random() < 0.2:
                logical = logical[:8] + spoilt(logical[8:], self.rng)
            index_id = self._put(ObjectKind.INDEX, logical, b"", is_spoilt=False)
            child = IndexChild(children[0].first_key, index_id, Totals(*(count * each for each in totals)))
        return encode_index(level + 1, [child])

    def _commit(self, root: bytes, where: str) -> bytes:
        try:
            totals = Index(root).totals
        except CorruptDataError:
            totals = Totals(1, 0, 0)
        commit = Commit("r", tree_id(root), totals, TIME_US, message="it")
        try:
            logical = encode_commit(commit, root)
        except (ValueError, CorruptDataError):
            header: dict[str, Any] = {
                "repository": "r", "tree": tree_id(root).hex(), "totals": totals._asdict(), "time_us": TIME_US,
                "author": "", "message": "", "parents": [], "metadata": {},
            }  # fmt: skip
            logical = commit_of(json.dumps(header).encode(), root)
        if where == "commit":
            (length,) = struct.unpack_from("<I", logical, 8)
            logical = commit_of(spoilt_json(logical[12 : 12 + length], self.rng), logical[12 + length :])
        return self._put(ObjectKind.COMMIT, logical, b"", is_spoilt=where == "commit")

    def _put(self, kind: ObjectKind, logical: bytes, placement: bytes, *, is_spoilt: bool) -> bytes:
        rng = self.rng if is_spoilt and self.rng.random() < 0.3 else _Sound()
        object_id, stored = enveloped(logical, placement, rng)
        self.objects[object_key(kind, object_id)] = stored
        return object_id


class _Sound(random.Random):
    """Dice that never choose anything bad: what is enveloped by them is as it should be."""

    def random(self) -> float:
        """The least harmful."""
        return 0.0


# --- looking


class Visitor:
    """Does with versions what the kernel does for programs."""

    def __init__(self, store: MemoryStore, vfs: Vfs) -> None:
        self._store = store
        self._vfs = vfs
        self.tally = Tally()
        forget_peak()
        self._before_bytes = peak_bytes()

    async def visit(self, seed: str) -> None:
        """Put the version of that seed into the store, look at all of it, and judge."""
        name = content_id(seed.encode()).hex()[:6] + "v"
        hostile = Hostile(random.Random(seed))
        hostile.tag(name)
        for key, data in hostile.objects.items():
            await self._store.overwrite(key, data)
        self.tally.cases += 1
        began_s = trio.current_time()
        try:
            await self._walk(name.encode(), random.Random(seed))
            await self._check_healthy()
        except Exception as error:
            self._found(seed, repr(error)[:300])
        took_s = trio.current_time() - began_s
        if took_s > self.tally.slowest_s:
            self.tally.slowest_s, self.tally.slowest = took_s, f"store {seed}"
        grown_bytes = peak_bytes() - self._before_bytes
        if max(grown_bytes, self.tally.grown_bytes) > MOST_MEMORY_BYTES >= self.tally.grown_bytes:
            self._found(seed, f"the process has grown by {grown_bytes / 2**20:.0f} MiB")
        self.tally.grown_bytes = max(self.tally.grown_bytes, grown_bytes)
        for key in hostile.objects:
            await self._store.delete(key)

    def _found(self, seed: str, what: str) -> None:
        self.tally.findings.append(Finding("store", seed, what))

    async def _walk(self, name: bytes, rng: random.Random) -> None:
        repository = await self._lookup(ROOT_INO, b"r")
        assert repository is not None
        nodes = [await self._lookup(repository.ino, name)]
        if rng.random() < 0.2:
            nodes.append(await self._lookup(repository.ino, name + b"+10pct"))
        seen = 0
        while nodes and seen < MOST_NODES:
            node = nodes.pop()
            seen += 1
            if node is None:
                continue
            if node.mode & 0o170000 == 0o040000:
                nodes += await self._list(node)
            elif node.mode & 0o170000 == 0o120000:
                await self._allowed(self._vfs.readlink(node.ino))
            else:
                await self._read(node, rng)
            for attribute in (
                () if rng.random() < 0.7 else list(await self._allowed(self._vfs.listxattr(node.ino)) or ())[:8]
            ):
                await self._allowed(self._vfs.getxattr(node.ino, attribute))

    async def _lookup(self, parent: int, name: bytes) -> Attributes | None:
        found = await self._allowed(self._vfs.lookup(parent, name))
        return found if isinstance(found, Attributes) else None

    async def _list(self, node: Attributes) -> list[Attributes | None]:
        start, names = 0, []
        for _ in range(MOST_BATCHES):
            listing = await self._allowed(self._vfs.list(node.ino, start))
            batch = list(listing.entries) if listing else []
            if not batch:
                break
            for entry in batch:
                assert entry[0] not in (b"", b".", b"..")
                assert b"/" not in entry[0]
                assert b"\0" not in entry[0]
                assert len(entry[0]) <= 255
            names += [entry[0] for entry in batch]
            start = batch[-1][-1]
        return [await self._lookup(node.ino, name) for name in names[:12]]

    async def _read(self, node: Attributes, rng: random.Random) -> None:
        # Now and then long enough for read-ahead to reach its greatest window.
        forward = range(0, min(node.size, READ_BYTES * rng.choice([1, 1, 1, 1, 1, 1, 1, 1, 1, 40])), READ_BYTES)
        for offset in (*forward, rng.randrange(node.size + 1), max(0, node.size - 100)):
            data = await self._allowed(self._content(node.ino, offset))
            assert data is None or len(data) == min(READ_BYTES, node.size - offset), "fewer bytes than there are"

    async def _content(self, ino: int, offset: int) -> Any:
        data = self._vfs.read_nowait(ino, offset, READ_BYTES)
        return await self._vfs.read(ino, offset, READ_BYTES) if data is None else data

    async def _allowed(self, answer: Any) -> Any:
        """The answer, or None where it is an error of the hierarchy."""
        began_s = trio.current_time()
        try:
            return await answer
        except FsdError as error:
            self.tally.refused += 1
            if len(str(error)) > MESSAGE_CHARACTERS:
                raise AssertionError("a long message") from error
            return None
        finally:
            took_s = trio.current_time() - began_s
            assert took_s < ANSWER_S, f"{answer.__qualname__} took {took_s:.1f} s"

    async def _check_healthy(self) -> None:
        repository = await self._lookup(ROOT_INO, b"r")
        assert repository is not None
        version = await self._lookup(repository.ino, HEALTHY)
        assert version is not None
        file = await self._lookup(version.ino, b"several")
        assert file is not None
        assert await self._content(file.ino, 0) == b"".join(CHUNKS)


@asynccontextmanager
async def opened(directory: Path) -> AsyncIterator[Visitor]:
    """A visitor of a new store in memory, with a cache in `directory`."""
    store = MemoryStore()
    await init_store(store)
    pack = b"".join(CHUNKS)
    await store.put_if_absent(pack_key(PACK), pack)
    await store.put_if_absent(pack_key(OTHER_PACK), bytes(5000))
    healthy = Hostile(_Sound())
    # A page of its own: what hostile versions share with it they may put in another form, or take away.
    entries = [*healthy._entries(""), healthy._file(b"", b"zzz", CHUNKS[:1])]
    child = healthy._page(sorted(entries, key=lambda entry: entry.key), "")
    commit = healthy._commit(healthy._root([child], ""), "")
    healthy.objects[f"refs/r/{HEALTHY.decode()}"] = encode_ref(Ref(RefKind.TAG, (Move(commit, TIME_US),)))
    for key, data in healthy.objects.items():
        await store.put_if_absent(key, data)
    async with Cache.open(directory, PackReader(store), LIMITS) as cache:
        repositories = await open_repositories(store, LIMITS, loader=cache.loader(StoreLoader(store)))
        async with Vfs.open(repositories, cache, LIMITS) as vfs:
            yield Visitor(store, vfs)
