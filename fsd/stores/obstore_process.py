"""obstore does not survive a fork: its threads stay behind, and a call in the child would wait for ever.

So the first call notes the process, and a forked one that calls is told so at once.
"""

from __future__ import annotations

import os

from fsd.errors import UsageError

_used_in: int | None = None


def claim_process(url: str) -> None:
    """Called before each use of obstore. Raises UsageError in a process that was forked from one that used it."""
    global _used_in
    if _used_in is None:
        _used_in = os.getpid()
    elif _used_in != os.getpid():
        raise UsageError(
            f"{url} cannot be used here: this process was forked from one that did, and obstore does not survive that",
            hint="start workers with multiprocessing's 'spawn' or 'forkserver', or use the store only in them",
        )
