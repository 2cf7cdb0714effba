"""The daemon's log: what a line, an object, and the journal's datagram of an event have."""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fsd.daemon import logs

FIELDS = {"what": "/data/v1/f", "chunk": "ab12", "pack": "cd34"}


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger, with its handlers as they were afterwards."""
    logger = logging.getLogger()
    handlers, level = logger.handlers[:], logger.level
    yield logger
    for handler in set(logger.handlers) - set(handlers):
        handler.close()
    logger.handlers[:] = handlers
    logger.setLevel(level)


def record(message: str, *, level: int = logging.WARNING, failed: bool = False, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("fsd.vfs", level, "", 0, message, (), None)
    if failed:
        try:
            raise ValueError("so")
        except ValueError:
            made.exc_info = sys.exc_info()
    vars(made).update(extra)
    return made


def test_text_is_a_line_an_event() -> None:
    assert logs.TextFormatter(timed=False).format(record("a\nb")) == "WARNING a\\nb"
    assert logs.TextFormatter(timed=True).format(record("a")).endswith(" WARNING a")
    shown = logs.TextFormatter(timed=False).format(record("a", failed=True))
    assert shown.startswith("WARNING a\nTraceback")
    assert shown.endswith("ValueError: so")


def test_json_has_the_members_of_a_failure() -> None:
    line = logs.JsonFormatter().format(record("f: bad\nchunk \udcff", fields=FIELDS, failed=True))
    assert "\n" not in line
    told = json.loads(line)
    assert told.pop("time").endswith("Z")
    assert told.pop("traceback").endswith("ValueError: so")
    assert told == {"message": "f: bad\\nchunk \udcff", "level": "warning", "logger": "fsd.vfs", **FIELDS}


def test_the_journal_gets_fields(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: logging.Logger) -> None:
    monkeypatch.setattr(logs, "JOURNAL", tmp_path / "socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(str(tmp_path / "socket"))
        journal.settimeout(5)
        logs.set_up("journal", "info", timed=False)
        root.warning("bad", extra={"fields": FIELDS})
        datagram = journal.recv(1 << 16)
    assert datagram.decode().splitlines() == [
        "PRIORITY=4",
        "SYSLOG_IDENTIFIER=fsd",
        "MESSAGE=bad",
        "FSD_LOGGER=root",
        "FSD_WHAT=/data/v1/f",
        "FSD_CHUNK=ab12",
        "FSD_PACK=cd34",
    ]


def test_lines_within_a_field_have_their_length_before_them() -> None:
    datagram = logs.journal_datagram({"message": "m", "traceback": "a\nb"}, logging.ERROR)
    assert datagram.startswith(b"PRIORITY=3\n")
    assert datagram.endswith(b"FSD_TRACEBACK\n" + (3).to_bytes(8, "little") + b"a\nb\n")
    assert len(logs.journal_datagram({"message": "m" * 10**6}, logging.DEBUG)) < 1 << 16


def test_what_repeats_itself_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now_s)
    throttle = logs.Throttle()
    written = [throttle.filter(record("again")) for _ in range(logs.LINES_AT_ONCE + 7)]
    assert written == [True] * logs.LINES_AT_ONCE + [False] * 7
    assert throttle.filter(record("something else"))
    now_s = logs.INTERVAL_S
    later = record("again")
    assert throttle.filter(later)
    assert logs.members(later)["message"] == "again (7 more like it were left out)"
    now_s *= 2
    later = record("again")
    assert throttle.filter(later)
    assert logs.members(later)["message"] == "again"
    for number in range(2 * logs.MAX_CAUSES):
        assert throttle.filter(record(str(number)))


def test_the_journal_is_known_by_its_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "JOURNAL", tmp_path)
    reading, writing = os.pipe()
    status = os.fstat(writing)
    assert logs.goes_to_journal(f"{status.st_dev}:{status.st_ino}", writing)
    assert not logs.goes_to_journal(f"{status.st_dev}:{status.st_ino + 1}", writing)
    assert not logs.goes_to_journal("", writing)
    monkeypatch.setattr(logs, "JOURNAL", tmp_path / "none")
    assert not logs.goes_to_journal(f"{status.st_dev}:{status.st_ino}", writing)
    for descriptor in (reading, writing):
        os.close(descriptor)
    assert not logs.goes_to_journal("1:1", writing)


def test_levels(root: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up("json", "warning", timed=False)
    root.info("not told")
    root.warning("told")
    logs.set_level("debug")
    root.debug("told, too")
    told = [json.loads(line)["message"] for line in capsys.readouterr().err.splitlines()]
    assert told == ["told", "told, too"]
