"""What stands in `/.fsd`: `status` (JSON) and `errors` (one line each), made up anew for each lookup.

The log of recent errors is kept here. It is bounded, and what repeats is counted rather than repeated, so that a loop
over a bad file does not push everything else out.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fsd.clock import Clock, format_time

DIRECTORY_NAME = b".fsd"
"""At the top of the mount; not listed there."""

MAX_RECORDED = 256
"""Different errors remembered."""


@dataclass(slots=True)
class RecordedError:
    """An error that somebody got instead of bytes."""

    what: str
    """What was asked for: a path or name."""
    message: str
    """Why it failed; names the chunk and pack where there is one."""
    first_us: int
    last_us: int
    count: int = 1


class ErrorLog:
    """The last different errors, the one that happened last at the end."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._errors: OrderedDict[tuple[str, str], RecordedError] = OrderedDict()
        self.total = 0
        """Errors since the start, repeated and forgotten ones included."""

    def record(self, what: str, message: str) -> None:
        """Remember that `what` failed."""
        self.total += 1
        now = self._clock()
        known = self._errors.get((what, message))
        if known is not None:
            known.count += 1
            known.last_us = now
            self._errors.move_to_end((what, message))
            return
        self._errors[what, message] = RecordedError(what, message, now, now)
        if len(self._errors) > MAX_RECORDED:
            self._errors.popitem(last=False)

    def render(self) -> bytes:
        """A line for each: when it last happened, how often, what, why."""
        return "".join(
            f"{format_time(error.last_us)}  {error.count}x  {_one_line(error.what)}: {_one_line(error.message)}\n"
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
