"""Small notes in a store: two lines of UTF-8, a JSON object, then the BLAKE3-256 of the first line (without its line
end) in hex. Refs, their index and leases have this form."""

from __future__ import annotations

from typing import Any

from fsd.errors import CorruptDataError
from fsd.format.fields import decode_json, encode_json
from fsd.ids import content_id


def encode_checked(body: dict[str, Any], what: str, most_bytes: int) -> bytes:
    """The bytes of a note. Raises ValueError for what JSON cannot hold, and a note of more than `most_bytes`."""
    line = encode_json(body)
    note = line + b"\n" + _check(line)
    if len(note) > most_bytes:
        raise ValueError(f"{what} of {len(line)} bytes")
    return note


def decode_checked(data: bytes, what: str, most_bytes: int) -> dict[str, Any]:
    """What a note says. `what` names it in errors. Raises CorruptDataError."""
    line, _, check = data.partition(b"\n")
    if len(data) > most_bytes or check != _check(line):
        raise CorruptDataError(f"{what} does not match its checksum")
    try:
        return decode_json(line)
    except ValueError as error:
        raise CorruptDataError(f"{what} cannot be read: {error}") from error


def _check(line: bytes) -> bytes:
    return content_id(line).hex().encode() + b"\n"
