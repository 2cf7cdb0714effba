"""Checking out while a daemon has the cache: through its mount."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from integration.program import Program, status
from integration.test_roundtrip import described, make_awkward_tree


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
    pid = status(mountpoint)["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        made = program.run("checkout", "data/v1", tmp_path / "again")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert made.returncode == 0
    assert "reading without the cache" in made.stderr
    assert described(os.fsencode(tmp_path / "again")) == described(os.fsencode(source))


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
    while not any(len(os.listdir(staging)) > 20 for staging in place.iterdir()):
        assert running.poll() is None
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
