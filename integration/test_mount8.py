"""mount(8), umount(8), findmnt(8) and a line of fstab(5) do with a store what they do with every file system."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from integration.own_sbin import own_sbin
from integration.program import Program
from integration.users import NOBODY, let_nobody_mount_below, needs_root

pytestmark = needs_root

MOUNT_FAILED = 32


class Machine:
    """A store, a mountpoint, and the programs of the system in a namespace where they know `fsd`."""

    def __init__(self, folder: Path, wrapper: tuple[str, ...]) -> None:
        self.folder = folder
        self.wrapper = wrapper
        self.fstab = folder / "fstab"
        self.mountpoint = folder / "m"
        self.mountpoint.mkdir()
        program = Program(folder / "home")
        (folder / "data").mkdir()
        (folder / "data" / "f").write_bytes(b"content")
        program("init")
        program("commit", folder / "data", "data")
        self.store = f"file://{program.store}"

    def run(self, *command: str | Path, wrapper: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.wrapper, *wrapper, *map(str, command)], capture_output=True, text=True, timeout=60, check=False
        )

    def __call__(self, *command: str | Path) -> str:
        done = self.run(*command)
        assert done.returncode == 0, f"{command} gave {done.returncode}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def mounts(self) -> list[dict[str, Any]]:
        """What findmnt shows of the mountpoint."""
        done = self.run("findmnt", "--json", "--mountpoint", self.mountpoint)
        found: list[dict[str, Any]] = json.loads(done.stdout)["filesystems"] if done.stdout else []
        return found

    def read(self, wrapper: tuple[str, ...] = ()) -> str:
        return self.run("cat", self.mountpoint / "data/main/f", wrapper=wrapper).stdout


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with own_sbin(tmp_path / "private") as wrapper:
        made = Machine(tmp_path, wrapper)
        yield made
        while made.mounts():
            made("umount", "--lazy", made.mountpoint)


def test_mount_and_umount(machine: Machine) -> None:
    assert machine("mount", "-t", "fsd", machine.store, machine.mountpoint, "-o", "cache_size=100M") == ""
    [mount] = machine.mounts()
    assert (mount["source"], mount["fstype"]) == (machine.store, "fuse.fsd")
    options = mount["options"].split(",")
    assert {"ro", "nosuid", "nodev"} <= set(options)
    assert "allow_other" not in options
    assert machine.read() == "content"
    status = json.loads(machine("cat", machine.mountpoint / ".fsd/status"))
    assert status["cache"]["limit_bytes"] == 100 << 20
    # The system's own places, not a home.
    assert status["control"].startswith("/var/cache/fsd/")
    assert machine("ls", "/var/log/fsd").startswith(str(machine.folder).strip("/").replace("/", "-"))
    done = machine.run("mount", "-t", "fsd", machine.store, machine.mountpoint)
    assert done.returncode == MOUNT_FAILED
    assert f"mount.fsd: {machine.store} is mounted at {machine.mountpoint} already" in done.stderr
    assert machine("umount", machine.mountpoint) == ""
    assert machine.mounts() == []
    assert os.listdir(machine.mountpoint) == []


def test_mounted_again_at_once(machine: Machine) -> None:
    for _ in range(3):
        machine("mount", "-t", "fsd", machine.store, machine.mountpoint)
        assert machine.read() == "content"
        machine("umount", machine.mountpoint)


def test_options_of_every_file_system(machine: Machine) -> None:
    machine(
        "mount", "-t", "fsd", "-o", "ro,noatime,noexec,nosuid,_netdev,nofail,x-systemd.automount", "-v",
        machine.store, machine.mountpoint,
    )  # fmt: skip
    [mount] = machine.mounts()
    assert "noexec" in mount["options"].split(",")
    assert machine.read() == "content"


def test_a_line_of_fstab(machine: Machine) -> None:
    options = f"allow_other,cache_dir={machine.folder}/cache,read_deadline_s=60,noauto,_netdev"
    machine.fstab.write_text(f"{machine.store} {machine.mountpoint} fsd {options} 0 0\n")
    machine("mount", "--fstab", machine.fstab, "--all")
    assert machine.mounts() == []  # noauto
    machine("mount", "--fstab", machine.fstab, machine.mountpoint)
    assert "allow_other" in machine.mounts()[0]["options"].split(",")
    assert (machine.folder / "cache" / "control.sock").exists()
    machine("umount", machine.mountpoint)
    machine.fstab.write_text(machine.fstab.read_text().replace("noauto,", ""))
    for _ in range(2):  # what is mounted already is left alone
        machine("mount", "--fstab", machine.fstab, "--all")
        assert len(machine.mounts()) == 1
    assert machine.read() == "content"


def test_other_users_are_let_in_only_if_that_was_asked_for(machine: Machine) -> None:
    let_nobody_mount_below(machine.mountpoint)
    machine("mount", "-t", "fsd", machine.store, machine.mountpoint)
    assert machine.read(NOBODY) == ""
    machine("umount", machine.mountpoint)
    machine("mount", "-t", "fsd", machine.store, machine.mountpoint, "-o", "allow_other")
    assert machine.read(NOBODY) == "content"


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ("cachesize=1G", 1, "unknown mount option 'cachesize'; did you mean 'cache_size'"),
        ("cache_size=many", 1, "'many' is no size"),
        ("remount", 1, "cannot be remounted"),
        ("cache_dir=/dev/null", MOUNT_FAILED, "/dev/null"),
    ],
)
def test_what_cannot_be(machine: Machine, options: str, code: int, message: str) -> None:
    done = machine.run("mount", "-t", "fsd", machine.store, machine.mountpoint, "-o", options)
    assert done.returncode == code
    assert done.stderr.startswith("mount.fsd: ")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr
    assert machine.mounts() == []


def test_a_store_that_is_not_there(machine: Machine) -> None:
    done = machine.run("mount", "-t", "fsd", f"file://{machine.folder}/none", machine.mountpoint)
    assert done.returncode == MOUNT_FAILED
    assert "there is no folder" in done.stderr or "no store" in done.stderr
