"""What a daemon that root starts may still do, and that it can do its work with that."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from fsd.daemon import mounts
from fsd.daemon.rights import KEPT
from integration.program import Program, status
from integration.users import NOBODY_ID, needs_root

CAP_SETPCAP = 8


def sets(folder: Path) -> dict[str, int]:
    """The capabilities of a process or thread by the name that /proc has for them."""
    lines = (folder / "status").read_text().split("\n")
    return {line.split(":")[0]: int(line.split()[1], 16) for line in lines if line.startswith("Cap")}


@pytest.fixture
def mountpoint(program: Program, tmp_path: Path) -> Path:
    """An empty folder, and a store and a cache that are somebody else's."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/f").write_bytes(b"content")
    program("init")
    program("commit", tmp_path / "data", "data", "--tag", "v1")
    (tmp_path / "cache").mkdir()
    for path in (tmp_path / "cache", program.store, *program.store.rglob("*")):
        os.chown(path, NOBODY_ID, NOBODY_ID)
        path.chmod(0o700 if path.is_dir() else 0o600)
    (tmp_path / "m").mkdir()
    return tmp_path / "m"


@needs_root
def test_no_thread_of_it_has_more_than_it_takes(program: Program, mountpoint: Path) -> None:
    own = sets(Path("/proc/self"))
    program("mount", "--cache-dir", mountpoint.with_name("cache"), mountpoint)
    assert (mountpoint / "data/v1/f").read_bytes() == b"content"
    assert status(mountpoint)["cache"]["fetched_bytes"] > 0
    kept = sum(1 << number for number in KEPT)
    threads = list(Path(f"/proc/{status(mountpoint)['pid']}/task").iterdir())
    assert len(threads) > 1
    for thread in threads:
        of_thread = sets(thread)
        assert of_thread["CapEff"] == of_thread["CapPrm"] == own["CapPrm"] & kept
        assert of_thread["CapBnd"] == own["CapBnd"] & kept
        assert of_thread["CapInh"] == of_thread["CapAmb"] == 0
    program("umount", mountpoint)


@needs_root
def test_it_takes_its_mount_away_itself(program: Program, mountpoint: Path) -> None:
    program("mount", mountpoint)
    daemon = os.pidfd_open(status(mountpoint)["pid"])
    os.kill(status(mountpoint)["pid"], signal.SIGTERM)
    assert mounts.wait_gone(daemon, timeout_s=20)
    os.close(daemon)
    assert mounts.mount_at(mountpoint) is None


@needs_root
def test_without_the_right_to_bind_programs_it_still_mounts(program: Program, mountpoint: Path) -> None:
    """As in a container that was not given CAP_SETPCAP: what programs it starts may become cannot be changed then."""
    own = sets(Path("/proc/self"))
    program.wrapper = ("setpriv", "--bounding-set=-setpcap", "--inh-caps=-setpcap")
    program("mount", mountpoint)
    of_daemon = sets(Path(f"/proc/{status(mountpoint)['pid']}"))
    assert of_daemon["CapEff"] == own["CapPrm"] & sum(1 << number for number in KEPT)
    assert of_daemon["CapBnd"] == own["CapBnd"] & ~(1 << CAP_SETPCAP)
    program("umount", mountpoint)
