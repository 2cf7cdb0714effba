"""Streaming an object into a bucket through obstore: in one request if it is small, else as a multipart upload.

The one request creates the object only if it is absent. object_store completes a multipart upload unconditionally: so
whether the key is free is looked at before it begins and before it ends. Between that look and the end somebody could
take the key, and would be overwritten; what is uploaded in parts are packs, whose names are random numbers of 128 bits
that nobody else draws (docs/decisions/0013).

Parts go several at a time, and object_store sends again those that failed. What is not finished is aborted; a publisher
that is killed leaves parts behind, which a bucket's life-cycle rule removes.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Protocol, TypeVar

import obstore
import trio

from fsd.errors import StoreUnreachableError
from fsd.ids import Buffer
from fsd.limits import MIB, Limits
from fsd.stores.base import ObjectExistsError, ObjectNotFoundError, Store, Version
from fsd.stores.obstore_bucket import Bucket, GivenUpError
from fsd.stores.retry import RetryingStore

_T = TypeVar("_T")

PART_BYTES = 16 * MIB
"""What is smaller goes in one request. S3 takes 10,000 parts: 160 GB."""

MAX_PARTS_AT_ONCE = 8
"""Fills a link of 2 Gbit/s and 30 ms many times over."""

ABORT_TIMEOUT_S = 2.0
"""Telling the server to forget the parts is a courtesy to whoever pays for them."""


class Target(Store, Protocol):
    """The store that is uploaded to."""

    limits: Limits

    def name(self, key: str) -> str:
        """The name of a key's object."""

    async def call(self, verb: str, key: str, action: Callable[[Bucket], _T], *, timeout_s: float | None = None) -> _T:
        """`action` in a thread."""


class UploadShares:
    """The memory for parts in flight, shared by the uploads that are under way."""

    def __init__(self, size_bytes: int) -> None:
        self._size_bytes = size_bytes
        self._uploads = 0

    def join(self) -> None:
        """One more."""
        self._uploads += 1

    def leave(self) -> None:
        """One less."""
        self._uploads -= 1

    @property
    def parts_at_once(self) -> int:
        """Parts that an upload which begins now may have in flight, beside the one that is being filled."""
        share = self._size_bytes // max(1, self._uploads)
        return min(max(share // PART_BYTES - 1, 1), MAX_PARTS_AT_ONCE)


class ObstoreUpload:
    """See `fsd.stores.base.Upload`. After a call that failed or was cancelled it cannot go on."""

    def __init__(self, store: Target, key: str, shares: UploadShares) -> None:
        self._store = store
        self._key = key
        self._shares = shares
        self._pending = bytearray()
        self._writer: obstore.WritableFile | None = None
        """None until more than a part is there."""
        self._is_usable = True
        shares.join()

    async def write(self, data: Buffer) -> None:
        """Collect a part, and send it when it is full."""
        self._check_usable()
        self._is_usable = False
        self._pending += memoryview(data).cast("B")
        if len(self._pending) >= PART_BYTES:
            await self._send_pending()
        self._is_usable = True
        await trio.lowlevel.checkpoint()

    async def finish(self) -> Version:
        """Send the rest, which makes the object visible."""
        self._check_usable()
        self._is_usable = False
        if self._writer is None:
            return await self._retrying.put_if_absent(self._key, self._pending)
        await self._send_pending()
        await self._check_free()
        writer = self._writer
        await self._call(lambda _: writer.close())
        self._writer = None
        return (await self._retrying.stat(self._key)).version

    async def aclose(self) -> None:
        """Forget it, unless it is finished."""
        self._is_usable = False
        self._shares.leave()
        writer, self._writer = self._writer, None
        if writer is not None:
            with trio.move_on_after(ABORT_TIMEOUT_S, shield=True), suppress(StoreUnreachableError):
                await self._call(lambda _: _abort(writer))

    async def _send_pending(self) -> None:
        """What is pending, in the order in which it came."""
        if self._writer is None:
            await self._check_free()
            name, parts = self._store.name(self._key), self._shares.parts_at_once
            self._writer = await self._call(lambda bucket: bucket.begin_upload(name, PART_BYTES, parts))
        writer = self._writer
        # object_store keeps what it is given until it is sent.
        part, self._pending = bytes(self._pending), bytearray()
        await self._call(lambda _: writer.write(part))

    async def _check_free(self) -> None:
        with suppress(ObjectNotFoundError):
            await self._retrying.stat(self._key)
            raise ObjectExistsError(self._key, self._store.url)

    @property
    def _retrying(self) -> RetryingStore:
        """For requests of ours: who uploads cannot try again, since nobody else has the bytes."""
        return RetryingStore(self._store, self._store.limits)

    async def _call(self, action: Callable[[Bucket], _T]) -> _T:
        """One step, for as long as object_store may try its parts again, and once more to its end."""
        limits = self._store.limits
        timeout_s = limits.store_retry_s + 2 * limits.store_timeout_s
        return await self._store.call("write", self._key, action, timeout_s=timeout_s)

    def _check_usable(self) -> None:
        if not self._is_usable:
            raise ValueError(f"the upload of {self._key} has ended")


def _abort(writer: obstore.WritableFile) -> None:
    """Leaving its context with an error is how obstore is told."""
    error = GivenUpError()
    writer.__exit__(GivenUpError, error, None)
