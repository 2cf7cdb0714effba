"""Checking out while a daemon has the cache: through its mount."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.accidents import hanging
from integration.program import Program, status
from integration.test_roundtrip import described, make_awkward_tree
from integration.waiting import wait_for


def test_through_the_mount(program: Program, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    make_awkward_tree(source)
    (source / "large").write_bytes(os.urandom(20_000_000))
    program("init", program.store)
    program("commit", source, "data", "--tag", "v1")
    mountpoint = program.mount(tmp_path / "mount")
    made = program.run("checkout", "data/v1", tmp_path / "out")
    assert (made.returncode, made.stderr) == (0, "")
    assert described(os.fsencode(tmp_path / "out")) == described(os.fsencode(source))
    assert status(mountpoint)["cache"]["fetched_bytes"] > 20_000_000, "the daemon fetched it, and has it now"
    half = program.json("checkout", "data/v1+50pct", tmp_path / "half")
    assert 0 < half["files"] < program.json("ls", "data")[0]["files"]

    # A daemon that hangs has the cache and does not answer: the store does.
    with hanging(mountpoint):
        made = program.run("checkout", "data/v1", tmp_path / "again")
    assert made.returncode == 0
    assert "reading without the cache" in made.stderr
    assert described(os.fsencode(tmp_path / "again")) == described(os.fsencode(source))


@pytest.fixture
def xfs(tmp_path: Path) -> Iterator[Path]:
    """A file system that shares blocks."""
    if os.geteuid() != 0 or shutil.which("mkfs.xfs") is None:
        pytest.skip("takes root, and mkfs.xfs")
    image, place = tmp_path / "image", tmp_path / "xfs"
    with image.open("wb") as file:
        file.truncate(400 << 20)
    subprocess.run(["mkfs.xfs", "-q", "-m", "reflink=1", image], check=True, capture_output=True)
    place.mkdir()
    if subprocess.run(["mount", "-o", "loop", image, place], check=False, capture_output=True).returncode:
        pytest.skip("takes a kernel with XFS, and loop devices")
    yield place
    subprocess.run(["umount", place], check=True)


def free_bytes(place: Path) -> int:
    os.sync()
    found = os.statvfs(place)
    return found.f_bavail * found.f_frsize


def test_blocks_are_shared_where_they_can_be(program: Program, tmp_path: Path, xfs: Path) -> None:
    """A large file takes the room of the cache's copy once, and is nobody's but its owner's."""
    source = tmp_path / "source"
    source.mkdir()
    data = os.urandom(100_000_001)
    (source / "large").write_bytes(data)
    (source / "small").write_bytes(b"small")
    program("init", program.store)
    program("commit", source, "data", "--tag", "v1")
    program.environment["XDG_CACHE_HOME"] = str(xfs / "cache")
    program("checkout", "data/v1", xfs / "first")
    before = free_bytes(xfs)
    program("checkout", "data/v1", xfs / "second")
    assert before - free_bytes(xfs) < 10_000_000
    with (xfs / "second" / "large").open("r+b") as file:
        file.write(b"changed")
    assert (xfs / "first" / "large").read_bytes() == data
    program("checkout", "data/v1", xfs / "third")
    assert (xfs / "third" / "large").read_bytes() == data


def test_a_killed_one_is_taken_up(program: Program, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(400):
        (source / f"{number:03}").write_bytes(os.urandom(200_000))
    program("init", program.store)
    program("commit", source, "data")
    place = tmp_path / "place"
    place.mkdir()
    running = program.start("checkout", "data/main", place / "out")

    def is_under_way() -> bool:
        assert running.poll() is None
        return any(len(os.listdir(staging)) > 20 for staging in place.iterdir())

    wait_for(is_under_way, "the first files")
    running.kill()
    running.communicate()
    assert running.returncode == -signal.SIGKILL
    (staging,) = place.iterdir()
    assert staging.name.startswith(".out.fsd-")
    made = program.json("checkout", "data/main", place / "out")
    assert made["files"] == 400
    assert 0 < made["kept_files"] < 400
    assert described(os.fsencode(place / "out")) == described(os.fsencode(source))
    assert os.listdir(place) == ["out"]
