"""The object store protocol: keys and bytes, nothing of what they mean.

What every store promises, held by `tests/contract`:

- A key is a relative path of segments that match `[A-Za-z0-9][A-Za-z0-9._@-]*`, joined by `/`; a segment has at most
  255 characters. No key is another key's folder: nobody writes both `a` and `a/b`.
- An object appears whole or not at all, and once a write has returned it survives a power cut. So does an object that
  a write met (`ObjectExistsError`): whoever lost a race may build on the winner's object.
- Create-if-absent and compare-and-swap are the store's own primitives, never a check followed by a write.
- A `Version` names one content of one key: each write gives another, also of equal bytes. Callers only compare it. (On
  S3 equal bytes of one key have equal versions, since it names contents: docs/decisions/0013 says what follows.)
- Each call makes one attempt, bounded by the store's request timeout. Whoever wants retries wraps the store.
- Cancelling a call abandons it; a write then may or may not have happened, as a whole.
- A store may be used from any number of tasks of one trio loop, and one place by any number of stores and processes.

Errors: `ObjectNotFoundError`, `ObjectExistsError`, `VersionMismatchError`, and from `fsd.errors`
`StoreUnreachableError` and `StorePermissionError`. Nothing else leaves a store, except `ValueError` for what only a
mistake in fsd can ask: a malformed key, a negative range, an upload that goes on after it failed or was cancelled; and
`UsageError` from a store that can only be read. (A malformed prefix is no mistake: nothing starts with it.)
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import NewType, Protocol

from fsd.errors import ConflictError, NotFoundError
from fsd.ids import Buffer

Version = NewType("Version", str)
"""Opaque; equal for equal key and write (an object's generation or ETag)."""

MAX_SEGMENT_CHARACTERS = 255

_SEGMENT = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._@-]{{,{MAX_SEGMENT_CHARACTERS - 1}}}\Z")
_KEY = re.compile(rf"(?:[A-Za-z0-9][A-Za-z0-9._@-]{{,{MAX_SEGMENT_CHARACTERS - 1}}}(?:/(?=.)|\Z))+\Z")


def is_segment(text: str) -> bool:
    """True if `text` may stand between two slashes of a key."""
    return _SEGMENT.match(text) is not None


def is_key(text: str) -> bool:
    """True if `text` is a well-formed key."""
    return _KEY.match(text) is not None


def check_key(key: str) -> None:
    """Every call of a store checks the key that it is given. Raises ValueError."""
    if not is_key(key):
        raise ValueError(f"malformed key {key!r}")


def check_range(start: int, length: int) -> None:
    """Raises ValueError for a range that cannot be asked for."""
    if start < 0 or length < 0:
        raise ValueError(f"impossible range: {length} bytes from byte {start}")


class ObjectNotFoundError(NotFoundError):
    """There is no object at that key."""

    def __init__(self, key: str, store: str) -> None:
        super().__init__(f"no object {key} in {store}")
        self.key = key


class ObjectExistsError(ConflictError):
    """`put_if_absent` or an upload met an object that was there already; it was left as it was."""

    def __init__(self, key: str, store: str) -> None:
        super().__init__(f"object {key} already exists in {store}")
        self.key = key


class VersionMismatchError(ConflictError):
    """A compare-and-swap or conditional delete met another version than the one expected; nothing was changed."""

    def __init__(self, key: str, store: str) -> None:
        super().__init__(f"object {key} in {store} was changed by somebody else")
        self.key = key


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a listing says of an object."""

    key: str
    size: int
    """Bytes."""
    version: Version
    modified_us: int
    """The store's own time of the last write, microseconds since 1970 UTC."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """An object's bytes, or a part of them, with the version they belong to."""

    data: bytes
    version: Version
    size: int
    """Bytes of the whole object."""


class Upload(Protocol):
    """An object being streamed into a store. Invisible until `finish` returns; gone if the context ends without it."""

    async def write(self, data: Buffer) -> None:
        """Append `data`; it may be reused by the caller once this returns. Waits while too much is in flight."""

    async def finish(self) -> Version:
        """Make the object durable and visible. Raises ObjectExistsError if the key was taken meanwhile."""


class Bookmark(Protocol):
    """Where a store writes down how an upload can be taken up by a later process. It is only for the eyes of who
    uploads: with what is written there, anybody may. Calls are quick; losing what was written costs an upload anew."""

    def read(self) -> str:
        """What was written last; "" if nothing was."""

    def write(self, text: str) -> None:
        """Keep `text` instead; "" if there is nothing to be taken up."""


class Store(Protocol):
    """See the module's docstring for what all of these promise."""

    @property
    def url(self) -> str:
        """What a user would type to name this store; holds no credentials."""

    async def get(self, key: str) -> Fetched:
        """The whole object."""

    async def get_range(self, key: str, start: int, length: int) -> Fetched:
        """`length` bytes from byte `start`; fewer only where the object ends. A start at or past the end gives b''."""

    async def get_tail(self, key: str, length: int) -> Fetched:
        """The last `length` bytes, or the whole object where it is shorter."""

    async def put_if_absent(self, key: str, data: Buffer) -> Version:
        """Create the object. Raises ObjectExistsError."""

    async def overwrite(self, key: str, data: Buffer) -> Version:
        """Create the object or replace it, whichever version is there."""

    async def compare_and_swap(self, key: str, data: Buffer, expected: Version | None) -> Version:
        """Replace the object if it still has version `expected`; None creates it. Raises VersionMismatchError."""

    def upload(self, key: str, *, bookmark: Bookmark | None = None) -> AbstractAsyncContextManager[Upload]:
        """Stream a new object, in bounded memory.

        With a `bookmark`, a store that can keeps what had arrived of an upload that was not finished. A later one of
        the same key and the same bytes, with that bookmark, sends only the rest (and raises StoreUnreachableError if
        the bytes turn out to be others). Stores that cannot leave the bookmark as it is.
        """

    def list(self, prefix: str, *, start_after: str = "") -> AsyncIterator[ObjectInfo]:
        """Objects whose key starts with the string `prefix` (not only at a `/`), in key order (by bytes).

        May be left at any point, with nothing to close. What is written or deleted meanwhile may be shown or not."""

    async def stat(self, key: str) -> ObjectInfo:
        """What a listing would say of one object."""

    async def delete(self, key: str, expected: Version | None = None) -> None:
        """Remove the object (only at version `expected`, if given). An object that is not there is no error."""

    async def aclose(self) -> None:
        """Release connections. Idempotent."""
