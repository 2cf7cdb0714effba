"""Every error has an errno of its own choosing; what has none is a bug, and is shown as one."""

from __future__ import annotations

import errno
import inspect
import logging
from types import ModuleType

import pytest

import fsd.errors
import fsd.vfs.attributes
from fsd.errors import CorruptDataError, FsdError, NotFoundError, StoreUnreachableError
from fsd.fuse.errnos import TABLE, errno_of
from fsd.stores.base import ObjectNotFoundError


def _errors(module: ModuleType) -> list[type[Exception]]:
    return [
        value
        for _, value in inspect.getmembers(module, inspect.isclass)
        if issubclass(value, FsdError) and value.__module__ == module.__name__
    ]


@pytest.mark.parametrize("module", [fsd.errors, fsd.vfs.attributes], ids=lambda module: module.__name__)
def test_the_table_is_exhaustive(module: ModuleType) -> None:
    errors = _errors(module)
    assert errors
    assert [error for error in errors if error not in TABLE] == []


def test_subclasses_are_answered_as_their_base() -> None:
    assert errno_of(ObjectNotFoundError("packs/aa/bb", "memory:"), request="read", ino=1) == errno.ENOENT


def test_a_missing_file_is_no_news(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    assert errno_of(NotFoundError("nothing"), request="lookup", ino=1) == errno.ENOENT
    assert caplog.records == []


def test_what_the_vfs_does_not_tell_of_is_logged_in_one_line(error_logs: list[logging.LogRecord]) -> None:
    assert errno_of(FsdError("it broke"), request="read", ino=7) == errno.EIO
    assert [record.getMessage() for record in error_logs] == ["read of inode 7 failed: it broke"]
    assert error_logs[0].exc_info is None


def test_bytes_that_cannot_be_had_are_in_the_log_already(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for error in (CorruptDataError("chunk 12 of pack 34"), StoreUnreachableError("no answer")):
        assert errno_of(error, request="read", ino=7) == errno.EIO
    assert caplog.records == []


def test_a_bug_is_logged_with_its_traceback(error_logs: list[logging.LogRecord]) -> None:
    assert errno_of(ZeroDivisionError("a bug"), request="read", ino=7) == errno.EIO
    assert len(error_logs) == 1
    assert error_logs[0].exc_info is not None


def test_a_group_is_its_first_error() -> None:
    group = ExceptionGroup("nursery", [ExceptionGroup("inner", [NotFoundError("x")]), StoreUnreachableError("y")])
    assert errno_of(group, request="read", ino=7) == errno.ENOENT


def test_a_bug_in_a_group_is_a_bug(error_logs: list[logging.LogRecord]) -> None:
    group = ExceptionGroup("nursery", [NotFoundError("x"), KeyError("y")])
    assert errno_of(group, request="read", ino=7) == errno.EIO
    assert len(error_logs) == 1
