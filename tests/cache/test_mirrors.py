"""Mirrors: files, descriptors, and who may do what at the same time."""

from __future__ import annotations

import os
from pathlib import Path

import trio
import trio.testing

from fsd.cache.index import Held, Location, PresenceIndex
from fsd.cache.mirrors import Mirror, Mirrors

EXTENT = 4096 * 4


class Setup:
    def __init__(self, directory: Path, open_mirrors: int = 100) -> None:
        self.directory = directory
        self.limiter = trio.CapacityLimiter(2)
        self.open_mirrors = open_mirrors
        self.index = PresenceIndex.open(directory / "index", EXTENT)
        self.mirrors = Mirrors(directory / "mirrors", self.index, open_mirrors)
        self.mirrors.load()

    def reopen(self, *, cleanly: bool = True) -> None:
        self.mirrors.close()
        if cleanly:
            self.index.close()
        else:
            self.index._close()
        self.__init__(self.directory, self.open_mirrors)  # type: ignore[misc]


async def test_punching_waits_for_writes_and_keeps_new_ones_out(tmp_path: Path) -> None:
    setup = Setup(tmp_path)
    mirror = await setup.mirrors.begin_write(b"p" * 16, setup.limiter)
    order: list[str] = []

    async def punch() -> None:
        await mirror.begin_punch()
        order.append("punching")
        await trio.testing.wait_all_tasks_blocked()
        order.append("punched")
        mirror.end_punch()

    async def write() -> None:
        again = await setup.mirrors.begin_write(b"p" * 16, setup.limiter)
        order.append("writing")
        again.end_write()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(punch)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(write)
        await trio.testing.wait_all_tasks_blocked()
        assert order == []
        order.append("written")
        mirror.end_write()
    assert order == ["written", "punching", "punched", "writing"]
    setup.index.close()


async def test_a_hole_waits_for_the_readers_of_before_and_not_of_after(tmp_path: Path) -> None:
    setup = Setup(tmp_path)
    mirror = await setup.mirrors.begin_write(b"p" * 16, setup.limiter)
    mirror.end_write()
    before = mirror.begin_read()
    drained = trio.Event()

    async def punch() -> None:
        await mirror.begin_punch()
        await mirror.wait_readers()
        drained.set()
        mirror.end_punch()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(punch)
        await trio.testing.wait_all_tasks_blocked()
        after = mirror.begin_read()
        assert after > before
        assert not drained.is_set()
        mirror.end_read(before)
        await drained.wait()
        mirror.end_read(after)
    assert mirror.is_idle
    setup.index.close()


async def test_who_waits_to_write_gets_a_new_mirror_if_the_old_one_went(tmp_path: Path) -> None:
    setup = Setup(tmp_path)
    old = await setup.mirrors.begin_write(b"p" * 16, setup.limiter)
    old.end_write()
    await old.begin_punch()
    got: list[Mirror] = []

    async def write() -> None:
        got.append(await setup.mirrors.begin_write(b"p" * 16, setup.limiter))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        await trio.testing.wait_all_tasks_blocked()
        await setup.mirrors.remove(old, setup.limiter)
        old.end_punch()
    assert got[0] is not old
    assert got[0].number > old.number
    assert os.stat(got[0].path).st_size == 0
    assert setup.mirrors.get(old.number) is None
    setup.index.close()


async def test_many_writers_make_one_mirror(tmp_path: Path) -> None:
    setup = Setup(tmp_path)
    got: list[Mirror] = []

    async def write() -> None:
        got.append(await setup.mirrors.begin_write(b"p" * 16, setup.limiter))

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(write)
    assert len(set(got)) == 1
    setup.index.close()


async def test_descriptors_are_bounded_and_marked_ones_stay(tmp_path: Path) -> None:
    setup = Setup(tmp_path, open_mirrors=8)
    marked = await setup.mirrors.begin_write(b"m" * 16, setup.limiter)
    descriptor = setup.mirrors.descriptor(marked)
    for number in range(30):
        mirror = await setup.mirrors.begin_write(bytes([number]) * 16, setup.limiter)
        setup.mirrors.descriptor(mirror)
        mirror.end_write()
        assert sum(mirror.fd >= 0 for mirror in setup.mirrors.all()) <= 8
    assert marked.fd == descriptor
    setup.mirrors.close()
    assert marked.fd == -1
    setup.index.close()


async def test_files_and_records_that_do_not_belong_together_go(tmp_path: Path) -> None:
    setup = Setup(tmp_path)
    kept = await setup.mirrors.begin_write(b"k" * 16, setup.limiter)
    lost = await setup.mirrors.begin_write(b"l" * 16, setup.limiter)
    setup.index.put([(b"c" * 32, Location(lost.number, 0, 5, 1))])
    os.unlink(lost.path)
    stray = tmp_path / "mirrors" / "aa" / ("aa" * 16)
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"stray")
    (tmp_path / "mirrors" / "note").write_bytes(b"not ours")
    setup.reopen()
    assert [mirror.pack for mirror in setup.mirrors.all()] == [kept.pack]
    assert setup.index.get(b"c" * 32) is None
    assert not stray.exists()
    setup.index.close()


async def test_a_mirror_deleted_without_the_indexs_knowledge_is_not_confused_with_its_successor(
    tmp_path: Path,
) -> None:
    setup = Setup(tmp_path)
    old = setup.index.add_mirror(b"p" * 16)
    setup.index.put([(b"c" * 32, Location(old, 0, 5, 1))])
    new = await setup.mirrors.begin_write(b"p" * 16, setup.limiter)
    setup.index.put([(b"d" * 32, Location(new.number, 2, 5, 1))])
    os.write(setup.mirrors.descriptor(new), bytes(5000))
    setup.reopen()
    assert [mirror.number for mirror in setup.mirrors.all()] == [new.number]
    assert setup.index.get(b"c" * 32) is None
    assert setup.index.of_mirror(new.number) == [Held(2, 5, b"d" * 32)]
    assert setup.mirrors.allocated_bytes == 8192
    setup.index.close()


async def test_data_without_a_use_is_found_only_after_a_crash(tmp_path: Path) -> None:
    setup = Setup(tmp_path)
    mirror = await setup.mirrors.begin_write(b"p" * 16, setup.limiter)
    os.pwrite(setup.mirrors.descriptor(mirror), b"data", 5 * EXTENT + 10)
    for cleanly, extents in ((True, []), (False, [5])):
        setup.reopen(cleanly=cleanly)
        (mirror,) = setup.mirrors.all()
        assert [extent for _, extent in mirror.recency] == extents
    setup.index.close()
