"""Streaming an object into a bucket: in one request if it is small, else as a resumable upload, part by part.

A part that broke off is taken up where the server says it got to: an upload is the one thing here that tries again by
itself, since nobody else has its bytes. An attempt that brought the upload on does not count as a failure.

A part is held until the server has acknowledged it. Parts grow while the link is fast, so that the round trip between
two of them weighs less, and shrink when it is slow, so that none runs into the deadline. All uploads of a store share
the memory that they may take. While one part is under way the next is collected: a task of the upload's own (`run`)
sends them, and `write` waits only where there is no room. The last part is sent by whoever finishes.

With a bookmark, an upload outlives its process: after each part it is written down how far the server got, and the
checksum of all bytes up to there. Whoever takes it up writes the same bytes from the first on. What the server has is
not sent; it is compared with the checksum that was written down, and in the end the whole with the server's.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import NamedTuple, Protocol, TypeVar

import trio

from fsd.errors import FsdError, StorePermissionError, StoreUnreachableError
from fsd.ids import Buffer
from fsd.limits import MIB, Limits
from fsd.stores.base import Bookmark, ObjectExistsError, Store, Version
from fsd.stores.gcs_bucket import UPLOAD_GRAIN_BYTES, Bucket, Progress
from fsd.stores.gcs_errors import UploadLostError
from fsd.stores.gcs_parts import Collected, Part
from fsd.stores.retry import backoffs_s, retried

_T = TypeVar("_T")

FIRST_PART_BYTES = 16 * MIB
"""What is smaller goes in one request: on a link of 2 Gbit/s that is a third of the time that three take."""
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
    """What the uploads that are under way have in common: the memory for their parts, and what is known of the link."""

    def __init__(self, size_bytes: int) -> None:
        self._size_bytes = size_bytes
        self._uploads: set[GcsUpload] = set()
        self.part_bytes = FIRST_PART_BYTES
        """The most that is sent at once."""

    def join(self, upload: GcsUpload) -> None:
        """One more."""
        self._uploads.add(upload)
        self._wake()

    def leave(self, upload: GcsUpload) -> None:
        """One less."""
        self._uploads.discard(upload)
        self._wake()

    def _wake(self) -> None:
        """All have another share now: what was room may be none, and what was a part of one a whole one."""
        for upload in self._uploads:
            upload.wake()

    @property
    def each_bytes(self) -> int:
        """What one upload may hold now."""
        share = self._size_bytes // max(1, len(self._uploads))
        return max(share - share % UPLOAD_GRAIN_BYTES, MIN_PART_BYTES)

    def note_part(self, size: int, took_s: float) -> None:
        """A part of that size took so long: all uploads go over the same link."""
        if took_s < GROW_BELOW_S and 2 * size >= self.part_bytes:
            self.part_bytes = min(2 * self.part_bytes, MAX_PART_BYTES)
        elif took_s > SHRINK_ABOVE_S:
            self.part_bytes = max(self.part_bytes // 2, MIN_PART_BYTES)


class _Mark(NamedTuple):
    """What a bookmark says of an upload."""

    url: str
    """A secret."""
    received: int
    """Bytes that the server had acknowledged,"""
    crc32c: int
    """and their checksum."""

    def encode(self) -> str:
        return json.dumps(self._asdict())

    @classmethod
    def decode(cls, text: str) -> _Mark | None:
        """None for what is no mark."""
        try:
            body = json.loads(text)
            mark = cls(str(body["url"]), int(body["received"]), int(body["crc32c"]))
        except (ValueError, KeyError, TypeError):
            return None
        return mark if mark.received > 0 and mark.received % UPLOAD_GRAIN_BYTES == 0 else None


class GcsUpload:
    """See `fsd.stores.base.Upload`. After a call that failed or was cancelled it cannot go on."""

    def __init__(self, store: Target, key: str, shares: UploadShares, bookmark: Bookmark | None) -> None:
        self._store = store
        self._key = key
        self._shares = shares
        self._bookmark = bookmark
        self._collected = Collected()
        self._url: str | None = None
        """A secret. None until the first part is sent."""
        self._passed = 0
        """Bytes that were collected and are no longer: sent, or there already."""
        self._received = 0
        """Bytes that the server has. More than were passed, while an upload is being taken up."""
        self._mark: _Mark | None = None
        """Of the upload that is being taken up, until its checksum was compared."""
        self._finished: Progress | None = None
        """What the server has, once it has all of it: also from the first, of an upload that had ended when it was
        taken up."""
        self._is_unsure = False
        """Whether the answer to the last part got lost."""
        self._is_usable = True
        self._is_ending = False
        self._is_sending = False
        self._sending_bytes = 0
        self._error: FsdError | None = None
        """Why no more parts are sent."""
        self._changed = trio.Event()
        shares.join(self)

    async def run(self) -> None:
        """Send each part when it is full; until cancelled, or no more is to come. Raises nothing: `write` does."""
        while not self._is_ending and self._error is None:
            if len(self._collected) < self._due_bytes:
                await self._changed.wait()
                continue
            self._is_sending = True
            try:
                await self._send_part()
            except FsdError as error:
                self._error = error
            self._is_sending = False
            self.wake()

    async def write(self, data: Buffer) -> None:
        """Collect it."""
        self._check_usable()
        rest = memoryview(data).cast("B")
        self._is_usable = False
        while rest.nbytes:
            while (room := self._room_bytes) <= 0 and self._error is None:
                await self._changed.wait()
            self._check_error()
            self._collected.append(rest[:room])
            rest = rest[room:]
            if len(self._collected) >= self._due_bytes:
                self.wake()
        await trio.lowlevel.checkpoint()
        self._is_usable = True

    @property
    def _due_bytes(self) -> int:
        """With so much collected, a part is sent: half of the memory, so that the other half can be collected."""
        return self._most_bytes(min(self._shares.each_bytes // 2, self._shares.part_bytes))

    def _most_bytes(self, size: int) -> int:
        """`size`, or less: a part ends where the checksum can be compared, and the first one early."""
        size = max(size, MIN_PART_BYTES)
        if self._url is None:
            return min(size, FIRST_PART_BYTES)
        return size if self._mark is None else min(size, self._mark.received - self._passed)

    @property
    def _room_bytes(self) -> int:
        """How much may be collected now; at least what makes a part."""
        share = self._shares.each_bytes - self._sending_bytes
        return max(share, self._due_bytes) - len(self._collected)

    async def finish(self) -> Version:
        """Send the rest, which makes the object visible."""
        self._check_usable()
        self._is_usable = False
        self._is_ending = True
        self.wake()
        while self._is_sending:
            await self._changed.wait()
        self._check_error()
        version = await (self._send_whole() if self._url is None else self._send_last())
        self._url = None
        return version

    async def aclose(self) -> None:
        """Forget it, unless it is finished or has a bookmark. `run` has ended."""
        self._is_usable = False
        self._shares.leave(self)
        self._collected = Collected()
        if self._bookmark is None:
            await self._cancel()

    def wake(self) -> None:
        """Something changed that `run` or `write` may wait for."""
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    def _check_error(self) -> None:
        if self._error is not None:
            raise self._error

    async def _cancel(self) -> None:
        url, self._url = self._url, None
        if url is not None:
            with trio.move_on_after(CANCEL_TIMEOUT_S, shield=True), suppress(StoreUnreachableError):
                await self._store.call("write", self._key, partial(_cancel, url))

    # --- small

    async def _send_whole(self) -> Version:
        """All in one request. If that fails, as a resumable upload: on a slow link it may have been too much."""
        data = b"".join(self._collected.take(len(self._collected)))
        crc32c = self._collected.crc32c
        try:
            return await self._store.put_if_absent(self._key, data)
        except StorePermissionError:
            raise
        except StoreUnreachableError:
            self._shares.part_bytes = MIN_PART_BYTES
        self._collected = Collected()
        self._collected.append(data)
        try:
            return await self._send_last()
        except ObjectExistsError:
            # It may be what was sent first, and the answer got lost.
            same = partial(_find_same, self._store.name(self._key), len(data), crc32c)
            find = partial(self._store.call, "read", self._key, same)
            version = await retried(self._store.limits, find)
            if version is None:
                raise
            return version

    # --- in parts

    async def _send_part(self) -> None:
        """What is collected, as far as it is not too much, but for what does not fill a grain."""
        if self._url is None:
            await self._begin()
        size = min(self._most_bytes(self._shares.part_bytes), len(self._collected))
        part = self._collected.take(size - size % UPLOAD_GRAIN_BYTES)
        self._sending_bytes = len(part)
        self.wake()
        started_s = trio.current_time()
        was_sent = await self._send(part, None)
        self._sending_bytes = 0
        if self._mark is not None and self._passed == self._mark.received:
            await self._compare(self._mark)
        if not was_sent:
            return
        self._shares.note_part(len(part), trio.current_time() - started_s)
        if self._bookmark is not None:
            assert self._url is not None
            self._bookmark.write(_Mark(self._url, self._passed, self._collected.crc32c).encode())

    async def _send_last(self) -> Version:
        while len(self._collected) > self._most_bytes(self._shares.part_bytes):
            await self._send_part()
        if self._url is None:
            await self._begin()
        total = self._passed + len(self._collected)
        part = self._collected.take(len(self._collected))
        if self._mark is not None or self._received > total:
            raise await self._lost("it is shorter than what was sent before")
        if self._finished is None:
            await self._send(part, total)
        done = self._finished
        assert done is not None
        assert done.version is not None
        if done.received != total or (done.crc32c is not None and done.crc32c != self._collected.crc32c):
            await self._store.delete(self._key, done.version)
            raise await self._lost("it was damaged on its way")
        return done.version

    async def _begin(self) -> None:
        """Take up what the bookmark says, or begin a new upload."""
        mark = None if self._bookmark is None else _Mark.decode(self._bookmark.read())
        if mark is not None and await self._take_up(mark):
            return
        name = self._store.name(self._key)
        self._url = await self._persist(lambda: self._call(lambda bucket: bucket.begin_upload(name)))

    async def _take_up(self, mark: _Mark) -> bool:
        """Whether the server still knows the upload, and has of it what it had. Nothing was passed yet."""
        try:
            progress = await self._persist(lambda: self._call(partial(_ask, mark.url, None)))
        except StoreUnreachableError:
            return False
        if progress.received < mark.received:
            return False
        self._url, self._received, self._mark = mark.url, progress.received, mark
        self._finished = progress if progress.version is not None else None
        return True

    async def _compare(self, mark: _Mark) -> None:
        """The bytes that the server had acknowledged must be those that were written again."""
        self._mark = None
        if self._collected.crc32c != mark.crc32c:
            raise await self._lost("it is not what was sent before")

    async def _send(self, part: Part, total: int | None) -> bool:
        """Send a part, however often it breaks off; `total` ends the upload. False: all of it is there already."""
        url, start = self._url, self._passed
        end = self._passed = start + len(part)
        assert url is not None
        if total is None and self._received >= end:
            return False

        async def attempt() -> None:
            if self._is_unsure:
                self._note(await self._call(partial(_ask, url, total)), start, end)
            while self._finished is None and (total is not None or self._received < end):
                self._is_unsure, received = True, self._received
                answer = await self._call(partial(_send, url, part.behind(received - start), received, total))
                if answer.version is None and answer.received <= received:
                    raise self._failure("the server took nothing")
                self._note(answer, start, end)

        await self._persist(attempt)
        return True

    def _note(self, progress: Progress, start: int, end: int) -> None:
        """What the server says it has got, if that can be."""
        if not start <= progress.received <= end:
            raise UploadLostError(self._failure("the server lost a part of it").message)
        self._is_unsure = False
        self._received = progress.received
        if progress.version is not None:
            self._finished = progress

    async def _lost(self, why: str) -> UploadLostError:
        """The upload is of no use, for nobody."""
        await self._cancel()
        if self._bookmark is not None:
            self._bookmark.write("")
        failure = self._failure(why)
        return UploadLostError(failure.message, hint=failure.hint)

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


def _send(url: str, part: Part, start: int, total: int | None, bucket: Bucket) -> Progress | None:
    return bucket.send_part(url, part, start, total)


def _ask(url: str, total: int | None, bucket: Bucket) -> Progress | None:
    return bucket.ask_upload(url, total)


def _find_same(name: str, size: int, crc32c: int, bucket: Bucket) -> Version | None:
    return bucket.find_same(name, size, crc32c)


def _cancel(url: str, bucket: Bucket) -> None:
    bucket.cancel_upload(url)
