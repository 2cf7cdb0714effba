"""A store behind a web server, which can only be read: any that sends files and ranges of them.

Such a server tells less than a bucket, and so this is the one store that knows a little of what keys mean:

- It cannot list. The refs are in `refs/index`, which whoever moves a ref keeps (`fsd.repo.refs_index`); other listings
  are refused, as all writes are: with a UsageError, since the caller asked for what cannot be.
- Its ETags often count seconds, and a ref may move twice in one. So the version of a ref is the hash of its bytes, in a
  listing and in an answer. Other objects never change; their version is the ETag.
- Caches may stand in between. What can change is asked for with `Cache-Control: no-cache`; what a cache gets wrong in
  spite of that, the hashes of the format tell.

Threads and deadlines are as in `fsd.stores.obstore`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, NoReturn, TypeVar

import obstore
import trio
from obstore.exceptions import GenericError, NotSupportedError
from obstore.store import HTTPStore

from fsd.errors import NotFoundError, UsageError
from fsd.format.keys import REFS, REFS_INDEX
from fsd.format.refs_index import IndexedRef, parse_refs_index
from fsd.ids import Buffer, content_id
from fsd.limits import Limits
from fsd.stores.base import Fetched, ObjectInfo, ObjectNotFoundError, Upload, Version, check_key, check_range
from fsd.stores.bucket import Listed, nothing_at, nothing_of, unanswered
from fsd.stores.listing import Listing
from fsd.stores.obstore_bucket import PAST_THE_END, IsWanted, fetch, listed_of
from fsd.stores.obstore_clouds import WEB
from fsd.stores.obstore_errors import FAILURES, translate
from fsd.stores.obstore_options import NO_RETRIES, client_options
from fsd.stores.obstore_process import claim_process

_T = TypeVar("_T")

_INDEX_KEY = REFS + REFS_INDEX


class HttpStore:
    """See `fsd.stores.base`, but for what the module's docstring says. `url` as `parse_web` gives it."""

    def __init__(self, url: str, limits: Limits) -> None:
        self.limits = limits
        self._url = url
        self._limiter = trio.CapacityLimiter(limits.store_connections)
        options = client_options(limits)
        self._unchanging = HTTPStore(url, client_options=options, retry_config=NO_RETRIES)
        self._changing = HTTPStore(
            url, client_options=options | {"default_headers": {"Cache-Control": "no-cache"}}, retry_config=NO_RETRIES
        )

    @property
    def url(self) -> str:
        """An http:// or https:// URL."""
        return self._url

    # --- reading

    async def get(self, key: str) -> Fetched:
        """The whole object."""
        check_key(key)
        return await self._read(key, 0, None)

    async def get_range(self, key: str, start: int, length: int) -> Fetched:
        """A part of it."""
        check_key(key)
        check_range(start, length)
        if key.startswith(REFS):
            whole = await self._read(key, 0, None)
            return Fetched(whole.data[start : start + length], whole.version, whole.size)
        return await self._read(key, start, length)

    async def get_tail(self, key: str, length: int) -> Fetched:
        """Its end."""
        check_key(key)
        check_range(0, length)
        if key.startswith(REFS):
            whole = await self._read(key, 0, None)
            return Fetched(whole.data[max(0, whole.size - length) :], whole.version, whole.size)
        return await self._read(key, -length, length)

    async def stat(self, key: str) -> ObjectInfo:
        """What a listing would say of it. A ref is read for this, since its version is what it holds."""
        check_key(key)
        info = await self._call("read", key, lambda: self._stat_nowait(key))
        if not key.startswith(REFS):
            return info
        ref = await self.get(key)
        return ObjectInfo(key, ref.size, ref.version, info.modified_us)

    def list(self, prefix: str, *, start_after: str = "") -> Listing:
        """Refs only, as `refs/index` has them: one request."""
        is_over = False

        async def next_batch() -> Sequence[ObjectInfo]:
            nonlocal is_over
            if is_over:
                await trio.lowlevel.checkpoint()
                return ()
            is_over = True
            return await self._list_refs(prefix, start_after)

        return Listing(next_batch)

    async def _list_refs(self, prefix: str, start_after: str) -> Sequence[ObjectInfo]:
        if not prefix:
            # Whoever looks at all there is means to make a store.
            self._refuse()
        if not prefix.startswith(REFS):
            raise UsageError(
                f"{self._url} is behind a web server, which cannot list {prefix}*",
                hint="name a branch, a tag or a commit's whole id",
            )
        try:
            index = await self.get(_INDEX_KEY)
        except ObjectNotFoundError:
            # A place that is no store, or one that nobody has published to since there is an index.
            raise NotFoundError(
                f"{self._url} has no {_INDEX_KEY}, so what is there cannot be listed",
                hint="commit to that store once more with this version of fsd",
            ) from None
        refs = parse_refs_index(index.data, f"{_INDEX_KEY} in {self._url}")
        infos = [_info(path, ref) for path, ref in refs.items()]
        return [info for info in infos if info.key.startswith(prefix) and info.key > start_after]

    async def aclose(self) -> None:
        """Nothing to release: idle connections go with the store."""
        await trio.lowlevel.checkpoint()

    # --- writing

    async def put_if_absent(self, key: str, data: Buffer) -> Version:
        """Refused."""
        del data
        self._refuse(key)

    async def overwrite(self, key: str, data: Buffer) -> Version:
        """Refused."""
        del data
        self._refuse(key)

    async def compare_and_swap(self, key: str, data: Buffer, expected: Version | None) -> Version:
        """Refused."""
        del data, expected
        self._refuse(key)

    def upload(self, key: str, *, bookmark: object = None) -> AbstractAsyncContextManager[Upload]:
        """Refused."""
        del bookmark
        self._refuse(key)

    async def delete(self, key: str, expected: Version | None = None) -> None:
        """Refused."""
        del expected
        self._refuse(key)

    def _refuse(self, key: str = "refused") -> NoReturn:
        check_key(key)
        raise UsageError(
            f"{self._url} can only be read: it is behind a web server",
            hint="write to the folder or bucket that the server shows",
        )

    # --- inside

    async def _read(self, key: str, start: int, length: int | None) -> Fetched:
        given_up = threading.Event()
        is_changing = key.startswith(REFS)
        client = self._changing if is_changing else self._unchanging
        try:
            fetched = await self._call(
                "read", key, lambda: _fetch(client, key, start, length, lambda: not given_up.is_set())
            )
        finally:
            given_up.set()
        return Fetched(fetched.data, _content_version(fetched.data), fetched.size) if is_changing else fetched

    def _stat_nowait(self, key: str) -> ObjectInfo:
        listed = _stat(self._unchanging, key)
        return ObjectInfo(key, listed.size, listed.version, listed.modified_us)

    async def _call(self, verb: str, key: str, action: Callable[[], _T]) -> _T:
        """`action` in a thread, once."""
        claim_process(self._url)
        try:
            with trio.fail_after(self.limits.store_timeout_s):
                return await trio.to_thread.run_sync(action, abandon_on_cancel=True, limiter=self._limiter)
        except trio.TooSlowError:
            raise unanswered(verb, key, self._url, self.limits.store_timeout_s) from None
        except FAILURES as error:
            raise translate(error, verb, key, self._url, WEB, is_anonymous=False) from None


def _fetch(client: HTTPStore, key: str, start: int, length: int | None, is_wanted: IsWanted) -> Fetched:
    """One request, and one more where there is nothing at that place."""
    if length == 0:
        return nothing_of(_stat(client, key))
    try:
        return fetch(client, key, start, length, is_wanted, _web_version)
    except (GenericError, NotSupportedError) as error:
        if length is None or PAST_THE_END.search(str(error)) is None:
            raise
        knows_ranges = isinstance(error, GenericError)
    listed = _stat(client, key)
    if not knows_ranges:
        return nothing_at(listed, start, "it sends whole files where ranges are asked for")
    return nothing_at(listed, start)


def _stat(client: HTTPStore, key: str) -> Listed:
    return listed_of(obstore.head(client, key), _web_version)


def _info(path: str, ref: IndexedRef) -> ObjectInfo:
    return ObjectInfo(REFS + path, ref.size, Version(ref.content.hex()), 0)


def _content_version(data: bytes) -> Version:
    return Version(content_id(data).hex())


def _web_version(meta: Any) -> Version:
    """Of an object that never changes: the ETag, or what stands in for it where a server gives none."""
    return Version(meta["e_tag"] or f"{meta['last_modified'].timestamp():.0f}-{meta['size']}")
