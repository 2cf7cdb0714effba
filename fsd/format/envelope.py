"""The envelope of objects that are named by their hash: pages, indexes, recipes, commits, log segments.

It carries a logical part, which the id is the hash of, and a placement part with a checksum of its own, so that two
publishers who place the same chunks differently make the same name. Each is one zstd frame where that is shorter.
`docs/format.md` has the bytes.

Lengths are checked before anything is allocated for them; what `unseal` returns is what its name promises.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from fsd.errors import CorruptDataError
from fsd.format.compress import compress_metadata, decompress
from fsd.format.keys import ObjectKind
from fsd.format.limits import MAX_COMMIT_BYTES, MAX_LOGICAL_BYTES, MAX_PLACEMENT_BYTES, MAX_SEGMENT_BYTES
from fsd.ids import content_id

MAGIC = b"fsd1"

_HEADER = struct.Struct("<4sIIII8s")

_MAX_LOGICAL = {
    ObjectKind.PAGE: MAX_LOGICAL_BYTES,
    ObjectKind.INDEX: MAX_LOGICAL_BYTES,
    ObjectKind.RECIPE: MAX_LOGICAL_BYTES,
    ObjectKind.COMMIT: MAX_COMMIT_BYTES,
    ObjectKind.SEGMENT: MAX_SEGMENT_BYTES,
}


def seal(kind: ObjectKind, logical: bytes, placement: bytes = b"") -> tuple[bytes, bytes]:
    """The id and the stored form of an object. `logical` starts with the kind's magic."""
    if not logical.startswith(kind.value) or len(logical) > _MAX_LOGICAL[kind] or len(placement) > MAX_PLACEMENT_BYTES:
        raise ValueError(f"a {kind.name.lower()} of {len(logical)} + {len(placement)} bytes, or without its magic")
    stored_logical = compress_metadata(logical)
    stored_placement = compress_metadata(placement)
    header = _HEADER.pack(
        MAGIC, len(logical), len(stored_logical), len(placement), len(stored_placement), content_id(placement)[:8]
    )
    return content_id(logical), header + stored_logical + stored_placement


def unseal(kind: ObjectKind, object_id: bytes, stored: bytes) -> tuple[bytes, bytes]:
    """The logical and the placement part of a stored object, checked. Raises CorruptDataError."""
    what = f"{kind.name.lower()} {object_id.hex()}"
    head = _parse_header(kind, what, stored)
    logical = _logical_of(head, kind, object_id, what, stored)
    placement = decompress(memoryview(stored)[head.middle :], head.placement_size, what)
    if content_id(placement)[:8] != head.placement_check:
        raise CorruptDataError(f"the placements of {what} do not match their checksum")
    return logical, placement


def unseal_logical(kind: ObjectKind, object_id: bytes, stored: bytes) -> bytes:
    """The logical part alone, checked as well."""
    what = f"{kind.name.lower()} {object_id.hex()}"
    return _logical_of(_parse_header(kind, what, stored), kind, object_id, what, stored)


class _Header(NamedTuple):
    logical_size: int
    middle: int
    """Where the placement part begins."""
    placement_size: int
    placement_check: bytes


def _parse_header(kind: ObjectKind, what: str, stored: bytes) -> _Header:
    if len(stored) < _HEADER.size:
        raise CorruptDataError(f"{what} is truncated: {len(stored)} bytes")
    magic, logical_size, logical_stored, placement_size, placement_stored, placement_check = _HEADER.unpack_from(stored)
    if magic != MAGIC:
        raise CorruptDataError(f"{what} does not start with {MAGIC!r}")
    if logical_size > _MAX_LOGICAL[kind] or placement_size > MAX_PLACEMENT_BYTES:
        raise CorruptDataError(f"{what} claims {logical_size} + {placement_size} bytes, more than the format allows")
    if len(stored) != _HEADER.size + logical_stored + placement_stored:
        raise CorruptDataError(f"{what} has {len(stored)} bytes where its header says otherwise")
    return _Header(logical_size, _HEADER.size + logical_stored, placement_size, placement_check)


def _logical_of(head: _Header, kind: ObjectKind, object_id: bytes, what: str, stored: bytes) -> bytes:
    logical = decompress(memoryview(stored)[_HEADER.size : head.middle], head.logical_size, what)
    if content_id(logical) != object_id or not logical.startswith(kind.value):
        raise CorruptDataError(f"{what} does not match its name")
    return logical
