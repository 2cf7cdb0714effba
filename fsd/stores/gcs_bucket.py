"""One bucket of Google Cloud Storage: the blocking half of `gcs`, one method a request. Knows no trio.

Uses google-cloud-storage, which finds the endpoint and the credentials. Bytes are read and written with its authorised
session directly: the client's own download asks twice where the total size is wanted, and reads in pieces of 8 KiB; its
uploads take two requests for more than 8 MiB, and are not taken up where they broke off.

Every body is checked against the headers of its answer: too short, too long or (where the server gives a checksum)
damaged, it is no answer. Nothing here tries again.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit
from uuid import uuid4

import google_crc32c
from google.api_core.exceptions import PreconditionFailed, from_http_response
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import DefaultCredentialsError
from google.cloud import storage
from google.cloud.storage.blob import Blob
from requests import Response, Session

from fsd.clock import us_of
from fsd.ids import Buffer
from fsd.stores.base import Fetched, Version
from fsd.stores.bucket import Listed, UnusableAnswerError, nothing_at, nothing_of
from fsd.stores.gcs_exchange import BreakableAdapter

LISTED_AT_ONCE = 1000
"""The most that one page of a listing holds."""

UPLOAD_GRAIN_BYTES = 256 * 1024
"""All parts of a resumable upload but the last are a multiple of this."""

_CONTENT_TYPE = "application/octet-stream"

_NO_CACHE = "no-cache"
"""Without it, Google serves copies of an object that anybody may read for up to an hour, also of one replaced since."""

_CHECKSUMMED_AT_ONCE = 64 * 1024

_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+)\Z")
_RECEIVED = re.compile(r"bytes=0-(\d+)\Z")
_CRC32C = re.compile(r"(?:^|,)\s*crc32c=([A-Za-z0-9+/=]+)")


class NoCredentialsError(Exception):
    """Credentials are configured and cannot be used; says why."""


class SessionLostError(Exception):
    """A resumable upload that the server does not know any more."""


class Progress(NamedTuple):
    """How far an upload got."""

    received: int
    """Bytes that arrived, from the first on."""
    version: Version | None = None
    """Of the object, once it is there."""
    crc32c: int | None = None
    """Of the object, if the server says."""


class Body(Protocol):
    """What is sent: pieces one after the other, as often as they are asked for."""

    def __iter__(self) -> Iterator[memoryview]:
        """The pieces."""

    def __len__(self) -> int:
        """Their bytes."""


class Bucket:
    """See the module's docstring. Making one looks for credentials, which may ask the network.

    May be used from any number of threads. Raises what requests, urllib3, google.auth and google.api_core raise, and
    the errors above.
    """

    def __init__(self, name: str, *, connections: int, timeout_s: float, silence_s: float) -> None:
        """`silence_s`: how long a read may wait for the next byte."""
        self._client = _make_client()
        # For tracing that nobody asked for, it would look up the bucket behind our back, in a thread of its own.
        self._client._bucket_metadata_cache = None
        self._bucket = self._client.bucket(name)
        self._timeout_s = timeout_s
        self._silence_s = silence_s
        self._session = self._client._http
        self._session.hooks["response"].append(_read_refusal)
        _read_environment(self._session, self._client.api_endpoint)
        # With client certificates, their own adapters have to stay.
        if not self._session.is_mtls:
            adapter = BreakableAdapter(connections)
            for session in (self._session, getattr(self._session, "_auth_request_session", None)):
                if session is not None:
                    session.mount("https://", adapter)
                    session.mount("http://", adapter)
        self._tells_generations = True
        self._media_url = f"{self._client.api_endpoint}/download/storage/v1"
        self._upload_url = f"{self._client.api_endpoint}/upload/storage/v1"

    @property
    def is_anonymous(self) -> bool:
        """True if there are no credentials."""
        return isinstance(self._session.credentials, AnonymousCredentials)

    @property
    def host(self) -> str:
        """Who is asked: a name and perhaps a port."""
        netloc: str = urlsplit(self._client.api_endpoint).netloc
        return netloc.rpartition("@")[2]

    def close(self) -> None:
        """Close idle connections."""
        self._client.close()

    # --- reading

    def read(self, name: str, start: int, length: int | None) -> Fetched:
        """`length` bytes from `start` (to the end, if None); a negative start counts from the end. One request, and one
        more if there is nothing at that place. (Emulators may take more: some say no generation with the bytes, or know
        no ranges that count from the end.)"""
        if length == 0:
            return nothing_of(self.stat(name))
        headers = {"Accept-Encoding": "identity"}
        if start < 0:
            headers["Range"] = f"bytes={start}"
        elif length is not None:
            headers["Range"] = f"bytes={start}-{start + length - 1}"
        url = f"{self._media_url}{self._bucket.blob(name).path}?alt=media"
        version = None
        if not self._tells_generations:
            version = self.stat(name).version
            url += f"&generation={version}"
        with self._session.request("GET", url, headers=headers, timeout=self._silence_s, stream=True) as answer:
            if answer.status_code == 416:
                return self._past_the_end(name, start, answer)
            if answer.status_code not in (200, 206):
                raise from_http_response(answer)
            version = answer.headers.get("X-Goog-Generation", version)
            knows_tails = start >= 0 or answer.status_code == 206 or _size(answer) <= -start
            if version is not None and knows_tails:
                return _fetched(answer, start, length, Version(version))
        self._tells_generations = version is not None
        return self.read(name, start if knows_tails else max(0, self.stat(name).size + start), length)

    def _past_the_end(self, name: str, start: int, answer: Response) -> Fetched:
        found = _CONTENT_RANGE.match(answer.headers.get("Content-Range", ""))
        generation = answer.headers.get("X-Goog-Generation")
        if found is not None and generation is not None:
            return Fetched(b"", Version(generation), int(found[3]))
        return nothing_at(self.stat(name), start)

    def stat(self, name: str) -> Listed:
        """What is said of it. Raises NotFound."""
        blob = self._bucket.blob(name)
        blob.reload(timeout=self._silence_s, retry=None)
        return _listed(blob)

    def find_same(self, name: str, size: int, crc32c: int) -> Version | None:
        """The version of an object, if it has that size and checksum. Raises NotFound."""
        blob = self._bucket.blob(name)
        blob.reload(timeout=self._silence_s, retry=None)
        return _version(blob) if blob.size == size and _decode(blob.crc32c) == crc32c else None

    def list_page(self, prefix: str, start: str, page_token: str | None) -> tuple[list[Listed], str | None]:
        """Objects whose name begins with `prefix`, from name `start` on, and the token for more, None at the end."""
        pages = self._client.list_blobs(
            self._bucket,
            prefix=prefix or None,
            start_offset=start or None,
            page_token=page_token,
            page_size=LISTED_AT_ONCE,
            fields="items(name,size,generation,timeCreated),nextPageToken",
            timeout=self._silence_s,
            retry=None,
        )
        blobs: list[Blob] = list(next(pages.pages, ()))
        return [_listed(blob) for blob in blobs], pages.next_page_token

    # --- writing

    def write(self, name: str, data: bytes, generation: int | None) -> Version | None:
        """Create or replace an object: always (None), if it is absent (0), if it has that generation. None if not.

        The server compares the checksum. (The client would take two requests where there are more than 8 MiB.)
        """
        boundary = uuid4().hex
        url = f"{self._upload_url}{self._bucket.path}/o?uploadType=multipart"
        answer = self._session.request(
            "POST",
            url if generation is None else f"{url}&ifGenerationMatch={generation}",
            data=_multipart(name, data, boundary),
            headers={"Content-Type": f'multipart/related; boundary="{boundary}"'},
            timeout=self._timeout_s,
        )
        if answer.status_code == 412:
            return None
        if answer.status_code not in (200, 201):
            raise from_http_response(answer)
        return _finished(answer).version

    def delete(self, name: str, generation: int | None) -> bool:
        """Remove an object, only that generation if one is given. False: it is another. Raises NotFound."""
        try:
            self._bucket.blob(name).delete(if_generation_match=generation, timeout=self._timeout_s, retry=None)
        except PreconditionFailed:
            return False
        return True

    def begin_upload(self, name: str) -> str | None:
        """A resumable upload of an object that must not be there. Returns its URL, which is a secret: whoever has it
        may write. None: it is there."""
        try:
            url = self._bucket.blob(name).create_resumable_upload_session(
                content_type=_CONTENT_TYPE,
                if_generation_match=0,
                timeout=self._timeout_s,
                checksum=None,
                retry=None,
            )
        except PreconditionFailed:
            return None
        assert isinstance(url, str)
        return url

    def send_part(self, url: str, data: Body, start: int, total: int | None) -> Progress | None:
        """Bytes of an upload from `start` on; `total` ends it. None: somebody else has made the object meanwhile."""
        end = start + len(data)
        place = f"{start}-{end - 1}" if len(data) else "*"
        return self._put(url, data, f"bytes {place}/{'*' if total is None else total}")

    def ask_upload(self, url: str, total: int | None) -> Progress | None:
        """How far an upload got; with `total`, end it if that is all."""
        return self._put(url, b"", f"bytes */{'*' if total is None else total}")

    def cancel_upload(self, url: str) -> None:
        """Forget an upload, if the server still knows it."""
        self._session.request("DELETE", url, headers={"Content-Length": "0"}, timeout=self._timeout_s)

    def _put(self, url: str, data: Body | bytes, content_range: str) -> Progress | None:
        headers = {"Content-Range": content_range, "Content-Type": _CONTENT_TYPE}
        answer = self._session.request(
            "PUT", url, data=data if len(data) else b"", headers=headers, timeout=self._timeout_s
        )
        match answer.status_code:
            case 308:
                received = _RECEIVED.match(answer.headers.get("Range", ""))
                return Progress(int(received[1]) + 1 if received else 0)
            case 200 | 201:
                return _finished(answer)
            case 412:
                return None
            case 404 | 410:
                raise SessionLostError
        raise from_http_response(answer)


def checksum(crc32c: int, data: Buffer) -> int:
    """The CRC32C of what `crc32c` is of, followed by `data`."""
    if isinstance(data, bytes):
        return int(google_crc32c.extend(crc32c, data))
    view = memoryview(data).cast("B")
    for start in range(0, view.nbytes, _CHECKSUMMED_AT_ONCE):
        # It takes nothing else.
        crc32c = google_crc32c.extend(crc32c, bytes(view[start : start + _CHECKSUMMED_AT_ONCE]))
    return crc32c


def _make_client() -> storage.Client:
    """With the credentials that the environment holds, or as anybody if it holds none."""
    try:
        # No project is needed for objects; looking for one would look for credentials again.
        return storage.Client(project=None)
    except DefaultCredentialsError as error:
        # What it says of files that cannot be used names no secret. Of "not found" it has no error of its own.
        if "credentials were not found" not in str(error):
            raise NoCredentialsError(" ".join(str(error).split())) from None
        return storage.Client.create_anonymous_client()


def _multipart(name: str, data: bytes, boundary: str) -> bytes:
    """The body of a request that describes an object and brings its bytes."""
    described = {
        "name": name,
        "contentType": _CONTENT_TYPE,
        "cacheControl": _NO_CACHE,
        "crc32c": base64.b64encode(checksum(0, data).to_bytes(4, "big")).decode(),
    }
    json_head = f"--{boundary}\r\ncontent-type: application/json; charset=UTF-8\r\n\r\n{json.dumps(described)}\r\n"
    data_head = f"--{boundary}\r\ncontent-type: {_CONTENT_TYPE}\r\n\r\n"
    return b"".join([(json_head + data_head).encode(), data, f"\r\n--{boundary}--".encode()])


def _read_environment(session: Session, url: str) -> None:
    """Take proxies and certificates from the environment once: looking for each request is a fifth of its cost."""
    settings = session.merge_environment_settings(url, {}, None, None, None)
    session.proxies.update(settings["proxies"])
    session.verify, session.cert = settings["verify"], settings["cert"]
    session.trust_env = False


def _read_refusal(answer: Response, *_args: Any, **_settings: Any) -> Response:
    """Read what is said of an error, so that the session, which may ask again, leaves no connection behind."""
    if answer.status_code >= 400:
        len(answer.content)
    return answer


def _fetched(answer: Response, start: int, length: int | None, version: Version) -> Fetched:
    """The bytes of an answer, after its headers were believed as far as they can be."""
    headers = answer.headers
    if answer.status_code == 200:
        size = _size(answer)
        first, count = 0, size
        if start > 0 or (length is not None and size > length):
            raise UnusableAnswerError("it sent the whole object where a range was asked for")
    else:
        found = _CONTENT_RANGE.match(headers.get("Content-Range", ""))
        if found is None or found[1] is None:
            raise UnusableAnswerError("it sent a range and does not say which")
        first, count, size = int(found[1]), int(found[2]) + 1 - int(found[1]), int(found[3])
        if start >= size:
            return Fetched(b"", version, size)
    wanted = max(0, size + start) if start < 0 else start
    if first != wanted or count != min(size - wanted, size if length is None else length):
        raise UnusableAnswerError("it sent another range than the one asked for")
    if _number(headers, "Content-Length") != count:
        raise UnusableAnswerError("it sent more or less than it was asked for")
    data = answer.raw.read(decode_content=False)
    if len(data) != count:
        raise UnusableAnswerError("it sent more or less than it was asked for")
    expected = _CRC32C.search(headers.get("X-Goog-Hash", ""))
    if expected is not None and count == size and google_crc32c.value(data) != _decode(expected[1]):
        raise UnusableAnswerError("what it sent was damaged on its way")
    return Fetched(data, version, size)


def _size(answer: Response) -> int:
    """Of the object, where all of it was sent."""
    return _number(answer.headers, "X-Goog-Stored-Content-Length", "Content-Length")


def _number(headers: Mapping[str, str], *names: str) -> int:
    """The first of these headers that is there."""
    text = next((headers[name] for name in names if name in headers), "")
    if not text.isdecimal():
        raise UnusableAnswerError("it does not say how much it sent")
    return int(text)


def _decode(crc32c: str | None) -> int | None:
    """As the API writes it."""
    return None if crc32c is None else int.from_bytes(base64.b64decode(crc32c), "big")


def _finished(answer: Response) -> Progress:
    resource = answer.json()
    try:
        return Progress(int(resource.get("size", 0)), Version(resource["generation"]), _decode(resource.get("crc32c")))
    except (KeyError, TypeError, AttributeError):
        raise UnusableAnswerError("it does not say what it has stored") from None


def _listed(blob: Blob) -> Listed:
    if blob.time_created is None:
        raise UnusableAnswerError("it does not say when an object was written")
    # Google's own emulator leaves out what is zero.
    return Listed(blob.name, blob.size or 0, _version(blob), us_of(blob.time_created))


def _version(blob: Blob) -> Version:
    if blob.generation is None:
        raise UnusableAnswerError("it does not say which generation an object has")
    return Version(str(blob.generation))
