"""What only a store in a folder can get wrong: other processes, sudden death, clocks, what else is in the folder."""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from fsd.errors import StoreUnreachableError
from fsd.limits import DEFAULT_LIMITS, Limits
from fsd.stores.base import ObjectExistsError, ObjectNotFoundError
from fsd.stores.folder import Folder
from fsd.stores.local import LocalStore
from tests.stores.folders import files_below
from tests.stores.writer import COUNTER, body

IMPATIENT = Limits(store_timeout_s=0.1)
PROJECT = Path(__file__).parents[2]


def start_writer(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.stores.writer", str(folder), *arguments]
    return subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True)


# --- other processes, and sudden death


def test_two_processes_count_together(tmp_path: Path) -> None:
    trio.run(LocalStore(tmp_path, DEFAULT_LIMITS).put_if_absent, COUNTER, b"0")
    writers = [start_writer(tmp_path, name, "counts", "40") for name in "ab"]
    for writer in writers:
        writer.communicate(timeout=60)
        assert writer.returncode == 0
    assert (tmp_path / COUNTER).read_bytes() == b"80"


def test_a_write_that_dies_at_any_step_is_whole_or_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.stores.deaths", str(tmp_path)]
    result = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) > 50


@pytest.mark.parametrize("unnamed_files", [True, False])
def test_nothing_half_written_survives_a_kill(tmp_path: Path, unnamed_files: bool) -> None:
    for attempt in range(3):
        writer = start_writer(tmp_path, f"w{attempt}", "uploads")
        assert writer.stdout is not None
        for _ in range(random.randrange(3, 40)):
            writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
        writer.communicate(timeout=60)
        assert writer.returncode == -signal.SIGKILL
        trio.run(_check_what_the_dead_left, LocalStore(tmp_path, DEFAULT_LIMITS, unnamed_files=unnamed_files))


async def _check_what_the_dead_left(store: LocalStore) -> None:
    keys = [info.key async for info in store.list("")]
    for key in keys:
        data = (await store.get(key)).data
        assert len(data) == len(body(key))
        assert data == (bytes([data[0]]) * len(data) if key == "ref" else body(key)), key
    await store.overwrite("ref", b"x" * 200_000)


async def test_the_lock_of_another_process_is_waited_for(tmp_path: Path) -> None:
    patient, impatient = LocalStore(tmp_path, DEFAULT_LIMITS), LocalStore(tmp_path, IMPATIENT)
    await patient.put_if_absent("ref", b"1")
    with (tmp_path / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(StoreUnreachableError, match=r"did not answer within 0.1 s; another process holds its lock"):
            await impatient.overwrite("ref", b"2")
        assert (await impatient.get("ref")).data == b"1"
        await impatient.put_if_absent("other", b"no lock needed")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(patient.overwrite, "ref", b"3")
            await trio.testing.wait_all_tasks_blocked()
            fcntl.flock(lock, fcntl.LOCK_UN)
    assert (await patient.get("ref")).data == b"3"


async def test_what_dead_writers_left_is_swept_at_the_first_write(tmp_path: Path) -> None:
    for name, age_s in [("old", 2 * 86_400), ("young", 3_600)]:
        path = tmp_path / ".tmp" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
        os.utime(path, (time.time() - age_s,) * 2)
    store = LocalStore(tmp_path, DEFAULT_LIMITS)
    assert [info.key async for info in store.list("")] == []
    assert files_below(tmp_path) == [".tmp/old", ".tmp/young"]
    await store.put_if_absent("key", b"")
    assert files_below(tmp_path) == [".tmp/young", "key"]


async def test_nothing_is_left_beside_the_objects(tmp_path: Path) -> None:
    for unnamed_files in (True, False):
        folder = tmp_path / str(unnamed_files)
        folder.mkdir()
        store = LocalStore(folder, DEFAULT_LIMITS, unnamed_files=unnamed_files)
        version = await store.put_if_absent("a/b/c", b"1")
        await store.compare_and_swap("a/b/c", b"2", version)
        with pytest.raises(ObjectExistsError):
            await store.put_if_absent("a/b/c", b"3")
        async with store.upload("left/off") as upload:
            await upload.write(b"x" * 2_000_000)
        assert files_below(folder) == [".lock", "a/b/c"]


# --- the order of writes


class Recorder:
    """The system calls that make a write durable, in order, with the paths that their descriptors stand for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
        self.calls: list[tuple[str, str]] = []
        self._root = root
        for name in ("fsync", "mkdir", "link", "rename", "unlink"):
            monkeypatch.setattr(os, name, self._wrap(name, getattr(os, name)))

    def _wrap(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def recorded(*arguments: Any, **keywords: Any) -> Any:
            directory = keywords.get("dst_dir_fd", keywords.get("dir_fd"))
            subject = arguments[0] if name == "fsync" else directory
            path = "" if subject is None else os.readlink(f"/proc/self/fd/{subject}")
            if name != "fsync":
                path = os.path.join(path, arguments[1] if name in ("link", "rename") else arguments[0])
            relative = os.path.relpath(path, self._root)
            self.calls.append((name, "FILE" if " (deleted)" in path or relative.startswith(".tmp/") else relative))
            return call(*arguments, **keywords)

        return recorded


@pytest.mark.parametrize("unnamed_files", [True, False])
def test_a_name_appears_after_its_bytes_and_its_directories(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unnamed_files: bool
) -> None:
    (tmp_path / ".tmp").mkdir()
    folder = Folder(tmp_path, unnamed_files=unnamed_files)
    recorder = Recorder(monkeypatch, tmp_path)
    folder.create("a/b/c", b"1")
    # Not every file system has unnamed files.
    unlinked = [] if folder._unnamed_files else [("unlink", "FILE")]
    made = [("mkdir", "a"), ("fsync", "."), ("mkdir", "a/b"), ("fsync", "a")]
    assert recorder.calls == [("fsync", "FILE"), *made, ("link", "a/b/c"), ("fsync", "a/b"), *unlinked]

    recorder.calls.clear()
    folder.create("a/b/d", b"1")
    assert recorder.calls == [("fsync", "FILE"), ("link", "a/b/d"), ("fsync", "a/b"), *unlinked]

    recorder.calls.clear()
    folder.replace("a/b/c", b"2", expected=None)
    assert recorder.calls == [("fsync", "FILE"), ("rename", "a/b/c"), ("fsync", "a/b")]

    recorder.calls.clear()
    folder.delete("a/b/c", expected=None)
    assert recorder.calls == [("unlink", "a/b/c"), ("fsync", "a/b")]


def test_what_somebody_else_made_is_synced_before_it_is_built_upon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Folder(tmp_path).create("a/b/c", b"1")
    folder = Folder(tmp_path)
    recorder = Recorder(monkeypatch, tmp_path)
    with pytest.raises(FileExistsError):
        folder.create("a/b/c", b"1")
    assert [call for call in recorder.calls if call[0] == "fsync"] == [("fsync", "."), ("fsync", "a"), ("fsync", "a/b")]


# --- versions


async def test_versions_differ_when_the_clock_stands_still_or_goes_back(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_ns = time.time_ns()
    monkeypatch.setattr(random, "getrandbits", lambda _: 0)
    versions = []
    for step_ns in (0, -3_600_000_000_000):
        monkeypatch.setattr(time, "time_ns", lambda step_ns=step_ns: now_ns + step_ns)
        versions += [await store.overwrite("key", b"same") for _ in range(100)]
    assert len(set(versions)) == 200


async def test_a_version_outlives_links_and_modes(store: LocalStore, tmp_path: Path) -> None:
    version = await store.put_if_absent("key", b"x")
    os.link(tmp_path / "key", tmp_path / "key-of-a-backup")
    (tmp_path / "key").chmod(0o600)
    assert (await store.stat("key")).version == version
    await store.compare_and_swap("key", b"y", version)
    assert (tmp_path / "key-of-a-backup").read_bytes() == b"x"


# --- what is in the folder


async def test_only_regular_files_with_the_name_of_a_key_are_objects(store: LocalStore, tmp_path: Path) -> None:
    await store.put_if_absent("folder/key", b"x")
    for name in ("lost+found", ".hidden", "folder/.git", "with space", "-dash"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "key").write_bytes(b"x")
    (tmp_path / "ünicode").write_bytes(b"x")
    (tmp_path / os.fsdecode(b"not-utf8-\xff")).write_bytes(b"x")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "dangling").symlink_to("nowhere")
    assert [info.key async for info in store.list("")] == ["folder/key"]
    for key in ("fifo", "folder", "dangling"):
        with pytest.raises(ObjectNotFoundError):
            await store.get(key)
        with pytest.raises(ObjectNotFoundError):
            await store.stat(key)


async def test_directories_may_be_tidied_up(store: LocalStore, tmp_path: Path) -> None:
    await store.put_if_absent("a/b/c", b"1")
    shutil.rmtree(tmp_path / "a")
    await store.put_if_absent("a/b/c", b"2")
    assert (await store.get("a/b/c")).data == b"2"


async def test_many_objects_in_one_directory(store: LocalStore, tmp_path: Path) -> None:
    folder = tmp_path / "commits"
    folder.mkdir()
    keys = [f"commits/{number:05}" for number in range(5_000)]
    for key in keys:
        (tmp_path / key).touch()
    assert [info.key async for info in store.list("com")] == keys
    assert [info.key async for info in store.list("commits/049")] == keys[4_900:]


async def test_an_upload_needs_little_memory(store: LocalStore, tmp_path: Path) -> None:
    block = bytes(300_000)
    tracemalloc.start()
    try:
        async with store.upload("pack") as upload:
            for _ in range(200):
                await upload.write(block)
            await upload.finish()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (tmp_path / "pack").stat().st_size == 60_000_000
    assert peak < 4_000_000
