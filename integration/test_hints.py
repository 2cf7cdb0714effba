"""A mount that knows where things were: gc deleted them, and the same content came back in other packs."""

from __future__ import annotations

import errno
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.program import Program, appear, status

FILES = {
    **{f"train/{number:03}.txt": random.Random(number).randbytes(3000) for number in range(300)},
    "some.bin": random.Random(-1).randbytes(400_000),
    "large.bin": random.Random(-2).randbytes(12_000_000),
}
"""Small ones, one whose chunks are in its entry, and one with recipes and a pack of its own."""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "train").mkdir(parents=True)
    for name, data in FILES.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture
def mountpoint(program: Program, source: Path, tmp_path: Path) -> Path:
    """A mount that knows everything of `birds/one`, and has no data: the kernel has not either."""
    program("init")
    program("commit", source, "birds", "-b", "one")
    path = program.mount(tmp_path / "mount")
    version = (path / "birds" / "one").resolve()
    for name in FILES:
        (version / name).stat()
    program("status", version)
    return path


def contents(version: Path) -> Iterator[tuple[str, bytes]]:
    for name in FILES:
        yield name, (version / name).read_bytes()


def publish_again(program: Program, source: Path) -> None:
    program("branch", "birds", "--delete", "one", "--force")
    assert program.json("gc", "--grace", "0")["deleted_bytes"] > sum(map(len, FILES.values()))
    program("commit", source, "birds", "-b", "two")


@pytest.mark.parametrize("is_restarted", [False, True])
def test_what_was_published_again_is_read(
    program: Program, source: Path, mountpoint: Path, *, is_restarted: bool
) -> None:
    publish_again(program, source)
    if is_restarted:
        program("umount", mountpoint)
        program.mount(mountpoint)
    version = appear(mountpoint / "birds" / "two").resolve()
    assert dict(contents(version)) == FILES
    assert (mountpoint / ".fsd" / "errors").read_text() == ""
    # From then on it is as if nothing had been: after a restart, and with no data, all goes by what is in the cache.
    program("evict", version)
    program("umount", mountpoint)
    program.mount(mountpoint)
    assert dict(contents((mountpoint / "birds" / "two").resolve())) == FILES
    cache = status(mountpoint)["cache"]
    assert cache["failures"] == 0
    assert (mountpoint / ".fsd" / "errors").read_text() == ""


def test_a_pack_that_is_really_gone_is_told_at_once(program: Program, mountpoint: Path) -> None:
    for pack in (program.store / "packs").rglob("*"):
        if pack.is_file():
            pack.unlink()
    version = (mountpoint / "birds" / "one").resolve()
    before = status(mountpoint)["cache"]["fetched_requests"]
    started = time.monotonic()
    for name in FILES:
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            (version / name).read_bytes()
    assert time.monotonic() - started < 20
    # The kernel asks twice where its read-ahead failed; read-ahead of ours has requests of its own.
    assert status(mountpoint)["cache"]["fetched_requests"] - before < 6 * len(FILES)
    errors = (mountpoint / ".fsd" / "errors").read_text()
    assert "train/000.txt" in errors or "train/299.txt" in errors
    assert "is gone" in errors
