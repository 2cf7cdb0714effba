"""Indexes: the upper levels of a tree, from its root down to its pages.

Logical part (numbers little-endian; n children):

    8   magic "fsdindx1"       4  level (0: children are pages)       4  n
    2n  key lengths            keys, back to back                     32n ids
    8n  entries                8n files                               8n bytes of content

A key is the first of what lies below the child. The root of a tree stands inside its commit; the others are objects of
their own, under `pages/`. An empty tree is a root of level 0 without children.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, pairwise
from operator import lt
from typing import NamedTuple

from fsd.errors import CorruptDataError
from fsd.format.columns import MAX_U64, decode_column, encode_column
from fsd.format.keys import ObjectKind
from fsd.format.limits import MAX_ENTRIES, MAX_INDEX_LEVEL, MAX_KEY_BYTES, MAX_LOGICAL_BYTES
from fsd.ids import ID_BYTES

MAGIC = ObjectKind.INDEX.value

_COUNTS = struct.Struct("<II")
_CHILD_BYTES = 2 + ID_BYTES + 3 * 8

HEADER_BYTES = len(MAGIC) + _COUNTS.size


class Totals(NamedTuple):
    """What lies below a place of a tree."""

    entries: int
    files: int
    bytes: int
    """Of file contents; every name counts, whether or not its chunks are shared."""


class IndexChild(NamedTuple):
    """A page or a deeper index."""

    first_key: bytes
    id: bytes
    totals: Totals


def child_bytes(child: IndexChild) -> int:
    """What a child adds to an index's logical part."""
    return _CHILD_BYTES + len(child.first_key)


def encode_index(level: int, children: Sequence[IndexChild]) -> bytes:
    """The logical part. Raises ValueError where it would be too large, or a reader would refuse it."""
    if not 0 <= level <= MAX_INDEX_LEVEL or (level and not children):
        raise ValueError(f"an index of {len(children)} children at level {level}")
    if any(len(child.id) != ID_BYTES for child in children) or not _is_plausible(children):
        raise ValueError("an index with an impossible child, or with children out of order")
    logical = b"".join(
        (
            MAGIC,
            _COUNTS.pack(level, len(children)),
            encode_column("H", [len(child.first_key) for child in children]),
            *[child.first_key for child in children],
            *[child.id for child in children],
            encode_column("Q", [child.totals.entries for child in children]),
            encode_column("Q", [child.totals.files for child in children]),
            encode_column("Q", [child.totals.bytes for child in children]),
        )
    )
    if len(logical) > MAX_LOGICAL_BYTES:
        raise ValueError(f"an index of {len(logical)} bytes")
    return logical


def _is_plausible(children: Sequence[IndexChild]) -> bool:
    keys = [child.first_key for child in children]
    return (
        all(map(lt, keys, keys[1:]))
        and all(len(key) <= MAX_KEY_BYTES for key in keys)
        and all(0 < child.totals.entries >= child.totals.files for child in children)
        and sum(child.totals.entries for child in children) <= MAX_ENTRIES
        and sum(child.totals.bytes for child in children) <= MAX_U64
    )


class Index:
    """A decoded index: where in a tree to look for a key or for the entry with a number."""

    __slots__ = ("_keys", "children", "level", "starts", "totals")

    def __init__(self, logical: bytes) -> None:
        """Decode. Raises CorruptDataError."""
        if len(logical) < HEADER_BYTES or not logical.startswith(MAGIC):
            raise CorruptDataError("an index is truncated or without its magic")
        self.level, count = _COUNTS.unpack_from(logical, len(MAGIC))
        if self.level > MAX_INDEX_LEVEL or (self.level and not count) or count * _CHILD_BYTES > len(logical):
            raise CorruptDataError("an index has an impossible level or count")
        lengths_end = HEADER_BYTES + 2 * count
        ends = list(accumulate(decode_column("H", logical[HEADER_BYTES:lengths_end]), initial=lengths_end))
        ids_at = ends[-1]
        totals_at = ids_at + ID_BYTES * count
        if len(logical) != totals_at + 24 * count:
            raise CorruptDataError("an index does not have the length that its counts say")
        numbers = decode_column("Q", logical[totals_at:])
        self._keys = [logical[a:b] for a, b in pairwise(ends)]
        ids = [logical[at : at + ID_BYTES] for at in range(ids_at, totals_at, ID_BYTES)]
        totals = map(Totals, numbers[:count], numbers[count : 2 * count], numbers[2 * count :])
        self.children: list[IndexChild] = list(map(IndexChild, self._keys, ids, totals))
        if not _is_plausible(self.children):
            raise CorruptDataError("an index has an impossible child, or children out of order")
        self.starts: list[int] = list(accumulate(numbers[:count], initial=0))
        """The number of the first entry below each child, and after the last the number of all."""
        self.totals = Totals(self.starts[-1], sum(numbers[count : 2 * count]), sum(numbers[2 * count :]))

    @property
    def memory_bytes(self) -> int:
        """About what it occupies."""
        return 512 + sum(map(len, self._keys)) + 450 * len(self._keys)

    def find(self, key: bytes) -> int:
        """The position of the only child that may hold `key`; -1 if it sorts before all of them."""
        return bisect_right(self._keys, key) - 1

    def locate(self, ordinal: int) -> int:
        """The position of the child below which the entry with that number lies."""
        return bisect_right(self.starts, ordinal) - 1
