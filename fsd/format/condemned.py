"""What gc is about to delete: a *condemnation*, in these objects below `condemned/`, written in this order.

    condemned/<id>.<number>   parts of the list: keys, with the versions and times at which they may be deleted
    condemned/<id>            what a publisher has to know of it: packs and commits that are not to be built upon
    condemned/<id>.sweep      from now on that counts: after the grace period gc is going to delete what is listed
    condemned/<id>.leases     the leases that were there once `.sweep` was visible: those who may not know of it

<id> is 32 hex digits. All but the sweep's mark, which is empty, are sealed lists (`fsd.format.sealed`).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from fsd.errors import CorruptDataError
from fsd.format.sealed import seal_list, unseal_list
from fsd.ids import ID_BYTES, PACK_ID_BYTES

MAGIC = b"fsdcond1"
MAX_BODY_BYTES = 64 * 1024 * 1024
MAX_PART_KEYS = 100_000
"""Keys in one part of the list: some 10 MB."""

SWEEP = "sweep"
NOTED_LEASES = "leases"

_COUNTS = struct.Struct("<III")


class Listed(NamedTuple):
    """An object as it was listed. Only as such it may be deleted; where versions name contents, its time tells whether
    it was written since."""

    key: str
    version: str
    modified_us: int


@dataclass(frozen=True, slots=True)
class Condemnation:
    """What a publisher has to know."""

    parts: int
    """Of the list of keys."""
    packs: frozenset[bytes]
    commits: frozenset[bytes]


def encode_condemnation(condemnation: Condemnation) -> bytes:
    """The bytes of `condemned/<id>`. Raises ValueError for more than a reader takes."""
    counts = _COUNTS.pack(condemnation.parts, len(condemnation.packs), len(condemnation.commits))
    body = b"".join((counts, *sorted(condemnation.packs), *sorted(condemnation.commits)))
    return seal_list(MAGIC, body, MAX_BODY_BYTES)


def parse_condemnation(data: bytes, what: str) -> Condemnation:
    """The condemnation. `what` names it in errors. Raises CorruptDataError."""
    body = unseal_list(MAGIC, data, what, MAX_BODY_BYTES)
    if len(body) < _COUNTS.size:
        raise CorruptDataError(f"{what} is cut off")
    parts, packs, commits = _COUNTS.unpack_from(body)
    packs_end = _COUNTS.size + PACK_ID_BYTES * packs
    commits_end = packs_end + ID_BYTES * commits
    if len(body) != commits_end:
        raise CorruptDataError(f"{what} does not have the length that its counts say")
    return Condemnation(
        parts,
        frozenset(body[at : at + PACK_ID_BYTES] for at in range(_COUNTS.size, packs_end, PACK_ID_BYTES)),
        frozenset(body[at : at + ID_BYTES] for at in range(packs_end, commits_end, ID_BYTES)),
    )


def encode_keys(keys: Sequence[Listed]) -> bytes:
    """The bytes of a part. Raises ValueError for too many, or one with a line end."""
    if len(keys) > MAX_PART_KEYS or any("\n" in listed.key or "\n" in listed.version for listed in keys):
        raise ValueError("too many keys, or one with a line end in it")
    lines = "\n".join(f"{listed.key} {listed.modified_us} {listed.version}" for listed in keys)
    return seal_list(MAGIC, lines.encode(), MAX_BODY_BYTES)


def parse_keys(data: bytes, what: str) -> list[Listed]:
    """What a part lists. Raises CorruptDataError."""
    found = []
    for line in unseal_list(MAGIC, data, what, MAX_BODY_BYTES).decode(errors="replace").splitlines():
        key, _, rest = line.partition(" ")
        modified, _, version = rest.partition(" ")
        if not modified.isdecimal():
            raise CorruptDataError(f"{what} has a line without a time")
        found.append(Listed(key, version, int(modified)))
    return found
