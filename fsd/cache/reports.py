"""Log lines that would repeat themselves: one of a cause now and then."""

from __future__ import annotations

import logging
import time

INTERVAL_S = 10.0
"""Between two lines for one cause: a bad pack can have thousands of chunks, a full disk stops every write."""

MAX_CAUSES = 1000


class Reports:
    """Writes to one logger. For one thread."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._last: dict[str, float] = {}

    def report(self, level: int, cause: str, message: str, *values: object) -> None:
        """Log, unless there was a line for this cause a moment ago."""
        now_s = time.monotonic()
        if now_s - self._last.get(cause, float("-inf")) < INTERVAL_S:
            return
        if len(self._last) >= MAX_CAUSES:
            self._last.clear()
        self._last[cause] = now_s
        self._log.log(level, message, *values)
