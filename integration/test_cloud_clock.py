"""A clock that jumps, of a daemon and of publishers: years ahead, years back, and home again."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from integration.datasets import noise, write_dataset
from integration.faults.clock import Clock
from integration.faults.cloud import URL, Figures, write_figures
from integration.faults.steady import Steady
from integration.gcs_places import key_file, serving
from integration.gcs_server.server import GcsServer
from integration.program import Program, appear, status
from integration.reader import different
from integration.verifying import verify

YEAR_S = 365 * 86_400
JUMPS_S = {"ahead": YEAR_S, "back": -YEAR_S, "home": 0}
FILE_BYTES = 40_000


def test_the_clock_is_moved(tmp_path: Path) -> None:
    clock = Clock(tmp_path)
    clock.jump(YEAR_S)
    code = "import time, json; print(json.dumps([time.time(), time.monotonic()]))"
    told = subprocess.run(
        [sys.executable, "-c", code], env=clock.environment, capture_output=True, text=True, check=True
    ).stdout
    time_s, monotonic_s = json.loads(told)
    assert abs(time_s - time.time() - YEAR_S) < 3600
    assert abs(monotonic_s - time.monotonic()) < 3600


def test_a_clock_that_jumps(tmp_path: Path) -> None:
    clock = Clock(tmp_path)
    source = write_dataset(tmp_path / "source", 3, small=40, large=1, large_bytes=2_000_000)
    changing = source / "changing"
    changing.write_bytes(noise(0, FILE_BYTES))
    mountpoint = tmp_path / "mount"
    mountpoint.mkdir()
    with serving(GcsServer()) as server, key_file(server, tmp_path):
        server.create_bucket("bucket")
        program = Program(tmp_path / "home")
        program.environment |= clock.environment | {"FSD_STORE": URL}
        program("init")
        issued = len(server.access.issued)
        commits = [program.json("commit", source, "data", "--tag", "start")["commit"]]
        issued_for_commit = len(server.access.issued) - issued
        plain = tmp_path / "plain"
        write_dataset(plain, 3, small=40, large=1, large_bytes=2_000_000)
        program("mount", mountpoint)
        since_s = time.monotonic()
        with Steady(mountpoint / "data" / "start", plain, tmp_path / "records") as steady:
            for number, (name, offset_s) in enumerate(JUMPS_S.items(), 1):
                issued = len(server.access.issued)
                clock.jump(offset_s)
                # Of the same size: only its times say that it is another file, and these are the kernel's.
                changing.write_bytes(noise(number, FILE_BYTES))
                commits.append(program.json("commit", source, "data", "--tag", name)["commit"])
                version = appear(mountpoint / "data" / name)
                assert (version / "changing").read_bytes() == noise(number, FILE_BYTES)
                # A year ahead, the daemon's token has expired. (It may ask for another before the commit is done.)
                assert name != "ahead" or len(server.access.issued) - issued > issued_for_commit
            figures = Figures("a clock that jumps by years", reads=len(JUMPS_S), cached=steady.latencies(since_s))
        write_figures(figures)
        assert status(mountpoint)["errors"] == 0
        program("umount", mountpoint)
        # What the cache remembers from another time holds.
        clock.jump(-YEAR_S)
        program("mount", mountpoint)
        assert different(mountpoint / "data" / "home", source) == []
        assert status(mountpoint)["cache"]["dropped_chunks"] == 0
        program("umount", mountpoint)
        assert verify(URL).history["data/main"] == commits[::-1]
