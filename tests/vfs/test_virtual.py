"""The log of errors, and the files of `/.fsd`."""

from __future__ import annotations

import json

from fsd.vfs.virtual import MAX_RECORDED, ErrorLog, VirtualFiles


class Clock:
    def __init__(self) -> None:
        self.now_us = 1_700_000_000_000_000

    def __call__(self) -> int:
        self.now_us += 1_000_000
        return self.now_us


def test_errors_are_rendered_one_a_line() -> None:
    errors = ErrorLog(Clock())
    errors.record("/data/v1/a\nb", "chunk ab of pack cd is bad")
    errors.record("/data/v1/\udcff", "no answer")
    first, second = errors.render().decode(errors="surrogateescape").splitlines()
    assert first.endswith("  1x  /data/v1/a\\nb: chunk ab of pack cd is bad")
    assert second.endswith("  1x  /data/v1/\udcff: no answer")


def test_what_repeats_is_counted_and_comes_last() -> None:
    errors = ErrorLog(Clock())
    errors.record("a", "bad")
    errors.record("b", "bad")
    errors.record("a", "bad")
    assert [line.split("  ")[1:] for line in errors.render().decode().splitlines()] == [
        ["1x", "b: bad"],
        ["2x", "a: bad"],
    ]
    assert errors.total == 3


def test_only_so_many_are_remembered() -> None:
    errors = ErrorLog(Clock())
    for number in range(MAX_RECORDED + 5):
        errors.record(str(number), "bad")
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
