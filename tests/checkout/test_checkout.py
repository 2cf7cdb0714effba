"""Checking out: the folder is the version, whole or not at all, and nothing else is touched."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from hypothesis import HealthCheck, given, settings

from fsd.cache.cache import Cache
from fsd.checkout.checkout import LARGE_BYTES, CheckedOut, Version, check_out
from fsd.checkout.contents import CachedContents, Contents
from fsd.checkout.stored import StoredContents
from fsd.checkout.target import Target, staging_path
from fsd.errors import ConflictError, CorruptDataError, FsdError, NotFoundError, StoreUnreachableError, UsageError
from fsd.format.model import Entry
from fsd.ids import Buffer, content_id
from fsd.limits import DEFAULT_LIMITS, KIB
from fsd.repo.filtered import FilteredTree
from fsd.repo.packs import PackGoneError
from fsd.repo.repository import Repositories, init_store, open_repositories
from fsd.repo.rules import parse_builtin
from fsd.stores.memory import MemoryStore
from fsd.vfs.pieces import Pieces
from tests.faulty import Fail, FaultyStore
from tests.publish.folders import DIRECTORY, Desk, Item, file, link, program, read_folder
from tests.repo.trees import build, in_order, models, symlink, tree_of
from tests.repo.trees import file as entry_of

LIMITS = replace(DEFAULT_LIMITS, pack_bytes=256 * KIB, own_pack_bytes=512 * KIB)

FOLDER: dict[bytes, Item] = {
    b"README.md": file(b"what it is\n"),
    b"empty": file(),
    b"here": link(b"train/a.jpg"),
    b"run": program(b"#!/bin/sh\n"),
    b"train": DIRECTORY,
    b"train/a.jpg": file(b"a" * 5000),
    b"train/deep": DIRECTORY,
    b"train/deep/again": file(b"a" * 5000),
    b"train/deep/odd\n\xff": file(random.Random(1).randbytes(300_000)),
    b"train/large": program(random.Random(2).randbytes(2 * LARGE_BYTES + 7)),
    b"void": DIRECTORY,
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> tuple[Desk, bytes]:
    """A store that is only read, and a commit in it."""
    desk = Desk(tmp_path_factory.mktemp("shop"), limits=LIMITS)
    return desk, trio.run(desk.commit, FOLDER).commit


@asynccontextmanager
async def reading(desk: Desk, how: str, place: Path) -> AsyncIterator[tuple[Repositories, Contents]]:
    repositories = await desk.repositories()
    if how == "stored":
        yield repositories, StoredContents(repositories)
        return
    async with Cache.open(place / "cache", repositories.packs, LIMITS) as cache:
        yield repositories, CachedContents(cache, repositories)


async def checked_out(
    desk: Desk, commit: bytes, target: Path, below: bytes = b"", contents: Contents | None = None
) -> CheckedOut:
    repositories = await desk.repositories()
    version = Version(await repositories.tree(commit), repositories.objects, below)
    return await check_out(version, contents or StoredContents(repositories), os.fsencode(target))


@pytest.mark.parametrize("how", ["stored", "cached"])
async def test_the_folder_is_the_version(how: str, shop: tuple[Desk, bytes], tmp_path: Path) -> None:
    desk, commit = shop
    async with reading(desk, how, tmp_path) as (repositories, contents):
        tree = await repositories.tree(commit)
        for _ in range(2):  # with and without the bytes in the cache
            target = tmp_path / "some" / "where"
            done = await check_out(Version(tree, repositories.objects), contents, os.fsencode(target))
            assert read_folder(target) == FOLDER
            assert (done.files, done.files_kept, done.is_new) == (7, 0, True)
            assert done.bytes == sum(len(item.data) for item in FOLDER.values() if item.kind in "fx")
            assert os.listdir(tmp_path / "some") == ["where"]
            target.rename(tmp_path / f"before {done.files} {os.urandom(4).hex()}")


async def test_a_part_of_a_version(shop: tuple[Desk, bytes], tmp_path: Path) -> None:
    desk, commit = shop
    await checked_out(desk, commit, tmp_path / "train", b"train")
    inside = {path.removeprefix(b"train/"): item for path, item in FOLDER.items() if path.startswith(b"train/")}
    assert read_folder(tmp_path / "train") == inside
    await checked_out(desk, commit, tmp_path / "deep", b"train/deep")
    assert set(read_folder(tmp_path / "deep")) == {b"again", b"odd\n\xff"}
    for missing in (b"train/nope", b"README.md"):
        with pytest.raises(NotFoundError, match="no directory of this version"):
            await checked_out(desk, commit, tmp_path / "x", missing)
    repositories = await desk.repositories()
    rule = parse_builtin("50pct", repositories.marker.keep)
    assert rule is not None
    tree = FilteredTree(await repositories.tree(commit), rule)
    await check_out(Version(tree, repositories.objects), StoredContents(repositories), os.fsencode(tmp_path / "half"))
    half = read_folder(tmp_path / "half")
    assert half.items() < FOLDER.items()
    assert b"README.md" in half


async def test_an_empty_folder_is_taken_and_a_full_one_is_not(shop: tuple[Desk, bytes], tmp_path: Path) -> None:
    desk, commit = shop
    target = tmp_path / "there"
    target.mkdir(mode=0o750)
    (tmp_path / "link").symlink_to("there")
    await checked_out(desk, commit, tmp_path / "link")
    assert read_folder(target) == FOLDER
    assert target.stat().st_mode & 0o777 == 0o750
    again = await checked_out(desk, commit, target)
    assert (again.is_new, again.files) == (False, 7)

    (target / "train" / "more").write_bytes(b"mine")
    with pytest.raises(ConflictError, match="not empty, and not that version: 1 more"):
        await checked_out(desk, commit, target)
    (target / "train" / "more").unlink()
    (target / "run").chmod(0o644)
    with pytest.raises(ConflictError, match="run is missing or another"):
        await checked_out(desk, commit, target)
    (target / "run").chmod(0o755)
    (target / "train" / "deep" / "again").write_bytes(b"A" + b"a" * 4999)
    with pytest.raises(ConflictError, match="train/deep/again is missing or another"):
        await checked_out(desk, commit, target)
    assert (target / "train" / "deep" / "again").read_bytes() == b"A" + b"a" * 4999
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match="not a folder"):
        await checked_out(desk, commit, tmp_path / "file")


class Breaking:
    """Contents that fail after some files."""

    def __init__(self, inner: Contents, files: int) -> None:
        self._inner = inner
        self.left = files

    async def read_small(self, files: list[Entry]) -> list[Buffer]:
        self.left -= len(files)
        if self.left < 0:
            raise StoreUnreachableError("gone")
        return await self._inner.read_small(files)

    async def read(self, file: Entry, pieces: Pieces, start: int, end: int) -> list[Buffer]:
        if start:
            raise StoreUnreachableError("gone in the middle")
        return list(await self._inner.read(file, pieces, start, end))

    async def share(self, pieces: Pieces, start: int, end: int, target: int) -> bool:
        return await self._inner.share(pieces, start, end, target)


async def test_a_second_try_goes_on(shop: tuple[Desk, bytes], tmp_path: Path) -> None:
    desk, commit = shop
    repositories = await desk.repositories()
    target = tmp_path / "out"
    with pytest.raises(StoreUnreachableError, match="gone"):
        await checked_out(desk, commit, target, contents=Breaking(StoredContents(repositories), 1_000))  # type: ignore[arg-type]
    assert not target.exists()
    tree = await repositories.tree(commit)
    staging = Path(os.fsdecode(staging_path(os.fsencode(target), content_id(tree.id)[:6].hex().encode())))
    assert os.listdir(tmp_path) == [staging.name]
    # What a killed one may have left: files that are short, another's, of another kind.
    (staging / "train").mkdir(exist_ok=True)
    (staging / "train" / "a.jpg").write_bytes(b"b" * 5000)
    (staging / "train" / "large").write_bytes(b"short")
    (staging / "README.md").unlink(missing_ok=True)
    (staging / "README.md").symlink_to("/etc/passwd")
    (staging / "here").unlink(missing_ok=True)
    (staging / "here").write_bytes(b"")
    (staging / "train" / "deep").mkdir(exist_ok=True)
    (staging / "train" / "deep" / "again").write_bytes(b"a" * 5000)  # and one that is right
    done = await checked_out(desk, commit, target)
    assert read_folder(target) == FOLDER
    assert 0 < done.files_kept < 7
    assert os.listdir(tmp_path) == ["out"]


async def test_two_at_once(shop: tuple[Desk, bytes], tmp_path: Path) -> None:
    desk, commit = shop
    tree = await (await desk.repositories()).tree(commit)
    target = os.fsencode(tmp_path / "out")
    staging = staging_path(target, content_id(tree.id)[:6].hex().encode())
    os.mkdir(staging)
    with Target(staging) as other:
        other.lock()
        with pytest.raises(ConflictError, match="another checkout"):
            await checked_out(desk, commit, tmp_path / "out")
    await checked_out(desk, commit, tmp_path / "out")


async def test_bytes_that_are_not_what_the_tree_says(shop: tuple[Desk, bytes], tmp_path: Path) -> None:
    desk, commit = shop

    class Lying(StoredContents):
        async def read_small(self, files: object) -> list[Buffer]:
            return [bytes(len(content)) for content in await super().read_small(files)]  # type: ignore[arg-type]

    class LyingAtLength(StoredContents):
        async def read(self, *arguments: object) -> list[Buffer]:
            return [bytes(len(part)) for part in await super().read(*arguments)]  # type: ignore[arg-type]

    repositories = await desk.repositories()
    for lying in (Lying(repositories), LyingAtLength(repositories)):
        with pytest.raises(CorruptDataError, match="is not what the tree says"):
            await checked_out(desk, commit, tmp_path / "out", contents=lying)
        assert not (tmp_path / "out").exists()


async def publish_again(desk: Desk, top: Path, *, without: str = "") -> None:
    """What gc deletes once nothing reaches it, and then the same content from somebody else; but for objects `without`
    (a prefix)."""
    for prefix in ("packs/", "pages/", "recipes/"):
        async for info in desk.store.list(prefix):
            await desk.store.delete(info.key)
    other = Desk(top, "other", LIMITS, store=desk.store)
    await other.commit(FOLDER, branch="again")
    if without:
        async for info in desk.store.list(without):
            await desk.store.delete(info.key)


@pytest.mark.parametrize("how", ["stored", "cached"])
async def test_what_was_published_again_while_it_is_checked_out(how: str, tmp_path: Path) -> None:
    desk = Desk(tmp_path, limits=LIMITS)
    commit = (await desk.commit(FOLDER)).commit
    async with reading(desk, how, tmp_path) as (repositories, contents):
        tree = await repositories.tree(commit)
        async for listed in tree.list_below():  # now they are in memory
            for position in listed.positions:
                await Pieces(listed.page.entry(position), repositories.objects).leaves(0, listed.page.size(position))
        await publish_again(desk, tmp_path)
        await check_out(Version(tree, repositories.objects), contents, os.fsencode(tmp_path / "out"))
        assert read_folder(tmp_path / "out") == FOLDER


@pytest.mark.parametrize("how", ["stored", "cached"])
async def test_packs_that_are_really_gone(how: str, tmp_path: Path) -> None:
    desk = Desk(tmp_path, limits=LIMITS)
    commit = (await desk.commit(FOLDER)).commit
    await publish_again(desk, tmp_path, without="packs/")
    async with reading(desk, how, tmp_path) as (repositories, contents):
        version = Version(await repositories.tree(commit), repositories.objects)
        with pytest.raises(PackGoneError, match="is gone"):
            await check_out(version, contents, os.fsencode(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_nothing_is_written_through_a_symlink(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    # A publisher of ours makes no such tree, but whoever can write to a store can.
    with Target(os.fsencode(tmp_path)) as target:
        target.write([symlink(b"a", os.fsencode(outside))], [])
        with pytest.raises(FsdError, match="cannot write in"):
            target.write([entry_of(b"a/b")], [b""])
        with pytest.raises(FsdError, match="cannot write in"):
            target.begin_large(entry_of(b"a/b"))
        with pytest.raises(FsdError, match="cannot write in"):
            target.missing([entry_of(b"a/b")])
    assert os.listdir(outside) == []


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(models)
async def test_any_tree(tmp_path: Path, tree: dict[bytes, Entry]) -> None:
    """Names of every sort; the contents are known to the test."""
    known = {content_id(data): data for data in (b"", b"x", b"y" * 100)}

    class Known(StoredContents):
        async def read_small(self, files: list[Entry]) -> list[Buffer]:  # type: ignore[override]
            return [known[entry.content] for entry in files]

    store = MemoryStore()
    await init_store(store)
    repositories = await open_repositories(store)
    stored = tree_of(store, await build(store, in_order(tree)))
    target = tmp_path / os.urandom(8).hex()
    await check_out(Version(stored, repositories.objects), Known(repositories), os.fsencode(target))
    found = read_folder(target)
    assert found.keys() == tree.keys()
    for path, entry in tree.items():
        kind, data = found[path]
        assert kind == ("x" if entry.executable else " fdl"[entry.kind])
        assert data == (entry.target or known.get(entry.content, b""))


async def test_neighbours_in_a_pack_are_one_request(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    commit = (await desk.commit({b"%03d" % number: file(b"%d" % number * 100) for number in range(300)})).commit
    desk.store = store = FaultyStore(desk.store)
    for how in ("stored", "cached"):
        async with reading(desk, how, tmp_path) as (repositories, contents):
            tree = await repositories.tree(commit)
            store.calls.clear()
            await check_out(Version(tree, repositories.objects), contents, os.fsencode(tmp_path / how))
        ranges = [call for call in store.calls if call.operation == "get_range"]
        assert len(ranges) <= 2, how
    store.inject("get_range", "packs/*", Fail(StoreUnreachableError("gone")), times=1)
    with pytest.raises(StoreUnreachableError, match="gone"):
        await checked_out(desk, commit, tmp_path / "third")
    store.assert_all_exercised()


async def test_a_stretch_of_a_large_file_is_one_request(shop: tuple[Desk, bytes]) -> None:
    """Also where it begins and ends within chunks."""
    desk, commit = shop
    store = FaultyStore(desk.store)
    repositories = await open_repositories(store, limits=LIMITS)
    tree = await repositories.tree(commit)
    found = await tree.find(b"train", b"large")
    assert found is not None
    large = found.page.entry(found.position)
    pieces = Pieces(large, repositories.objects)
    await pieces.run(0, large.size)  # its recipe is known
    contents = StoredContents(repositories)
    store.calls.clear()
    start = 12_345
    parts = await contents.read(large, pieces, start, start + LARGE_BYTES)
    assert b"".join(parts) == FOLDER[b"train/large"].data[start : start + LARGE_BYTES]
    assert [call.operation for call in store.calls] == ["get_range"]
