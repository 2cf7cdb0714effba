"""Views of runs: what is asked for in them, and only there, is known afterwards."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsd.errors import CorruptDataError
from fsd.format.inputs import Inputs, ListingInputs, NameInputs, VersionInputs, decode_inputs, digest_of_names
from fsd.format.model import entry_key
from fsd.format.positions import stretches_of
from fsd.limits import Limits
from fsd.repo.rules import Rule
from fsd.repo.subsets import create_subset
from fsd.vfs.attributes import ROOT_INO, Attributes, Missing, NoAttributeError
from tests.faulty import READS, Fail
from tests.vfs.world import ALWAYS_ASK, LIMITS, TREE, Builder, World, directories_of, new_store, opened

VIEW = b".views/r" + b"0123456789abcdef" * 2
OTHER = b".views/r" + b"fedcba9876543210" * 2
INNER = VIEW + b"/" + OTHER


def _parts(path: bytes) -> tuple[bytes, bytes]:
    directory, _, name = path.rpartition(b"/")
    return directory, name


IN_ORDER = sorted({*TREE, *directories_of(TREE)}, key=lambda path: entry_key(*_parts(path)))
"""The paths of the tree by ordinal."""


Forgets = list[tuple[int, bytes]]
"""What the kernel was asked to forget."""


@asynccontextmanager
async def observed(
    builder: Builder, folder: Path, limits: Limits = LIMITS, forgets: Forgets | None = None
) -> AsyncIterator[World]:
    asked: Forgets = [] if forgets is None else forgets
    async with opened(builder, folder / "cache", limits) as world:
        world.vfs.observe_runs(lambda parent, name: asked.append((parent, name)))
        yield world


async def inputs_of(world: World, view: bytes = VIEW) -> Inputs:
    return decode_inputs(await world.content(view + b"/.fsd/inputs"), "inputs")


def positions(*paths: bytes) -> tuple[tuple[int, int], ...]:
    """Of paths in the tree; b'' is the top."""
    return stretches_of(IN_ORDER.index(path) + 1 if path else 0 for path in paths)


def counts(world: World) -> tuple[Any, Any]:
    status = world.vfs.status()
    del status["inodes"]["in_trees_bytes"]
    return status["observed"], status["inodes"]


async def test_lookups_and_listings_of_a_version(tmp_path: Path) -> None:
    builder = await new_store()
    commit = await builder.commit("data", TREE, tag="v1")
    async with observed(builder, tmp_path) as world:
        plain = await world.stat(b"data/v1/train/a.txt")
        assert await inputs_of(world) == Inputs()
        for _ in range(2):
            inside = await world.stat(VIEW + b"/data/v1/train/a.txt")
            assert inside == plain, "a file is everybody's, and so are its pages"
            assert isinstance(await world.lookup(VIEW + b"/data/v1/train/none"), Missing)
            assert isinstance(await world.lookup(VIEW + b"/data/v1/none"), Missing)
            assert sorted(await world.names(VIEW + b"/data/v1/train/deep")) == [b"er"]
            await world.names(VIEW + b"/data/v1")
        await world.names(b"data/v1/train")
        assert await inputs_of(world) == Inputs(
            versions=(
                VersionInputs(
                    "data",
                    "v1",
                    commit,
                    seen=positions(b"", b"train", b"train/a.txt", b"train/deep"),
                    listed=positions(b"", b"train/deep"),
                    missing=(b"none", b"train/none"),
                ),
            ),
            names=(NameInputs("data", "", ""), NameInputs("data", "v1", "")),
        )


async def test_names_and_listings_above_versions(tmp_path: Path) -> None:
    builder = await new_store()
    commit = await builder.commit("data", TREE, tag="v1")
    await builder.commit("more", TREE, branch="dev")
    target = commit.hex()
    async with observed(builder, tmp_path) as world:
        for name in (b"main", b"v1", b"v2", target[:9].encode(), b"main@2999-01-01", b"no good", b"\xff"):
            await world.lookup(VIEW + b"/data/" + name)
        await world.lookup(VIEW + b"/nothing")
        await world.lookup(VIEW + b"/.git")
        assert await world.names(VIEW) == [b"data", b"more"]
        assert await world.names(VIEW + b"/more") == [b"dev"]
        found = await inputs_of(world)
        assert found.versions == (VersionInputs("data", "v1", commit, ((0, 1),), (), ()),)
        assert set(found.names) == {
            NameInputs("data", "", ""),
            NameInputs("more", "", ""),
            NameInputs("nothing", "", None),
            NameInputs("data", "main", target),
            NameInputs("data", "v1", ""),
            NameInputs("data", "v2", None),
            NameInputs("data", target[:9], target),
            NameInputs("data", "main@2999-01-01", None),
            NameInputs("data", "no good", None),
        }
        assert found.listings == (
            ListingInputs("", digest_of_names([("more", False), ("data", False)])),
            ListingInputs("more", digest_of_names([("dev", True)])),
        )


async def test_a_listing_teaches_nothing_and_shows_the_same(tmp_path: Path) -> None:
    builder = await new_store()
    await builder.commit("data", TREE, tag="v1")
    async with observed(builder, tmp_path) as world:
        for path in (b"/data/v1/train", b"/data/v1", b"/data", b""):
            plain = await world.listing((await world.stat(path[1:])).ino if path else ROOT_INO)
            directory = (await world.stat(VIEW + path)).ino
            before = counts(world)
            listing = await world.vfs.list(directory, 0)
            assert listing.is_shown_only
            shown = list(listing.entries)
            assert counts(world)[1] == before[1]
            assert [(entry[0], *entry[2:]) for entry in shown] == [(entry[0], *entry[2:]) for entry in plain]
            assert all(entry[1] for entry in shown)
            later = await world.vfs.list(directory, shown[0][-1])
            assert list(later.entries) == shown[1:]
            assert not list((await world.vfs.list(directory, shown[-1][-1])).entries)
            if path.startswith(b"/data/v1"):
                for name, ino, *_ in shown:
                    assert (await world.stat(VIEW + path + b"/" + name)).ino == ino


async def test_who_asks_which_commit_it_is(tmp_path: Path) -> None:
    builder = await new_store()
    await builder.commit("data", TREE, tag="v1")
    await builder.commit("data", TREE, tag="v2")
    async with observed(builder, tmp_path) as world:
        for name in (b"v1", b"v2"):
            ino = (await world.stat(VIEW + b"/data/" + name)).ino
            with pytest.raises(NoAttributeError):
                await world.vfs.getxattr(ino, b"security.selinux")
        await world.vfs.getxattr(ino, b"user.fsd.commit")
        assert [each.is_identified for each in (await inputs_of(world)).versions] == [False, True]
        await world.vfs.listxattr((await world.stat(VIEW + b"/data/v1")).ino)
        assert [each.is_identified for each in (await inputs_of(world)).versions] == [True, True]


async def test_what_moved_meanwhile_is_a_problem(tmp_path: Path) -> None:
    builder = await new_store()
    await builder.commit("data", TREE)
    async with observed(builder, tmp_path, ALWAYS_ASK) as world:
        await world.stat(VIEW + b"/data/main")
        await world.commit("data", {b"x": b"x"})
        await world.stat(OTHER + b"/data/main")
        await world.stat(VIEW + b"/data/main")
        assert (await inputs_of(world)).problem == "data/main came to mean something else while it ran"
        assert (await inputs_of(world, OTHER)).problem == ""


async def test_subsets_by_their_own_trees(tmp_path: Path) -> None:
    builder = await new_store()
    first = await builder.commit("data", TREE, tag="v1")
    await create_subset(builder.repositories, "data", first, "texts", Rule(include=("*.txt",)), follow_branch="main")
    async with observed(builder, tmp_path, ALWAYS_ASK) as world:
        await world.stat(VIEW + b"/data/v1+10pct/train")
        await world.stat(VIEW + b"/data/v1+texts/train")
        found = await inputs_of(world)
        filtered, taken = found.versions
        assert (filtered.name, filtered.commit, filtered.seen) == ("v1+10pct", first, positions(b"", b"train"))
        assert (taken.name, taken.commit == first, found.problem) == ("v1+texts", False, "")
        await world.commit("data", {**TREE, b"new": b""}, tag="v2")
        await world.stat(VIEW + b"/data/v2+texts")
        assert "not taken yet" in (await inputs_of(world)).problem


@pytest.mark.usefixtures("error_logs")
async def test_errors_make_it_incomplete_where_they_are_seen(tmp_path: Path) -> None:
    builder = await new_store()
    await builder.commit("data", TREE, tag="v1", one_pack_a_file=True)
    async with observed(builder, tmp_path) as world:
        await world.stat(OTHER + b"/data/v1/README")
        readme = (await world.stat(b"data/v1/README")).ino
        await world.stat(VIEW + b"/data")
        world.store.inject(READS, "commits/*", Fail(CorruptDataError("flipped")))
        for view in (b"", VIEW + b"/"):
            with pytest.raises(CorruptDataError):
                await world.lookup(view + b"data/" + b"ab" * 32)
            problem = (await inputs_of(world)).problem
            assert problem.startswith("something could not be read: commit abab") == bool(view)
        assert (await inputs_of(world, OTHER)).problem == ""
        # Whose read of a file it was cannot be told.
        world.store.inject(READS, "packs/*", Fail(CorruptDataError("flipped as well")))
        with pytest.raises(CorruptDataError):
            await world.read(readme, 0, 5)
        assert "flipped as well" in (await inputs_of(world, OTHER)).problem
        world.store.assert_all_exercised()


async def test_views_within_views_and_what_there_is_of_them(tmp_path: Path) -> None:
    builder = await new_store()
    await builder.commit("data", TREE, tag="v1")
    limits = replace(LIMITS, observed_depth=2)
    async with observed(builder, tmp_path, limits) as world:
        await world.stat(VIEW + b"/data/v1/README")
        await world.stat(INNER + b"/data/v1/run")
        await world.stat(OTHER + b"/data/v1/link")
        assert (await inputs_of(world)).versions[0].seen == positions(b"", b"README", b"run")
        assert (await inputs_of(world, INNER)).versions[0].seen == positions(b"", b"run")
        assert (await inputs_of(world, OTHER)).versions[0].seen == positions(b"", b"link")
        assert isinstance(await world.lookup(INNER + b"/" + VIEW), Missing), "too deep"
        assert b"status" in await world.names(VIEW + b"/.fsd")
        await world.stat(VIEW + b"/.fsd/status")
        assert isinstance(await world.lookup(b".fsd/inputs"), Missing)
        assert (await inputs_of(world)).problem == ""
        edit = VIEW + b"/.views/0123456789abcdef/data/v1/README"
        assert (await world.stat(edit)).mode & 0o200
        assert (await inputs_of(world)).problem.startswith("an edit")
        assert (await inputs_of(world, INNER)).problem == ""


async def test_no_view_where_listings_teach(tmp_path: Path) -> None:
    builder = await new_store()
    await builder.commit("data", TREE, tag="v1")
    async with opened(builder, tmp_path / "cache") as world:
        assert isinstance(await world.lookup(VIEW), Missing)
        for name in (b".views/r0", b".views/R" + VIEW[8:], VIEW + b"0"):
            world.vfs.observe_runs(lambda *_: None)
            assert isinstance(await world.lookup(name), Missing)


async def test_forgetting_frees_all_of_it(tmp_path: Path) -> None:
    builder = await new_store()
    await builder.commit("data", TREE, tag="v1")
    async with observed(builder, tmp_path) as world:
        before = counts(world)
        assert before[0] == {"runs": 0, "bytes": 0}
        known: list[int] = []
        for path in (VIEW, INNER):
            ino = ROOT_INO
            for name in (path + b"/data/v1/train/a.txt").split(b"/"):
                found = await world.vfs.lookup(ino, name)
                assert isinstance(found, Attributes)
                ino = found.ino
                known.append(ino)
            await world.listing(known[-2])
        assert counts(world)[0]["runs"] == 2
        assert counts(world)[0]["bytes"] > 0
        for ino in known:
            world.vfs.forget(ino, 1)
        assert counts(world) == before
        assert await inputs_of(world) == Inputs(), "another one of that name knows nothing of the first"


async def test_a_view_that_is_said_to_be_over(tmp_path: Path) -> None:
    builder = await new_store()
    await builder.commit("data", TREE, tag="v1")
    forgets: Forgets = []
    async with observed(builder, tmp_path, forgets=forgets) as world:
        await world.stat(INNER + b"/data/v1/README")
        for _ in range(2):
            assert await world.lookup(INNER + b"/.fsd/end") == Missing(0.0)
        views = (await world.stat(VIEW + b"/.views")).ino
        assert set(forgets) == {(views, OTHER.split(b"/")[1])}
        assert counts(world)[0]["runs"] == 1
        await world.stat(INNER + b"/data/v1/run")
        assert await inputs_of(world, INNER) == Inputs(problem="it was said to be over")
        assert (await inputs_of(world)).versions[0].seen == positions(b"", b"README", b"run")
        assert isinstance(await world.lookup(b".fsd/end"), Missing)
        assert counts(world)[0]["runs"] == 1


async def test_one_too_many_asks_for_those_that_were_left(tmp_path: Path) -> None:
    builder = await new_store()
    forgets: Forgets = []
    async with observed(builder, tmp_path, replace(LIMITS, observed_runs=2), forgets) as world:
        names = [b"r%032x" % number for number in range(3)]
        views = (await world.stat(b".views")).ino
        inos = [(await world.stat(b".views/" + name)).ino for name in names]
        assert forgets == [(views, name) for name in names[:2]]
        assert (await inputs_of(world, b".views/" + names[2])).problem.startswith("more than 2 runs")
        for ino, name in zip(inos, names, strict=True):
            world.vfs.forget(ino, 1 + (name == names[2]))
        assert counts(world)[0]["runs"] == 0


# --- against a model


@dataclass
class Reference:
    """What one view is to say, by a plain record of what was asked."""

    seen: set[bytes] = field(default_factory=set)
    listed: set[bytes] = field(default_factory=set)
    missing: set[bytes] = field(default_factory=set)
    was_entered: bool = False

    def expected(self, commit: bytes) -> Inputs:
        if not self.was_entered:
            return Inputs()
        version = VersionInputs(
            "data", "v1", commit, positions(*self.seen), positions(*self.listed), tuple(sorted(self.missing))
        )
        return Inputs((version,), (NameInputs("data", "", ""), NameInputs("data", "v1", "")))


PLACES: Sequence[tuple[bytes, tuple[bytes, ...]]] = (
    (b"", ()),
    (VIEW + b"/", (VIEW,)),
    (OTHER + b"/", (OTHER,)),
    (INNER + b"/", (INNER, VIEW)),
)
"""Where something is asked for, and who is to know of it."""

Step = tuple[tuple[bytes, tuple[bytes, ...]], bytes, bool]
"""The place, a path there, and whether it is listed."""

asked = st.lists(
    st.tuples(
        st.sampled_from(PLACES),
        st.sampled_from([*IN_ORDER, b"none", b"train/none", b"train/deep/none", b"hollow/none"]),
        st.booleans(),
    ),
    max_size=25,
)


@settings(max_examples=40)
@given(asked)
async def test_a_view_says_what_a_model_says(steps: Sequence[Step]) -> None:
    builder = await new_store()
    commit = await builder.commit("data", TREE, tag="v1")
    views = {view: Reference() for view in (VIEW, OTHER, INNER)}
    with tempfile.TemporaryDirectory() as folder:
        async with observed(builder, Path(folder)) as world:
            for view in views:
                await world.stat(view)
            for (place, told), path, is_listed in steps:
                found = await world.lookup(place + b"data/v1/" + path)
                names = path.split(b"/")
                for view in told:
                    views[view].was_entered = True
                    views[view].seen.add(b"")
                    for depth in range(1, len(names) + 1):
                        part = b"/".join(names[:depth])
                        (views[view].seen if part in IN_ORDER else views[view].missing).add(part)
                if is_listed and isinstance(found, Attributes) and path in set(directories_of(TREE)):
                    await world.listing(found.ino)
                    for view in told:
                        views[view].listed.add(path)
            for view, reference in views.items():
                assert await inputs_of(world, view) == reference.expected(commit)
