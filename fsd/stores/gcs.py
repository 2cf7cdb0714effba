"""A store in a bucket of Google Cloud Storage: the async half. What is asked of the bucket is `gcs_bucket`'s business.

Owns the thread hops (one a call) and their deadline. A version is an object's generation. Each call is one HTTP
request, except where there is nothing to read at the place that was asked for, and for uploads (see `gcs_upload`).

The deadline counts from the call to its end, whatever the server sends in between. A call that runs into it, or is
cancelled, breaks off its request, and its thread ends soon after (see `gcs_exchange`).
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

import trio
from google.api_core.exceptions import NotFound

from fsd.errors import UsageError
from fsd.limits import Limits
from fsd.stores.base import (
    Bookmark,
    Fetched,
    ObjectInfo,
    ObjectNotFoundError,
    Store,
    Upload,
    Version,
    VersionMismatchError,
    check_key,
    is_key,
)
from fsd.stores.bucket import BucketStore, Listed, unanswered
from fsd.stores.gcs_bucket import Bucket
from fsd.stores.gcs_errors import FAILURES, translate
from fsd.stores.gcs_exchange import Exchange
from fsd.stores.gcs_upload import GcsUpload, UploadShares
from fsd.stores.hedge import HedgingStore
from fsd.stores.listing import Listing
from fsd.stores.retry import RetryingStore

_T = TypeVar("_T")

_URL = re.compile(r"gs://([a-z0-9][a-z0-9._-]{1,220}[a-z0-9])(?:/(.*))?\Z", re.IGNORECASE | re.DOTALL)
_PREFIX_SEGMENT = re.compile(r"[^\x00-\x20\x7f*?#\[\]/]+\Z")
MAX_PREFIX_BYTES = 512
"""Of the 1,024 that an object's name may have; the rest is for keys."""

GENERATION = re.compile(r"[1-9][0-9]{0,18}\Z")


def open_url(url: str, limits: Limits) -> Store:
    """The store at a gs:// URL; its calls are tried again, its reads hedged. Asks nobody. Raises UsageError."""
    bucket, prefix = parse_url(url)
    return RetryingStore(HedgingStore(GcsStore(bucket, prefix, limits), limits), limits)


def parse_url(url: str) -> tuple[str, str]:
    """The bucket and the prefix (without a slash at its ends) of a gs:// URL. Raises UsageError."""
    match = _URL.match(url)
    hint = "write gs://BUCKET or gs://BUCKET/PREFIX"
    if match is None:
        raise UsageError(f"{url!r} names no bucket", hint=hint)
    prefix = (match[2] or "").removesuffix("/")
    segments = prefix.split("/") if prefix else []
    if not all(_PREFIX_SEGMENT.match(segment) and segment not in (".", "..") for segment in segments):
        raise UsageError(f"{url!r} names no folder of a bucket", hint=hint)
    if len(prefix.encode()) > MAX_PREFIX_BYTES:
        raise UsageError(f"{url!r} is too long", hint=f"a prefix has at most {MAX_PREFIX_BYTES} bytes")
    return match[1].lower(), prefix


class GcsStore(BucketStore[Bucket, int | None]):
    """See `fsd.stores.base`. Looks for credentials when it is first asked for something."""

    if_absent = 0
    always = None

    def __init__(self, bucket: str, prefix: str, limits: Limits) -> None:
        super().__init__("gs", bucket, prefix, limits)
        self._shares = UploadShares(limits.upload_bytes)

    @asynccontextmanager
    async def upload(self, key: str, *, bookmark: Bookmark | None = None) -> AsyncIterator[Upload]:
        """Stream a new object. What goes wrong while parts are sent, the upload's own calls say."""
        check_key(key)
        upload = GcsUpload(self, key, self._shares, bookmark)
        failure: Exception | None = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(upload.run)
                try:
                    yield upload
                except Exception as error:
                    # Not through the nursery, which would put it into a group.
                    failure = error
                nursery.cancel_scope.cancel()
        finally:
            await upload.aclose()
        if failure is not None:
            raise failure

    def list(self, prefix: str, *, start_after: str = "") -> Listing:
        """A page of a thousand objects is one request."""
        start = self._prefix + start_after if start_after else ""
        page_token: str | None = None
        is_over = False

        async def next_batch() -> Sequence[ObjectInfo]:
            nonlocal page_token, is_over
            # A page may hold nothing of ours, or nothing at all, and not be the last.
            batch: Sequence[ObjectInfo] = ()
            while not batch and not is_over:
                page = partial(_list_page, self._prefix + prefix, start, page_token)
                listed, page_token = await self.call("list", f"{prefix}*", page)
                is_over = page_token is None
                infos = map(self._info, listed)
                batch = [info for info in infos if is_key(info.key) and info.key > start_after]
            return batch

        return Listing(next_batch)

    async def delete(self, key: str, expected: Version | None = None) -> None:
        """Remove it. One request, two if the version is another."""
        check_key(key)
        generation = None if expected is None else self._if_at(expected)
        can_match = expected is None or generation is not None
        if can_match and await self.call("delete", key, partial(_delete, self.name(key), generation)):
            return
        try:
            await self.stat(key)
        except ObjectNotFoundError:
            return
        raise VersionMismatchError(key, self._url)

    async def call(self, verb: str, key: str, action: Callable[[Bucket], _T]) -> _T:
        """`action` in a thread, once."""
        exchange = Exchange()
        bucket: Bucket | None = None
        try:
            with trio.fail_after(self.limits.store_timeout_s):
                bucket = await self._opened()
                return await trio.to_thread.run_sync(
                    exchange.run, partial(action, bucket), abandon_on_cancel=True, limiter=self._limiter
                )
        except trio.TooSlowError:
            raise unanswered(verb, key, self._url, self.limits.store_timeout_s) from None
        except FAILURES as error:
            host = bucket.host if bucket else "Google Cloud Storage"
            is_anonymous = bucket is not None and bucket.is_anonymous
            raise translate(error, verb, key, self._url, host, is_anonymous=is_anonymous) from None
        finally:
            exchange.break_off()

    # --- inside

    def _make_bucket(self) -> Bucket:
        return Bucket(
            self._bucket_name,
            connections=self.limits.store_connections,
            timeout_s=self.limits.store_timeout_s,
            silence_s=min(self.limits.store_silence_s, self.limits.store_timeout_s),
        )

    async def _read(self, key: str, start: int, length: int | None) -> Fetched:
        return await self.call("read", key, lambda bucket: bucket.read(self.name(key), start, length))

    def _if_at(self, version: Version) -> int | None:
        """As the API counts."""
        return int(version) if GENERATION.match(version) else None


def _list_page(prefix: str, start: str, page_token: str | None, bucket: Bucket) -> tuple[list[Listed], str | None]:
    return bucket.list_page(prefix, start, page_token)


def _delete(name: str, generation: int | None, bucket: Bucket) -> bool:
    """False if the object has another generation."""
    try:
        return bucket.delete(name, generation)
    except NotFound:
        return True
