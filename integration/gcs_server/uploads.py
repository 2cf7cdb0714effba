"""What arrives: multipart bodies, and resumable sessions that survive broken connections. Of HTTP it knows headers.

A session keeps what has arrived in multiples of `GRAIN_BYTES`, as the real one does: whoever was cut off in the middle
of a part must ask where to go on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import reduce
from typing import Any, NamedTuple
from uuid import uuid4

import google_crc32c

from integration.gcs_server.contents import Draft
from integration.gcs_server.objects import GcsError, Stored, encode_digest

GRAIN_BYTES = 256 * 1024

_BOUNDARY = re.compile(r'boundary="?([^";]+)"?')
_CONTENT_TYPE = re.compile(rb"\r\ncontent-type: *([^\r]*)\r\n", re.IGNORECASE)
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-(\d+|\*)|\*)/(\d+|\*)\Z")


def bad_request(message: str) -> GcsError:
    """For what no client should send."""
    return GcsError(400, "invalid", message)


def parse_json(body: bytes) -> dict[str, Any]:
    """A JSON object, {} for no body at all."""
    try:
        value = json.loads(body) if body else {}
    except ValueError:
        raise bad_request("Parse Error") from None
    if not isinstance(value, dict):
        raise bad_request("Parse Error")
    return value


def parse_multipart(content_type: str, body: bytes) -> tuple[dict[str, Any], memoryview]:
    """The settings and the bytes of a multipart/related upload."""
    match = _BOUNDARY.search(content_type)
    if match is None:
        raise bad_request("Missing boundary.")
    mark = b"--" + match[1].encode()
    first = body.find(mark)
    # Google takes both; gcsfs sends the shorter one.
    end = b"\r\n" if body[first + len(mark) :].startswith(b"\r\n") else b"\n"
    second = body.find(end + mark, first + len(mark))
    last = body.rfind(end + mark + b"--")
    if min(first, second) < 0 or last <= second:
        raise bad_request("Malformed multipart body.")
    settings = parse_json(body[first + len(mark) : second].partition(2 * end)[2])
    head_end = body.find(2 * end, second + len(end))
    if not 0 <= head_end < last:
        raise bad_request("Malformed multipart body.")
    content_type_found = _CONTENT_TYPE.search(body, second, head_end + 2)
    if content_type_found is not None:
        settings.setdefault("contentType", content_type_found[1].decode("latin-1"))
    return settings, memoryview(body)[head_end + 2 * len(end) : last]


class PartRange(NamedTuple):
    """What a Content-Range says; None where it says `*` or nothing."""

    start: int | None
    end: int | None
    """Exclusive."""
    total: int | None

    @property
    def is_question(self) -> bool:
        """No bytes come: the sender asks what has arrived, or says that this was all."""
        return self.start is None


def parse_content_range(header: str | None, content_length: int) -> PartRange:
    """Where the body of a PUT belongs."""
    if header is None:
        return PartRange(0, content_length, content_length)
    match = _CONTENT_RANGE.match(header)
    if match is None:
        raise bad_request("Failed to parse Content-Range header.")
    start, end, total = match.groups()
    return PartRange(
        None if start is None else int(start),
        None if end is None or end == "*" else int(end) + 1,
        None if total == "*" else int(total),
    )


class Session:
    """A resumable upload."""

    def __init__(
        self, bucket: str, name: str, query: Mapping[str, str], settings: Mapping[str, Any], draft: Draft
    ) -> None:
        self.id = uuid4().hex
        self.bucket = bucket
        self.name = name
        self.query = dict(query)
        self.settings = dict(settings)
        self.draft: Draft | None = draft
        """None once the object is made."""
        self.received = 0
        self.finished: Stored | None = None
        self._crc = 0

    def skip(self, start: int) -> int:
        """How many bytes of a body that begins at `start` are here already. Raises GcsError for a gap."""
        if start > self.received:
            raise GcsError(
                503, "backendError", f"Invalid request. The upload offset is {start}, {self.received} bytes are here."
            )
        return self.received - start

    def append(self, piece: bytes) -> None:
        """Bytes in order."""
        if piece and self.draft is not None:
            self.draft.write(piece)
            self.received += len(piece)
            self._crc = google_crc32c.extend(self._crc, piece)

    def trim(self) -> None:
        """Forget what does not fill a grain."""
        surplus = self.received % GRAIN_BYTES
        if not surplus or self.draft is None:
            return
        self.received -= surplus
        self._crc = reduce(google_crc32c.extend, map(bytes, self.draft.truncate(self.received)), 0)

    @property
    def crc32c(self) -> str:
        """Of all that has arrived; counted on the way, so that the end of a long upload keeps nobody waiting."""
        return encode_digest(int(self._crc).to_bytes(4, "big"))

    @property
    def range_header(self) -> dict[str, str]:
        """What has arrived, as a 308 says it."""
        return {"Range": f"bytes=0-{self.received - 1}"} if self.received else {}


class Sessions:
    """Those of a server. One that is gone is forgotten after `KEPT` newer ones."""

    KEPT = 10_000

    def __init__(self) -> None:
        self._sessions: dict[str, Session] = {}

    def start(
        self, bucket: str, name: str, query: Mapping[str, str], settings: Mapping[str, Any], draft: Draft
    ) -> Session:
        """A new one, whose bytes go into `draft`."""
        session = Session(bucket, name, query, settings, draft)
        self._sessions[session.id] = session
        while len(self._sessions) > self.KEPT:
            del self._sessions[next(iter(self._sessions))]
        return session

    def __getitem__(self, identifier: str) -> Session:
        try:
            return self._sessions[identifier]
        except KeyError:
            raise GcsError(404, "notFound", "Upload session not found.") from None

    def cancel(self, identifier: str) -> None:
        """Forget what has arrived."""
        if self[identifier].finished is None:
            del self._sessions[identifier]

    def drop_unfinished(self) -> None:
        """Forget all that are under way, as happens to real ones after a week."""
        self._sessions = {key: session for key, session in self._sessions.items() if session.finished is not None}

    def __len__(self) -> int:
        return sum(session.finished is None for session in self._sessions.values())
