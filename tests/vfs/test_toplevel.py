"""What names above versions mean, what they cost, and what happens when they move. Over a real store and cache."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from fsd.format.keys import ref_key
from fsd.format.ref import Move, Ref, RefKind, encode_ref
from fsd.ids import content_id
from fsd.limits import DEFAULT_LIMITS
from fsd.repo.rules import Rule
from fsd.repo.subsets import create_subset, follow_branch_moved
from fsd.vfs.attributes import (
    DIRECTORY_MODE,
    FILE_MTIME_NS,
    ROOT_INO,
    SYMLINK_MODE,
    Attributes,
    Missing,
)
from tests.vfs.world import (
    ALWAYS_ASK,
    COMMIT_TIME_US,
    FOREVER_S,
    SHORT_S,
    TREE,
    new_store,
    opened,
)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "cache"


# --- the top


async def test_the_top_lists_repositories(directory: Path) -> None:
    builder = await new_store()
    await builder.commit("data", TREE)
    await builder.commit("models", TREE)
    async with opened(builder, directory) as world:
        assert await world.names(b"") == [b"data", b"models"]
        data = await world.stat(b"data")
        assert data[1:] == (DIRECTORY_MODE, 0, FILE_MTIME_NS, SHORT_S, FOREVER_S)
        root = await world.vfs.getattr(ROOT_INO)
        assert (root.ino, root.mode) == (ROOT_INO, DIRECTORY_MODE)


@pytest.mark.parametrize("name", [b".git", b"HEAD", b"nothing", b"\xff", b"a b", b"-x", b"." * 3])
async def test_missing_names_at_the_top_cost_no_request(directory: Path, name: bytes) -> None:
    builder = await new_store()
    await builder.commit("data", TREE)
    async with opened(builder, directory) as world:
        await world.stat(b"data")
        world.requests()
        found = await world.lookup(name)
        assert isinstance(found, Missing)
        assert found.entry_timeout_s in (SHORT_S, FOREVER_S)
        assert world.requests() == []


# --- revisions


async def test_a_repository_lists_branches_tags_and_their_subsets(directory: Path) -> None:
    builder = await new_store()
    old = await builder.commit("data", {b"old": b"1"}, tag="v1")
    new = await builder.commit("data", TREE, tag="v2")
    await builder.commit("data", TREE, branch="dev", message="other")
    await create_subset(builder.repositories, "data", old, "tiny", Rule(limit=1))
    await create_subset(builder.repositories, "data", new, "tiny", Rule(limit=1))
    async with opened(builder, directory) as world:
        listed = await world.listing((await world.stat(b"data")).ino)
        assert [(name, mode, size) for name, _, mode, size, _, _ in listed] == [
            (b"dev", SYMLINK_MODE, 64),
            (b"main", SYMLINK_MODE, 64),
            (b"main+tiny", SYMLINK_MODE, 69),
            (b"v1", DIRECTORY_MODE, 0),
            (b"v1+tiny", DIRECTORY_MODE, 0),
            (b"v2", DIRECTORY_MODE, 0),
            (b"v2+tiny", DIRECTORY_MODE, 0),
        ]


async def test_branches_and_prefixes_are_relative_links_to_commits(directory: Path) -> None:
    builder = await new_store()
    commit = (await builder.commit("data", TREE)).hex()
    async with opened(builder, directory) as world:
        for name in (b"main", commit[:7].encode(), commit[:40].encode()):
            found = await world.stat(b"data/" + name)
            assert found[1:] == (SYMLINK_MODE, 64, FILE_MTIME_NS, SHORT_S, FOREVER_S)
            assert await world.vfs.readlink(found.ino) == commit.encode()
        link = await world.stat(b"data/main+10pct")
        assert await world.vfs.readlink(link.ino) == commit.encode() + b"+10pct"


async def test_a_commit_is_a_directory_that_is_not_listed_and_never_moves(directory: Path) -> None:
    builder = await new_store()
    commit = (await builder.commit("data", TREE)).hex().encode()
    async with opened(builder, directory) as world:
        found = await world.stat(b"data/" + commit)
        assert found[1:] == (DIRECTORY_MODE, 0, COMMIT_TIME_US * 1000, FOREVER_S, FOREVER_S)
        assert (await world.stat(b"data/" + commit + b"+10pct")).entry_timeout_s == FOREVER_S
        assert await world.names(b"data") == [b"main"]


async def test_a_tag_is_a_directory_with_its_commits_time(directory: Path) -> None:
    builder = await new_store()
    await builder.commit("data", TREE, tag="v1", time_us=5_000_000)
    async with opened(builder, directory) as world:
        found = await world.stat(b"data/v1")
        assert found[1:] == (DIRECTORY_MODE, 0, 5_000_000_000, SHORT_S, FOREVER_S)
        assert await world.vfs.getattr(found.ino) == found


async def test_a_listed_tag_gets_its_time_when_it_is_asked_for(directory: Path) -> None:
    builder = await new_store()
    await builder.commit("data", TREE, tag="v1", time_us=5_000_000)
    async with opened(builder, directory) as world:
        repository = await world.stat(b"data")
        world.requests()
        listing = await world.vfs.list(repository.ino, 0)
        tag = next(entry for entry in listing.entries if entry[0] == b"v1")
        assert listing.timeout_s == 0
        assert not [request for request in world.requests() if "commits/" in request]
        assert (await world.vfs.getattr(tag[1])).mtime_ns == 5_000_000_000
        assert (await world.vfs.list(repository.ino, 0)).timeout_s == SHORT_S


@pytest.mark.parametrize(
    "name",
    [
        b"v2", b"0" * 64, b"0123456", b"v1+none", b"v1+", b"+tiny", b"v1+a+b", b"tiny", b"main@2001-11-17",
        b"main@2999-01-01", b"main@lately", b"v1@2026-11-17", b"nothing@2026-11-17", b"v1+0pct",
        b"v1+200pct", b"\xff", b"HEAD", b".git",
    ],
)  # fmt: skip
async def test_names_that_mean_nothing_are_missing_for_a_while(directory: Path, name: bytes) -> None:
    builder = await new_store()
    commit = await builder.commit("data", TREE, tag="v1")
    await create_subset(builder.repositories, "data", commit, "tiny", Rule(limit=1))
    async with opened(builder, directory) as world:
        assert await world.lookup(b"data/" + name) == Missing(SHORT_S)


async def test_a_branch_as_it_stood_on_a_date_is_a_symlink_that_is_not_listed(directory: Path) -> None:
    builder = await new_store()
    old = await builder.commit("data", {b"old": b"1"})
    new = await builder.commit("data", TREE)
    await create_subset(builder.repositories, "data", old, "tiny", Rule(limit=1))
    noon_us, hour_us = 1_767_268_800_000_000, 3_600_000_000  # of new year 2026
    ref = Ref(RefKind.BRANCH, (Move(old, noon_us), Move(new, noon_us + hour_us)))
    await builder.repositories.store.overwrite(ref_key("data", "main"), encode_ref(ref))
    async with opened(builder, directory) as world:
        for name, target in [
            (b"main@2026-01-01T12:30", old.hex()),
            (b"main@2026-01-01", new.hex()),
            (b"main@2026-01-01T12:30+00:00+tiny", f"{old.hex()}+tiny"),
            (b"main@yesterday+10pct", f"{new.hex()}+10pct"),
        ]:
            link = await world.stat(b"data/" + name)
            assert (link.mode, link.entry_timeout_s) == (SYMLINK_MODE, SHORT_S)
            assert await world.vfs.readlink(link.ino) == target.encode()
            assert isinstance(await world.lookup(b"data/" + target.encode()), Attributes)
        assert await world.names(b"data") == [b"main"]
        world.requests()
        assert isinstance(await world.lookup(b"data/main@2025-12-31"), Missing)
        assert len(world.requests()) <= 1


async def test_commits_belong_to_their_repository(directory: Path) -> None:
    builder = await new_store()
    commit = (await builder.commit("data", TREE)).hex().encode()
    await builder.commit("other", {b"x": b"x"})
    async with opened(builder, directory) as world:
        for name in (commit, commit[:9]):
            assert isinstance(await world.lookup(b"other/" + name), Missing)


async def test_the_first_byte_from_nothing_costs_four_requests(directory: Path) -> None:
    builder = await new_store()
    await builder.commit("data", TREE, tag="v1")
    async with opened(builder, directory) as world:
        await trio.testing.wait_all_tasks_blocked()
        world.requests()
        assert await world.content(b"data/v1/train/b.txt") == b"b" * 10
        kinds = [request.split("/")[0] for request in world.requests()]
        assert kinds == ["get refs", "get commits", "get pages", "get_range packs"]


async def test_a_branch_costs_no_more(directory: Path) -> None:
    builder = await new_store()
    await builder.commit("data", TREE)
    async with opened(builder, directory) as world:
        await trio.testing.wait_all_tasks_blocked()
        world.requests()
        link = await world.stat(b"data/main")
        path = b"data/" + await world.vfs.readlink(link.ino) + b"/train/b.txt"
        assert await world.content(path) == b"b" * 10
        assert len(world.requests()) == 4


# --- what moves, and what does not


async def test_what_moved_is_another_node_and_the_old_one_goes_on(directory: Path) -> None:
    builder = await new_store()
    first = await builder.commit("data", {b"a/f": b"1" * 10, b"same": b"same"}, tag="v1")
    async with opened(builder, directory, ALWAYS_ASK) as world:
        before = await world.stat(b"data/v1")
        below = await world.stat(b"data/v1/a")
        link = await world.stat(b"data/main")
        second = await world.commit("data", {b"a/f": b"2" * 10, b"same": b"same"}, tag="v1")
        after = await world.stat(b"data/v1")
        assert after.ino != before.ino
        moved = await world.stat(b"data/main")
        assert moved.ino != link.ino
        assert await world.vfs.readlink(link.ino) == first.hex().encode()
        assert await world.vfs.readlink(moved.ino) == second.hex().encode()
        for directory_ino, name, content in ((below.ino, b"f", b"1" * 10), (before.ino, b"same", b"same")):
            found = await world.vfs.lookup(directory_ino, name)
            assert isinstance(found, Attributes)
            assert await world.read(found.ino, 0, 100) == content
        assert await world.content(b"data/v1/a/f") == b"2" * 10


async def test_what_is_new_appears_within_five_seconds(directory: Path) -> None:
    limits = DEFAULT_LIMITS
    assert limits.refs_ttl_s + limits.refs_wait_s + limits.entry_timeout_s < 5
    builder = await new_store()
    await builder.commit("data", TREE)
    async with opened(builder, directory, ALWAYS_ASK) as world:
        assert isinstance(await world.lookup(b"data/v9"), Missing)
        assert isinstance(await world.lookup(b"more"), Missing)
        await world.names(b"data")
        commit = await world.commit("data", {b"x": b"x"}, tag="v9")
        await world.commit("more", TREE)
        link = await world.stat(b"data/main")
        assert await world.vfs.readlink(link.ino) == commit.hex().encode()
        assert await world.content(b"data/v9/x") == b"x"
        assert b"more" in await world.names(b"")
        assert b"v9" in await world.names(b"data")


async def test_a_deleted_tag_goes_and_what_was_open_stays(directory: Path) -> None:
    builder = await new_store()
    await builder.commit("data", TREE, tag="v1")
    await builder.commit("data", {b"other": b"1"}, tag="v2")
    async with opened(builder, directory, replace(ALWAYS_ASK, open_trees=1)) as world:
        train = await world.stat(b"data/v1/train")
        refs = world.builder.repositories.refs
        stored = await refs.read("data", "v1")
        assert stored is not None
        await refs.delete("data", "v1", stored.version)
        assert isinstance(await world.lookup(b"data/v1"), Missing)
        await world.content(b"data/v2/other")
        found = await world.vfs.lookup(train.ino, b"b.txt")
        assert isinstance(found, Attributes)
        assert await world.read(found.ino, 0, 100) == b"b" * 10


async def test_a_listing_skips_and_repeats_nothing_while_names_come_and_go(directory: Path) -> None:
    builder = await new_store()
    for name in ("b", "d", "f"):
        await builder.commit(name, TREE)
    async with opened(builder, directory, ALWAYS_ASK) as world:
        first = list((await world.vfs.list(ROOT_INO, 0)).entries)[:2]
        assert [entry[0] for entry in first] == [b"b", b"d"]
        await world.commit("a", TREE)
        await world.commit("e", TREE)
        rest = await world.listing(ROOT_INO, first[-1][-1])
        assert [entry[0] for entry in rest] == [b"f", b"a", b"e"]


# --- subsets


async def test_a_built_in_subset_shows_a_part_and_all_directories(directory: Path) -> None:
    files: dict[bytes, Any] = {b"d%d/%d.jpg" % (number % 10, number): b"%d" % number for number in range(400)}
    builder = await new_store()
    await builder.commit("data", {**files, b"README.md": b"kept"}, tag="v1")
    async with opened(builder, directory) as world:
        shown = [
            (b"d%d/" % number) + name
            for number in range(10)
            for name in await world.names(b"data/v1+10pct/d%d" % number)
        ]
        assert 10 < len(shown) < 90
        assert set(shown) < set(files)
        assert await world.names(b"data/v1+10pct") == sorted([b"README.md", *(b"d%d" % number for number in range(10))])
        for path in list(files)[:60]:
            found = await world.lookup(b"data/v1+10pct/" + path)
            assert isinstance(found, Attributes) == (path in shown)


async def test_a_subset_that_follows_a_branch(directory: Path) -> None:
    builder = await new_store()
    first = await builder.commit("data", {b"a.txt": b"1", b"b.jpg": b"2"}, tag="v1")
    async with opened(builder, directory, ALWAYS_ASK) as world:
        rule = Rule(include=("*.txt",))
        await create_subset(world.builder.repositories, "data", first, "texts", rule, follow_branch="main")
        second = await world.commit("data", {b"c.txt": b"3", b"b.jpg": b"2"}, tag="v2")
        link = await world.stat(b"data/main+texts")
        path = b"data/" + await world.vfs.readlink(link.ino)
        assert path == b"data/" + second.hex().encode() + b"+texts"
        filtered = await world.stat(path)
        assert await world.names(path) == [b"c.txt"]
        assert await world.names(b"data") == [b"main", b"main+texts", b"v1", b"v1+texts", b"v2", b"v2+texts"]
        await follow_branch_moved(world.builder.repositories, "data", "main", second)
        taken = await world.stat(path)
        assert taken.ino != filtered.ino
        assert await world.names(path) == [b"c.txt"]


async def test_subsets_and_branches_with_a_long_history(directory: Path) -> None:
    builder = await new_store()
    refs = builder.repositories.refs
    first = await builder.commit("data", {b"a.txt": b"1", b"b.jpg": b"2"}, tag="v1")
    await create_subset(builder.repositories, "data", first, "taken", Rule(limit=1))
    await create_subset(builder.repositories, "data", first, "texts", Rule(include=("*.txt",)), follow_branch="main")
    second = await builder.commit("data", {b"c.txt": b"3", b"b.jpg": b"2"}, tag="v2")
    before = second
    for number in range(300):
        commit = content_id(b"%d" % number)
        await refs.set_subset("data", "taken", commit, commit)
        await refs.move_branch("data", "main", commit, expected=before)
        before = commit
    other = await builder.commit("data", {b"d.txt": b"4"}, branch="other", tag="v3")
    async with opened(builder, directory) as world:
        assert len(await world.names(b"data/v1+taken")) == 1
        assert await world.names(b"data/v2+texts") == [b"c.txt"]
        assert isinstance(await world.lookup(b"data/v2+taken"), Missing)
        assert isinstance(await world.lookup(b"data/" + other.hex().encode() + b"+texts"), Missing)
        names = [name for name in await world.names(b"data") if b"+" in name and not name.startswith(b"main")]
        assert names == [b"v1+taken", b"v1+texts", b"v2+texts"]
        segments = [request for request in world.requests() if "logs/" in request]
        assert len(segments) == len(set(segments)) > 0
