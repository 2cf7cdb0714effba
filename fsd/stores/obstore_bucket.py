"""One bucket of S3 or container of Azure: the blocking half of `obstore`, one method a request. Knows no trio.

Uses the package obstore (object_store, in Rust), which gives up the interpreter's lock while it waits. It cannot be
told to break off a request: so bodies are taken piece by piece, and whoever does not want one any more says so in
between; what sends nothing at all ends with the client's own deadline.

object_store deletes unconditionally. A delete at a version is therefore sent from here, with a URL that object_store
has signed for just this: a secret, valid for a minute.

Every body is checked against what its answer says. Nothing here tries again.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import obstore
import urllib3
from obstore.exceptions import AlreadyExistsError, GenericError, NotSupportedError, PreconditionError

from fsd.clock import us_of
from fsd.limits import KIB, MIB
from fsd.stores.base import Fetched, Version
from fsd.stores.bucket import Listed, UnusableAnswerError, nothing_at, nothing_of
from fsd.stores.obstore_clients import Clients

LISTED_AT_ONCE = 1000
"""The most that one page of a listing holds."""

PIECE_BYTES = 1 * MIB
"""After so much of a body it is asked whether anybody still wants it."""

_SIGNED_FOR = timedelta(seconds=60)

_ETAG = re.compile(r'"[^"\x00-\x20\x7f]*"\Z')
PAST_THE_END = re.compile(r"416 Range Not Satisfiable|Wanted range starting|Range request not supported")
NO_BUCKET = re.compile(
    r"<Code>(?:NoSuchBucket|ContainerNotFound)</Code>|The specified (?:bucket|container) does not exist"
)
_MAX_OFFSET = (1 << 63) - 1

_NO_CACHE: Any = {"Cache-Control": "no-cache"}
"""Said of objects that are served to anybody: without it, caches on the way may keep copies of what was replaced."""


class _NoSignatures(logging.Filter):
    """A signed URL is a secret, and urllib3 logs all URLs when it is asked for details."""

    def filter(self, record: logging.LogRecord) -> bool:
        return _SIGNATURE.search(record.getMessage()) is None


_SIGNATURE = re.compile(r"X-Amz-Signature=|[?&]sig=")
_NO_SIGNATURES = _NoSignatures()


class GivenUpError(Exception):
    """Nobody waits for this body any more."""


class CannotSignError(Exception):
    """The credentials (a SAS token) cannot sign the URL of a conditional delete."""


class RefusedError(Exception):
    """The answer to a request that was sent from here."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(f"Server returned non-2xx status code: {status}: {body}")
        self.status = status


IsWanted = Callable[[], bool]


class Bucket:
    """See the module's docstring. May be used from any number of threads. Raises what obstore raises (`BaseError`,
    FileNotFoundError, ValueError), urllib3's errors, and the errors above."""

    def __init__(self, clients: Clients, *, timeout_s: float) -> None:
        self.clients = clients
        self._store = clients.single
        self._http = urllib3.PoolManager(retries=False, timeout=timeout_s)
        logging.getLogger("urllib3.connectionpool").addFilter(_NO_SIGNATURES)

    # --- reading

    def read(self, name: str, start: int, length: int | None, is_wanted: IsWanted) -> Fetched:
        """`length` bytes from `start` (to the end, if None); a negative start counts from the end. One request, and one
        more where there is nothing at that place, or the server cannot count from the end."""
        if length == 0:
            return nothing_of(self.stat(name))
        if start < 0 and not self.clients.cloud.has_tails:
            return self.read(name, max(0, self.stat(name).size + start), length, is_wanted)
        try:
            return fetch(self._store, name, start, length, is_wanted, etag)
        except (GenericError, NotSupportedError) as error:
            if length is None or PAST_THE_END.search(str(error)) is None:
                raise
        return nothing_at(self.stat(name), start)

    def stat(self, name: str) -> Listed:
        """What is said of it. Raises FileNotFoundError."""
        return listed_of(obstore.head(self._store, name))

    def pages(self, folder: str, offset: str) -> Iterator[list[Listed]]:
        """Pages of what lies below a folder, behind name `offset`; each is one request, made when it is asked for."""
        last = ""
        for page in obstore.list(self._store, folder or None, offset=offset or None, chunk_size=LISTED_AT_ONCE):
            listed = [listed_of(meta) for meta in page]
            for each in listed:
                if each.name <= last:
                    raise UnusableAnswerError("it lists objects in another order than that of their names")
                last = each.name
            yield listed

    # --- writing

    def write(self, name: str, data: bytes, mode: Any) -> Version | None:
        """Create or replace an object: always ("overwrite"), if it is absent ("create"), or if it has a version
        (`at_version`). None if not."""
        try:
            result = obstore.put(self._store, name, data, mode=mode, use_multipart=False, attributes=dict(_NO_CACHE))
        except (AlreadyExistsError, PreconditionError):
            return None
        except FileNotFoundError as error:
            if not isinstance(mode, dict) or NO_BUCKET.search(str(error)):
                raise
            return None
        return etag(result)

    def delete(self, name: str) -> None:
        """Remove an object, whichever version it has. Raises FileNotFoundError or not, where there is none."""
        obstore.delete(self._store, name)

    def delete_at(self, name: str, version: Version) -> bool:
        """Remove an object at that version. False: it has another, or is gone. Two requests: the version is looked at
        first, for servers that would not mind the condition."""
        try:
            if self.stat(name).version != version:
                return False
        except FileNotFoundError:
            return False
        try:
            url = obstore.sign(self._store, "DELETE", name, _SIGNED_FOR)
        except (GenericError, NotSupportedError) as error:
            if "SASforSASNotSupported" in str(error):
                raise CannotSignError from None
            raise
        answer = self._http.request("DELETE", url, headers={"If-Match": version})
        if answer.status in (404, 412):
            return False
        if not 200 <= answer.status < 300:
            raise RefusedError(answer.status, answer.data[: 4 * KIB].decode("utf-8", "replace"))
        return True

    def begin_upload(self, name: str, part_bytes: int, parts_at_once: int) -> obstore.WritableFile:
        """An object that is sent in parts, and appears when it is closed."""
        return obstore.open_writer(
            self.clients.patient,
            name,
            buffer_size=part_bytes,
            max_concurrency=parts_at_once,
            attributes=dict(_NO_CACHE),
        )

    def close(self) -> None:
        """Close idle connections. (object_store's go with its last user.)"""
        self._http.clear()


def is_version(text: str) -> bool:
    """True if an object could have that version."""
    return _ETAG.match(text) is not None


def at_version(version: Version) -> dict[str, str]:
    """The mode of a write that replaces that version only."""
    return {"e_tag": version}


def fetch(
    store: Any,
    name: str,
    start: int,
    length: int | None,
    is_wanted: IsWanted,
    version_of: Callable[[Any], Version],
) -> Fetched:
    """One GET, checked against its headers."""
    options: Any = {}
    if start < 0:
        options["range"] = {"suffix": -start}
    elif length is not None:
        options["range"] = (start, min(start + length, _MAX_OFFSET))
    answer = obstore.get(store, name, options=options)
    size = answer.meta["size"]
    first, end = answer.range
    wanted = max(0, size + start) if start < 0 else start
    most = size - wanted if length is None else min(length, size - wanted)
    if (first, end) != (wanted, wanted + most):
        raise UnusableAnswerError("it sent another range than the one asked for")
    return Fetched(_body(answer, most, is_wanted), version_of(answer.meta), size)


def _body(answer: obstore.GetResult, size: int, is_wanted: IsWanted) -> bytes:
    pieces: list[Any] = []
    received = 0
    for piece in answer.stream(min_chunk_size=PIECE_BYTES):
        received += len(piece)
        if received > size:
            break
        pieces.append(piece)
        if not is_wanted():
            raise GivenUpError
    if received != size:
        raise UnusableAnswerError("it sent more or less than it was asked for")
    return b"".join(pieces)


def listed_of(meta: Any, version_of: Callable[[Any], Version] | None = None) -> Listed:
    """What object_store says of an object."""
    return Listed(meta["path"], meta["size"], (version_of or etag)(meta), us_of(meta["last_modified"]))


def etag(meta: Any) -> Version:
    """The version of an object in a bucket, by what is said of it."""
    if not meta["e_tag"]:
        raise UnusableAnswerError("it does not say which version an object has")
    text = str(meta["e_tag"])
    # Azure quotes it in headers, and not in listings.
    return Version(text if text.endswith('"') else f'"{text}"')
