"""From a request to an answer: the routes of the JSON API, and of the control of this server (below `/_control/`).

`classify` says what a request is about before anything is done, so that faults can be chosen by operation and name:

    media                bytes of an object, all or a range          insert            a whole object in one request
    stat, patch          an object's resource                        resumable.start   begins a session
    list                 a page of a listing                         resumable.part    bytes for it
    delete, compose                                                  resumable.status  asks what arrived, or ends it
    bucket               anything about buckets                      resumable.cancel
    token                a token for a service account               other             whatever there is no route for
    xml.put              a whole object, by the XML API (see `xml`; its GET is `media`)
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Awaitable, Callable
from datetime import datetime
from email.utils import formatdate
from itertools import chain
from typing import Any, NamedTuple
from urllib.parse import quote

from integration.gcs_server import xml
from integration.gcs_server.access import Access
from integration.gcs_server.contents import Content, FileContent, read_all
from integration.gcs_server.http import DisconnectedError, Request, Response
from integration.gcs_server.objects import Bucket, Buckets, GcsError, Stored
from integration.gcs_server.uploads import (
    Session,
    Sessions,
    bad_request,
    parse_content_range,
    parse_json,
    parse_multipart,
)

MAX_LISTED = 1000
MAX_COMPOSED = 32

_RANGE = re.compile(r"bytes=(\d*)-(\d*)\Z")

_PERMISSIONS = {
    "media": "storage.objects.get",
    "stat": "storage.objects.get",
    "patch": "storage.objects.update",
    "list": "storage.objects.list",
    "delete": "storage.objects.delete",
    "bucket": "storage.buckets.get",
}


class Operation(NamedTuple):
    """What a request is about. `name` is the object's, or a listing's prefix."""

    kind: str
    bucket: str = ""
    name: str = ""


def classify(request: Request, sessions: Sessions) -> Operation:
    """What a request is about."""
    method, query = request.method, request.query
    match request.segments:
        # Google takes the parts of an upload by POST, too, which is how gcsfs sends them.
        case ["upload", "storage", "v1", "b", bucket, "o"] if method in ("PUT", "DELETE") or "upload_id" in query:
            try:
                name = sessions[query.get("upload_id", "")].name
            except GcsError:
                name = ""
            if method == "DELETE":
                return Operation("resumable.cancel", bucket, name)
            asks = request.headers.get("content-range", "").startswith("bytes */")
            return Operation("resumable.status" if asks else "resumable.part", bucket, name)
        case ["upload", "storage", "v1", "b", bucket, "o"]:
            kind = "resumable.start" if query.get("uploadType") == "resumable" else "insert"
            return Operation(kind, bucket, query.get("name", ""))
        case ["download", "storage", "v1", "b", bucket, "o", name]:
            return Operation("media", bucket, name)
        case ["storage", "v1", "b", bucket, "o"]:
            return Operation("list", bucket, query.get("prefix", ""))
        case ["storage", "v1", "b", bucket, "o", name]:
            if method == "GET" and query.get("alt") == "media":
                return Operation("media", bucket, name)
            kind = {"GET": "stat", "DELETE": "delete", "PATCH": "patch"}.get(method, "other")
            return Operation(kind, bucket, name)
        case ["storage", "v1", "b", bucket, "o", name, "compose"]:
            return Operation("compose", bucket, name)
        case ["storage", "v1", "b", *rest] if len(rest) < 2:
            return Operation("bucket", *rest)
        case ["token"]:
            return Operation("token")
    found = xml.place(request)
    return Operation("other") if found is None else Operation(*found)


class Api:
    """Answers requests. Raises GcsError for what `error_response` makes an answer of, and DisconnectedError."""

    def __init__(self, buckets: Buckets, access: Access, sessions: Sessions) -> None:
        self._buckets = buckets
        self._access = access
        self._sessions = sessions
        self.creates_buckets = False
        """Whether a bucket that nobody made is there all the same."""
        self.tells_sizes = False
        """Whether a 416 says how large the object is, and which generation. No documentation promises it."""
        self.scheme = "http"
        """How clients reach it: `https`, if something before it speaks TLS."""
        self.is_poor = False
        """Whether it knows as little as gcp-storage-emulator: no ranges from the end, no generation with the bytes."""

    async def name_upload(self, request: Request, operation: Operation) -> Operation:
        """With the name that an upload carries in its body."""
        if operation.name or operation.kind not in ("insert", "resumable.start"):
            return operation
        body = await request.body()
        try:
            if operation.kind == "insert":
                settings, _ = parse_multipart(request.headers.get("content-type", ""), body)
            else:
                settings = parse_json(body)
        except GcsError:
            return operation  # whoever answers it will say what is wrong
        return operation._replace(name=settings.get("name", ""))

    async def respond(self, request: Request, operation: Operation) -> Response:
        """Do what is asked."""
        if operation.kind == "token":
            return await self._token(request)
        self._access.check(
            request.headers.get("authorization"), _PERMISSIONS.get(operation.kind, "storage.objects.create")
        )
        if self.creates_buckets and operation.bucket and operation.bucket not in self._buckets:
            self._buckets.create(operation.bucket)
        routes: dict[str, Callable[[Request, Operation], Awaitable[Response]]] = {
            "media": self._media,
            "stat": self._stat,
            "patch": self._patch,
            "list": self._list,
            "delete": self._delete,
            "compose": self._compose,
            "insert": self._insert,
            "resumable.start": self._start,
            "resumable.part": self._part,
            "resumable.status": self._part,
            "resumable.cancel": self._cancel,
            "bucket": self._bucket,
            xml.PUT: self._put,
        }
        if operation.kind not in routes:
            raise GcsError(404, "notFound", "Not Found")
        return await routes[operation.kind](request, operation)

    # --- reading

    async def _media(self, request: Request, operation: Operation) -> Response:
        stored = self._buckets[operation.bucket].read(operation.name, request.query)
        size = stored.content.size
        headers = _media_headers(stored)
        asked = request.headers.get("range")
        if self.is_poor:
            headers = {}
            asked = None if asked and asked.startswith("bytes=-") else asked
        if asked is None or (match := _RANGE.match(asked)) is None or match[1] == match[2] == "":
            return _body(Response(200, headers), stored.content, 0, size)
        if match[1]:
            start, end = int(match[1]), min(int(match[2]) + 1, size) if match[2] else size
        else:
            start, end = max(0, size - int(match[2])), size
        if start >= end:
            if not self.tells_sizes:
                headers = {}
            else:
                headers["Content-Range"] = f"bytes */{size}"
            return Response(416, headers, b"The requested range cannot be satisfied.")
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        return _body(Response(206, headers), stored.content, start, end)

    async def _stat(self, request: Request, operation: Operation) -> Response:
        bucket = self._buckets[operation.bucket]
        return self._resource(request, bucket, bucket.read(operation.name, request.query))

    async def _list(self, request: Request, operation: Operation) -> Response:
        bucket, query = self._buckets[operation.bucket], request.query
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        most = min(int(query.get("maxResults", MAX_LISTED)), MAX_LISTED)
        start = max(query.get("startOffset", ""), _parse_token(query.get("pageToken", "")))
        items: list[dict[str, Any]] = []
        prefixes: list[str] = []
        answer: dict[str, Any] = {"kind": "storage#objects"}
        names = bucket.names(prefix, start)
        while (name := next(names, None)) is not None and name < query.get("endOffset", "\U0010ffff"):
            if len(items) + len(prefixes) == most:
                answer["nextPageToken"] = base64.urlsafe_b64encode(name.encode()).decode()
                break
            end = name.find(delimiter, len(prefix)) if delimiter else -1
            if end < 0:
                stored = bucket.find(name)
                assert stored is not None
                items.append(self._about(request, bucket, stored))
            else:
                folder = name[: end + len(delimiter)]
                prefixes.append(folder)
                names = bucket.names(prefix, folder[:-1] + chr(ord(folder[-1]) + 1))
        answer |= ({"items": items} if items else {}) | ({"prefixes": prefixes} if prefixes else {})
        return _json(200, answer)

    def _about(self, request: Request, bucket: Bucket, stored: Stored) -> dict[str, Any]:
        """An object's resource. It says where the bytes are: not every client makes that URL up by itself."""
        place = f"{self.scheme}://{request.headers.get('host', '')}/download/storage/v1/b/{bucket.name}"
        media = f"{place}/o/{quote(stored.name, safe='')}?generation={stored.generation}&alt=media"
        return {**stored.as_json(bucket.name), "mediaLink": media}

    def _resource(self, request: Request, bucket: Bucket, stored: Stored) -> Response:
        response = _json(200, self._about(request, bucket, stored))
        response.headers["ETag"] = stored.etag
        return response

    # --- changing what is there

    async def _patch(self, request: Request, operation: Operation) -> Response:
        bucket = self._buckets[operation.bucket]
        return self._resource(
            request, bucket, bucket.patch(operation.name, request.query, parse_json(await request.body()))
        )

    async def _delete(self, request: Request, operation: Operation) -> Response:
        self._buckets[operation.bucket].delete(operation.name, request.query)
        return Response(204)

    async def _compose(self, request: Request, operation: Operation) -> Response:
        bucket = self._buckets[operation.bucket]
        asked = parse_json(await request.body())
        parts = asked.get("sourceObjects", [])
        if not 1 <= len(parts) <= MAX_COMPOSED:
            raise bad_request(f"The number of source components provided ({len(parts)}) is not in 1..{MAX_COMPOSED}.")
        sources = []
        for part in parts:
            query = {key: str(value) for key, value in part.get("objectPreconditions", {}).items()}
            if part.get("generation") is not None:
                query["generation"] = str(part["generation"])
            sources.append(bucket.read(part["name"], query))
        bucket.check_write(operation.name, request.query)
        pieces = chain.from_iterable(read_all(source.content) for source in sources)
        content = self._buckets.storage.store(pieces)
        components = sum(source.components or 1 for source in sources)
        settings = asked.get("destination", {})
        return self._resource(
            request, bucket, bucket.write(operation.name, content, request.query, settings, components=components)
        )

    # --- uploads

    async def _insert(self, request: Request, operation: Operation) -> Response:
        bucket = self._buckets[operation.bucket]
        body = await request.body()
        content_type = request.headers.get("content-type", "")
        if request.query.get("uploadType") == "multipart":
            settings, data = parse_multipart(content_type, body)
        else:
            settings, data = {"contentType": content_type}, memoryview(body)
        bucket.check_write(operation.name, request.query)
        content = self._buckets.storage.store([data])
        return self._resource(request, bucket, bucket.write(operation.name, content, request.query, settings))

    async def _put(self, request: Request, operation: Operation) -> Response:
        bucket, query = self._buckets[operation.bucket], xml.preconditions(request)
        content = self._buckets.storage.store([await request.body()])
        stored = bucket.write(operation.name, content, query, {"contentType": request.headers.get("content-type")})
        return Response(200, {"ETag": stored.etag, "X-Goog-Generation": str(stored.generation)})

    async def _start(self, request: Request, operation: Operation) -> Response:
        settings = parse_json(await request.body())
        settings.setdefault("contentType", request.headers.get("x-upload-content-type"))
        self._buckets[operation.bucket].check_write(operation.name, request.query)
        draft = self._buckets.storage.begin()
        session = self._sessions.start(operation.bucket, operation.name, request.query, settings, draft)
        host = request.headers.get("host", "")
        location = f"{self.scheme}://{host}{request.raw_path}?uploadType=resumable&upload_id={session.id}"
        return Response(200, {"Location": location, "X-GUploader-UploadID": session.id})

    async def _part(self, request: Request, _: Operation) -> Response:
        session = self._sessions[request.query.get("upload_id", "")]
        part = parse_content_range(
            request.headers.get("content-range"), int(request.headers.get("content-length", "0"))
        )
        if session.finished is not None:
            await request.body()
            return self._resource(request, self._buckets[session.bucket], session.finished)
        if not part.is_question:
            await self._receive(request, session, part.start or 0)
            if part.total is None or session.received != part.total:
                session.trim()
        if part.total is None or session.received != part.total:
            return Response(308, session.range_header)
        return self._finish(request, session)

    async def _receive(self, request: Request, session: Session, start: int) -> None:
        """Keeps what arrives, also of a body that breaks off."""
        session.skip(start)
        position = start
        try:
            async for piece in request.pieces():
                # A request that its sender gave up may still be on its way, beside the one that took its place.
                if position <= session.received:
                    session.append(piece[session.received - position :])
                position += len(piece)
        except DisconnectedError:
            session.trim()
            raise

    def _finish(self, request: Request, session: Session) -> Response:
        bucket = self._buckets[session.bucket]
        bucket.check_write(session.name, session.query)
        assert session.draft is not None
        content = session.draft.finish()
        session.finished = bucket.write(
            session.name, content, session.query, session.settings, known_crc32c=session.crc32c
        )
        session.draft = None
        return self._resource(request, bucket, session.finished)

    async def _cancel(self, request: Request, _: Operation) -> Response:
        self._sessions.cancel(request.query.get("upload_id", ""))
        return Response(499)

    # --- buckets and tokens

    async def _bucket(self, request: Request, operation: Operation) -> Response:
        match request.method, operation.bucket:
            case "GET", "":
                return _json(200, {"kind": "storage#buckets", "items": [_describe(each) for each in self._buckets]})
            case "POST", "":
                return _json(200, _describe(self._buckets.create(parse_json(await request.body())["name"])))
            case "GET", name:
                return _json(200, _describe(self._buckets[name]))
            case "DELETE", name:
                self._buckets.delete(name)
                return Response(204)
        raise GcsError(405, "methodNotAllowed", "Method Not Allowed")

    async def _token(self, request: Request) -> Response:
        await request.body()
        if not self._access.grants_tokens:
            return _json(400, {"error": "invalid_grant", "error_description": "Invalid grant: account not found"})
        return _json(
            200,
            {
                "access_token": self._access.issue(),
                "expires_in": self._access.token_lifetime_s,
                "token_type": "Bearer",
            },
        )


def error_response(error: GcsError, operation: Operation) -> Response:
    """As the API words it: JSON, but plain text where bytes were asked for."""
    if error.status == 304:
        return Response(304)
    if operation.kind == "media" and error.status == 404:
        return Response(404, {"Content-Type": "text/html; charset=UTF-8"}, error.message.encode())
    details = {"message": error.message, "domain": "global", "reason": error.reason}
    return _json(error.status, {"error": {"code": error.status, "message": error.message, "errors": [details]}})


def _body(response: Response, content: Content, start: int, end: int) -> Response:
    response.source = lambda at, length: content.read(start + at, length)
    response.length = end - start
    if isinstance(content, FileContent):
        response.file = content.descriptor, start
    return response


def _json(status: int, value: dict[str, Any]) -> Response:
    return Response(status, {"Content-Type": "application/json; charset=UTF-8"}, json.dumps(value).encode())


def _describe(bucket: Bucket) -> dict[str, Any]:
    return {
        "kind": "storage#bucket",
        "id": bucket.name,
        "name": bucket.name,
        "timeCreated": bucket.created,
        "updated": bucket.created,
        "metageneration": "1",
        "location": "US",
        "storageClass": "STANDARD",
    }


def _media_headers(stored: Stored) -> dict[str, str]:
    headers = {
        "Content-Type": stored.settings.get("contentType", "application/octet-stream"),
        "ETag": stored.etag,
        "Last-Modified": formatdate(datetime.fromisoformat(stored.updated).timestamp(), usegmt=True),
        "X-Goog-Generation": str(stored.generation),
        "X-Goog-Metageneration": str(stored.metageneration),
        "X-Goog-Storage-Class": "STANDARD",
        "X-Goog-Stored-Content-Encoding": "identity",
        "X-Goog-Stored-Content-Length": str(stored.content.size),
        "Accept-Ranges": "bytes",
    }
    hashes = [f"crc32c={stored.crc32c}"] if stored.crc32c else []
    hashes += [f"md5={stored.md5}"] if stored.md5 else []
    if hashes:
        headers["X-Goog-Hash"] = ",".join(hashes)
    if "cacheControl" in stored.settings:
        headers["Cache-Control"] = stored.settings["cacheControl"]
    return headers


def _parse_token(token: str) -> str:
    try:
        return base64.urlsafe_b64decode(token).decode()
    except ValueError:
        raise bad_request("Invalid pageToken.") from None
