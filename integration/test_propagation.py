"""A mount is seen in a mount namespace, as a container has one, through the folder around it: also one made later."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fsd.daemon import mounts
from integration.program import Program, status
from integration.users import needs_root

pytestmark = needs_root

_CONTAINER = """
set -e
mount --make-rslave /
mkdir -p "$2"
mount --rbind "$1" "$2"
echo ready
exec cat
"""
"""What a container's runtime does for a bind mount with rslave (HostToContainer, in Kubernetes)."""


class Container:
    """A mount namespace of its own, that has `outside` at `inside`."""

    def __init__(self, outside: Path, inside: Path) -> None:
        self.inside = inside
        command = ["unshare", "--mount", "--propagation", "unchanged", "sh", "-c", _CONTAINER, "-", outside, inside]
        self._holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"ready\n"

    def read(self, path: str) -> str:
        """A file, as a process in the container reads it; '' if it cannot."""
        command = ["nsenter", "--mount", f"--target={self._holder.pid}", "--", "cat", self.inside / path]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False).stdout

    def close(self) -> None:
        self._holder.communicate(timeout=10)


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Path]:
    """A folder whose mounts are shared with namespaces that ask for them, as all are where systemd runs."""
    folder = tmp_path / "shared"
    folder.mkdir()
    subprocess.run(["mount", "--bind", folder, folder], check=True)
    subprocess.run(["mount", "--make-shared", folder], check=True)
    yield folder
    subprocess.run(["umount", "--recursive", "--lazy", folder], check=True)


def test_a_container_sees_mounts_that_come_and_go(program: Program, tmp_path: Path, shared: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/f").write_text("content")
    program("init")
    program("commit", tmp_path / "data", "data")
    container = Container(shared, tmp_path / "inside")
    try:
        mountpoint = program.mount(shared / "mnt")
        assert container.read("mnt/data/main/f") == "content"
        assert not (tmp_path / "inside/mnt").exists()  # it is the container's alone
        pidfd = os.pidfd_open(status(mountpoint)["pid"])
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        assert mounts.wait_gone(pidfd, timeout_s=20)
        os.close(pidfd)
        program.mount(mountpoint)  # clears what was left, there too
        assert container.read("mnt/data/main/f") == "content"
        program("umount", mountpoint)
        assert container.read("mnt/data/main/f") == ""
    finally:
        container.close()
