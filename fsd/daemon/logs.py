"""The daemon's log: a line an event, for people, as JSON, or with fields for the journal.

    text       WARNING message                   and the time before it, where nobody else notes that
    json       {"time", "level", "logger", "message", …}
    journal    the same members as fields of systemd's journal (systemd.journal-fields(7)), sent to it directly

What a record carries as `fields` (a dictionary, `extra={"fields": …}`) are members of their own: for an error that
somebody got instead of bytes `what`, `chunk` and `pack`. What repeats itself is throttled, cause by cause.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

JOURNAL = Path("/run/systemd/journal/socket")
IDENTIFIER = "fsd"

LINES_AT_ONCE = 100
"""Of one cause, in `INTERVAL_S`: those beyond are counted. More than the log of errors writes by itself."""
INTERVAL_S = 10.0

MAX_CAUSES = 1000

_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_MAX_DATAGRAM_BYTES = 1 << 16


def set_up(form: str, level: str, *, timed: bool) -> None:
    """Log to standard error or the journal from now on. `form`: as above; `timed`: lines of text have a time."""
    handler: logging.Handler
    if form == "journal":
        handler = JournalHandler(JOURNAL)
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter(timed=timed))
    handler.addFilter(Throttle())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    set_level(level)


def set_level(level: str) -> None:
    """Log what is at least so important: `debug`, `info`, `warning` or `error`."""
    logging.getLogger().setLevel(level.upper())


def goes_to_journal(stream: str, descriptor: int) -> bool:
    """Whether `descriptor` is the journal's: `stream` is $JOURNAL_STREAM, which names it by device and inode."""
    try:
        status = os.fstat(descriptor)
    except OSError:
        return False
    return stream == f"{status.st_dev}:{status.st_ino}" and JOURNAL.exists()


@dataclass(slots=True)
class _Cause:
    since_s: float
    lines: int = 0
    left_out: int = 0


class Throttle(logging.Filter):
    """Lets through so many records of one cause (a logger and a text) in a time. The next tells how many it did not."""

    def __init__(self) -> None:
        super().__init__()
        self._causes: dict[tuple[str, str], _Cause] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it is written."""
        now_s = time.monotonic()
        key = record.name, str(record.msg)
        if key not in self._causes and len(self._causes) >= MAX_CAUSES:
            self._causes.clear()
        cause = self._causes.setdefault(key, _Cause(now_s))
        if now_s - cause.since_s >= INTERVAL_S:
            record.left_out = cause.left_out
            cause.since_s, cause.lines, cause.left_out = now_s, 0, 0
        if cause.lines == LINES_AT_ONCE:
            cause.left_out += 1
            return False
        cause.lines += 1
        return True


def members(record: logging.LogRecord) -> dict[str, Any]:
    """What a record says, by name. The message is one line."""
    left_out = getattr(record, "left_out", 0)
    more = f" ({left_out} more like it were left out)" if left_out else ""
    told: dict[str, Any] = {
        "message": record.getMessage().replace("\n", "\\n") + more,
        "level": record.levelname.lower(),
        "logger": record.name,
        **getattr(record, "fields", {}),
    }
    if record.exc_info:
        told["traceback"] = logging.Formatter().formatException(record.exc_info)
    return told


class TextFormatter(logging.Formatter):
    """For people: a traceback is on lines of its own."""

    def __init__(self, *, timed: bool) -> None:
        super().__init__()
        self._timed = timed

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        told = members(record)
        line = f"{record.levelname} {told['message']}"
        if self._timed:
            line = f"{self.formatTime(record)} {line}"
        return "\n".join([line, *([told["traceback"]] if "traceback" in told else [])])


class JsonFormatter(logging.Formatter):
    """For programs: an object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds")
        return json.dumps({"time": moment.replace("+00:00", "Z"), **members(record)})


class JournalHandler(logging.Handler):
    """Sends records to the journal with its own protocol, a datagram each; what is too long for one is cut."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = os.fspath(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)

    def emit(self, record: logging.LogRecord) -> None:
        """Send it. A journal that is not there costs the line, and not the mount."""
        try:
            self._socket.sendto(journal_datagram(members(record), record.levelno), self._path)
        except OSError:
            self.handleError(record)

    def close(self) -> None:
        """Let go of the socket."""
        self._socket.close()
        super().close()


def journal_datagram(told: dict[str, Any], level: int) -> bytes:
    """The members of a record in the journal's protocol: `message` as MESSAGE, the others as FSD_NAME."""
    priority = next((number for bound, number in _PRIORITIES if level >= bound), 7)
    fields = {"PRIORITY": str(priority), "SYSLOG_IDENTIFIER": IDENTIFIER, "MESSAGE": told["message"]}
    fields |= {f"FSD_{name.upper()}": str(value) for name, value in told.items() if name not in ("message", "level")}
    room = _MAX_DATAGRAM_BYTES // len(fields)
    datagram = b""
    for name, value in fields.items():
        data = value.encode(errors="backslashreplace")[:room]
        if b"\n" in data:  # then its length comes before it
            datagram += name.encode() + b"\n" + len(data).to_bytes(8, "little") + data + b"\n"
        else:
            datagram += name.encode() + b"=" + data + b"\n"
    return datagram
