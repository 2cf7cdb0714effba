"""A store in a bucket of S3 or a container of Azure: the async half. What is asked of it is `obstore_bucket`'s.

Owns the thread hops (one a call) and their deadline. A version is an object's ETag: on Azure each write gives another;
on S3 equal bytes give an equal one, which is told apart from the other stores in docs/decisions/0013.

A call is one request, but for these: `get_tail` takes two on Azure, whose ranges cannot count from the end; a range
where the object has no bytes takes two; uploads and deletes say so themselves.

The deadline counts from the call to its end. A call that runs into it, or is cancelled, is abandoned; its thread ends
with the next piece of the body, and with the client's own deadline, which is the same, if there is none.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

import trio

from fsd.limits import Limits
from fsd.stores.base import (
    Fetched,
    ObjectInfo,
    ObjectNotFoundError,
    Upload,
    Version,
    VersionMismatchError,
    check_key,
    is_key,
)
from fsd.stores.bucket import BucketStore, Listed, unanswered
from fsd.stores.listing import Listing
from fsd.stores.obstore_bucket import NO_BUCKET, Bucket, IsWanted, at_version, is_version
from fsd.stores.obstore_clients import Clients
from fsd.stores.obstore_clouds import Cloud
from fsd.stores.obstore_errors import FAILURES, translate
from fsd.stores.obstore_process import claim_process
from fsd.stores.obstore_upload import ObstoreUpload, UploadShares

_T = TypeVar("_T")

_KEY_CHARACTERS = sorted("-._@0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
_LAST = "zz"
"""Behind a string, it comes after nearly everything that starts with this string."""


class ObstoreStore(BucketStore[Bucket, Any]):
    """See `fsd.stores.base`. Looks for credentials when it is first asked for something."""

    if_absent = "create"
    always = "overwrite"

    def __init__(
        self, cloud: Cloud, bucket: str, prefix: str, limits: Limits, make_clients: Callable[[str, Limits], Clients]
    ) -> None:
        super().__init__(cloud.scheme, bucket, prefix, limits)
        self._cloud = cloud
        self._make_clients = make_clients
        self._shares = UploadShares(limits.upload_bytes)

    @asynccontextmanager
    async def upload(self, key: str, *, bookmark: object = None) -> AsyncIterator[Upload]:  # noqa: ARG002
        """Stream a new object. What arrived of one that broke off is not taken up: object_store cannot."""
        check_key(key)
        upload = ObstoreUpload(self, key, self._shares)
        try:
            yield upload
        finally:
            await upload.aclose()

    def list(self, prefix: str, *, start_after: str = "") -> Listing:
        """A page of a thousand objects is one request."""
        folder, slash, _ = prefix.rpartition("/")
        is_over = (bool(slash) and not is_key(folder)) or not set(prefix) <= {"/", *_KEY_CHARACTERS}
        offset = max(_before(prefix), start_after)
        pages: Iterator[list[Listed]] | None = None

        def next_page(bucket: Bucket) -> list[Listed] | None:
            nonlocal pages
            if pages is None:
                pages = bucket.pages(self.name(folder).rstrip("/"), self.name(offset) if offset else "")
            return next(pages, None)

        async def next_batch() -> Sequence[ObjectInfo]:
            nonlocal is_over
            # A page may hold nothing of ours, and not be the last.
            batch: Sequence[ObjectInfo] = ()
            if is_over:
                await trio.lowlevel.checkpoint()
            while not batch and not is_over:
                listed = await self.call("list", f"{prefix}*", next_page)
                infos = list(map(self._info, listed or ()))
                is_over = listed is None or any(_is_behind(info.key, prefix) for info in infos)
                batch = [
                    info
                    for info in infos
                    if info.key.startswith(prefix) and info.key > start_after and is_key(info.key)
                ]
            return batch

        return Listing(next_batch)

    async def delete(self, key: str, expected: Version | None = None) -> None:
        """Remove it. One request; two at a version, three if it is another."""
        check_key(key)
        if expected is None:
            await self._delete(key)
            return
        if is_version(expected) and await self.call(
            "delete", key, lambda bucket: bucket.delete_at(self.name(key), expected)
        ):
            return
        try:
            await self.stat(key)
        except ObjectNotFoundError:
            return
        raise VersionMismatchError(key, self._url)

    async def call(self, verb: str, key: str, action: Callable[[Bucket], _T], *, timeout_s: float | None = None) -> _T:
        """`action` in a thread, once."""
        claim_process(self._url)
        bucket: Bucket | None = None
        timeout_s = self.limits.store_timeout_s if timeout_s is None else timeout_s
        try:
            with trio.fail_after(timeout_s):
                bucket = await self._opened()
                return await trio.to_thread.run_sync(action, bucket, abandon_on_cancel=True, limiter=self._limiter)
        except trio.TooSlowError:
            raise unanswered(verb, key, self._url, timeout_s) from None
        except FAILURES as error:
            is_anonymous = bucket is not None and bucket.clients.is_anonymous
            raise translate(error, verb, key, self._url, self._cloud, is_anonymous=is_anonymous) from None

    # --- inside

    def _make_bucket(self) -> Bucket:
        return Bucket(self._make_clients(self._bucket_name, self.limits), timeout_s=self.limits.store_timeout_s)

    async def _read(self, key: str, start: int, length: int | None) -> Fetched:
        given_up = threading.Event()

        def read(is_wanted: IsWanted, bucket: Bucket) -> Fetched:
            return bucket.read(self.name(key), start, length, is_wanted)

        try:
            return await self.call("read", key, partial(read, lambda: not given_up.is_set()))
        finally:
            given_up.set()

    def _if_at(self, version: Version) -> Any:
        return at_version(version) if is_version(version) else None

    async def _delete(self, key: str) -> None:
        await self.call("delete", key, lambda bucket: _delete(bucket, self.name(key)))


def _delete(bucket: Bucket, name: str) -> None:
    try:
        bucket.delete(name)
    except FileNotFoundError as error:
        if NO_BUCKET.search(str(error)):
            raise


def _before(prefix: str) -> str:
    """A string that no key with this prefix comes before, and little comes between: object_store lists folders, and
    this skips what comes first in one. "" where there is none."""
    rest = prefix.rpartition("/")[2]
    smaller = [character for character in _KEY_CHARACTERS if rest and character < rest[-1]]
    if not smaller or (len(rest) == 1 and smaller[-1] < "0"):
        return ""
    return prefix[:-1] + smaller[-1] + _LAST


def _is_behind(key: str, prefix: str) -> bool:
    """Whether nothing that starts with `prefix` comes after `key`."""
    return key > prefix and not key.startswith(prefix)
