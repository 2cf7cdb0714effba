"""Trees as the kernel sees them: entries, inodes, listings. Over a real store and cache."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from fsd.repo.rules import Rule
from fsd.repo.subsets import create_subset
from fsd.vfs.attributes import (
    DIRECTORY_MODE,
    EXECUTABLE_MODE,
    FILE_MODE,
    FILE_MTIME_NS,
    ROOT_INO,
    SYMLINK_MODE,
    Missing,
    NotDirectoryError,
    NotFileError,
    NotSymlinkError,
    StaleInodeError,
)
from tests.vfs.world import (
    FOREVER_S,
    TREE,
    Executable,
    Symlink,
    new_store,
    opened,
)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "cache"


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
