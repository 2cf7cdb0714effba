"""What happens to processes: a daemon that dies or hangs, a publisher that dies at a request."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fsd.daemon import mounts
from integration.gcs_server.faults import Fault
from integration.program import Program, status

GONE_WITHIN_S = 20.0


def kill(mountpoint: Path) -> None:
    """SIGKILL for the daemon of a mount; returns when it is gone."""
    pidfd = os.pidfd_open(status(mountpoint)["pid"])
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    assert mounts.wait_gone(pidfd, timeout_s=GONE_WITHIN_S)
    os.close(pidfd)


@contextmanager
def hanging(mountpoint: Path) -> Iterator[None]:
    """The daemon of a mount does not run: whoever asks it anything waits."""
    pid = status(mountpoint)["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def killed_at(fault: Fault, program: Program, source: Path) -> None:
    """Publish a folder as `data` until the server meets `fault`, which keeps the answer back; then SIGKILL."""
    publisher = program.start("commit", source, "data")
    try:
        fault.wait_met()
    finally:
        publisher.kill()
        publisher.communicate()
