"""What a daemon asks of the system for its own process. To be called before there are threads."""

from __future__ import annotations

import ctypes
import logging
import resource

log = logging.getLogger(__name__)

_M_ARENA_MAX = -8
_MALLOC_ARENAS = 2
"""glibc gives threads arenas of their own, up to eight a core, and each keeps the most that it once held: 190 MB
instead of 130 MB after two dozen threads had fetched 1 GB of small files, at the same speed."""


def tune() -> None:
    """Have few malloc arenas, and as many descriptors as are permitted, where that can be had."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, _MALLOC_ARENAS)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    except (OSError, ValueError) as error:
        log.info("the limit of open files stays as it is: %s", error)
