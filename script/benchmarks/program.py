"""Driving `fsd` from outside, as a user does: commands, mounts, and what the kernel says of their cost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FSD = (sys.executable, "-m", "fsd_cli")


@dataclass(frozen=True, slots=True)
class Finished:
    """A command that has ended."""

    seconds: float
    peak_bytes: int
    output: str
    processor_seconds: float = 0.0


TIMEOUT_S = 3600.0
"""A command that takes longer than an hour hangs."""


def run(*arguments: str, store: Path | str | None = None, timeout_s: float = TIMEOUT_S) -> Finished:
    """Run `fsd` with these arguments to its end. Raises CalledProcessError, also where it was ended for its time."""
    command = [*FSD, *(["--store", str(store)] if store else []), *arguments]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    watchdog = threading.Timer(timeout_s, process.kill)
    watchdog.start()
    try:
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
    finally:
        watchdog.cancel()
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, output)
    return Finished(seconds, usage.ru_maxrss * 1024, output, usage.ru_utime + usage.ru_stime)


class Mount:
    """A mounted store; `with` unmounts it."""

    def __init__(self, store: Path | str, mountpoint: Path, cache: Path, *options: str) -> None:
        mountpoint.mkdir(parents=True, exist_ok=True)
        self.path = mountpoint
        start = time.perf_counter()
        run("mount", str(store), str(mountpoint), "--cache-dir", str(cache), *options)
        self.ready_seconds = time.perf_counter() - start

    def __enter__(self) -> Mount:
        return self

    def __exit__(self, *_: object) -> None:
        run("umount", str(self.path))

    def status(self) -> dict[str, Any]:
        """What the daemon says of itself."""
        status: dict[str, Any] = json.loads((self.path / ".fsd" / "status").read_text())
        return status

    def requests(self, kind: str) -> int:
        """Requests of a kind that the kernel has made so far; asking is itself one READ."""
        return int(self.status()["requests"].get(kind, 0))

    def peak_bytes(self) -> int:
        """The daemon's peak resident memory."""
        for line in Path(f"/proc/{self.status()['pid']}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        raise RuntimeError("no VmHWM in /proc")


def drop_caches() -> bool:
    """Empty the kernel's caches of pages, names and inodes. False if we may not."""
    os.sync()
    try:
        Path("/proc/sys/vm/drop_caches").write_text("3")
    except OSError:
        return False
    return True
