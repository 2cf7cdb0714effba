"""A whole store is found whole; whatever is taken from it or changed in it is found, and the files that need it."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable

import hypothesis.strategies as st
import pytest
import trio
from hypothesis import given, settings

from fsd.errors import CorruptDataError
from fsd.format.envelope import unseal
from fsd.format.keys import COMMITS, PACKS, PAGES, RECIPES, SEGMENTS, STORE_MARKER, ObjectKind
from fsd.format.pack import decode_chunk
from fsd.limits import KIB, MIB, Limits
from fsd.maintenance.verify import Report, verify
from fsd.repo.refs import short
from fsd.repo.repository import Repositories, init_store, open_repositories
from fsd.repo.rules import Rule
from fsd.repo.subsets import create_subset
from fsd.stores.memory import MemoryStore
from tests.publish.folders import DIRECTORY, Desk, Folder, chunks_of, file, keys_of

ENVELOPED = {
    COMMITS: [ObjectKind.COMMIT],
    PAGES: [ObjectKind.PAGE, ObjectKind.INDEX],
    RECIPES: [ObjectKind.RECIPE],
    SEGMENTS: [ObjectKind.SEGMENT],
}

KINDS = {COMMITS: "commit", PAGES: "page", RECIPES: "recipe", PACKS: "pack"}

LIMITS = Limits(pack_bytes=64 * KIB, own_pack_bytes=256 * KIB, range_bytes=64 * KIB)


class Counted:
    def __init__(self) -> None:
        self.phases: list[str] = []
        self.expected = self.objects = self.read_bytes = 0

    def phase(self, name: str) -> None:
        self.phases.append(name)

    def expect(self, size_bytes: int) -> None:
        self.expected = size_bytes

    def advance(self, objects: int, size_bytes: int = 0) -> None:
        self.objects += objects
        self.read_bytes += size_bytes


def noise(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def folder(version: int) -> Folder:
    """Small files in several packs, and a file with a recipe and a pack of its own."""
    found = {b"small": DIRECTORY, b"large": file(noise(1000, 4 * MIB))}
    found |= {b"small/%d" % number: file(noise(number, 8_000)) for number in range(30)}
    found[b"small/new"] = file(noise(2000 + version, 8_000))
    return found


class World:
    """Two versions, a tag and a subset, in a store in memory that each test may spoil."""

    def __init__(self, objects: dict[str, bytes], commits: list[bytes]) -> None:
        self.commits = commits
        self.store = MemoryStore()
        for key, data in objects.items():
            trio.run(self.store.put_if_absent, key, data)

    async def repositories(self) -> Repositories:
        return await open_repositories(self.store, LIMITS)

    async def verified(self, *, data: bool = False) -> Report:
        return await verify(await self.repositories(), Counted(), data=data)

    async def unreadable(self) -> set[str]:
        """The files of the two versions that do not read, found by reading them all."""
        repositories = await self.repositories()
        found = set()
        for commit in self.commits:
            async for listed in (await repositories.tree(commit)).list_below():
                for entry in map(listed.page.entry, listed.positions):
                    for chunk in await chunks_of(repositories, entry):
                        place = chunk.placement
                        stored = await repositories.packs.read(place.pack, place.offset, place.stored)
                        try:
                            decode_chunk(chunk.id, memoryview(stored), chunk.length)
                        except CorruptDataError:
                            found.add(f"repo/{short(commit)}/{entry.path.decode()}")
        return found


MakeWorld = Callable[[], World]


@pytest.fixture(scope="module")
def make_world(tmp_path_factory: pytest.TempPathFactory) -> MakeWorld:
    store = MemoryStore()
    desk = Desk(tmp_path_factory.mktemp("desk"), limits=LIMITS, store=store)

    async def fill() -> tuple[dict[str, bytes], list[bytes]]:
        commits = [(await desk.commit(folder(1), tag="v1")).commit, (await desk.commit(folder(2))).commit]
        await create_subset(await desk.repositories(), "repo", commits[0], "few", Rule(limit=3))
        return {key: (await store.get(key)).data for key in await keys_of(store)}, commits

    objects, commits = trio.run(fill)
    return lambda: World(objects, commits)


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    return make_world()


async def test_a_whole_store(world: World) -> None:
    progress = Counted()
    report = await verify(await world.repositories(), progress, data=True)
    assert report.is_whole
    assert report.refs == 3
    assert report.commits == 3  # and one of them is the subset
    objects = [key for prefix in list(KINDS)[:3] for key in await keys_of(world.store, prefix)]
    assert report.objects == len(objects)
    assert report.packs == len(await keys_of(world.store, PACKS)) > 4
    assert progress.phases == ["objects", "packs"]
    assert progress.read_bytes == progress.expected > 4 * MIB
    without = await world.verified()
    assert without.is_whole
    assert without.chunks == 0 < report.chunks


async def test_an_empty_store() -> None:
    store = MemoryStore()
    await init_store(store)
    assert (await verify(await open_repositories(store), Counted(), data=True)).is_whole


@pytest.mark.parametrize("prefix", KINDS)
@pytest.mark.parametrize("way", ["gone", "short"])
async def test_what_is_gone_or_short_is_found(world: World, prefix: str, way: str) -> None:
    """Without reading a byte of any file."""
    for key in await keys_of(world.store, prefix):
        fetched = await world.store.get(key)
        if way == "gone":
            await world.store.delete(key)
        else:
            await world.store.overwrite(key, fetched.data[: len(fetched.data) // 3])
        report = await world.verified()
        [damage] = report.damages
        assert damage.id == key.rpartition("/")[2]
        assert damage.what == KINDS[prefix]
        assert damage.way or prefix == PACKS
        await world.store.overwrite(key, fetched.data)
    assert (await world.verified()).is_whole


async def test_the_files_that_need_a_pack_are_named(world: World) -> None:
    sizes = {info.size: info.key async for info in world.store.list(PACKS)}
    await world.store.delete(sizes[max(sizes)])
    report = await world.verified()
    assert [name.partition("/")[2].partition("/")[2] for name in report.files] == ["large"]
    assert report.files_concerned == 1


def said_by(key: str, stored: bytes) -> object:
    """What a reader has of an object: not every bit of a zstd frame bears on what comes out of it."""
    for prefix, kinds in ENVELOPED.items():
        if key.startswith(prefix):
            for kind in kinds:
                with contextlib.suppress(CorruptDataError):
                    return unseal(kind, bytes.fromhex(key.rpartition("/")[2]), stored)
            return None
    return stored


@settings(max_examples=60, deadline=None)
@given(which=st.integers(0, 1 << 30), at=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_anywhere_is_found(make_world: MakeWorld, which: int, at: float, bit: int) -> None:
    """In any object that then says something else; and the files that are named are just those that do not read."""
    world = make_world()

    async def main() -> None:
        keys = [key for key in await keys_of(world.store) if key != STORE_MARKER]
        key = keys[which % len(keys)]
        before = (await world.store.get(key)).data
        data = bytearray(before)
        data[int(at * len(data))] ^= 1 << bit
        await world.store.overwrite(key, bytes(data))
        report = await world.verified(data=True)
        if said_by(key, bytes(data)) == said_by(key, before):
            assert report.is_whole, (key, report)
            return
        assert len(report.damages) == 1, (key, report)
        if report.damages[0].what == "chunk":
            # A file stands below the version in which it was met first, which may be the subset.
            unreadable = await world.unreadable()
            assert {file.split("/", 2)[2] for file in report.files} == {file.split("/", 2)[2] for file in unreadable}
        else:
            assert not report.files

    trio.run(main)
