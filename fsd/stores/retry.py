"""A store that tries again: wraps one whose calls make one attempt each, and keeps the same contract.

It waits longer each time and never the same as its neighbours, gives up after `store_attempts` or once `store_retry_s`
have passed, and never tries again what was refused (StorePermissionError) or answered (a conflict, a missing object).

A write whose answer got lost may have happened. When the next attempt then meets a conflict, what is there is read: if
it is what was to be written, the write succeeded. (Somebody else may have written the same bytes: then nothing is lost
either.) A swap whose answer got lost, and on which somebody else has built before the next attempt, ends in a
VersionMismatchError although it happened; whoever swaps reads what is there and finds its own change in it.

Uploads are handed on as they are: nobody here has their bytes. A store over a network takes them up by itself where
they broke off.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import TypeVar

import trio

from fsd.errors import StorePermissionError, StoreUnreachableError
from fsd.ids import Buffer
from fsd.limits import Limits
from fsd.stores.base import (
    Bookmark,
    Fetched,
    ObjectExistsError,
    ObjectInfo,
    ObjectNotFoundError,
    Store,
    Upload,
    Version,
    VersionMismatchError,
)

_T = TypeVar("_T")


def backoffs_s(limits: Limits) -> Iterator[float]:
    """The waits between attempts, without end."""
    longest_s = limits.retry_min_s
    while True:
        yield longest_s * random.uniform(0.5, 1.0)
        longest_s = min(2 * longest_s, limits.retry_max_s)


async def retried(limits: Limits, attempt: Callable[[], Awaitable[_T]]) -> _T:
    """What `attempt` gives, once it does not raise StoreUnreachableError. Raises the last of these."""
    give_up_s = trio.current_time() + limits.store_retry_s
    waits = backoffs_s(limits)
    for _ in range(limits.store_attempts - 1):
        try:
            return await attempt()
        except StorePermissionError:
            raise
        except StoreUnreachableError:
            wait_s = next(waits)
            if trio.current_time() + wait_s >= give_up_s:
                raise
        await trio.sleep(wait_s)
    return await attempt()


class RetryingStore:
    """See the module's docstring."""

    def __init__(self, inner: Store, limits: Limits) -> None:
        self.inner = inner
        self._limits = limits

    @property
    def url(self) -> str:
        """The wrapped store's."""
        return self.inner.url

    async def get(self, key: str) -> Fetched:
        """The whole object."""
        return await retried(self._limits, partial(self.inner.get, key))

    async def get_range(self, key: str, start: int, length: int) -> Fetched:
        """A part of it."""
        return await retried(self._limits, partial(self.inner.get_range, key, start, length))

    async def get_tail(self, key: str, length: int) -> Fetched:
        """Its end."""
        return await retried(self._limits, partial(self.inner.get_tail, key, length))

    async def stat(self, key: str) -> ObjectInfo:
        """What a listing would say of it."""
        return await retried(self._limits, partial(self.inner.stat, key))

    async def put_if_absent(self, key: str, data: Buffer) -> Version:
        """Create the object."""
        return await self._written(key, data, partial(self.inner.put_if_absent, key, data))

    async def overwrite(self, key: str, data: Buffer) -> Version:
        """Create the object or replace it: twice, if the answer to the first attempt got lost."""
        return await retried(self._limits, partial(self.inner.overwrite, key, data))

    async def compare_and_swap(self, key: str, data: Buffer, expected: Version | None) -> Version:
        """Replace the object if it is still the one expected."""
        return await self._written(key, data, partial(self.inner.compare_and_swap, key, data, expected))

    def upload(self, key: str, *, bookmark: Bookmark | None = None) -> AbstractAsyncContextManager[Upload]:
        """Stream a new object."""
        return self.inner.upload(key, bookmark=bookmark)

    def list(self, prefix: str, *, start_after: str = "") -> AsyncIterator[ObjectInfo]:
        """A listing that breaks off goes on behind the last object that was shown."""
        return _RetriedListing(self.inner, prefix, start_after, self._limits)

    async def delete(self, key: str, expected: Version | None = None) -> None:
        """Remove it. That it is not there any more is no error, whoever removed it."""
        await retried(self._limits, partial(self.inner.delete, key, expected))

    async def aclose(self) -> None:
        """Close the wrapped store."""
        await self.inner.aclose()

    async def _written(self, key: str, data: Buffer, write: Callable[[], Awaitable[Version]]) -> Version:
        """`write` until it succeeds or meets a conflict that is not of its own making."""
        unsure = False

        async def attempt() -> Version:
            nonlocal unsure
            try:
                return await write()
            except StorePermissionError:
                raise
            except StoreUnreachableError:
                unsure = True
                raise
            except (ObjectExistsError, VersionMismatchError):
                version = await self._version_of(key, data) if unsure else None
                if version is None:
                    raise
                return version

        return await retried(self._limits, attempt)

    async def _version_of(self, key: str, data: Buffer) -> Version | None:
        """The version of the object if it holds just these bytes. One request, for no more than that."""
        size = memoryview(data).nbytes
        try:
            found = await self.inner.get_range(key, 0, size)
        except ObjectNotFoundError:
            return None
        return found.version if found.size == size and found.data == bytes(data) else None


class _RetriedListing:
    """An object at a time, with no more than a hop where nothing fails."""

    def __init__(self, store: Store, prefix: str, start_after: str, limits: Limits) -> None:
        self._store = store
        self._prefix = prefix
        self._last = start_after
        self._limits = limits
        self._listing = store.list(prefix, start_after=start_after)

    def __aiter__(self) -> _RetriedListing:
        return self

    async def __anext__(self) -> ObjectInfo:
        try:
            return await self._next()
        except StorePermissionError:
            raise
        except StoreUnreachableError:
            await trio.sleep(next(backoffs_s(self._limits)))
        return await retried(self._limits, self._next)

    async def _next(self) -> ObjectInfo:
        try:
            info = await anext(self._listing)
        except StoreUnreachableError:
            self._listing = self._store.list(self._prefix, start_after=self._last)
            raise
        self._last = info.key
        return info


def single_attempts(store: Store) -> Store:
    """The store without retries, for who tries again by rules of its own, as the cache's fetcher does."""
    return store.inner if isinstance(store, RetryingStore) else store
