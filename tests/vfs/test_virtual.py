"""The log of errors, and the files of `/.fsd`."""

from __future__ import annotations

import json
import logging

import pytest

from fsd.errors import CorruptDataError, StoreUnreachableError, located
from fsd.format.model import PlacedChunk, Placement
from fsd.repo.packs import PackGoneError
from fsd.stores.base import ObjectNotFoundError
from fsd.vfs.virtual import (
    LINE_REPEATED_US,
    LINES_AT_ONCE,
    LINES_INTERVAL_US,
    MAX_RECORDED,
    ErrorLog,
    Failure,
    VirtualFiles,
)


class Clock:
    def __init__(self, step_us: int = 1_000_000) -> None:
        self.now_us = 1_700_000_000_000_000
        self.step_us = step_us

    def __call__(self) -> int:
        self.now_us += self.step_us
        return self.now_us


@pytest.mark.usefixtures("error_logs")
def test_errors_are_rendered_one_a_line() -> None:
    errors = ErrorLog(Clock())
    errors.record(Failure("/data/v1/a\nb", "chunk ab of pack cd is bad"))
    errors.record(Failure("/data/v1/\udcff", "no answer"))
    first, second = errors.render().decode(errors="surrogateescape").splitlines()
    assert first.endswith("  1x  /data/v1/a\\nb: chunk ab of pack cd is bad")
    assert second.endswith("  1x  /data/v1/\udcff: no answer")


@pytest.mark.usefixtures("error_logs")
def test_what_repeats_is_counted_and_comes_last() -> None:
    errors = ErrorLog(Clock())
    errors.record(Failure("a", "bad"))
    errors.record(Failure("b", "bad"))
    errors.record(Failure("a", "bad"))
    assert [line.split("  ")[1:] for line in errors.render().decode().splitlines()] == [
        ["1x", "b: bad"],
        ["2x", "a: bad"],
    ]
    assert errors.total == 3


def test_an_error_has_a_line_in_the_log_now_and_then(error_logs: list[logging.LogRecord]) -> None:
    clock = Clock()
    errors = ErrorLog(clock)
    for _ in range(5):
        errors.record(Failure("a\nb", "bad"))
    assert [record.getMessage() for record in error_logs] == ["a\\nb: bad"]
    clock.now_us += LINE_REPEATED_US
    errors.record(Failure("a\nb", "bad"))
    assert len(error_logs) == 2


def test_many_errors_at_once_do_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock(step_us=0)
    errors = ErrorLog(clock)
    for number in range(LINES_AT_ONCE + 7):
        errors.record(Failure(str(number), "no answer"), logging.WARNING)
    assert len(caplog.records) == LINES_AT_ONCE
    clock.now_us += LINES_INTERVAL_US
    errors.record(Failure("later", "no answer"), logging.WARNING)
    assert [record.getMessage() for record in caplog.records[LINES_AT_ONCE:]] == [
        "7 more errors are not shown here: see .fsd/errors in the mount",
        "later: no answer",
    ]


@pytest.mark.usefixtures("error_logs")
def test_only_so_many_are_remembered() -> None:
    errors = ErrorLog(Clock())
    for number in range(MAX_RECORDED + 5):
        errors.record(Failure(str(number), "bad"))
    lines = errors.render().decode().splitlines()
    assert len(lines) == MAX_RECORDED
    assert lines[0].endswith("5: bad")
    assert errors.total == MAX_RECORDED + 5


def test_files_are_rendered_when_asked_for() -> None:
    errors = ErrorLog(Clock())
    state = {"answer": 41}
    files = VirtualFiles(lambda: state, errors)
    assert files.names == [b"errors", b"status"]
    state["answer"] = 42
    status = files.render(b"status")
    assert status is not None
    assert json.loads(status) == {"answer": 42}
    assert files.render(b"errors") == b""
    assert files.render(b"nothing") is None


def test_a_failure_names_what_its_error_does_not() -> None:
    error = located(StoreUnreachableError("no answer from the store"), chunk=b"\xab", pack=b"\xcd")
    assert Failure.of("/f", error) == ("/f", "no answer from the store (chunk ab, pack cd)", "ab", "cd")
    gone = PackGoneError(
        PlacedChunk(b"\xab", 1, Placement(b"\xcd", 0, 1, 0)), ObjectNotFoundError("packs/cd", "memory:")
    )
    error = located(gone, chunk=b"\xab", pack=b"\xcd")
    assert isinstance(error, PackGoneError)
    assert (error.misplaced, error.message, error.chunk, gone.chunk) == (gone.misplaced, gone.message, "ab", "")
    error = located(CorruptDataError("the chunk ab of pack cd is bad"), chunk=b"\xab", pack=b"\xcd")
    assert Failure.of("/f", error).message == "the chunk ab of pack cd is bad"
    assert Failure.of("/f", CorruptDataError("the page ef is bad")).fields == {"what": "/f"}
