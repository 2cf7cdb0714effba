"""The errors a user can meet, and the exit code of each.

    FsdError                        1   something failed
    ├── UsageError                  2   the caller asked for what cannot be: a bad name, option or rule
    ├── ConflictError               3   somebody else was first: a moved branch, a taken name, a locked cache
    ├── NotFoundError               4   there is no such store, repository, revision, subset or path
    ├── StoreUnreachableError       5   the store did not answer in time, or refused us
    │   └── StorePermissionError    5   it answered that we may not
    └── CorruptDataError            6   bytes that do not say what their name promises
        └── UnsupportedFormatError  6   well-formed, but of a version or feature this program lacks

A message is one line that says what happened and why; `hint` says what to do about it. Nothing below `cli/`
prints an error or exits; nothing catches a bare `Exception` to turn it into one of these.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class FsdError(Exception):
    """Base of every error meant for a user. `hint` is what to do about it, or ''."""

    exit_code = 1

    chunk = ""
    """The chunk that could not be had, in hex, where that is known; `located` sets it."""
    pack = ""
    """The pack that it was looked for in."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class UsageError(FsdError):
    """The request itself is wrong."""

    exit_code = 2


class ConflictError(FsdError):
    """Somebody else was first; nothing was lost."""

    exit_code = 3


class NotFoundError(FsdError):
    """What was named does not exist."""

    exit_code = 4


class StoreUnreachableError(FsdError):
    """The store did not answer within its deadline. Trying again may help."""

    exit_code = 5


class StorePermissionError(StoreUnreachableError):
    """The store answered that we may not. Trying again will not help."""


class CorruptDataError(FsdError):
    """Bytes that are not what their name or checksum promises."""

    exit_code = 6


class UnsupportedFormatError(CorruptDataError):
    """A store, or an object in it, written by a newer fsd."""


class FsdWarning(UserWarning):
    """Something that a caller from Python should know, and that stops nothing: by `warnings`, as Python has them."""


def located(error: FsdError, *, chunk: bytes, pack: bytes) -> FsdError:
    """The same error for one of those whom it concerns: with the chunk and the pack that it was about for them."""
    # Not by copy.copy, which would call a constructor of whatever arguments with the message alone.
    found = type(error).__new__(type(error), *error.args)
    found.__dict__.update(error.__dict__)
    found.chunk, found.pack = chunk.hex(), pack.hex()
    return found


def near_misses(name: str, known: Iterable[str], *, limit: int = 3) -> str:
    """A hint naming up to `limit` of `known` that look like `name`; '' when none does."""
    matches = difflib.get_close_matches(name, list(known), n=limit, cutoff=0.5)
    return f"did you mean {' or '.join(repr(match) for match in matches)}?" if matches else ""
