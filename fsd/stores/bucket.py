"""A store in a bucket, whichever cloud's: what the stores of `gcs` and `obstore` have in common.

Owns keys against names (a store may be a folder of its bucket), the opening of the bucket when it is first asked for
something, and what a write that did not happen means. How requests are made, their deadline, listings, uploads and
deletes are each store's own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import trio

from fsd.errors import StoreUnreachableError
from fsd.ids import Buffer
from fsd.limits import Limits
from fsd.stores.base import (
    Fetched,
    ObjectExistsError,
    ObjectInfo,
    Version,
    VersionMismatchError,
    check_key,
    check_range,
)

CHECK_NETWORK = "check the network, or try again later"

_T = TypeVar("_T")
_Condition = TypeVar("_Condition")
_Condition_contra = TypeVar("_Condition_contra", contravariant=True)


class UnusableAnswerError(Exception):
    """An answer that is not what HTTP or the API promises."""


class Listed(NamedTuple):
    """What a bucket says of an object."""

    name: str
    size: int
    version: Version
    modified_us: int


class Bucket(Protocol[_Condition_contra]):
    """The blocking half of a store, one method a request."""

    def stat(self, name: str) -> Listed:
        """What is said of an object."""

    def write(self, name: str, data: bytes, condition: _Condition_contra, /) -> Version | None:
        """Create or replace an object, under a condition. None if that did not hold."""

    def close(self) -> None:
        """Close idle connections."""


_Bucket = TypeVar("_Bucket", bound=Bucket[Any])


def nothing_of(listed: Listed) -> Fetched:
    """No bytes of an object, but what it is."""
    return Fetched(b"", listed.version, listed.size)


def nothing_at(listed: Listed, start: int, complaint: str = "it refused a range that is there") -> Fetched:
    """The answer to a range from `start` that the server refused: no bytes, since the object ends before.

    A negative start counts from the end. Raises UnusableAnswerError with the complaint if the object has bytes there.
    """
    if listed.size > max(start, 0):
        raise UnusableAnswerError(complaint)
    return nothing_of(listed)


def unanswered(verb: str, key: str, url: str, timeout_s: float) -> StoreUnreachableError:
    """The error for a request that ran into its deadline."""
    return StoreUnreachableError(
        f"cannot {verb} {key}: {url} did not answer within {timeout_s:g} s", hint=CHECK_NETWORK
    )


class BucketStore(ABC, Generic[_Bucket, _Condition]):
    """See `fsd.stores.base`. `_Condition` is how the bucket is told what a write depends on."""

    if_absent: _Condition
    """The condition that there is no object,"""
    always: _Condition
    """and none."""

    def __init__(self, scheme: str, bucket: str, prefix: str, limits: Limits) -> None:
        self.limits = limits
        self._bucket_name = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._url = f"{scheme}://{bucket}/{prefix}" if prefix else f"{scheme}://{bucket}"
        self._bucket: _Bucket | None = None
        self._opening = trio.Lock()
        self._limiter = trio.CapacityLimiter(limits.store_connections)

    # --- each store's own

    @abstractmethod
    def _make_bucket(self) -> _Bucket:
        """Look for credentials, and be ready for requests. Blocks."""

    @abstractmethod
    async def call(self, verb: str, key: str, action: Callable[[_Bucket], _T]) -> _T:
        """`action` in a thread, once."""

    @abstractmethod
    async def _read(self, key: str, start: int, length: int | None) -> Fetched:
        """`length` bytes from `start` (to the end, if None); a negative start counts from the end."""

    @abstractmethod
    def _if_at(self, version: Version) -> _Condition | None:
        """The condition that the object has this version. None for one that no object ever had."""

    # --- what all promise

    @property
    def url(self) -> str:
        """With the scheme of its cloud."""
        return self._url

    async def get(self, key: str) -> Fetched:
        """The whole object."""
        check_key(key)
        return await self._read(key, 0, None)

    async def get_range(self, key: str, start: int, length: int) -> Fetched:
        """A part of it."""
        check_key(key)
        check_range(start, length)
        return await self._read(key, start, length)

    async def get_tail(self, key: str, length: int) -> Fetched:
        """Its end."""
        check_key(key)
        check_range(0, length)
        return await self._read(key, -length, length)

    async def put_if_absent(self, key: str, data: Buffer) -> Version:
        """Create the object."""
        check_key(key)
        version = await self._write(key, data, self.if_absent)
        if version is None:
            raise ObjectExistsError(key, self._url)
        return version

    async def overwrite(self, key: str, data: Buffer) -> Version:
        """Create the object or replace it."""
        check_key(key)
        version = await self._write(key, data, self.always)
        if version is None:
            raise VersionMismatchError(key, self._url)
        return version

    async def compare_and_swap(self, key: str, data: Buffer, expected: Version | None) -> Version:
        """Replace the object if it still has the version expected."""
        check_key(key)
        condition = self.if_absent if expected is None else self._if_at(expected)
        if condition is None:
            # No object ever had this version. The contract makes every call a checkpoint.
            await trio.lowlevel.checkpoint()
            raise VersionMismatchError(key, self._url)
        version = await self._write(key, data, condition)
        if version is None:
            raise VersionMismatchError(key, self._url)
        return version

    async def stat(self, key: str) -> ObjectInfo:
        """What a listing would say of it."""
        check_key(key)
        return self._info(await self.call("read", key, lambda bucket: bucket.stat(self.name(key))))

    async def aclose(self) -> None:
        """Close idle connections. Asked again, the store opens new ones."""
        bucket, self._bucket = self._bucket, None
        if bucket is not None:
            bucket.close()
        await trio.lowlevel.checkpoint()

    def name(self, key: str) -> str:
        """The name of a key's object."""
        return self._prefix + key

    # --- for the stores

    async def _opened(self) -> _Bucket:
        async with self._opening:
            if self._bucket is None:
                self._bucket = await trio.to_thread.run_sync(
                    self._make_bucket, abandon_on_cancel=True, limiter=self._limiter
                )
            return self._bucket

    async def _write(self, key: str, data: Buffer, condition: _Condition) -> Version | None:
        # A copy of what may change: this thread may go on after the caller was cancelled.
        content = bytes(data)
        return await self.call("write", key, lambda bucket: bucket.write(self.name(key), content, condition))

    def _info(self, listed: Listed) -> ObjectInfo:
        return ObjectInfo(listed.name.removeprefix(self._prefix), listed.size, listed.version, listed.modified_us)
