"""Attributes, virtual files, and what happens when something is bad or away. Over a real store and cache."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from fsd.errors import CorruptDataError, StoreUnreachableError
from fsd.repo.rules import Rule
from fsd.repo.subsets import create_subset
from fsd.vfs.attributes import (
    DIRECTORY_MODE,
    FILE_MODE,
    Attributes,
    Missing,
    NoAttributeError,
    StaleInodeError,
)
from tests.faulty import READS, Fail, FlipBit, Stall
from tests.vfs.world import (
    ALWAYS_ASK,
    CHUNK_BYTES,
    LARGE,
    LIMITS,
    TREE,
    new_store,
    opened,
)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "cache"


async def test_nothing_waits_longer_than_a_read_may(directory: Path) -> None:
    builder = await new_store()
    await builder.commit("data", TREE, tag="v1")
    async with opened(builder, directory, replace(LIMITS, read_deadline_s=0.05)) as world:
        version = (await world.stat(b"data/v1")).ino
        stalled = world.store.inject(READS, "*", Stall())
        for wait in (partial(world.vfs.lookup, version, b"large"), partial(world.vfs.list, version, 0)):
            with pytest.raises(StoreUnreachableError, match=r"within 0\.05 s"):
                await wait()
        assert world.vfs.errors.total == 2
        stalled.remove()
        world.store.assert_all_exercised()


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
        [record] = error_logs
        line = record.getMessage()
        assert line.startswith("bad (content ")
        assert pack in line
        [error] = world.vfs.errors.recent()
        assert (error["pack"], error["count"]) == (pack, 1)
        assert error["chunk"] in line
        assert vars(record)["fields"] == {name: error[name] for name in ("what", "chunk", "pack")}
        world.store.assert_all_exercised()


@pytest.mark.usefixtures("error_logs")
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
