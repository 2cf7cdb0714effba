"""What paths mean: names, links, attributes, identity, listings and reads, over a real store, repository and cache."""

from __future__ import annotations

import json
import logging
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from fsd.errors import CorruptDataError, StoreUnreachableError
from fsd.limits import DEFAULT_LIMITS
from fsd.repo.rules import Rule
from fsd.repo.subsets import create_subset, follow_branch_moved
from fsd.vfs.attributes import (
    DIRECTORY_MODE,
    EXECUTABLE_MODE,
    FILE_MODE,
    FILE_MTIME_NS,
    ROOT_INO,
    SYMLINK_MODE,
    Attributes,
    Missing,
    NoAttributeError,
    NotDirectoryError,
    NotFileError,
    NotSymlinkError,
    StaleInodeError,
)
from tests.faulty import READS, Fail, FlipBit, Stall
from tests.vfs.world import CHUNK_BYTES, COMMIT_TIME_US, LIMITS, Executable, Files, Symlink, new_store, opened

ALWAYS_ASK = replace(LIMITS, refs_ttl_s=0)
"""What is known of refs is too old at once."""

SHORT_S, FOREVER_S = LIMITS.entry_timeout_s, LIMITS.immutable_timeout_s
LARGE = random.Random(0).randbytes(150 * CHUNK_BYTES + 17)

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
        b"v2", b"0" * 64, b"0123456", b"v1+none", b"v1+", b"+tiny", b"v1+a+b", b"tiny", b"main@2026-11-17", b"v1+0pct",
        b"v1+200pct", b"\xff", b"HEAD", b".git",
    ],
)  # fmt: skip
async def test_names_that_mean_nothing_are_missing_for_a_while(directory: Path, name: bytes) -> None:
    builder = await new_store()
    commit = await builder.commit("data", TREE, tag="v1")
    await create_subset(builder.repositories, "data", commit, "tiny", Rule(limit=1))
    async with opened(builder, directory) as world:
        assert await world.lookup(b"data/" + name) == Missing(SHORT_S)


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


# --- below a version


async def test_a_tree_is_shown_as_it_was_committed(directory: Path) -> None:
    builder = await new_store()
    await builder.commit("data", TREE, tag="v1")
    async with opened(builder, directory) as world:
        for path, node in TREE.items():
            found = await world.stat(b"data/v1/" + path)
            assert found[3:] == (FILE_MTIME_NS, FOREVER_S, FOREVER_S)
            match node:
                case None:
                    assert found[1:3] == (DIRECTORY_MODE, 0)
                    assert await world.names(b"data/v1/" + path) == []
                case Symlink(target):
                    assert found[1:3] == (SYMLINK_MODE, len(target))
                    assert await world.vfs.readlink(found.ino) == target
                case Executable(data):
                    assert found[1:3] == (EXECUTABLE_MODE, len(data))
                    assert await world.content(b"data/v1/" + path) == data
                case _:
                    assert found[1:3] == (FILE_MODE, len(node))
                    assert await world.content(b"data/v1/" + path) == node
        assert await world.names(b"data/v1") == sorted({path.split(b"/")[0] for path in TREE})
        assert await world.lookup(b"data/v1/nothing") == Missing(FOREVER_S)
        assert await world.lookup(b"data/v1/train/nothing") == Missing(FOREVER_S)


async def test_equal_content_is_one_inode_wherever_it_lies(directory: Path) -> None:
    builder = await new_store()
    first = await builder.commit("data", TREE, tag="v1")
    await builder.commit("data", {b"moved/a": b"a" * 2500, b"new": b"1"}, tag="v2")
    await create_subset(builder.repositories, "data", first, "tiny", Rule(include=("README",)))
    async with opened(builder, directory) as world:
        files = [await world.stat(b"data/v1/train/a.txt"), await world.stat(b"data/v2/moved/a")]
        assert files[0].ino == files[1].ino
        assert (await world.stat(b"data/v1/README")).ino == (await world.stat(b"data/v1+tiny/README")).ino
        assert (await world.stat(b"data/v1/README")).ino != (await world.stat(b"data/v1/run")).ino
        assert (await world.stat(b"data/v1/run")).mode == EXECUTABLE_MODE


async def test_every_path_to_a_directory_has_its_own_inode(directory: Path) -> None:
    builder = await new_store()
    commit = await builder.commit("data", TREE, tag="v1")
    await builder.commit("data", {**TREE, b"more": b"1"}, tag="v2")
    async with opened(builder, directory) as world:
        paths = [b"data/v1", b"data/v2", b"data/" + commit.hex().encode(), b"data/v1+10pct"]
        tops = [(await world.stat(path)).ino for path in paths]
        inner = [(await world.stat(path + b"/train")).ino for path in paths]
        assert len(set(tops + inner)) == 8


async def test_requests_for_the_wrong_kind_of_node(directory: Path) -> None:
    builder = await new_store()
    await builder.commit("data", TREE, tag="v1")
    async with opened(builder, directory) as world:
        vfs = world.vfs
        file = (await world.stat(b"data/v1/README")).ino
        train = (await world.stat(b"data/v1/train")).ino
        link = (await world.stat(b"data/v1/link")).ino
        branch = (await world.stat(b"data/main")).ino
        for ino in (file, link, branch):
            with pytest.raises(NotDirectoryError):
                await vfs.lookup(ino, b"x")
            with pytest.raises(NotDirectoryError):
                await vfs.list(ino, 0)
        for ino in (train, link, branch, ROOT_INO):
            with pytest.raises(NotFileError):
                vfs.read_nowait(ino, 0, 10)
            with pytest.raises(NotFileError):
                await vfs.read(ino, 0, 10)
        for ino in (file, train, ROOT_INO):
            with pytest.raises(NotSymlinkError):
                await vfs.readlink(ino)
        assert vfs.lists_for_ever(train)
        assert vfs.lists_for_ever((await world.stat(b"data/v1")).ino)
        assert not vfs.lists_for_ever(ROOT_INO)
        assert not vfs.lists_for_ever((await world.stat(b"data")).ino)


async def test_what_was_forgotten_is_stale(directory: Path) -> None:
    builder = await new_store()
    await builder.commit("data", TREE, tag="v1")
    async with opened(builder, directory) as world:
        for path in (b"data/v1/README", b"data/v1/train", b"data/v1", b"data/main"):
            found = await world.stat(path)
            world.vfs.forget(found.ino, 1000)
            with pytest.raises(StaleInodeError):
                await world.vfs.getattr(found.ino)


async def test_everything_that_was_looked_up_can_be_forgotten(directory: Path) -> None:
    builder = await new_store()
    await builder.commit("data", TREE, tag="v1")
    async with opened(builder, directory) as world:
        counts: dict[int, int] = {}

        async def walk(path_ino: int) -> None:
            for _, ino, mode, _, _, _ in await world.listing(path_ino):
                counts[ino] = counts.get(ino, 0) + 1
                if mode == DIRECTORY_MODE:
                    await walk(ino)

        await walk(ROOT_INO)
        status = world.vfs.status()["inodes"]
        assert status["in_trees"] == len([ino for ino in counts if ino > 2**60])
        for ino, count in counts.items():
            world.vfs.forget(ino, count)
        status = world.vfs.status()["inodes"]
        assert {key: status[key] for key in ("in_trees", "others", "pages", "versions")} == {
            "in_trees": 0,
            "others": 1,
            "pages": 0,
            "versions": 0,
        }


async def test_a_refused_entry_was_not_looked_up(directory: Path) -> None:
    builder = await new_store()
    await builder.commit("data", TREE, tag="v1")
    async with opened(builder, directory) as world:
        top = (await world.stat(b"data/v1")).ino
        before = world.vfs.status()["inodes"]["in_trees"]
        listing = await world.vfs.list(top, 0)
        entry = next(listing.entries)
        world.vfs.refuse(entry[1])
        del listing
        assert world.vfs.status()["inodes"]["in_trees"] == before


async def test_listings_go_on_anywhere(directory: Path) -> None:
    files = {b"many/%05d" % number: b"%d" % (number % 7) for number in range(5000)}
    builder = await new_store()
    await builder.commit("data", files, tag="v1")
    async with opened(builder, directory) as world:
        ino = (await world.stat(b"data/v1/many")).ino
        everything = await world.listing(ino)
        assert [entry[0] for entry in everything] == [b"%05d" % number for number in range(5000)]
        for number in random.Random(3).sample(range(5000), 40):
            cookie = everything[number][-1]
            batch = list((await world.vfs.list(ino, cookie)).entries)
            assert batch == everything[number + 1 : number + 1 + len(batch)]
            assert batch or number == 4999


async def test_pages_of_a_listing_are_read_ahead_in_parallel(directory: Path) -> None:
    files = {b"%06d" % number: b"" for number in range(20_000)}
    builder = await new_store()
    await builder.commit("data", files, tag="v1")
    async with opened(builder, directory) as world:
        ino = (await world.stat(b"data/v1")).ino
        world.requests()
        everything = await world.listing(ino)
        assert len(everything) == 20_000
        pages = [request for request in world.requests() if "pages/" in request]
        assert len(pages) == len(set(pages)) >= 15


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


# --- attributes


async def test_extended_attributes_of_files(directory: Path) -> None:
    builder = await new_store()
    await builder.commit("data", TREE, tag="v1")
    async with opened(builder, directory) as world:
        ino = (await world.stat(b"data/v1/large")).ino
        await world.read(ino, 5 * CHUNK_BYTES, 10)
        attributes = {name: await world.vfs.getxattr(ino, name) for name in await world.vfs.listxattr(ino)}
        content = attributes.pop(b"user.fsd.blake3")
        assert len(content) == 64
        assert attributes == {
            b"user.fsd.cached": b"%d" % CHUNK_BYTES,
            b"user.fsd.chunks": b"151",
            b"user.fsd.packs": b"1",
            b"user.fsd.size": b"%d" % len(LARGE),
        }
        empty = (await world.stat(b"data/v1/empty")).ino
        assert await world.vfs.getxattr(empty, b"user.fsd.chunks") == b"0"


async def test_extended_attributes_of_versions(directory: Path) -> None:
    builder = await new_store()
    commit = await builder.commit("data", TREE, tag="v1")
    await create_subset(builder.repositories, "data", commit, "tiny", Rule(limit=1))
    async with opened(builder, directory) as world:

        async def attributes(path: bytes) -> dict[bytes, bytes]:
            ino = (await world.stat(path)).ino
            return {name[9:]: await world.vfs.getxattr(ino, name) for name in await world.vfs.listxattr(ino)}

        plain = {b"commit": commit.hex().encode(), b"repository": b"data"}
        assert await attributes(b"data/" + commit.hex().encode()) == plain
        assert await attributes(b"data/v1") == {**plain, b"tag": b"v1"}
        assert await attributes(b"data/v1+tiny") == {**plain, b"tag": b"v1", b"subset": b"tiny"}
        assert await attributes(b"data/v1+10pct") == {**plain, b"tag": b"v1", b"subset": b"10pct"}


async def test_other_attributes_are_not_there(directory: Path) -> None:
    builder = await new_store()
    await builder.commit("data", TREE, tag="v1")
    async with opened(builder, directory) as world:
        for path in (b"data", b"data/v1", b"data/main", b"data/v1/train", b"data/v1/README", b"data/v1/link"):
            ino = (await world.stat(path)).ino
            for name in (b"user.fsd.nothing", b"security.capability", b"system.posix_acl_access"):
                with pytest.raises(NoAttributeError):
                    await world.vfs.getxattr(ino, name)
        with pytest.raises(NoAttributeError):
            await world.vfs.getxattr((await world.stat(b"data/v1/train")).ino, b"user.fsd.commit")


async def test_totals(directory: Path) -> None:
    builder = await new_store()
    await builder.commit("data", TREE, tag="v1")
    async with opened(builder, directory) as world:
        assert world.vfs.statfs().files == 0
        await world.names(b"data/v1")
        totals = world.vfs.statfs()
        assert totals.bytes == sum(len(LARGE) if path == b"large" else 0 for path in TREE) + 5 + 5 + 2500 + 10 + 3
        await world.names(b"data/v1+10pct")
        assert world.vfs.statfs() == totals


# --- /.fsd


async def test_virtual_files_are_snapshots(directory: Path) -> None:
    builder = await new_store()
    await builder.commit("data", TREE, tag="v1")
    async with opened(builder, directory, about={"pid": 7}) as world:
        assert b".fsd" not in await world.names(b"")
        assert (await world.stat(b".fsd")).mode == DIRECTORY_MODE
        assert await world.names(b".fsd") == [b"errors", b"status"]
        before = await world.stat(b".fsd/status")
        assert (before.mode, before.entry_timeout_s) == (FILE_MODE, 0)
        await world.content(b"data/v1/README")
        after = await world.stat(b".fsd/status")
        assert after.ino != before.ino
        old, new = [json.loads(await world.read(found.ino, 0, found.size)) for found in (before, after)]
        assert (old["pid"], old["open_trees"], new["open_trees"]) == (7, 0, 1)
        assert new["requests"]["lookup"] > old["requests"]["lookup"]
        assert new["store"] == world.store.url
        assert new["cache"]["fetched_bytes"] > 0
        assert isinstance(await world.lookup(b".fsd/nothing"), Missing)
        world.vfs.forget(before.ino, 1)
        with pytest.raises(StaleInodeError):
            world.vfs.read_nowait(before.ino, 0, 10)


# --- what goes wrong


async def test_a_bad_chunk_fails_its_reads_only_and_is_recorded(
    directory: Path, error_logs: list[logging.LogRecord]
) -> None:
    builder = await new_store()
    await builder.commit("data", {b"bad": b"x" * 100, b"good": b"y" * 100}, tag="v1", one_pack_a_file=True)
    async with opened(builder, directory) as world:
        pack = world.builder.packs[0].hex()
        world.store.inject("get_range", f"packs/*/{pack}", FlipBit())
        with pytest.raises(CorruptDataError):
            await world.content(b"data/v1/bad")
        assert await world.content(b"data/v1/good") == b"y" * 100
        recorded = (await world.content(b".fsd/errors")).decode()
        assert "bad" in recorded
        assert pack in recorded
        assert error_logs
        world.store.assert_all_exercised()


async def test_a_bad_page_fails_what_lies_in_it(directory: Path) -> None:
    files = {b"%06d" % number: b"" for number in range(5000)}
    builder = await new_store()
    commit = await builder.commit("data", files, tag="v1")
    async with opened(builder, directory) as world:
        top = (await world.stat(b"data/v1")).ino
        page = (await world.repositories.tree(commit))._root.children[0].id.hex()
        fault = world.store.inject("get", f"pages/*/{page}", FlipBit())
        with pytest.raises(CorruptDataError):
            await world.vfs.lookup(top, b"000000")
        with pytest.raises(CorruptDataError):
            await world.vfs.list(top, 0)
        assert isinstance(await world.vfs.lookup(top, b"004999"), Attributes)
        assert page in (await world.content(b".fsd/errors")).decode()
        world.store.assert_all_exercised()
        fault.remove()
        assert isinstance(await world.vfs.lookup(top, b"000000"), Attributes)


async def test_without_the_store_what_is_cached_is_served(directory: Path) -> None:
    builder = await new_store()
    await builder.commit("data", TREE, tag="v1")
    async with opened(builder, directory, ALWAYS_ASK) as world:
        await world.content(b"data/v1/train/a.txt")
        await world.names(b"")
        await world.names(b"data")
        away = world.store.inject((*READS, "list"), "*", Fail(StoreUnreachableError("no route")))
        assert await world.content(b"data/v1/train/a.txt") == b"a" * 2500
        assert await world.names(b"") == [b"data"]
        assert await world.names(b"data") == [b"main", b"v1"]
        with pytest.raises(StoreUnreachableError):
            await world.content(b"data/v1/large")
        away.remove()
        assert await world.content(b"data/v1/large") == LARGE
        world.store.assert_all_exercised()


async def test_after_a_restart_nothing_is_asked_for_but_refs(directory: Path) -> None:
    builder = await new_store()
    await builder.commit("data", TREE, tag="v1")
    async with opened(builder, directory) as world:
        for path in (b"train/a.txt", b"large"):
            await world.content(b"data/v1/" + path)
    async with opened(builder, directory) as world:
        for path in (b"train/a.txt", b"large"):
            assert await world.content(b"data/v1/" + path) == TREE[path]
        assert {request.split("/")[0] for request in world.requests()} <= {"get fsd.json", "get refs", "list refs"}


async def test_a_stalled_reader_delays_nobody(directory: Path) -> None:
    builder = await new_store()
    await builder.commit("data", {b"a": b"a" * 100, b"b": b"b" * 100}, tag="v1", one_pack_a_file=True)
    async with opened(builder, directory) as world:
        stalled = world.store.inject("get_range", f"packs/*/{world.builder.packs[0].hex()}", Stall())
        async with trio.open_nursery() as nursery:
            for _ in range(64):
                nursery.start_soon(world.content, b"data/v1/a")
            await stalled.wait_met()
            assert await world.content(b"data/v1/b") == b"b" * 100
            assert world.vfs.status()["waiting_reads"] == 64
            nursery.cancel_scope.cancel()
        world.store.assert_all_exercised()
