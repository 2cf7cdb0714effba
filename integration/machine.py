"""A machine to install on: Debian in a container of its own, with systemd as its first process.

Made by debootstrap and systemd-nspawn, in a folder, with no network. It shares the kernel with this machine, and its
/dev/fuse; nothing it does reaches this one's files, units or users.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

SUITE = "bookworm"
PYTHON = (3, 11)
"""Which that has, and so what wheels for it are built with."""

_PACKAGES = "systemd,systemd-sysv,dbus,fuse3,libfuse3-3,python3,python3-venv"
_BOOT_TIMEOUT_S = 60.0
_NSPAWN = ("--quiet", "--boot", "--register=no", "--keep-unit", "--resolv-conf=off", "--timezone=off",
           "--link-journal=no", "--console=pipe", "--private-network")  # fmt: skip

needs_machine = pytest.mark.skipif(
    os.geteuid() != 0
    or sys.version_info[:2] != PYTHON
    or shutil.which("debootstrap") is None
    or shutil.which("systemd-nspawn") is None,
    reason=f"takes root, debootstrap, systemd-nspawn, and Python {PYTHON[0]}.{PYTHON[1]}",
)


class Machine:
    """One that is running. `run` runs a command in it."""

    def __init__(self, folder: Path, *bound: str) -> None:
        self.root = folder / "root"
        self._folder = folder
        self._bound = [f"--bind-ro={each}" for each in bound]
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._leader = 0
        folder.mkdir(parents=True, exist_ok=True)
        self._fuse = folder / "fuse"
        os.mknod(self._fuse, 0o666 | 0o020000, os.makedev(10, 229))
        self._fuse.chmod(0o666)

    def install(self) -> None:
        """Make its file system."""
        command = ["debootstrap", "--variant=minbase", f"--include={_PACKAGES}", SUITE, os.fspath(self.root)]
        with (self._folder / "debootstrap.log").open("wb") as log:
            subprocess.run(command, stdout=log, stderr=log, timeout=600, check=True)

    def boot(self) -> None:
        """Start it and wait until it is up."""
        name = f"fsd-test-{os.getpid()}"
        command = ["systemd-nspawn", *_NSPAWN, f"--machine={name}", "-D", self.root, f"--bind={self._fuse}:/dev/fuse"]
        with (self._folder / "boot.log").open("ab") as log:
            self._nspawn = subprocess.Popen([*command, *self._bound], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.soon(self._find_leader, "its first process", within_s=_BOOT_TIMEOUT_S)
        states = ("running", "degraded")
        self.soon(lambda: self.run("systemctl", "is-system-running").stdout.strip() in states, "that it is up")

    def _find_leader(self) -> bool:
        """The container's first process is nspawn's child."""
        assert self._nspawn is not None
        pid = self._nspawn.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if not children:
            return False
        self._leader = int(children[0])
        return Path(f"/proc/{self._leader}/comm").read_text() == "systemd\n"

    def run(self, *command: str, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a command in it, whatever its exit code."""
        inside = ["nsenter", f"--target={self._leader}", "--all", "--", "env", "-i", "HOME=/root", "LC_ALL=C.UTF-8",
                  "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]  # fmt: skip
        return subprocess.run([*inside, *command], capture_output=True, text=True, timeout=timeout_s, check=False)

    def __call__(self, script: str) -> str:
        """Run shell commands in it that must succeed; what they print."""
        done = self.run("sh", "-e", "-c", script)
        assert done.returncode == 0, f"{script}\ngave {done.returncode}:\n{done.stdout}{done.stderr}\n{self.journal()}"
        return done.stdout.strip()

    def journal(self) -> str:
        """The last lines of it."""
        return self.run("journalctl", "--no-pager", "-n", "50").stdout

    def soon(self, condition: Callable[[], bool], what: str, *, within_s: float = 30.0) -> float:
        """Wait for something; how many seconds it took."""
        started = time.monotonic()
        while not condition():
            assert time.monotonic() < started + within_s, f"not within {within_s:g} s: {what}\n{self.journal()}"
            time.sleep(0.05)
        return time.monotonic() - started

    def stop(self) -> None:
        """Power it off and wait until it is gone."""
        assert self._nspawn is not None
        self.run("systemctl", "poweroff")
        self._nspawn.wait(60)
        self._nspawn = None

    def close(self) -> None:
        """Stop it if it runs, whatever its state, and let go of its files."""
        if self._nspawn is not None and self._nspawn.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                self.stop()
        if self._nspawn is not None:
            self._nspawn.kill()
            self._nspawn.wait()
        shutil.rmtree(self._folder)
