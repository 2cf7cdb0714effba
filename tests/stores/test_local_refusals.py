"""What a store in a folder says when the system refuses, and what it does when a disk hangs."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from fsd.errors import StorePermissionError, StoreUnreachableError, UsageError
from fsd.limits import DEFAULT_LIMITS, Limits
from fsd.stores.local import LocalStore, create_local_root
from tests.stores.folders import files_below

IMPATIENT = Limits(store_timeout_s=0.1)


async def wait_threads_ended(store: LocalStore) -> None:
    """Wait until no thread that a call left behind is at work."""
    for _ in range(int(store._limiter.total_tokens)):
        await store._limiter.acquire_on_behalf_of(object())


# --- refusals


@contextlib.contextmanager
def ordinary_user() -> Iterator[None]:
    """Root is refused nothing; so be somebody else for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def foreign_folder() -> Iterator[Path]:
    """A store that an ordinary user may read and not write."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = LocalStore(folder, DEFAULT_LIMITS)
        trio.run(store.put_if_absent, "a/readable", b"x")
        trio.run(store.put_if_absent, "a/secret", b"x")
        (folder / "a" / "secret").chmod(0)
        paths = [folder / "a", folder]
        for path in paths:
            path.chmod(0o555)
        yield folder
        for path in paths:
            path.chmod(0o755)


async def test_a_folder_that_may_not_be_written_is_readable(foreign_folder: Path) -> None:
    before = files_below(foreign_folder)
    with ordinary_user():
        store = LocalStore(foreign_folder, DEFAULT_LIMITS)
        assert (await store.get("a/readable")).data == b"x"
        assert [info.key async for info in store.list("")] == ["a/readable", "a/secret"]
        refused: list[Callable[[], Any]] = [
            lambda: store.get("a/secret"),
            lambda: store.put_if_absent("a/new", b""),
            lambda: store.put_if_absent("new/new", b""),
            lambda: store.overwrite("a/readable", b""),
            lambda: store.compare_and_swap("a/new", b"", None),
            lambda: store.delete("a/readable"),
        ]
        for call in refused:
            with pytest.raises(
                StorePermissionError, match=r"^cannot \w+ \S+ in file:///\S+: Permission denied; check who"
            ):
                await call()
    assert files_below(foreign_folder) == before


async def test_no_room(store: LocalStore, tmp_path: Path) -> None:
    async def upload() -> None:
        async with store.upload("pack") as upload:
            for _ in range(4):
                await upload.write(bytes(1_000_000))
            await upload.finish()

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Python ignores SIGXFSZ, so that a write beyond the limit answers EFBIG.
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, hard))
    try:
        for call in (
            upload,
            lambda: store.put_if_absent("a", bytes(3_000_000)),
            lambda: store.overwrite("a", bytes(3_000_000)),
        ):
            with pytest.raises(StoreUnreachableError, match=r"File too large; make room"):
                await call()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert files_below(tmp_path) == [".lock"]
    await upload()


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [
        (errno.ENOSPC, StoreUnreachableError, "No space left on device; make room"),
        (errno.EDQUOT, StoreUnreachableError, "Disk quota exceeded; make room"),
        (errno.EROFS, StorePermissionError, "Read-only file system; check"),
        (errno.EXDEV, StoreUnreachableError, "must lie on one file system"),
        (errno.EIO, StoreUnreachableError, "Input/output error; check the disk"),
    ],
)
async def test_refusals_are_named(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, code: int, kind: type[Exception], message: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(kind, match=message):
        await store.put_if_absent("key", b"")


async def test_a_folder_in_the_place_of_an_object(store: LocalStore) -> None:
    await store.put_if_absent("a/b", b"x")
    with pytest.raises(StoreUnreachableError, match="Is a directory"):
        await store.overwrite("a", b"x")
    with pytest.raises(StoreUnreachableError, match="Not a directory"):
        await store.put_if_absent("a/b/c", b"x")


async def test_the_folder_is_gone(tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    store = LocalStore(folder, DEFAULT_LIMITS)
    await store.put_if_absent("a/key", b"x")
    shutil.rmtree(folder)

    async def list_all() -> None:
        async for _ in store.list("a/"):
            pass

    async def upload() -> None:
        async with store.upload("a/pack") as upload:
            await upload.finish()

    calls: list[Callable[[], Any]] = [
        lambda: store.get("a/key"),
        lambda: store.stat("a/key"),
        list_all,
        lambda: store.put_if_absent("a/key", b""),
        lambda: store.overwrite("a/key", b""),
        lambda: store.delete("a/key"),
        upload,
    ]
    for call in calls:
        with pytest.raises(StoreUnreachableError, match="is not there; is its disk mounted"):
            await call()
    assert not folder.exists()


async def test_file_systems_without_unnamed_files(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_open, asked = os.open, []

    def open_(path: Any, flags: int, *arguments: Any, **keywords: Any) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            asked.append(path)
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        return real_open(path, flags, *arguments, **keywords)

    monkeypatch.setattr(os, "open", open_)
    for key in ("a", "b"):
        await store.put_if_absent(key, key.encode())
    assert files_below(tmp_path) == ["a", "b"]
    assert len(asked) == 1


# --- a disk that hangs


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Every read and write of bytes hangs until the event is set."""
    release = threading.Event()
    for name in ("pread", "write"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *arguments, real=real: (release.wait(30), real(*arguments))[1])
    yield release
    release.set()


@pytest.mark.usefixtures("hanging")
async def test_a_hanging_disk_is_not_waited_for(tmp_path: Path) -> None:
    store = LocalStore(tmp_path, IMPATIENT)
    (tmp_path / "key").write_bytes(b"x")
    for call in (
        lambda: store.get_range("key", 0, 1),
        lambda: store.put_if_absent("new", b"x"),
        lambda: store.overwrite("key", b"x"),
    ):
        with pytest.raises(StoreUnreachableError, match=r"did not answer within 0\.1 s"):
            await call()


async def test_a_hanging_disk_does_not_hold_a_cancelled_task(tmp_path: Path, hanging: threading.Event) -> None:
    store = LocalStore(tmp_path, IMPATIENT)
    with trio.move_on_after(0.02) as scope:
        async with store.upload("pack") as upload:
            await upload.write(bytes(2_000_000))
    assert scope.cancelled_caught
    hanging.set()
    # The thread that was left behind ends by itself, and takes what it wrote along.
    await wait_threads_ended(store)
    assert files_below(tmp_path) == []


async def test_a_buffer_that_changes_after_a_cancelled_write_is_not_written(
    tmp_path: Path, hanging: threading.Event
) -> None:
    store = LocalStore(tmp_path, DEFAULT_LIMITS)
    data = bytearray(b"x" * 10)
    with trio.move_on_after(0.02):
        await store.put_if_absent("key", data)
    data[:] = b"y" * 10
    hanging.set()
    await wait_threads_ended(store)
    assert (tmp_path / "key").read_bytes() == b"x" * 10


async def test_an_upload_that_was_cancelled_cannot_go_on(tmp_path: Path, hanging: threading.Event) -> None:
    store = LocalStore(tmp_path, IMPATIENT)
    async with store.upload("pack") as upload:
        with trio.move_on_after(0.02):
            await upload.write(bytes(2_000_000))
        hanging.set()
        with pytest.raises(ValueError, match="has ended"):
            await upload.write(b"more")
        with pytest.raises(ValueError, match="has ended"):
            await upload.finish()


# --- making a root


def test_a_root_is_made(tmp_path: Path) -> None:
    create_local_root(tmp_path / "a" / "b")
    create_local_root(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


def test_a_root_that_cannot_be_made(tmp_path: Path, foreign_folder: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UsageError, match="folder"):
            create_local_root(path)
    with ordinary_user(), pytest.raises(StorePermissionError, match="Permission denied"):
        create_local_root(foreign_folder / "new")
