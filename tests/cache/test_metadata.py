"""Stored objects on disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio

from fsd.cache.metadata import CachedLoader, ObjectFiles
from fsd.format.keys import ObjectKind, object_key
from fsd.ids import content_id
from fsd.repo.objects import StoreLoader
from fsd.stores.base import ObjectNotFoundError
from fsd.stores.memory import MemoryStore
from tests.faulty import FaultyStore


class Setup:
    def __init__(self, directory: Path, limit_bytes: int = 1 << 20) -> None:
        self.memory = MemoryStore()
        self.store = FaultyStore(self.memory)
        self.directory = directory
        self.reopen(limit_bytes)

    def reopen(self, limit_bytes: int = 1 << 20) -> None:
        self.files = ObjectFiles(self.directory, limit_bytes, trio.CapacityLimiter(2))
        self.files.load()
        self.loader = CachedLoader(StoreLoader(self.store), self.files)

    async def add(self, data: bytes, kind: ObjectKind = ObjectKind.PAGE) -> bytes:
        object_id = content_id(data)
        await self.memory.put_if_absent(object_key(kind, object_id), data)
        return object_id

    def paths(self) -> list[Path]:
        return [path for path in self.directory.rglob("*") if path.is_file()]


async def test_it_asks_once_and_remembers(tmp_path: Path) -> None:
    setup = Setup(tmp_path / "objects")
    page = await setup.add(b"a page")
    for _ in range(2):
        assert await setup.loader.load(ObjectKind.PAGE, page) == b"a page"
    setup.reopen()
    assert setup.files.used_bytes == 4096
    assert await setup.loader.load(ObjectKind.PAGE, page) == b"a page"
    assert len(setup.store.calls) == 1


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "gone"])
async def test_a_damaged_file_is_fetched_again(tmp_path: Path, damage: str) -> None:
    setup = Setup(tmp_path / "objects")
    page = await setup.add(b"a page" * 100)
    await setup.loader.load(ObjectKind.PAGE, page)
    (path,) = setup.paths()
    data = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes({"flip": b"x" + data[1:], "truncate": data[:50], "empty": b""}[damage])
    assert await setup.loader.load(ObjectKind.PAGE, page) == b"a page" * 100
    assert await setup.loader.load(ObjectKind.PAGE, page) == b"a page" * 100
    assert len(setup.store.calls) == 2
    assert path.read_bytes() == data


async def test_what_is_forgotten_comes_from_the_store(tmp_path: Path) -> None:
    setup = Setup(tmp_path / "objects")
    page = await setup.add(b"a page")
    await setup.loader.load(ObjectKind.PAGE, page)
    await setup.loader.forget(ObjectKind.PAGE, page)
    assert setup.files.used_bytes == 0
    assert await setup.loader.load(ObjectKind.PAGE, page) == b"a page"
    assert len(setup.store.calls) == 2


async def test_what_is_missing_is_not_kept(tmp_path: Path) -> None:
    setup = Setup(tmp_path / "objects")
    with pytest.raises(ObjectNotFoundError):
        await setup.loader.load(ObjectKind.PAGE, bytes(32))
    assert await setup.loader.load(ObjectKind.PAGE, await setup.add(b"later")) == b"later"


async def test_kinds_are_kept_apart(tmp_path: Path) -> None:
    setup = Setup(tmp_path / "objects")
    object_id = await setup.add(b"same", ObjectKind.PAGE)
    await setup.memory.put_if_absent(object_key(ObjectKind.COMMIT, object_id), b"other envelope")
    assert await setup.loader.load(ObjectKind.PAGE, object_id) == b"same"
    assert await setup.loader.load(ObjectKind.COMMIT, object_id) == b"other envelope"


async def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    setup = Setup(tmp_path / "objects", limit_bytes=3 * 4096)
    pages = [await setup.add(bytes([n]) * 1000) for n in range(4)]
    for page in (*pages[:3], pages[0], pages[3]):
        await setup.loader.load(ObjectKind.PAGE, page)
    assert setup.files.used_bytes == 3 * 4096
    assert sum(path.stat().st_blocks * 512 for path in setup.paths()) == 3 * 4096
    asked = len(setup.store.calls)
    for page in (pages[0], pages[2], pages[3]):
        await setup.loader.load(ObjectKind.PAGE, page)
    assert len(setup.store.calls) == asked
    await setup.loader.load(ObjectKind.PAGE, pages[1])
    assert len(setup.store.calls) == asked + 1
    assert setup.files.evicted_objects == 2


async def test_an_object_larger_than_the_share_is_passed_on(tmp_path: Path) -> None:
    setup = Setup(tmp_path / "objects", limit_bytes=4096)
    page = await setup.add(bytes(10_000))
    assert await setup.loader.load(ObjectKind.PAGE, page) == bytes(10_000)
    assert setup.paths() == []


async def test_half_written_files_are_swept(tmp_path: Path) -> None:
    (tmp_path / "objects" / "ab").mkdir(parents=True)
    (tmp_path / "objects" / "ab" / "abc.page.tmp").write_bytes(b"half")
    setup = Setup(tmp_path / "objects")
    assert setup.paths() == []


async def test_many_tasks_may_load_one_object(tmp_path: Path) -> None:
    setup = Setup(tmp_path / "objects")
    page = await setup.add(b"a page")
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(setup.loader.load, ObjectKind.PAGE, page)
    assert setup.files.used_bytes == 4096
    assert len(setup.paths()) == 1


async def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    setup = Setup(tmp_path / "objects")
    page = await setup.add(b"a page")
    (tmp_path / "objects" / page.hex()[:2]).write_bytes(b"a file in the way")
    assert await setup.loader.load(ObjectKind.PAGE, page) == b"a page"
    assert setup.files.used_bytes == 0
    assert "cannot keep an object" in caplog.text


class Landlord:
    """Gives room as long as there is any."""

    def __init__(self, room_bytes: int) -> None:
        self.room_bytes = room_bytes
        self.reserved_bytes = 0

    async def reserve(self, size: int) -> bool:
        await trio.lowlevel.checkpoint()
        if size > self.room_bytes:
            return False
        self.room_bytes -= size
        self.reserved_bytes += size
        return True

    def release(self, size: int) -> None:
        self.reserved_bytes -= size


async def test_room_is_asked_for_before_anything_is_written(tmp_path: Path) -> None:
    setup = Setup(tmp_path / "objects")
    landlord = Landlord(5000)
    setup.files = ObjectFiles(setup.directory, 1 << 20, trio.CapacityLimiter(2), room=landlord)
    setup.loader = CachedLoader(StoreLoader(setup.store), setup.files)
    pages = [await setup.add(b"page %d" % number) for number in range(2)]
    for page in pages:
        await setup.loader.load(ObjectKind.PAGE, page)
    assert setup.files.used_bytes == 4096
    assert landlord.reserved_bytes == 0
    assert len(setup.paths()) == 1


async def test_of_a_cache_that_was_larger_the_last_used_are_kept(tmp_path: Path) -> None:
    setup = Setup(tmp_path / "objects")
    pages = [await setup.add(b"page %d" % number) for number in range(5)]
    for age, page in enumerate(pages):
        await setup.loader.load(ObjectKind.PAGE, page)
        [path] = [path for path in setup.paths() if path.name.startswith(page.hex())]
        os.utime(path, (1000 + age, 1000 + age))
    setup.reopen(limit_bytes=2 * 4096)
    assert setup.files.used_bytes == 2 * 4096
    assert {path.name.partition(".")[0] for path in setup.paths()} == {page.hex() for page in pages[-2:]}
