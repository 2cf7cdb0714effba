"""Giving a part of a file back to the file system: fallocate(2) with a hole, which Python does not offer.

Owns nothing. The bytes of a hole read as zeros; blocks that lie wholly inside are freed.
"""

from __future__ import annotations

import ctypes
import errno
import os

_FALLOC_FL_KEEP_SIZE = 0x01
_FALLOC_FL_PUNCH_HOLE = 0x02

_libc = ctypes.CDLL(None, use_errno=True)
# fallocate64 takes 64-bit offsets whatever the platform's off_t; musl has only fallocate, which does as well.
_fallocate = getattr(_libc, "fallocate64", None) or _libc.fallocate
_fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
_fallocate.restype = ctypes.c_int


def punch_hole(fd: int, start: int, length: int) -> bool:
    """Free `length` bytes of the file from byte `start`. False where the file system has no holes to punch.

    Blocks; releases the GIL. Raises OSError.
    """
    while _fallocate(fd, _FALLOC_FL_PUNCH_HOLE | _FALLOC_FL_KEEP_SIZE, start, length) != 0:
        code = ctypes.get_errno()
        if code in (errno.EOPNOTSUPP, errno.ENOSYS):
            return False
        if code != errno.EINTR:
            raise OSError(code, os.strerror(code))
    return True
