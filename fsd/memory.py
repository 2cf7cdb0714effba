"""How this process gets memory from the system: glibc's malloc, where that is what there is."""

from __future__ import annotations

import ctypes

from fsd.limits import MIB

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8

_LONGEST_ON_HEAP_BYTES = 32 * MIB
"""The most that glibc takes for M_MMAP_THRESHOLD."""


def use_arenas(count: int) -> None:
    """Share `count` arenas between all threads. To be called before there are threads.

    glibc gives threads arenas of their own, up to eight a core, and each keeps the most that it once held.
    """
    _mallopt(_M_ARENA_MAX, count)


def keep_freed(size: int) -> None:
    """Keep up to `size` bytes of freed memory, also of large buffers, instead of asking for it again and again.

    The system clears each page that it gives: half a microsecond for 4 KiB, as much as it takes to hash them.
    """
    _mallopt(_M_TRIM_THRESHOLD, size)
    _mallopt(_M_MMAP_THRESHOLD, _LONGEST_ON_HEAP_BYTES)


def _mallopt(parameter: int, value: int) -> None:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(parameter, value)
