"""Lists that gc keeps in a store: a magic, the body's length, its BLAKE3-256, then the body, as one zstd frame where
that is shorter. Checked before anything is allocated for them."""

from __future__ import annotations

import struct

from fsd.errors import CorruptDataError
from fsd.format.compress import compress_metadata, decompress
from fsd.ids import content_id

_HEADER = struct.Struct("<8sQ32s")


def seal_list(magic: bytes, body: bytes, most_bytes: int) -> bytes:
    """The stored form. Raises ValueError for a body of more than `most_bytes`."""
    if len(body) > most_bytes:
        raise ValueError(f"a list of {len(body)} bytes")
    return _HEADER.pack(magic, len(body), content_id(body)) + compress_metadata(body)


def unseal_list(magic: bytes, data: bytes, what: str, most_bytes: int) -> bytes:
    """The body. `what` names it in errors. Raises CorruptDataError."""
    if len(data) < _HEADER.size:
        raise CorruptDataError(f"{what} is cut off")
    found, size, check = _HEADER.unpack_from(data)
    if found != magic or size > most_bytes:
        raise CorruptDataError(f"{what} does not start with {magic!r}, or has an impossible length")
    body = decompress(memoryview(data)[_HEADER.size :], size, what)
    if content_id(body) != check:
        raise CorruptDataError(f"{what} does not match its checksum")
    return body
