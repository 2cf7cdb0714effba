"""Asking others: tried a few times, and what they raise said in fsd's words.

Every file system of fsspec raises errors of its own library, which need not even be installed here. So this is the one
place that catches whatever comes out of one, and names what was asked for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar
from urllib.parse import urlsplit, urlunsplit

from fsd.errors import FsdError, NotFoundError, StorePermissionError, StoreUnreachableError
from fsd.publish.source import UnreadableError

_T = TypeVar("_T")

_WAITS_S = (0.2, 1.0, 3.0)
"""Before asking again."""

_FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, NotImplementedError, ValueError)
"""What asking again does not change."""

_SHOWN_CHARACTERS = 300


def without_secrets(url: str) -> str:
    """A URL as it may be shown and kept: without a user's name and password, and without a signed query."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def asked(what: str, action: Callable[[], _T]) -> _T:
    """What `action` gives, tried a few times; `what` it asks for. Blocks. Raises FsdError."""
    return _asked(what, action, _WAITS_S)


def asked_once(what: str, action: Callable[[], _T]) -> _T:
    """The same, of what must not be done twice."""
    return _asked(what, action, ())


def _asked(what: str, action: Callable[[], _T], waits_s: Sequence[float]) -> _T:
    for wait_s in (*waits_s, None):
        try:
            return action()
        except FsdError:
            raise
        except Exception as caught:
            error = _meant(caught)
            if wait_s is None or isinstance(error, _FINAL):
                raise _told(what, error) from caught
            time.sleep(wait_s)
    raise AssertionError("the last try returns or raises")


def _meant(error: Exception) -> Exception:
    """fsspec takes a web server that does not answer for a file that is not there."""
    while isinstance(error, FileNotFoundError) and isinstance(error.__cause__, OSError):
        error = error.__cause__
    return error


def _told(what: str, error: Exception) -> FsdError:
    text = " ".join(str(error).split())[:_SHOWN_CHARACTERS] or type(error).__name__
    match error:
        case FileNotFoundError():
            return NotFoundError(f"there is no {what}", hint="look whether it is written right, and still there")
        case PermissionError():
            return StorePermissionError(f"no right to use {what}: {text}", hint="check your credentials for it")
        case ValueError() | NotImplementedError():
            return UnreadableError(f"cannot use {what}: {text}", hint="check the URL and the options for it")
    return StoreUnreachableError(f"cannot reach {what}: {text}", hint="the same command goes on where this one stopped")
