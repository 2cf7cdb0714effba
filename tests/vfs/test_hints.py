"""Hints that are out of date: what was loaded names packs that are gone, and the store has everything elsewhere."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from fsd.errors import CorruptDataError, StoreUnreachableError
from fsd.format.keys import pack_key
from fsd.repo.packs import MisplacedError, PackGoneError
from tests.faulty import Fail
from tests.vfs.world import LARGE, LIMITS, TREE, Builder, World, new_store, opened

SMALL, CHUNKED, RECIPED = b"train/b.txt", b"train/a.txt", b"large"
"""A file of one chunk, of several, and of many: placed by its page, and by recipes."""


async def built() -> tuple[Builder, bytes]:
    """A store with a commit, and the directory of that in a mount."""
    builder = await new_store()
    commit = await builder.commit("data", TREE)
    return builder, b"data/" + commit.hex().encode()


async def lose(builder: Builder, *prefixes: str) -> None:
    store = builder.repositories.store
    for prefix in prefixes:
        async for info in store.list(prefix):
            await store.delete(info.key)


async def republish(builder: Builder) -> None:
    """What gc deletes once nothing reaches it, and then the same content from somebody else."""
    await lose(builder, "packs/", "pages/", "recipes/")
    await builder.commit("data", TREE, branch="again")


async def look(world: World, top: bytes) -> None:
    """Have all metadata in memory and in the cache, and no data."""
    for name in (SMALL, CHUNKED, RECIPED):
        await world.stat(top + b"/" + name)
    await world.vfs.holdings.coverage(top, lambda _: None)


def asked(world: World) -> Counter[str]:
    """Requests by the first part of the key."""
    return Counter(request.split()[1].split("/")[0] for request in world.requests())


def data_of(name: bytes) -> bytes:
    data = TREE[name]
    assert isinstance(data, bytes)
    return data


@pytest.mark.parametrize("name", [SMALL, CHUNKED, RECIPED])
async def test_what_was_published_again_is_read(name: bytes, tmp_path: Path) -> None:
    builder, top = await built()
    async with opened(builder, tmp_path) as world:
        await look(world, top)
        await republish(builder)
        world.requests()
        assert await world.content(top + b"/" + name) == data_of(name)
        requests = asked(world)
        # The page; or each of the eight recipes that place the file.
        assert requests["pages"] + requests["recipes"] == (8 if name == RECIPED else 1)
        assert requests["moved"] == 1
        # From now on nothing is out of date.
        for other in (SMALL, CHUNKED):
            assert await world.content(top + b"/" + other) == data_of(other)
        assert asked(world)["pages"] == (1 if name == RECIPED else 0)
        assert world.vfs.errors.total == 0


@pytest.mark.parametrize("name", [SMALL, CHUNKED, RECIPED])
async def test_the_same_after_a_restart(name: bytes, tmp_path: Path) -> None:
    builder, top = await built()
    async with opened(builder, tmp_path) as world:
        await look(world, top)
    await republish(builder)
    async with opened(builder, tmp_path) as world:
        assert await world.content(top + b"/" + name) == data_of(name)
        assert asked(world)["moved"] == 1
    # What was loaded anew took the place of what was in the cache: nothing leads astray again.
    async with opened(builder, tmp_path) as world:
        await world.vfs.holdings.evict(top, lambda _: None)
        world.requests()
        assert await world.content(top + b"/" + name) == data_of(name)
        assert asked(world) == {"packs": 1}
        assert world.vfs.errors.total == 0


async def test_a_file_that_is_being_read_goes_on(tmp_path: Path) -> None:
    builder, top = await built()
    limits = replace(LIMITS, window_min_bytes=0, window_max_bytes=0, own_pack_bytes=1)
    async with opened(builder, tmp_path, limits) as world:
        for name in (CHUNKED, RECIPED):
            found = await world.stat(top + b"/" + name)
            assert await world.read(found.ino, 0, 500) == data_of(name)[:500]
        await republish(builder)
        for name in (CHUNKED, RECIPED):
            found = await world.stat(top + b"/" + name)
            for start in range(500, found.size, 700):
                assert await world.read(found.ino, start, 700) == data_of(name)[start : start + 700]


async def test_placements_in_packs_that_hold_something_else(tmp_path: Path) -> None:
    builder, top = await built()
    store = builder.repositories.store
    async with opened(builder, tmp_path) as world:
        await look(world, top)
        stale = list(builder.packs)
        await republish(builder)
        for pack in stale:
            await store.put_if_absent(pack_key(pack), bytes(400_000))
        for name in (SMALL, CHUNKED, RECIPED):
            assert await world.content(top + b"/" + name) == data_of(name)
        assert world.vfs.errors.total == 0


async def test_many_readers_share_one_reload(tmp_path: Path) -> None:
    builder = await new_store()
    files = {b"%02d" % number: b"%d" % number * 1000 for number in range(60)}
    commit = await builder.commit("data", files, one_pack_a_file=True)
    top = b"data/" + commit.hex().encode()
    async with opened(builder, tmp_path) as world:
        inos = [(await world.stat(top + b"/" + name)).ino for name in files]
        await lose(builder, "packs/", "pages/")
        await builder.commit("data", files, branch="again")
        world.requests()

        async def read(ino: int, data: bytes) -> None:
            assert await world.read(ino, 0, len(data)) == data

        async with trio.open_nursery() as nursery:
            for ino, data in zip(inos, files.values(), strict=True):
                nursery.start_soon(read, ino, data)
        assert asked(world)["pages"] == 1


@pytest.mark.parametrize("name", [SMALL, CHUNKED, RECIPED])
async def test_a_pack_that_is_really_gone(name: bytes, tmp_path: Path, error_logs: list[logging.LogRecord]) -> None:
    builder, top = await built()
    async with opened(builder, tmp_path) as world:
        await look(world, top)
        ino = (await world.stat(top + b"/" + name)).ino
        await lose(builder, "packs/")
        world.requests()
        reloads = Counter[str]()
        for _ in range(50):
            with pytest.raises(PackGoneError, match="is gone") as caught:
                await world.vfs.read(ino, 0, 10)
            assert caught.value.misplaced.id.hex() in caught.value.message
            assert caught.value.misplaced.placement.pack.hex() in caught.value.message
            reloads += asked(world)
        # Whether the pack is there, and whether it was moved, is asked each time; what says so just once.
        assert reloads["pages"] + reloads["recipes"] == 1
        assert reloads["packs"] <= 2 * 50
        assert reloads["moved"] <= 2 * 50
        assert world.vfs.errors.total == 50
        [line] = [record.getMessage() for record in error_logs]
        assert name.decode() in line
        assert caught.value.message in line


@pytest.mark.usefixtures("error_logs")
async def test_what_was_loaded_anew_is_asked_for_again_after_a_while(tmp_path: Path) -> None:
    builder, top = await built()
    async with opened(builder, tmp_path, replace(LIMITS, fresh_hints_s=-1.0)) as world:
        ino = (await world.stat(top + b"/" + SMALL)).ino
        await lose(builder, "packs/")
        for _ in range(2):
            world.requests()
            with pytest.raises(PackGoneError):
                await world.vfs.read(ino, 0, 10)
            assert asked(world)["pages"] == 1
        await lose(builder, "pages/")
        await builder.commit("data", TREE, branch="again")
        assert await world.read(ino, 0, 10) == data_of(SMALL)


@pytest.mark.usefixtures("error_logs")
async def test_a_page_that_is_gone_with_its_packs_goes_on_being_shown(tmp_path: Path) -> None:
    builder, top = await built()
    for _ in range(2):
        async with opened(builder, tmp_path) as world:
            await look(world, top)
            await lose(builder, "packs/", "pages/", "recipes/")
            for name in (SMALL, RECIPED):
                with pytest.raises(PackGoneError):
                    await world.content(top + b"/" + name)
            assert b"a.txt" in await world.names(top + b"/train")


async def test_a_store_that_is_out_of_reach_when_it_is_asked_again(tmp_path: Path) -> None:
    builder, top = await built()
    async with opened(builder, tmp_path) as world:
        await look(world, top)
        await republish(builder)
        world.store.inject("get", "pages/*", Fail(StoreUnreachableError("the network is gone")), times=1)
        ino = (await world.stat(top + b"/" + SMALL)).ino
        with pytest.raises(StoreUnreachableError, match="network"):
            await world.vfs.read(ino, 0, 10)
        assert await world.read(ino, 0, 10) == data_of(SMALL)
        world.store.assert_all_exercised()


async def test_prefetching_finds_what_was_published_again(tmp_path: Path) -> None:
    builder, top = await built()
    async with opened(builder, tmp_path) as world:
        await look(world, top)
        await republish(builder)
        done = await world.vfs.holdings.prefetch(top, lambda _: None, pin=True)
        assert done["fetched_bytes"] > len(LARGE)
        seen = await world.vfs.holdings.coverage(top, lambda _: None)
        assert seen["complete"]
        assert seen["pinned"]


async def test_prefetching_what_is_in_part_gone_fetches_the_rest(tmp_path: Path) -> None:
    builder, top = await built()
    async with opened(builder, tmp_path) as world:
        await look(world, top)
        await republish(builder)
        await lose(builder, "pages/")
        with pytest.raises(CorruptDataError, match="is gone"):
            await world.vfs.holdings.prefetch(top, lambda _: None)
        assert (await world.vfs.holdings.coverage(top + b"/large", lambda _: None))["complete"]
        assert (await world.vfs.holdings.coverage(top + b"/train", lambda _: None))["complete_files"] == 0


async def test_prefetching_what_is_really_gone_says_so(tmp_path: Path) -> None:
    builder, top = await built()
    async with opened(builder, tmp_path) as world:
        await look(world, top)
        await lose(builder, "packs/")
        world.requests()
        with pytest.raises(CorruptDataError, match="is gone"):
            await world.vfs.holdings.prefetch(top + b"/train", lambda _: None)
        assert asked(world)["pages"] == 1


async def test_replaying_finds_what_was_published_again(tmp_path: Path) -> None:
    builder, top = await built()
    async with opened(builder, tmp_path) as world:
        await look(world, top)
        await republish(builder)
        send, receive = trio.open_memory_channel[bytes](10)
        async with send:
            for name in (RECIPED, SMALL, CHUNKED):
                await send.send(name)
        done = await world.vfs.holdings.replay(top, aiter(receive), lambda _: None)
        assert done["files"] == 3
        seen = await world.vfs.holdings.coverage(top + b"/large", lambda _: None)
        assert seen["complete"]


async def test_bytes_that_are_really_wrong(tmp_path: Path, error_logs: list[logging.LogRecord]) -> None:
    builder, top = await built()
    async with opened(builder, tmp_path) as world:
        await look(world, top)
        ino = (await world.stat(top + b"/" + SMALL)).ino
        store = builder.repositories.store
        [pack] = builder.packs
        await store.overwrite(pack_key(pack), bytes(400_000))
        world.requests()
        with pytest.raises(MisplacedError, match="does not match its hash"):
            await world.vfs.read(ino, 0, 10)
        assert asked(world) == {"packs": 2, "pages": 1}
        [line] = [record.getMessage() for record in error_logs]
        assert "train/b.txt" in line
        assert pack.hex() in line
