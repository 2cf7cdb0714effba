"""Whether what a run read reads the same: random programs over a model of the mount, which is changed behind them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from fsd.format.inputs import Inputs, ListingInputs, NameInputs, VersionInputs, digest_of_names
from fsd.format.model import Entry, Kind
from fsd.format.positions import stretches_of
from fsd.format.run import RunEnd, RunPin, RunSource
from fsd.repo.repository import Repositories, init_store, open_repositories
from fsd.runs.inputs import changed_inputs
from fsd.runs.meanings import Meanings
from fsd.stores.memory import MemoryStore
from fsd.vfs.refcache import RefCache
from tests.format.test_run import NAME
from tests.repo.trees import TINY_CUTS, Model, commit_tree, file, in_order, model

REPOSITORY = "birds"
PATHS = [b"a", b"b", b"d/a", b"d/b", b"d/e/a", b"e", b"d", b"d/e", b"f/a"]
LINKS = ("data", "other")

Step = tuple[str, str, bytes]
"""What is done, by which way, with which path."""

versions = st.dictionaries(st.sampled_from(PATHS), st.sampled_from([b"1", b"2"]), max_size=6).map(
    lambda files: model(file(path, data) for path, data in files.items())
)
ways = st.sampled_from([*LINKS, "main", "v1", "v9"])
programs = st.lists(
    st.tuples(st.sampled_from(["read", "list", "stat", "names"]), ways, st.sampled_from([b"", *PATHS])), max_size=6
)


@dataclass
class World:
    """What the store and the work tree are at one time."""

    refs: dict[str, int]
    """Which of the trees a branch or tag names."""
    pins: dict[str, str]
    """A link's revision: the name of a ref, or a number of a tree, which stands for its commit."""


@st.composite
def worlds(draw: st.DrawFn, count: int) -> World:
    number = st.integers(0, count - 1)
    refs = {"main": draw(number), "v1": draw(number)}
    if draw(st.booleans()):
        refs["v9"] = draw(number)
    revisions = st.one_of(number.map(str), st.sampled_from(["main", "v1", "v9"]))
    return World(refs, {link: draw(revisions) for link in LINKS})


@dataclass
class Mount:
    """A model of the mount, which remembers what is asked for as a run's view does."""

    trees: list[Model]
    commits: list[bytes]
    world: World
    names: dict[str, str | None] = field(default_factory=dict)
    seen: dict[str, set[int]] = field(default_factory=dict)
    listed: dict[str, set[int]] = field(default_factory=dict)
    missing: dict[str, set[bytes]] = field(default_factory=dict)
    listing: bytes | None = None

    def version(self, revision: str) -> str | None:
        """Look a name up: the name of the version directory that it is or leads to."""
        if revision.isdigit():
            name = self.commits[int(revision)].hex()
        elif revision not in self.world.refs:
            self.names[revision] = None
            return None
        elif revision == "main":
            name = self.commits[self.world.refs["main"]].hex()
            self.names["main"] = name
        else:
            name = revision
        self.names[name] = ""
        self.seen.setdefault(name, set()).add(0)
        return name

    def tree(self, name: str) -> Model:
        """What a version directory shows."""
        return self.trees[self.commit(name)]

    def commit(self, name: str) -> int:
        """Which of the trees that is."""
        return self.world.refs[name] if name in self.world.refs else self.commits.index(bytes.fromhex(name))

    def look_up(self, name: str, path: bytes) -> Entry | None:
        """Every name on the way."""
        tree = self.tree(name)
        numbers = {entry.path: number for number, entry in enumerate(in_order(tree), 1)}
        parts = path.split(b"/") if path else []
        found: Entry | None = None
        for depth in range(1, len(parts) + 1):
            above = b"/".join(parts[:depth])
            found = tree.get(above)
            if found is None:
                self.missing.setdefault(name, set()).add(above)
                return None
            self.seen[name].add(numbers[above])
            if found.kind is not Kind.DIRECTORY and depth < len(parts):
                return None
        return found

    def do(self, step: Step) -> object:
        """What a program sees."""
        what, way, path = step
        if what == "names":
            self.listing = digest_of_names((name, name == "main") for name in self.world.refs)
            return sorted(self.world.refs)
        name = self.version(self.world.pins.get(way, way))
        if name is None:
            return None
        found = self.look_up(name, path)
        if what == "stat" or (found is None and path):
            return found and (found.kind, found.size if found.kind is Kind.FILE else 0)
        if found is not None and found.kind is Kind.FILE:
            return found.content if what == "read" else "no directory"
        if what == "read":
            return "a directory"
        tree = self.tree(name)
        numbers = {entry.path: number for number, entry in enumerate(in_order(tree), 1)} | {b"": 0}
        self.listed.setdefault(name, set()).add(numbers[path])
        return sorted((each.name, each.kind) for each in tree.values() if each.path.rpartition(b"/")[0] == path)

    def inputs(self) -> Inputs:
        """As the mount would tell them."""
        return Inputs(
            tuple(
                VersionInputs(
                    REPOSITORY,
                    name,
                    self.commits[self.commit(name)],
                    stretches_of(seen),
                    stretches_of(self.listed.get(name, ())),
                    tuple(sorted(self.missing.get(name, ()))),
                )
                for name, seen in sorted(self.seen.items())
            ),
            tuple(NameInputs(REPOSITORY, name, target) for name, target in sorted(self.names.items())),
            () if self.listing is None else (ListingInputs(REPOSITORY, self.listing),),
        )


def revision_of(written: str, commits: list[bytes]) -> str:
    return commits[int(written)].hex() if written.isdigit() else written


def pins_of(world: World, commits: list[bytes]) -> dict[str, RunPin]:
    return {link: RunPin(link, REPOSITORY, revision_of(to, commits), "", None) for link, to in world.pins.items()}


def sources_of(program: list[Step], pins: Mapping[str, RunPin]) -> tuple[RunSource, ...]:
    """Each way that the program goes stands somewhere."""
    used = {way for _, way, _ in program}
    texts = {RunSource(REPOSITORY, name, "") for name in (used - set(LINKS)) | {""}}
    return tuple(sorted(texts | {RunSource(REPOSITORY, pins[link].revision, link) for link in LINKS}))


async def set_refs(repositories: Repositories, world: World, commits: list[bytes]) -> None:
    """Make the store's refs those of a world."""
    for name in ("main", "v1", "v9"):
        if name not in world.refs:
            stored = await repositories.refs.read(REPOSITORY, name)
            if stored is not None:
                await repositories.refs.delete(REPOSITORY, name, stored.version)
        elif name == "main":
            await move_branch(repositories, name, commits[world.refs[name]])
        else:
            await repositories.refs.set_tag(REPOSITORY, name, commits[world.refs[name]], force=True)


async def move_branch(repositories: Repositories, name: str, commit: bytes) -> None:
    stored = await repositories.refs.read(REPOSITORY, name)
    if stored is None or stored.ref.target != commit:
        await repositories.refs.move_branch(REPOSITORY, name, commit, expected=stored and stored.ref.target)


@settings(max_examples=150)
@given(st.lists(versions, min_size=2, max_size=3), st.data(), programs)
async def test_a_hit_is_never_false(trees: list[Model], data: st.DataObject, program: list[Step]) -> None:
    old, new = data.draw(worlds(len(trees))), data.draw(worlds(len(trees)))
    if data.draw(st.booleans()):
        new.pins = dict(old.pins)
    store = MemoryStore()
    await init_store(store)
    repositories = await open_repositories(store)
    commits = [
        await commit_tree(store, REPOSITORY, tree.values(), cuts=TINY_CUTS, time_us=n)
        for n, tree in enumerate(trees, 1)
    ]
    then = Mount(trees, commits, old)
    outputs = [then.do(step) for step in program]
    pins = pins_of(old, commits)
    end = RunEnd(NAME, 1, 0, inputs=then.inputs(), sources=sources_of(program, pins))
    for world in (old, new):
        await set_refs(repositories, world, commits)
        async with trio.open_nursery() as nursery:
            meanings = Meanings(repositories, RefCache(repositories, repositories.limits, nursery))
            changed = await changed_inputs(meanings, end, pins_of(world, commits), pins.values())
            nursery.cancel_scope.cancel()
        now = Mount(trees, commits, world)
        is_same = [now.do(step) for step in program] == outputs
        assert is_same or changed, "a HIT that is false"
        assert world is new or not changed, changed
