"""What a command of ours would find on its standard input, as a run's record has it."""

from __future__ import annotations

import os
import stat

from blake3 import blake3

_READ_BYTES = 1 << 20
_NOTHING = os.makedev(1, 3)
"""The device of /dev/null."""


def identity_of_stdin() -> str | None:
    """See `fsd.format.run.RunStart.stdin`. Of a file all of it counts, and where in it reading goes on. Blocks."""
    try:
        status = os.fstat(0)
    except OSError:
        return ""
    if stat.S_ISCHR(status.st_mode):
        return "" if status.st_rdev == _NOTHING or os.isatty(0) else None
    if not stat.S_ISREG(status.st_mode):
        return None
    digest = blake3()
    at = 0
    while data := os.pread(0, _READ_BYTES, at):
        digest.update(data)
        at += len(data)
    digest.update(b"%d" % os.lseek(0, 0, os.SEEK_CUR))
    return digest.hexdigest()
