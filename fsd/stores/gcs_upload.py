"""Streaming an object into a bucket: in one request if it is small, else as a resumable upload, part by part.

A part that broke off is taken up where the server says it got to: an upload is the one thing here that tries again by
itself, since nobody else has its bytes. An attempt that brought the upload on does not count as a failure.

A part is held until the server has acknowledged it. Parts grow while the link is fast, so that the round trip between
two of them weighs less, and shrink when it is slow, so that none runs into the deadline. All uploads of a store share
the memory that they may take.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Protocol, TypeVar

import trio

from fsd.errors import StorePermissionError, StoreUnreachableError
from fsd.ids import Buffer
from fsd.limits import MIB, Limits
from fsd.stores.base import ObjectExistsError, Store, Version
from fsd.stores.gcs_bucket import UPLOAD_GRAIN_BYTES, Bucket, Progress, checksum
from fsd.stores.gcs_errors import UploadLostError
from fsd.stores.retry import RetryingStore, backoffs_s

_T = TypeVar("_T")

FIRST_PART_BYTES = 8 * MIB
"""What is smaller goes in one request."""
MIN_PART_BYTES = 1 * MIB
MAX_PART_BYTES = 64 * MIB
"""A quarter of a second on a link of 2 Gbit/s: a round trip of 30 ms between two of them costs a tenth."""

GROW_BELOW_S = 2.0
SHRINK_ABOVE_S = 8.0
"""A part that took less or more than this is followed by one of twice or half the size."""

CANCEL_TIMEOUT_S = 2.0
"""What is not finished is forgotten by the server after a week; telling it so earlier is a courtesy."""


class Target(Store, Protocol):
    """The store that is uploaded to."""

    limits: Limits

    def name(self, key: str) -> str:
        """The name of a key's object."""

    async def call(self, verb: str, key: str, action: Callable[[Bucket], _T]) -> _T:
        """One request."""


class UploadShares:
    """The memory for parts, shared by the uploads that are under way."""

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
    def most_bytes(self) -> int:
        """What one part may take now."""
        share = self._size_bytes // max(1, self._uploads)
        return min(max(share - share % UPLOAD_GRAIN_BYTES, MIN_PART_BYTES), MAX_PART_BYTES)


class _Pending:
    """What is collected for the next part. Its memory is used again: to get so much anew costs more than to fill it."""

    def __init__(self) -> None:
        self._memory = bytearray()
        self._filled = 0
        self.crc32c = 0
        """Of all that was ever appended: counted here, where it is small and just came by."""

    def __len__(self) -> int:
        return self._filled

    def append(self, data: Buffer) -> None:
        """Copy it."""
        end = self._filled + memoryview(data).nbytes
        if end > len(self._memory):
            # Another one, since the libraries may still hold a view of the old one.
            grown = bytearray(max(end, 2 * len(self._memory)))
            grown[: self._filled] = self.view()
            self._memory = grown
        memoryview(self._memory)[self._filled : end] = memoryview(data).cast("B")
        self._filled = end
        self.crc32c = checksum(self.crc32c, data)

    def view(self) -> memoryview:
        """All of it, until something is appended or removed."""
        return memoryview(self._memory)[: self._filled]

    def remove(self, count: int) -> None:
        """The first bytes, of which nobody holds a view any more; few are left."""
        rest = bytes(self._memory[count : self._filled])
        self._memory[: len(rest)] = rest
        self._filled = len(rest)


class GcsUpload:
    """See `fsd.stores.base.Upload`. After a call that failed or was cancelled it cannot go on."""

    def __init__(self, store: Target, key: str, shares: UploadShares) -> None:
        self._store = store
        self._key = key
        self._shares = shares
        self._pending = _Pending()
        self._part_bytes = FIRST_PART_BYTES
        self._url: str | None = None
        """A secret. None until the first part is sent."""
        self._received = 0
        self._is_unsure = False
        """Whether the answer to the last part got lost."""
        self._is_usable = True
        shares.join()

    async def write(self, data: Buffer) -> None:
        """Collect a part, and send it when it is full."""
        self._check_usable()
        rest = data
        self._is_usable = False
        while len(self._pending) + memoryview(rest).nbytes >= (size := self._most_bytes):
            rest = memoryview(rest).cast("B")
            taken = max(0, size - len(self._pending))
            self._pending.append(rest[:taken])
            rest = rest[taken:]
            await self._send_part()
        self._pending.append(rest)
        self._is_usable = True
        await trio.lowlevel.checkpoint()

    @property
    def _most_bytes(self) -> int:
        return min(self._part_bytes, self._shares.most_bytes)

    async def finish(self) -> Version:
        """Send the rest, which makes the object visible."""
        self._check_usable()
        self._is_usable = False
        if self._url is None:
            version = await RetryingStore(self._store, self._store.limits).put_if_absent(
                self._key, self._pending.view()
            )
        else:
            version = await self._send_last()
        self._url = None
        return version

    async def aclose(self) -> None:
        """Forget it, unless it is finished."""
        self._is_usable = False
        self._shares.leave()
        # Not emptied: a thread that was left behind may still read it.
        self._pending = _Pending()
        if self._url is not None:
            with trio.move_on_after(CANCEL_TIMEOUT_S, shield=True), suppress(StoreUnreachableError):
                await self._store.call("write", self._key, partial(_cancel, self._url))

    async def _send_part(self) -> None:
        """What is pending, but for what does not fill a grain."""
        if self._url is None:
            self._url = await self._begun()
        size = len(self._pending) - len(self._pending) % UPLOAD_GRAIN_BYTES
        started_s = trio.current_time()
        await self._send(self._pending.view()[:size], None)
        took_s = trio.current_time() - started_s
        self._pending.remove(size)
        if took_s < GROW_BELOW_S:
            self._part_bytes = min(2 * self._part_bytes, MAX_PART_BYTES)
        elif took_s > SHRINK_ABOVE_S:
            self._part_bytes = max(self._part_bytes // 2, MIN_PART_BYTES)

    async def _send_last(self) -> Version:
        total = self._received + len(self._pending)
        done = await self._send(self._pending.view(), total)
        assert done.version is not None
        if done.crc32c is not None and done.crc32c != self._pending.crc32c:
            await self._store.delete(self._key, done.version)
            raise self._failure("it was damaged on its way")
        return done.version

    async def _begun(self) -> str:
        """The URL of a new upload."""
        name = self._store.name(self._key)
        return await self._persist(lambda: self._call(lambda bucket: bucket.begin_upload(name)))

    async def _send(self, part: memoryview, total: int | None) -> Progress:
        """Send a part, however often it breaks off. Returns how far the upload has got: `total` ends it."""
        url, start = self._url, self._received
        end = start + part.nbytes
        assert url is not None

        async def attempt() -> Progress:
            progress = Progress(self._received)
            if self._is_unsure:
                progress = self._noted(await self._call(partial(_ask, url, total)), start, end)
            while progress.version is None and (total is not None or progress.received < end):
                self._is_unsure = True
                rest = part[progress.received - start :]
                answer = await self._call(partial(_send, url, rest, progress.received, total))
                if answer.version is None and answer.received <= progress.received:
                    raise self._failure("the server took nothing")
                progress = self._noted(answer, start, end)
            return progress

        return await self._persist(attempt)

    def _noted(self, progress: Progress, start: int, end: int) -> Progress:
        """What the server says it has got, if that can be."""
        if not start <= progress.received <= end:
            raise UploadLostError(self._failure("the server lost a part of it").message)
        self._is_unsure = False
        self._received = progress.received
        return progress

    async def _persist(self, attempt: Callable[[], Awaitable[_T]]) -> _T:
        """`attempt` until it succeeds. Raises what it raised last."""
        limits = self._store.limits
        failures, waits, received = 0, backoffs_s(limits), self._received
        while True:
            try:
                return await attempt()
            except (StorePermissionError, UploadLostError):
                raise
            except StoreUnreachableError:
                if self._received > received:
                    failures, waits, received = 0, backoffs_s(limits), self._received
                failures += 1
                if failures >= limits.store_attempts:
                    raise
            await trio.sleep(next(waits))

    async def _call(self, action: Callable[[Bucket], _T | None]) -> _T:
        """One request, which has no answer if somebody else has made the object."""
        result = await self._store.call("write", self._key, action)
        if result is None:
            raise ObjectExistsError(self._key, self._store.url)
        return result

    def _failure(self, why: str) -> StoreUnreachableError:
        return StoreUnreachableError(f"cannot write {self._key} in {self._store.url}: {why}", hint="try again")

    def _check_usable(self) -> None:
        if not self._is_usable:
            raise ValueError(f"the upload of {self._key} has ended")


def _send(url: str, part: memoryview, start: int, total: int | None, bucket: Bucket) -> Progress | None:
    return bucket.send_part(url, part, start, total)


def _ask(url: str, total: int | None, bucket: Bucket) -> Progress | None:
    return bucket.ask_upload(url, total)


def _cancel(url: str, bucket: Bucket) -> None:
    bucket.cancel_upload(url)
