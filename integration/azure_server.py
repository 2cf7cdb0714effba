"""The smallest server that satisfies the unmodified obstore client of Azure Blob Storage, as far as fsd asks it.

Block blobs only: Put Blob, Put Block, Put Block List, Get Blob (ranges), Get Blob Properties, Delete Blob and Blob
Batch (of deletes), with `If-Match` and `If-None-Match`; List Blobs in pages. Writes are atomic; each gives another
ETag.

What it does not do: check signatures (it wants to see that somebody signed), leases, tiers, snapshots, versions. No
emulator of Azure comes from PyPI. Microsoft's own is Azurite, of Node.js: the contract was run against that once too.
"""

from __future__ import annotations

import itertools
import re
import threading
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit
from xml.sax.saxutils import escape

from integration.background import BackgroundServer

ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Those that every emulator of Azure has: no secret."""

PAGE = 1000

_RANGE = re.compile(r"bytes=(\d+)-(\d*)\Z")
_BLOCK = re.compile(rb"<(?:Latest|Uncommitted)>([^<]+)</")
_PART = re.compile(r"^DELETE (\S+) HTTP/1.1", re.MULTILINE)
_PART_HEADER = re.compile(r"^([A-Za-z-]+): *(.*?)\r?$", re.MULTILINE)


@dataclass
class Blob:
    """A committed blob."""

    data: bytes
    etag: str
    modified: str


class RefusalError(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, code: str, message: str = "") -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.message = message


class Container:
    """Blobs by name, and blocks that no blob has yet. One lock: each call is one atomic step."""

    def __init__(self, etags: Any) -> None:
        self._etags = etags
        self._lock = threading.Lock()
        self.blobs: dict[str, Blob] = {}
        self.blocks: dict[tuple[str, str], bytes] = {}

    def find(self, name: str) -> Blob:
        """A blob."""
        try:
            return self.blobs[name]
        except KeyError:
            raise RefusalError(404, "BlobNotFound", "The specified blob does not exist.") from None

    def write(self, name: str, data: bytes, headers: Any) -> Blob:
        """Put a blob, if the conditions hold."""
        with self._lock:
            self._check(name, headers)
            self.blobs[name] = Blob(data, f'"0x{next(self._etags):016X}"', formatdate(usegmt=True))
            return self.blobs[name]

    def commit(self, name: str, ids: list[str], headers: Any) -> Blob:
        """Make a blob of blocks."""
        try:
            blob = self.write(name, b"".join(self.blocks[name, each] for each in ids), headers)
        except KeyError:
            raise RefusalError(400, "InvalidBlockList") from None
        self.blocks = {place: data for place, data in self.blocks.items() if place[0] != name}
        return blob

    def delete(self, name: str, headers: Any) -> None:
        """Remove a blob, if the conditions hold."""
        with self._lock:
            if "If-Match" not in headers:
                self.find(name)
            self._check(name, headers)
            del self.blobs[name]

    def _check(self, name: str, headers: Any) -> None:
        found = self.blobs.get(name)
        if headers.get("If-None-Match") == "*" and found is not None:
            raise RefusalError(409, "BlobAlreadyExists", "The specified blob already exists.")
        if "If-Match" in headers and (found is None or found.etag != headers["If-Match"]):
            raise RefusalError(412, "ConditionNotMet", "The condition is not met.")


class AzureServer(BackgroundServer):
    """A server on a port of this machine, with one account."""

    def __init__(self) -> None:
        self._etags = itertools.count(1)
        self.containers: dict[str, Container] = {}
        self.is_public = False
        """Whether who does not sign may read."""
        self.requests: list[str] = []
        """The methods and what they were for."""
        self.refusals: list[RefusalError] = []
        """Given to the next requests instead of an answer."""
        handler = type("Handler", (_Handler,), {"server_": self})
        super().__init__(ThreadingHTTPServer(("127.0.0.1", 0), handler))
        self.url += f"/{ACCOUNT}"

    def create_container(self, name: str) -> None:
        """A new one."""
        self.containers[name] = Container(self._etags)

    def fill(self, container: str, names: Iterable[str]) -> None:
        """Blobs that nobody had to send."""
        for name in names:
            self.containers[container].write(name, b"x", {})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_: AzureServer
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        _, account, container, *rest = unquote(parts.path).split("/")
        operation = query.get("comp") or ("blob" if rest else "container")
        self.server_.requests.append(f"{self.command} {operation}")
        try:
            if self.server_.refusals:
                raise self.server_.refusals.pop(0)
            self._authorize(account, query)
            if container not in self.server_.containers:
                raise RefusalError(404, "ContainerNotFound", "The specified container does not exist.")
            place = self.server_.containers[container]
            if rest and rest != [""]:
                self._blob(place, "/".join(rest), query, body)
            elif operation == "list":
                self._list(place, query)
            elif operation == "batch":
                self._batch(place, container, body.decode())
            else:
                raise RefusalError(400, "UnsupportedOperation")
        except RefusalError as refusal:
            xml = f"<?xml version='1.0'?><Error><Code>{refusal.code}</Code><Message>{refusal.message}</Message></Error>"
            self._answer(refusal.status, xml.encode(), {"x-ms-error-code": refusal.code})

    do_GET = do_HEAD = do_PUT = do_DELETE = do_POST = _handle  # noqa: N815

    def _authorize(self, account: str, query: dict[str, str]) -> None:
        is_signed = self.headers.get("Authorization", "").startswith((f"SharedKey {ACCOUNT}:", "Bearer "))
        if is_signed or "sig" in query or (self.server_.is_public and self.command in ("GET", "HEAD")):
            return
        raise RefusalError(401 if account == ACCOUNT else 403, "NoAuthenticationInformation")

    def _blob(self, place: Container, name: str, query: dict[str, str], body: bytes) -> None:
        match self.command, query.get("comp"):
            case "PUT", "block":
                place.blocks[name, query["blockid"]] = body
                self._answer(201)
            case "PUT", "blocklist":
                self._answer(
                    201, blob=place.commit(name, [each.decode() for each in _BLOCK.findall(body)], self.headers)
                )
            case "PUT", None:
                self._answer(201, blob=place.write(name, body, self.headers))
            case "GET" | "HEAD", None:
                self._read(place.find(name))
            case "DELETE", None:
                place.delete(name, self.headers)
                self._answer(202)
            case _:
                raise RefusalError(400, "UnsupportedOperation")

    def _read(self, blob: Blob) -> None:
        found = _RANGE.match(self.headers.get("x-ms-range") or self.headers.get("Range") or "")
        if found is None:
            self._answer(200, blob.data, blob=blob)
            return
        start, end = int(found[1]), min(int(found[2] or len(blob.data)), len(blob.data) - 1)
        if start >= len(blob.data):
            raise RefusalError(416, "InvalidRange", "The range specified is invalid.")
        place = {"Content-Range": f"bytes {start}-{end}/{len(blob.data)}"}
        self._answer(206, blob.data[start : end + 1], place, blob=blob)

    def _list(self, place: Container, query: dict[str, str]) -> None:
        prefix = query.get("prefix", "")
        names = sorted(name for name in list(place.blobs) if name.startswith(prefix))
        first = bisect_left(names, max(query.get("marker", ""), query.get("startFrom", "")))
        most = min(int(query.get("maxresults", PAGE)), PAGE)
        page = names[first : first + most]
        marker = names[first + most] if first + most < len(names) else ""
        blobs = "".join(
            f"<Blob><Name>{escape(name)}</Name><Properties><Last-Modified>{blob.modified}</Last-Modified>"
            f"<Etag>{blob.etag.strip(chr(34))}</Etag><Content-Length>{len(blob.data)}</Content-Length>"
            f"<Content-Type>application/octet-stream</Content-Type></Properties></Blob>"
            for name in page
            if (blob := place.blobs.get(name)) is not None
        )
        xml = (
            f"<?xml version='1.0'?><EnumerationResults><Prefix>{escape(prefix)}</Prefix><Blobs>{blobs}</Blobs>"
            f"<NextMarker>{escape(marker)}</NextMarker></EnumerationResults>"
        )
        self._answer(200, xml.encode(), {"Content-Type": "application/xml"})

    def _batch(self, place: Container, container: str, body: str) -> None:
        boundary = body.split("\r\n", 1)[0]
        answers = []
        for number, part in enumerate(body.split(boundary)[1:-1]):
            target = _PART.search(part)
            if target is None:
                raise RefusalError(400, "InvalidInput")
            name = unquote(urlsplit(target[1]).path).partition(f"/{container}/")[2]
            status, code = 202, ""
            try:
                place.delete(name, dict(_PART_HEADER.findall(part)))
            except RefusalError as refusal:
                status, code = refusal.status, f"x-ms-error-code: {refusal.code}\r\n"
            answers.append(
                f"{boundary}\r\nContent-Type: application/http\r\nContent-ID: {number}\r\n\r\n"
                f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n{code}x-ms-request-id: 1\r\n\r\n"
            )
        answer = "".join(answers) + boundary + "--\r\n"
        self._answer(202, answer.encode(), {"Content-Type": f"multipart/mixed; boundary={boundary[2:]}"})

    def _answer(
        self, status: int, body: bytes = b"", headers: dict[str, str] | None = None, *, blob: Blob | None = None
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if blob is not None:
            self.send_header("ETag", blob.etag)
            self.send_header("Last-Modified", blob.modified)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
