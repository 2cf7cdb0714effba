"""As much of the XML API as obstore's client for Google Cloud Storage reads and writes whole objects by.

A path is /BUCKET/NAME. GET answers as the JSON API's media does; PUT takes its precondition from a header.
"""

from __future__ import annotations

from integration.gcs_server.http import Request

MEDIA = "media"
PUT = "xml.put"

_RESERVED = {"_control", "batch", "download", "storage", "token", "upload"}
"""First segments of other APIs' paths."""


def place(request: Request) -> tuple[str, str, str] | None:
    """What a request is about: a kind of operation, the bucket, the object's name. None if it is another API's."""
    kind = {"GET": MEDIA, "PUT": PUT}.get(request.method)
    bucket, *rest = request.segments
    if kind is None or not rest or bucket in _RESERVED:
        return None
    return kind, bucket, "/".join(rest)


def preconditions(request: Request) -> dict[str, str]:
    """As the JSON API has them in its query."""
    generation = request.headers.get("x-goog-if-generation-match")
    return {} if generation is None else {"ifGenerationMatch": generation}
