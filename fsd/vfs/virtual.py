"""What stands in `/.fsd`: `status` (JSON) and `errors` (one line each), made up anew for each lookup.

The log of recent errors is kept here. It is bounded, and what repeats is counted rather than repeated, so that a loop
over a bad file does not push everything else out. The daemon's own log gets a line for each different one, but not
thousands: a training job goes on reading when the store does not answer.
"""

from __future__ import annotations

import json
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from fsd.clock import Clock, format_time
from fsd.errors import FsdError

log = logging.getLogger(__name__)

DIRECTORY_NAME = b".fsd"
"""At the top of the mount; not listed there."""

MAX_RECORDED = 256
"""Different errors remembered."""

LINES_AT_ONCE = 50
LINES_INTERVAL_US = 10_000_000
"""In such a time so many errors get a line of the daemon's log; those beyond are counted."""

LINE_REPEATED_US = 600_000_000
"""An error that goes on has a line again after this."""


class Failure(NamedTuple):
    """That somebody got an error instead of bytes."""

    what: str
    """What was asked for: a path or name."""
    message: str
    """Why it failed."""
    chunk: str = ""
    """Which could not be had, in hex, and the pack that it was looked for in, where it was about one."""
    pack: str = ""

    @classmethod
    def of(cls, what: str, error: FsdError) -> Self:
        """The failure of `what` by `error`; its message names the chunk and the pack."""
        unnamed = [f"{kind} {name}" for kind, name in (("chunk", error.chunk), ("pack", error.pack)) if name]
        unnamed = [part for part in unnamed if part.split()[1] not in error.message]
        message = f"{error.message} ({', '.join(unnamed)})" if unnamed else error.message
        return cls(what, message, error.chunk, error.pack)

    @property
    def fields(self) -> dict[str, str]:
        """For logs that have fields."""
        return {name: value for name, value in self._asdict().items() if value and name != "message"}


@dataclass(slots=True)
class RecordedError:
    """One that is remembered."""

    failure: Failure
    first_us: int
    last_us: int
    logged_us: int
    """When it last was, or would have been, written to the daemon's log."""
    count: int = 1


class ErrorLog:
    """The last different errors, the one that happened last at the end."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._errors: OrderedDict[tuple[str, str], RecordedError] = OrderedDict()
        self.total = 0
        """Errors since the start, repeated and forgotten ones included."""
        self._lines = 0
        self._lines_since_us = 0
        self._unlogged = 0

    def record(self, failure: Failure, level: int = logging.ERROR) -> None:
        """Remember it; `level` is that of its line in the daemon's log."""
        self.total += 1
        now = self._clock()
        key = failure.what, failure.message
        known = self._errors.get(key)
        if known is None:
            self._errors[key] = RecordedError(failure, now, now, now)
            if len(self._errors) > MAX_RECORDED:
                self._errors.popitem(last=False)
            self._write_line(now, failure, level)
            return
        known.count += 1
        known.last_us = now
        self._errors.move_to_end(key)
        if now - known.logged_us >= LINE_REPEATED_US:
            known.logged_us = now
            self._write_line(now, failure, level)

    def _write_line(self, now_us: int, failure: Failure, level: int) -> None:
        if now_us - self._lines_since_us >= LINES_INTERVAL_US:
            if self._unlogged:
                log.warning("%d more errors are not shown here: see .fsd/errors in the mount", self._unlogged)
            self._lines_since_us, self._lines, self._unlogged = now_us, 0, 0
        if self._lines == LINES_AT_ONCE:
            self._unlogged += 1
            return
        self._lines += 1
        line = f"{_one_line(failure.what)}: {_one_line(failure.message)}"
        log.log(level, "%s", line, extra={"fields": failure.fields})

    def recent(self) -> list[dict[str, Any]]:
        """Each as JSON, the one that happened last at the end."""
        return [
            {
                **error.failure._asdict(),
                "count": error.count,
                "first_us": error.first_us,
                "last_us": error.last_us,
            }
            for error in self._errors.values()
        ]

    def render(self) -> bytes:
        """A line for each: when it last happened, how often, what, why."""
        return "".join(
            f"{format_time(error.last_us)}  {error.count}x  {_one_line(error.failure.what)}: "
            f"{_one_line(error.failure.message)}\n"
            for error in self._errors.values()
        ).encode(errors="surrogateescape")


def _one_line(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


class VirtualFiles:
    """The files of `/.fsd` by name."""

    def __init__(self, status: Callable[[], Mapping[str, Any]], errors: ErrorLog) -> None:
        self._renderers: dict[bytes, Callable[[], bytes]] = {
            b"errors": errors.render,
            b"status": lambda: json.dumps(status(), indent=2).encode() + b"\n",
        }

    @property
    def names(self) -> list[bytes]:
        """In the order of a listing."""
        return sorted(self._renderers)

    def render(self, name: bytes) -> bytes | None:
        """The content at this moment; None if there is no such file."""
        renderer = self._renderers.get(name)
        return renderer() if renderer is not None else None
