"""Things go wrong while publishing: the branch stays as it was, the store stays whole, and the next try goes on."""

from __future__ import annotations

import os
import random
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from fsd.errors import FsdError, StoreUnreachableError, UsageError
from fsd.format.keys import ref_key
from fsd.limits import KIB, MIB, Limits
from fsd.publish import guard
from fsd.publish.source import ChangedError, SourceFolder, UnreadableError, UnsupportedFileError
from fsd.publish.walk import walk
from fsd.stores.memory import MemoryStore
from tests.faulty import WRITES, Fail, FaultyStore, Operation, Stall
from tests.publish.folders import DIRECTORY, Desk, Item, file, keys_of, link, read_folder, verify_store, write_folder

SMALL = Limits(pack_bytes=256 * KIB, own_pack_bytes=MIB, publish_queue_bytes=4 * MIB, upload_tasks=2, publish_threads=2)

NOBODY = 65534


def noise(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def many(count: int, size: int = 50_000) -> dict[bytes, Item]:
    return {b"%03d" % number: file(noise(number, size)) for number in range(count)}


# --- the store


GONE = StoreUnreachableError("gone")


@pytest.mark.parametrize("late", [False, True], ids=["request", "answer"])
@pytest.mark.parametrize(
    ("operation", "pattern", "after"),
    [
        ("upload", "packs/*", 0),
        ("upload.write", "packs/*", 3),
        ("upload.finish", "packs/*", 0),
        ("upload.finish", "packs/*", 4),
        ("put_if_absent", "pages/*", 0),
        ("put_if_absent", "recipes/*", 0),
        ("put_if_absent", "commits/*", 0),
        ("compare_and_swap", "refs/*", 0),
    ],
)
async def test_a_store_that_fails_once(
    tmp_path: Path, operation: Operation, pattern: str, after: int, late: bool
) -> None:
    desk = Desk(tmp_path, limits=SMALL)
    first = await desk.commit({b"first": file(b"first")})
    folder = many(60) | {b"large": file(noise(1000, 3 * MIB))}
    store = desk.store
    faulty = FaultyStore(store)
    faulty.inject(operation, pattern, Fail(GONE, late=late), times=1, after=after)
    desk.store = faulty
    with pytest.raises(StoreUnreachableError, match="gone"):
        await desk.commit(folder)
    faulty.assert_all_exercised()
    moved = operation == "compare_and_swap" and late
    assert await verify_store(store) == {"repo/main": folder if moved else {b"first": file(b"first")}}
    again = await desk.commit()
    assert again.is_new is not moved
    assert again.parent == first.commit or moved
    if operation != "upload":
        assert again.content.new_bytes < sum(len(item.data) for item in folder.values()) or after < 4
    assert await verify_store(store) == {"repo/main": folder}


async def test_what_was_uploaded_before_a_failure_is_not_uploaded_again(tmp_path: Path) -> None:
    desk = Desk(tmp_path, limits=SMALL)
    faulty = FaultyStore(desk.store)
    desk.store = faulty
    faulty.inject("compare_and_swap", "refs/*", Fail(GONE), times=1)
    with pytest.raises(StoreUnreachableError):
        await desk.commit(many(20))
    again = await desk.commit()
    assert (again.content.new_chunks, again.content.files_read) == (0, 20)
    assert (await verify_store(desk.store))["repo/main"] == many(20)


async def test_packs_that_were_finished_before_a_failure_are_used(tmp_path: Path) -> None:
    desk = Desk(tmp_path, limits=SMALL)
    faulty = FaultyStore(desk.store)
    desk.store = faulty
    faulty.inject("upload.finish", "packs/*", Fail(GONE), times=1, after=5)
    with pytest.raises(StoreUnreachableError):
        await desk.commit(many(60))
    again = await desk.commit()
    assert again.content.known_chunks >= 2 * 5, "two packs of five files at least were noted as durable"
    assert (await verify_store(desk.store))["repo/main"] == many(60)


async def test_no_page_is_written_before_its_packs(tmp_path: Path) -> None:
    desk = Desk(tmp_path, limits=SMALL)
    faulty = FaultyStore(desk.store)
    desk.store = faulty
    stalled = faulty.inject("upload.finish", "packs/*", Stall())
    write_folder(desk.top, many(30) | {b"large": file(noise(1000, 5 * MIB))})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(desk.commit)
        await stalled.wait_met(2)
        await trio.testing.wait_all_tasks_blocked(0.05)
        writes = [call.key for call in faulty.calls if call.operation == "put_if_absent"]
        assert [key for key in writes if not key.startswith(("fsd.json", "leases/"))] == []
        nursery.cancel_scope.cancel()
    assert await verify_store(desk.store) == {}


async def test_memory_is_bounded_while_the_store_stalls(tmp_path: Path) -> None:
    desk = Desk(tmp_path, limits=SMALL)
    faulty = FaultyStore(desk.store)
    desk.store = faulty
    stalled = faulty.inject("upload.write", "packs/*", Stall())
    write_folder(desk.top, {b"large": file(noise(1000, 32 * MIB))})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(desk.commit)
        await stalled.wait_met(1)
        await trio.testing.wait_all_tasks_blocked(0.1)
        assert desk.progress.was_read[1] <= 3 * SMALL.publish_queue_bytes + 5 * MIB
        nursery.cancel_scope.cancel()


async def test_the_store_only_sees_writes_that_it_promised_to_take(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.store = faulty = FaultyStore(MemoryStore())
    await desk.commit(many(3) | {b"large": file(noise(9, 6 * MIB))})
    written = [call.key for call in faulty.calls if call.operation in WRITES]
    order = [key.partition("/")[0] for key in written if key != "refs/index"]
    assert order[-2:] == ["commits", "refs"]
    assert order[:2] == ["fsd.json", "leases"]
    assert set(order[2:-2]) == {"packs", "pages", "recipes"}


# --- the folder


async def test_a_file_that_changes_while_it_is_read(tmp_path: Path) -> None:
    desk = Desk(tmp_path, limits=SMALL)
    faulty = FaultyStore(desk.store)
    desk.store = faulty
    stalled = faulty.inject("upload.write", "packs/*", Stall(), times=1)
    write_folder(desk.top, {b"a": file(b"a"), b"large": file(noise(1, 20 * MIB)), b"z": file(b"z")})

    async def change() -> None:
        await stalled.wait_met(1)
        fd = os.open(desk.top / "large", os.O_WRONLY)
        os.pwrite(fd, b"changed", 0)
        os.close(fd)
        assert isinstance(stalled.action, Stall)
        stalled.action.release.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(change)
        with pytest.raises(ChangedError, match="folder/large changed while it was being published"):
            await desk.commit()
    assert await verify_store(desk.store) == {}
    await desk.commit()
    assert (await verify_store(desk.store))["repo/main"] == read_folder(desk.top)


@pytest.mark.parametrize("change", ["grow", "shrink", "replace", "remove", "become a directory"])
async def test_a_file_that_is_another_one_when_it_is_read(tmp_path: Path, change: str) -> None:
    desk = Desk(tmp_path, limits=SMALL)
    faulty = FaultyStore(desk.store)
    desk.store = faulty
    stalled = faulty.inject("upload.write", "packs/*", Stall(), times=1)
    path = desk.top / "last"
    # In one directory: the walk has seen the last file when reading comes to a halt in the large one.
    write_folder(desk.top, {b"a-large": file(noise(1, 20 * MIB)), b"last": file(noise(2, 3 * MIB))})

    def spoil() -> None:
        match change:
            case "grow":
                with open(path, "ab") as out:
                    out.write(b"more")
            case "shrink":
                os.truncate(path, 1000)
            case "replace":
                (desk.top / "new").write_bytes(path.read_bytes())
                os.replace(desk.top / "new", path)
            case "remove":
                path.unlink()
            case _:
                path.unlink()
                path.mkdir()

    async def spoil_when_stalled() -> None:
        await stalled.wait_met(1)
        spoil()
        assert isinstance(stalled.action, Stall)
        stalled.action.release.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(spoil_when_stalled)
        with pytest.raises(ChangedError, match="folder/last changed while it was being published"):
            await desk.commit()
    assert await verify_store(desk.store) == {}


@contextmanager
def not_root() -> Iterator[Path]:
    """A folder that anybody may use, and no right to anything else."""
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o777)
        was_root = os.geteuid() == 0
        if was_root:
            os.seteuid(NOBODY)
        try:
            yield Path(place)
        finally:
            if was_root:
                os.seteuid(0)


@pytest.mark.parametrize("what", ["file", "directory", "listed only"])
async def test_what_may_not_be_read_is_named(what: str) -> None:
    with not_root() as place:
        desk = Desk(place)
        await desk.commit({b"first": file(b"first")})
        write_folder(desk.top, {b"d": DIRECTORY, b"d/secret": file(b"secret"), b"other": file(b"other")})
        secret = desk.top / "d" / "secret" if what == "file" else desk.top / "d"
        os.chmod(secret, {"file": 0, "directory": 0, "listed only": 0o444}[what])
        with pytest.raises(UnreadableError, match=r"cannot read .*/d.*: Permission denied; nothing was published"):
            await desk.commit()
        os.chmod(secret, 0o755)
        assert await verify_store(desk.store) == {"repo/main": {b"first": file(b"first")}}


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        here = os.open(".", os.O_RDONLY)
        os.chdir(path.parent)  # a socket's path may not be long
        try:
            listening.bind(path.name)
        finally:
            os.fchdir(here)
            os.close(here)


async def test_sockets_and_fifos_are_refused_by_name(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    write_folder(desk.top, {b"d": DIRECTORY, b"d/ok": file(b"ok")})
    for number in range(7):
        os.mkfifo(desk.top / "d" / f"pipe{number}")
    make_socket(desk.top / "d" / "socket\n")
    with pytest.raises(UnsupportedFileError) as caught:
        await desk.commit()
    message = str(caught.value)
    assert "d/pipe0 is a fifo" in message
    assert "3 more there" in message
    assert "\n" not in message
    for number in range(7):
        (desk.top / "d" / f"pipe{number}").unlink()
    with pytest.raises(UnsupportedFileError, match=r"d/socket\\n is a socket"):
        await desk.commit()
    assert await verify_store(desk.store) == {}


# --- what must not be published


async def test_the_store_and_the_notes_are_not_published(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    await desk.repositories()
    desk.top = tmp_path
    with pytest.raises(UsageError, match=r"/store, in the folder, is the store's own folder"):
        await desk.commit()
    desk.top = tmp_path / "store"
    with pytest.raises(UsageError, match="store's own folder"):
        await desk.commit()
    desk.top = tmp_path / "store" / "packs"
    desk.top.mkdir()
    with pytest.raises(UsageError, match=r"lies in .*store's own folder"):
        await desk.commit()
    desk.top = tmp_path / "folder"
    desk.state = desk.top / "notes"
    with pytest.raises(UsageError, match=r"/notes, in the folder, is where fsd keeps its notes"):
        await desk.commit({b"a": file(b"a")})


async def test_the_store_under_another_name_is_not_published(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    await desk.repositories()
    # As a bind mount would show it: the same directory by inode, by no path that gives it away.
    (desk.top / "d").mkdir()
    os.rename(tmp_path / "store", desk.top / "d" / "store")
    (tmp_path / "store").symlink_to(desk.top / "d" / "store")
    with pytest.raises(UsageError, match="store's own folder"):
        await desk.commit()
    forbidden = {(status.st_dev, status.st_ino): "is not to be had" for status in [os.stat(desk.top / "d")]}
    with SourceFolder(os.fsencode(desk.top)) as source, pytest.raises(UsageError, match="folder/d is not to be had"):
        list(walk(source, forbidden))


async def test_notes_that_cannot_be_kept(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.state = tmp_path / "file"
    desk.state.write_bytes(b"")
    with pytest.raises(FsdError, match=r"cannot keep notes in .*/file"):
        await desk.commit({b"a": file(b"a")})


async def test_a_mount_of_fsd_is_not_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(tmp_path)
    mounts = tmp_path / "mountinfo"
    mounts.write_bytes(
        b"1 2 0:3 / / rw - ext4 /dev/vda rw\n"
        b"4 2 0:5 / " + os.fsencode(desk.top) + b"/a\\040mount ro shared:1 - fuse.fsd file:///store ro\n"
    )
    monkeypatch.setattr(guard, "MOUNT_INFO", os.fspath(mounts))
    with pytest.raises(UsageError, match="folder/a mount is a mount of fsd"):
        await desk.commit({b"a": file(b"a")})
    desk.top = desk.top / "a mount" / "version"
    desk.top.mkdir(parents=True)
    assert (await desk.commit({b"a": file(b"a")})).is_new, "what lies in a mount may be published"


async def test_a_loop_of_symlinks_is_no_loop(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    folder = {b"d": DIRECTORY, b"d/up": link(b".."), b"self": link(b"self"), b"store": link(b"../store")}
    assert await desk.read_back((await desk.commit(folder)).commit) == folder


async def test_errors_come_alone_and_not_in_groups(tmp_path: Path) -> None:
    desk = Desk(tmp_path, limits=SMALL)
    desk.store = faulty = FaultyStore(desk.store)
    faulty.inject("upload.write", "packs/*", Fail(GONE))
    with pytest.raises(FsdError):
        await desk.commit(many(60))
    assert ref_key("repo", "main") not in await keys_of(desk.store)
