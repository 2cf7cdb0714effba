"""Trees for tests: entries, models of trees (dictionaries), and building them."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import replace

import hypothesis.strategies as st

from fsd.format.commit import Commit, encode_commit
from fsd.format.index import Index
from fsd.format.keys import ObjectKind
from fsd.format.model import Entry, Kind, Piece, Placement
from fsd.ids import content_id
from fsd.limits import DEFAULT_LIMITS
from fsd.repo.builder import Built, Change, Removal, build_tree
from fsd.repo.cutting import STANDARD_CUTS, Cuts
from fsd.repo.objects import Objects, ObjectWriter, StoreLoader
from fsd.repo.tree import Listed, Tree, TreeView
from fsd.stores.base import Store

PACK = b"p" * 16

TINY_CUTS = Cuts(page_entries=4, page_bytes=500, index_children=3, index_bytes=700, index_least_children=2)
"""A few entries make several pages, a few pages several levels, and cuts of every sort."""

FULL_CUTS = Cuts(page_entries=64, page_bytes=500, index_children=64, index_bytes=700, index_least_children=4)
"""Pages and indexes that mostly end because they are full."""

SMALL_LIMITS = replace(DEFAULT_LIMITS, page_memory_bytes=80_000, listing_read_ahead_pages=4)
"""So little memory that pages come and go."""

Model = Mapping[bytes, Entry]
"""Entry by path."""


class _Model(dict[bytes, Entry]):
    """One that hypothesis can print when an example fails."""

    def __repr__(self) -> str:
        return super().__repr__() if len(self) <= 20 else f"<{len(self)} entries, {sorted(self)[:20]!r}…>"


def split(path: bytes) -> tuple[bytes, bytes]:
    """Directory and name."""
    directory, _, name = path.rpartition(b"/")
    return directory, name


def file(path: bytes, data: bytes = b"", *, executable: bool = False) -> Entry:
    """A file of one chunk, or an empty one."""
    directory, name = split(path)
    content = content_id(data)
    pieces = (Piece(content, len(data)),) if data else ()
    placements = (Placement(PACK, 7, len(data), 9),) if data else ()
    return Entry(directory, name, Kind.FILE, executable, len(data), content, b"", 0, pieces, placements)


def directory(path: bytes) -> Entry:
    """A directory."""
    return Entry(*split(path), Kind.DIRECTORY)


def symlink(path: bytes, target: bytes) -> Entry:
    """A symlink."""
    return Entry(*split(path), Kind.SYMLINK, size=len(target), content=content_id(target), target=target)


def model(entries: Iterable[Entry]) -> dict[bytes, Entry]:
    """A tree of these, and of the directories that they need; where a path is also a directory, that wins."""
    found = _Model({entry.path: entry for entry in entries})
    for path in list(found):
        names = path.split(b"/")
        for depth in range(1, len(names)):
            parent = b"/".join(names[:depth])
            found[parent] = directory(parent)
    return found


def in_order(tree: Model) -> list[Entry]:
    """The entries as a tree holds them."""
    return sorted(tree.values(), key=lambda entry: entry.key)


def difference(old: Model, new: Model) -> list[Change]:
    """The changes that make `new` of `old`."""
    changes: list[Change] = [Removal(*split(path)) for path in old.keys() - new.keys()]
    changes += [entry for path, entry in new.items() if old.get(path) != entry]
    return sorted(changes, key=lambda change: change.key)


async def batches(changes: Sequence[Change], size: int = 1000) -> AsyncIterator[Sequence[Change]]:
    """Changes as a build takes them."""
    for start in range(0, len(changes), size):
        yield changes[start : start + size]


async def build(
    store: Store, changes: Sequence[Change], base: Tree | None = None, cuts: Cuts = STANDARD_CUTS, size: int = 1000
) -> Built:
    """Build a tree in `store`."""
    return await build_tree(ObjectWriter(store), batches(changes, size), base=base, cuts=cuts, pages_at_once=3)


def tree_of(store: Store, built: Built) -> Tree:
    """Open a tree with nothing in memory."""
    return Tree(built.id, Index(built.root), Objects(StoreLoader(store), SMALL_LIMITS), 4)


async def commit_tree(
    store: Store,
    repository: str,
    entries: Iterable[Entry],
    *,
    cuts: Cuts = STANDARD_CUTS,
    time_us: int = 1_000,
    message: str = "",
    parents: tuple[bytes, ...] = (),
) -> bytes:
    """Write a commit of a new tree; its id."""
    built = await build(store, in_order(model(entries)), cuts=cuts)
    commit = Commit(repository, built.id, built.totals, time_us, message=message, parents=parents)
    return await ObjectWriter(store).write(ObjectKind.COMMIT, encode_commit(commit, built.root))


def entries_of(listed: Listed) -> list[Entry]:
    """What a listing showed, decoded."""
    return [listed.page.entry(position) for position in listed.positions]


async def all_entries(tree: TreeView, below: bytes = b"", start: int = 0) -> list[Entry]:
    """What `list_below` shows."""
    return [entry async for listed in tree.list_below(below, start) for entry in entries_of(listed)]


async def listed_entries(tree: TreeView, path: bytes, start: int = 0) -> list[Entry]:
    """What `list` shows."""
    return [entry async for listed in tree.list(path, start) for entry in entries_of(listed)]


names = st.lists(st.sampled_from([b"a", b"b", b"-", b"\x01", b"\xff", b"c.d"]), min_size=1, max_size=3).map(b"".join)
paths = st.lists(names, min_size=1, max_size=4).map(b"/".join)


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    """An entry at a random path."""
    path = draw(paths)
    match draw(st.sampled_from("fffdl")):
        case "f":
            return file(path, draw(st.sampled_from([b"", b"x", b"y" * 100])), executable=draw(st.booleans()))
        case "d":
            return directory(path)
        case _:
            return symlink(path, draw(st.sampled_from([b"a", b"../b" * 30])))


models = st.lists(entries(), max_size=80).map(model)


@st.composite
def large_models(draw: st.DrawFn) -> dict[bytes, Entry]:
    """More entries than hypothesis would ever draw one by one."""
    chance = random.Random(draw(st.integers(0, 2**32)))
    alphabet = [b"a", b"b", b"-", b"\x01", b"\xff", b"c.d", b"long" * chance.randint(1, 3)]
    found = []
    for _ in range(draw(st.sampled_from([30, 100, 300]))):
        path = b"/".join(b"".join(chance.choices(alphabet, k=3)) for _ in range(chance.randint(1, 3)))
        found.append(file(path, chance.choice([b"", b"x", b"y"])) if chance.random() < 0.9 else directory(path))
    return model(found)


def edited(draw: st.DrawFn, old: dict[bytes, Entry]) -> dict[bytes, Entry]:
    """A tree that is made of `old` by a few changes."""
    new = dict(old)
    ordered = sorted(old, key=lambda path: old[path].key)
    for _ in range(draw(st.integers(0, 6)) if old else 0):
        at = draw(st.integers(0, len(ordered) - 1))
        for path in ordered[at : at + draw(st.sampled_from([1, 1, 1, 5, 50]))]:
            for gone in [other for other in new if other == path or other.startswith(path + b"/")]:
                del new[gone]
    added = draw(st.lists(entries(), max_size=5))
    if bool(old) and draw(st.booleans()):
        added += [file(draw(st.sampled_from(ordered)), draw(st.sampled_from([b"", b"z", b"replaced" * 10])))]
    # A new entry replaces what lies below it, unless it is a directory.
    for entry in added:
        if entry.kind is not Kind.DIRECTORY:
            for gone in [other for other in new if other.startswith(entry.path + b"/")]:
                del new[gone]
    return model([*new.values(), *added])


@st.composite
def edits(draw: st.DrawFn) -> tuple[dict[bytes, Entry], dict[bytes, Entry]]:
    """A tree, and one that was made of it by a few changes."""
    old = draw(st.one_of(models, large_models()))
    return old, edited(draw, old)


@st.composite
def forks(draw: st.DrawFn) -> tuple[dict[bytes, Entry], dict[bytes, Entry], dict[bytes, Entry]]:
    """A tree, and two that were made of it, each by a few changes."""
    old = draw(st.one_of(models, large_models()))
    return old, edited(draw, old), edited(draw, old)
