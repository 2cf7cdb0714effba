"""Which process keeps a run's record, and whether it still does. Reads /proc; blocks for microseconds."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from fsd.format.run import RunProcess

_START_FIELD = 19
"""Of /proc/PID/stat, counted behind the command's name: `starttime`."""


def this_process() -> RunProcess:
    """We."""
    pid = os.getpid()
    return RunProcess(platform.node(), _boot(), pid, _started_ticks(pid) or 0)


def is_alive(process: RunProcess) -> bool | None:
    """Whether it still runs; None if that cannot be told from here, since it is on another machine."""
    if process.host != platform.node():
        return None
    return process.boot == _boot() and _started_ticks(process.pid) == process.started_ticks


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _started_ticks(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    return int(stat.rpartition(b")")[2].split()[_START_FIELD])
