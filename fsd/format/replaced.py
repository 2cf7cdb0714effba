"""What became of commits that were purged: `replaced/<id>`, one note of each purge.

Refs are rewritten by a purge; run records, which name commits as well, never are. What one names is to be looked up
here first. The note is a sealed list (`fsd.format.sealed`) of pairs of ids, sorted: the old commit, and the new one, or
zeros where there is none.
"""

from __future__ import annotations

from collections.abc import Mapping

from fsd.errors import CorruptDataError
from fsd.format.sealed import seal_list, unseal_list
from fsd.ids import ID_BYTES

MAGIC = b"fsdrepl1"
MAX_BODY_BYTES = 64 * 1024 * 1024
"""A million commits."""

_NONE = bytes(ID_BYTES)
_PAIR_BYTES = 2 * ID_BYTES


def encode_replaced(commits: Mapping[bytes, bytes | None]) -> bytes:
    """The bytes of a note. Raises ValueError for more than a reader takes."""
    pairs = sorted((old, _NONE if new is None else new) for old, new in commits.items())
    return seal_list(MAGIC, b"".join(old + new for old, new in pairs), MAX_BODY_BYTES)


def parse_replaced(data: bytes, what: str) -> dict[bytes, bytes | None]:
    """What became of each. `what` names the note in errors. Raises CorruptDataError."""
    body = unseal_list(MAGIC, data, what, MAX_BODY_BYTES)
    if len(body) % _PAIR_BYTES:
        raise CorruptDataError(f"{what} is cut off")
    pairs = [body[at : at + _PAIR_BYTES] for at in range(0, len(body), _PAIR_BYTES)]
    found = {pair[:ID_BYTES]: pair[ID_BYTES:] for pair in pairs}
    if list(found) != sorted(found) or len(found) != len(pairs):
        raise CorruptDataError(f"{what} is out of order")
    return {old: None if new == _NONE else new for old, new in found.items()}
