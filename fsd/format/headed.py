"""A JSON header and the bytes behind it, as run records have it: u32 H, H bytes of JSON, the rest."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

from fsd.errors import CorruptDataError
from fsd.format.fields import decode_json, encode_json
from fsd.format.limits import MAX_RUN_HEADER_BYTES

_LENGTH = struct.Struct("<I")


def encode_header(header: Mapping[str, Any]) -> bytes:
    """What stands before the rest. Raises ValueError for what JSON cannot hold, and for one that is too long."""
    text = encode_json(header)
    if len(text) > MAX_RUN_HEADER_BYTES:
        raise ValueError(f"a run's header of {len(text)} bytes")
    return _LENGTH.pack(len(text)) + text


def split_header(body: bytes, what: str) -> tuple[dict[str, Any], bytes]:
    """The header, and the rest. `what` names it in errors. Raises CorruptDataError."""
    if len(body) < _LENGTH.size:
        raise CorruptDataError(f"{what} is cut off")
    (length,) = _LENGTH.unpack_from(body)
    end = _LENGTH.size + length
    if length > MAX_RUN_HEADER_BYTES or end > len(body):
        raise CorruptDataError(f"{what} has a header of another length than it says")
    try:
        return decode_json(body[_LENGTH.size : end]), body[end:]
    except ValueError as error:
        raise CorruptDataError(f"{what} cannot be read: {error}") from error
