"""Marking: what the refs of this moment reach, object by object and chunk by chunk.

A pack is needed if a tree names a chunk in it, unless it was repacked and everything that trees name in it was taken
over: then the pack is needed where it went. So a chunk that somebody reused after it was left behind keeps the old
pack.

Memory: 12 bytes a chunk (30 MB for 150 GB), and 150 bytes an object.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Sequence

from fsd.errors import CorruptDataError
from fsd.format.keys import COMMITS, EXPIRED, MOVED, PACKS, PAGES, RECIPES, SEGMENTS, ObjectKind, id_of
from fsd.format.moved import MovedPack
from fsd.format.page import Page
from fsd.format.recipe import Recipe
from fsd.ids import ID_BYTES, PACK_ID_BYTES
from fsd.maintenance.reach import Walk
from fsd.repo.repository import Repositories
from fsd.stores.base import Store
from fsd.tasks import gather

KIND_PREFIXES = {
    COMMITS: (ObjectKind.COMMIT,),
    SEGMENTS: (ObjectKind.SEGMENT,),
    PAGES: (ObjectKind.PAGE, ObjectKind.INDEX),
    RECIPES: (ObjectKind.RECIPE,),
}

_LEAST_DOUBLED = 4096
"""Fewer are not worth looking through for duplicates."""


class PackUse:
    """The chunks of one pack that trees name. Offsets and lengths in bytes."""

    __slots__ = ("_offsets", "_stored", "_unique")

    def __init__(self) -> None:
        self._offsets = array("Q")
        self._stored = array("I")
        self._unique = _LEAST_DOUBLED

    def add(self, offsets: Sequence[int], stored: Sequence[int]) -> None:
        """Chunks; the same ones come again with every version of a page."""
        self._offsets.extend(offsets)
        self._stored.extend(stored)
        if len(self._offsets) > 2 * self._unique:
            chunks = self.chunks()
            self._offsets, self._stored = array("Q", chunks), array("I", chunks.values())
            self._unique = max(len(chunks), _LEAST_DOUBLED)

    def chunks(self) -> dict[int, int]:
        """Stored length by offset, each once."""
        return dict(zip(self._offsets, self._stored, strict=True))

    def live_bytes(self) -> int:
        """Stored bytes that are needed."""
        return sum(self.chunks().values())


class _Marks:
    """Visitor of a walk: what is reached."""

    def __init__(self, advance: Callable[[int], None]) -> None:
        self._advance = advance
        self.packs: dict[bytes, PackUse] = {}
        self.damages: list[str] = []

    def page(self, page: Page, way: str) -> None:  # noqa: ARG002 - nobody asks for the way of what is sound
        self._add(page)

    def recipe(self, recipe: Recipe, way: str) -> None:  # noqa: ARG002
        self._add(recipe)

    def damaged(self, kind: ObjectKind | None, object_id: bytes | None, why: str, way: str) -> None:  # noqa: ARG002
        self.damages.append(f"{why} ({way})")

    def _add(self, named: Page | Recipe) -> None:
        self._advance(1)
        for pack, offsets, stored in named.placed():
            use = self.packs.get(pack)
            if use is None:
                use = self.packs[pack] = PackUse()
            use.add(offsets, stored)


class Reachable:
    """The outcome of a mark."""

    def __init__(self, walk: Walk, packs: dict[bytes, PackUse], moved: dict[bytes, MovedPack]) -> None:
        self._names: dict[str, Collection[bytes]] = {
            prefix: frozenset(each for kind in kinds for each in walk.reached.by_kind[kind])
            for prefix, kinds in KIND_PREFIXES.items()
        }
        self._names[EXPIRED] = self._names[COMMITS]
        self._names[MOVED] = packs.keys()
        self.objects = len(walk.reached)
        self.packs = packs
        """As trees name them."""
        self._moved: dict[bytes, MovedPack] = {}
        self._covered: set[bytes] = set()
        """Packs of which everything that trees name was taken over."""
        self._needed: frozenset[bytes] | None = None
        for pack, note in moved.items():
            self.note_moved(pack, note)

    def note_moved(self, pack: bytes, note: MovedPack) -> None:
        """The pack was repacked, perhaps once more."""
        self._moved[pack] = note
        self._covered.discard(pack)
        if all(note.new_offset(offset) is not None for offset in self.packs[pack].chunks()):
            self._covered.add(pack)
        self._needed = None

    def home(self, pack: bytes) -> bytes:
        """The pack in which the chunks lie that trees look for in `pack`."""
        return self._moved[pack].target if pack in self._covered else pack

    def has(self, key: str) -> bool:
        """Whether the object at `key` is needed, or is of no sort that is collected."""
        names = self._needed_packs() if key.startswith(PACKS) else self._names.get(key[: key.find("/") + 1])
        found = id_of(key, PACK_ID_BYTES if key.startswith((PACKS, MOVED)) else ID_BYTES)
        return names is None or found is None or found in names

    def _needed_packs(self) -> frozenset[bytes]:
        if self._needed is None:
            targets = {note.target for note in self._moved.values()}
            self._needed = frozenset(self.packs.keys() - self._covered | targets)
        return self._needed


async def expired_commits(repositories: Repositories) -> set[bytes]:
    """The commits whose trees were let go of."""
    listed = [id_of(info.key, ID_BYTES) async for info in repositories.store.list(EXPIRED)]
    return {commit for commit in listed if commit is not None}


async def mark(
    repositories: Repositories, expired: Collection[bytes], advance: Callable[[int], None] = lambda _: None
) -> Reachable:
    """All that the refs of this moment reach; of `expired` commits not the trees, unless a ref names them now.

    `advance` is told of each page and recipe. Raises CorruptDataError where what is needed cannot be told, and what a
    store raises.
    """
    marks = _Marks(advance)
    walk = Walk(repositories, marks)
    roots = await walk.roots()
    walk.treeless = set(expired) - roots.tips
    await walk.from_roots(roots.commits.items())
    if marks.damages:
        raise CorruptDataError(
            f"what is needed cannot be told, since {marks.damages[0]}",
            hint="nothing was deleted; see what 'fsd verify' finds, and mend that first",
        )
    listed = [id_of(info.key, PACK_ID_BYTES) async for info in repositories.store.list(MOVED)]
    ids = [pack for pack in listed if pack is not None and pack in marks.packs]
    notes = await gather(repositories.packs.fresh_moved, ids, tasks=repositories.limits.fetch_requests)
    moved = {pack: note for pack, note in zip(ids, notes, strict=True) if note is not None}
    return Reachable(walk, marks.packs, moved)


async def pack_sizes(store: Store) -> dict[bytes, int]:
    """The packs that there are, with their sizes in bytes."""
    listed = [(id_of(info.key, PACK_ID_BYTES), info.size) async for info in store.list(PACKS)]
    return {pack: size for pack, size in listed if pack is not None}
