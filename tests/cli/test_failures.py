"""What is said of each kind of exception, and the exit code."""

from __future__ import annotations

import errno

import click
import pytest

from fsd.errors import (
    ConflictError,
    CorruptDataError,
    FsdError,
    NotFoundError,
    StorePermissionError,
    StoreUnreachableError,
    UnsupportedFormatError,
    UsageError,
)
from fsd_cli.failures import exit_code_of, report

ONE_LINERS: list[tuple[BaseException, int, str]] = [
    (FsdError("it broke"), 1, "fsd: it broke"),
    (UsageError("no rule", hint="give one"), 2, "fsd: no rule; give one"),
    (ConflictError("main moved"), 3, "fsd: main moved"),
    (NotFoundError("no revision 'v9'"), 4, "fsd: no revision 'v9'"),
    (StoreUnreachableError("no answer"), 5, "fsd: no answer"),
    (StorePermissionError("refused"), 5, "fsd: refused"),
    (CorruptDataError("page ab is torn"), 6, "fsd: page ab is torn"),
    (UnsupportedFormatError("too new"), 6, "fsd: too new"),
    (click.UsageError("Missing argument 'DIR'."), 2, "fsd: missing argument 'DIR'; see 'fsd --help'"),
    (click.ClickException("It is so."), 1, "fsd: it is so"),
    (PermissionError(errno.EACCES, "Permission denied", "/x/y"), 1, "fsd: /x/y: Permission denied"),
    (OSError(errno.ENOSPC, "No space left on device"), 1, "fsd: No space left on device"),
    (
        ZeroDivisionError("by zero"),
        1,
        "fsd: internal error: ZeroDivisionError: by zero; run it again with --debug and report what it shows",
    ),
    (FsdError("two\nlines \x1b[2J"), 1, "fsd: two\\nlines \\x1b[2J"),
]


@pytest.mark.parametrize(("error", "code", "line"), ONE_LINERS, ids=lambda value: type(value).__name__)
def test_one_line_and_a_code(error: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    for raised in (error, ExceptionGroup("", [ExceptionGroup("", [error])]) if isinstance(error, Exception) else error):
        report(raised, debug=False)
        assert capsys.readouterr() == ("", line + "\n")
        assert exit_code_of(raised) == code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (KeyboardInterrupt(), 130),
        (BaseExceptionGroup("", [KeyboardInterrupt(), FsdError("torn down")]), 130),
        (click.Abort(), 130),
        (click.exceptions.Exit(0), 0),
        (click.exceptions.Exit(7), 7),
        (SystemExit(3), 3),
        (SystemExit(None), 0),
        (SystemExit("text"), 1),
    ],
)
def test_silent_endings(error: BaseException, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    report(error, debug=False)
    assert capsys.readouterr() == ("", "")
    assert exit_code_of(error) == code


def test_of_a_group_the_user_hears_what_concerns_him(capsys: pytest.CaptureFixture[str]) -> None:
    group = ExceptionGroup("", [ValueError("a consequence"), NotFoundError("no folder"), NotFoundError("no folder")])
    report(group, debug=False)
    assert capsys.readouterr().err == "fsd: no folder (and 1 more, shown with --debug)\n"
    assert exit_code_of(group) == 4


def test_debug_shows_where_it_came_from(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise ConflictError("main moved", hint="look again")
    except ConflictError as error:
        report(error, debug=True)
    shown = capsys.readouterr().err
    assert shown.startswith("Traceback (most recent call last):")
    assert shown.endswith("fsd: main moved; look again\n")
