"""What the URLs of the stores behind obstore mean. Asks nobody.

No URL may hold credentials: it is shown in messages, in `fsd status` and in the list of processes.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

from fsd.errors import UsageError

MAX_PREFIX_BYTES = 512
"""Of the 1,024 that an object's name may have; the rest is for keys."""

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]\Z")
_SEGMENT = re.compile(r"[A-Za-z0-9._@=+-]+\Z")
"""What object_store hands to the server as it is; it quotes other characters, and then twice."""

_HINTS = {
    "s3": "write s3://BUCKET or s3://BUCKET/PREFIX",
    "az": "write az://CONTAINER or az://CONTAINER/PREFIX; the account is named by AZURE_STORAGE_ACCOUNT_NAME",
    "http": "write http://HOST/PATH, where PATH is the folder of a store",
    "https": "write https://HOST/PATH, where PATH is the folder of a store",
}


class Place(NamedTuple):
    """A place in a cloud."""

    bucket: str
    """A bucket, or a container."""
    prefix: str
    """Without a slash at its ends."""


def parse_place(url: str) -> Place:
    """The bucket and the prefix of an s3:// or az:// URL. Raises UsageError."""
    parts = _split(url)
    hint = _HINTS[parts.scheme]
    if not _BUCKET.match(parts.netloc.lower()):
        raise UsageError(f"{url!r} names no bucket", hint=hint)
    prefix = parts.path.removeprefix("/").removesuffix("/")
    segments = prefix.split("/") if prefix else []
    if parts.query or parts.fragment or not all(map(_is_segment, segments)):
        raise UsageError(f"{url!r} names no folder of a bucket", hint=hint)
    if len(prefix) > MAX_PREFIX_BYTES:
        raise UsageError(f"{url!r} is too long", hint=f"a prefix has at most {MAX_PREFIX_BYTES} bytes")
    return Place(parts.netloc.lower(), prefix)


def parse_web(url: str) -> str:
    """An http:// or https:// URL in one form, without a slash at its end. Raises UsageError."""
    parts = _split(url)
    hint = _HINTS[parts.scheme]
    try:
        port = parts.port
    except ValueError:
        raise UsageError(f"{url!r} has an impossible port", hint=hint) from None
    if not parts.hostname or port == 0:
        raise UsageError(f"{url!r} names no host", hint=hint)
    path = parts.path.rstrip("/")
    if parts.query or parts.fragment or not all(map(_is_segment, path.split("/")[1:])):
        raise UsageError(f"{url!r} names no folder of a web server", hint=hint)
    return f"{parts.scheme}://{parts.netloc.lower()}{path}"


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
    except ValueError:
        raise UsageError("that is no URL", hint="check its brackets and its port") from None
    if "@" in parts.netloc:
        # Not repeated: what stands before the @ may be a password.
        raise UsageError(
            f"a {parts.scheme}:// URL may not hold a user's name or password",
            hint="everybody on this machine could read it; give the credentials as the cloud's own tools expect them",
        )
    return parts


def _is_segment(text: str) -> bool:
    return _SEGMENT.match(text) is not None and text not in (".", "..")
