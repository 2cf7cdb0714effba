"""The capabilities of a daemon's process: what it does not need is given up for good, before there are threads.

Capabilities belong to threads, and a thread that is started has those of who started it: given up at the start, they
are nobody's. Reads and changes only this process. See capabilities(7), and decision 0124 for why these are kept.
"""

from __future__ import annotations

import ctypes
import logging
import os
from pathlib import Path

log = logging.getLogger(__name__)

PROCESS_STATUS = Path("/proc/self/status")

CAP_DAC_OVERRIDE = 1
CAP_DAC_READ_SEARCH = 2
CAP_NET_BIND_SERVICE = 10
CAP_SYS_ADMIN = 21

KEPT = (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_NET_BIND_SERVICE, CAP_SYS_ADMIN)
"""Of root's: to mount and to unmount; the folders of a store or a cache may be somebody else's; a port for metrics may
be below 1024."""

_PR_CAPBSET_DROP = 24
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAPABILITY_VERSION_3 = 0x20080522


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def may_mount() -> bool:
    """Whether the kernel lets this process mount: root, or a service's user that was given CAP_SYS_ADMIN."""
    try:
        return bool(_read("CapEff") >> CAP_SYS_ADMIN & 1)
    except OSError:
        return os.geteuid() == 0


def give_up() -> None:
    """Keep of this process's capabilities those in `KEPT`, and leave none to programs that it starts.

    Who may not mount by itself keeps what it has: fusermount3, which does it then, gets no more than that. What the
    system does not let us give up, as a filter of system calls may not, is kept.
    """
    if not may_mount():
        return
    kept = sum(1 << number for number in KEPT)
    libc = ctypes.CDLL(None, use_errno=True)
    for number in range(64):
        if _read("CapBnd") & ~kept & 1 << number and libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0) != 0:
            log.info("what programs that it starts may become stays as it is: %s", os.strerror(ctypes.get_errno()))
            break
    libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    permitted = _read("CapPrm")
    if permitted & ~kept and not _set(libc, permitted & kept):
        log.info("the process keeps all its capabilities: %s", os.strerror(ctypes.get_errno()))


def _read(name: str) -> int:
    """One of this thread's sets, as /proc shows it."""
    lines = PROCESS_STATUS.read_text().split("\n")
    return int(next((line.split()[1] for line in lines if line.startswith(f"{name}:")), "0"), 16)


def _set(libc: ctypes.CDLL, capabilities: int) -> bool:
    header = _Header(_CAPABILITY_VERSION_3, 0)
    halves = (capabilities & 0xFFFFFFFF, capabilities >> 32)
    data = (_Data * 2)(*(_Data(half, half, 0) for half in halves))
    return bool(libc.capset(ctypes.byref(header), data) == 0)
