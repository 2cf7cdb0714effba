"""Reading files at places."""

from __future__ import annotations

import os


def read_at(fd: int, length: int, start: int) -> bytes:
    """`length` bytes of an open file from `start`; fewer only where it ends. Blocks. Raises OSError.

    Linux reads at most 2 GiB at once.
    """
    data = os.pread(fd, length, start) if length > 0 else b""
    if len(data) == length or length <= 0:
        return data
    parts = [data]
    while parts[-1] and length > (got := sum(map(len, parts))):
        parts.append(os.pread(fd, length - got, start + got))
    return b"".join(parts)
