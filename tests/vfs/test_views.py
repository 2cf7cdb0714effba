"""Views: everything once more, with a file of its own for each name."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from fsd.vfs.attributes import Missing
from tests.vfs.world import LARGE, TREE, World, new_store, opened

VIEW = b".views/0123456789abcdef/"
OTHER = b".views/fedcba9876543210/"

TWINS = {**TREE, b"one": b"same", b"two": b"same", b"link two": TREE[b"link"], b"train/again": LARGE}


async def names(world: World, path: bytes) -> dict[bytes, int]:
    """Names and numbers, as a listing has them."""
    return {entry[0]: entry[1] for entry in await world.listing((await world.stat(path)).ino)}


async def test_every_name_has_a_number_of_its_own(tmp_path: Path) -> None:
    builder = await new_store()
    await builder.commit("data", TWINS, tag="v1")
    async with opened(builder, tmp_path / "cache") as world:
        plain, inside = await names(world, b"data/v1"), await names(world, VIEW + b"data/v1")
        assert plain.keys() == inside.keys()
        assert plain[b"one"] == plain[b"two"]
        assert len({*plain.values(), *inside.values()}) == len(set(plain.values())) + len(inside)
        assert set((await names(world, OTHER + b"data/v1")).values()).isdisjoint(inside.values())
        for path in (b"one", b"train/again", b"link two", b"run", b"train/deep/er"):
            first = await world.stat(VIEW + b"data/v1/" + path)
            assert first.ino == (await world.stat(VIEW + b"data/v1/" + path)).ino
            assert first.mode == (await world.vfs.getattr(first.ino)).mode
            plain_mode = (await world.stat(b"data/v1/" + path)).mode
            assert first.mode == (plain_mode if stat.S_ISLNK(plain_mode) else plain_mode | 0o200)
        assert (await world.stat(VIEW + b"data/v1")).mode == stat.S_IFDIR | 0o755
        listed = await world.listing((await world.stat(VIEW + b"data/v1")).ino)
        assert {entry[0]: entry[2] for entry in listed}[b"run"] == stat.S_IFREG | 0o755
        assert inside[b"one"] == (await world.stat(VIEW + b"data/v1/one")).ino, "listed or looked up"


async def test_the_bytes_are_the_same_and_fetched_once(tmp_path: Path) -> None:
    builder = await new_store()
    await builder.commit("data", TWINS, tag="v1")
    async with opened(builder, tmp_path / "cache") as world:
        for path in (b"one", b"two", b"large", b"train/again", b"train/a.txt", b"empty"):
            ino = (await world.stat(VIEW + b"data/v1/" + path)).ino
            data = TWINS[path]
            assert isinstance(data, bytes)
            assert await world.read(ino, 0, len(data) + 1) == data
            assert await world.read(ino, 3, 2) == data[3:5]
        fetched = world.vfs.status()["cache"]["fetched_bytes"]
        plain = (await world.stat(b"data/v1/large")).ino
        assert await world.read(plain, 0, len(LARGE)) == LARGE
        assert world.vfs.status()["cache"]["fetched_bytes"] == fetched
        link = (await world.stat(VIEW + b"data/v1/link two")).ino
        assert await world.vfs.readlink(link) == b"train/a.txt"
        assert await world.vfs.getxattr(ino, b"user.fsd.size") == b"0"


async def test_what_a_view_shows(tmp_path: Path) -> None:
    builder = await new_store()
    commit = await builder.commit("data", TREE, tag="v1")
    async with opened(builder, tmp_path / "cache") as world:
        assert b".views" not in await world.names(b"")
        assert await names(world, b".views") == {}
        assert (await names(world, VIEW[:-1])).keys() == {b"data"}
        assert (await names(world, VIEW + b"data")).keys() == {b"main", b"v1"}
        link = (await world.stat(VIEW + b"data/main")).ino
        assert await world.vfs.readlink(link) == commit.hex().encode()
        await world.stat(VIEW + b"data/" + commit.hex().encode() + b"/README")
        views = (await world.stat(b".views")).ino
        for name in (b"short", b"0123456789ABCDEF", b"0123456789abcdef0", b"..", b".fsd"):
            assert isinstance(await world.vfs.lookup(views, name), Missing)
        inside = (await world.stat(VIEW[:-1])).ino
        for name in (b".fsd", b".views", b"nope"):
            assert isinstance(await world.vfs.lookup(inside, name), Missing)


async def test_what_the_kernel_forgets_is_gone(tmp_path: Path) -> None:
    builder = await new_store()
    await builder.commit("data", TREE, tag="v1")
    async with opened(builder, tmp_path / "cache") as world:
        before = world.vfs.status()["inodes"]["in_trees"]
        ino = (await world.stat(VIEW + b"data/v1/README")).ino
        world.vfs.forget(ino, 1)
        assert world.vfs.status()["inodes"]["in_trees"] == before
        with pytest.raises(Exception, match="is not known"):
            await world.read(ino, 0, 5)
        assert await world.read((await world.stat(VIEW + b"data/v1/README")).ino, 0, 5) == b"hello"
