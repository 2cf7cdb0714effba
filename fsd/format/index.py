"""Indexes: the upper levels of a tree, from its root down to its pages.

A child's key is the first of what lies below it. The root of a tree stands inside its commit; the others are objects of
their own, under `pages/`. An empty tree is a root of level 0 without children. `docs/format.md` has the bytes.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, pairwise
from operator import gt, lt
from typing import NamedTuple, overload

from fsd.errors import CorruptDataError
from fsd.format.columns import MAX_U64, decode_column, encode_column
from fsd.format.keys import ObjectKind
from fsd.format.limits import MAX_ENTRIES, MAX_INDEX_LEVEL, MAX_KEY_BYTES, MAX_LOGICAL_BYTES
from fsd.ids import ID_BYTES

MAGIC = ObjectKind.INDEX.value

_COUNTS = struct.Struct("<II")
_CHILD_BYTES = 2 + ID_BYTES + 3 * 8
_DECODED_KEY_BYTES = 48

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
    keys, ids, totals = zip(*children, strict=True) if children else ((), (), ())
    if any(len(child) != ID_BYTES for child in ids) or not _is_plausible(keys, *_columns(totals)):
        raise ValueError("an index with an impossible child, or with children out of order")
    logical = b"".join(
        (
            MAGIC,
            _COUNTS.pack(level, len(children)),
            encode_column("H", map(len, keys)),
            *keys,
            *ids,
            *[encode_column("Q", column) for column in _columns(totals)],
        )
    )
    if len(logical) > MAX_LOGICAL_BYTES:
        raise ValueError(f"an index of {len(logical)} bytes")
    return logical


def _columns(totals: Sequence[Totals]) -> tuple[list[int], list[int], list[int]]:
    return [each.entries for each in totals], [each.files for each in totals], [each.bytes for each in totals]


def _is_plausible(
    keys: Sequence[bytes], entries: Sequence[int], files: Sequence[int], file_bytes: Sequence[int]
) -> bool:
    return not keys or (
        all(map(lt, keys, keys[1:]))
        and max(map(len, keys)) <= MAX_KEY_BYTES
        and min(entries) > 0
        and not any(map(gt, files, entries))
        and sum(entries) <= MAX_ENTRIES
        and sum(file_bytes) <= MAX_U64
    )


class Children(Sequence[IndexChild]):
    """The children of an index, in order. They are kept in columns: a tree of a million files has a thousand."""

    __slots__ = ("_ids", "_numbers", "keys")

    def __init__(self, keys: list[bytes], ids: bytes, numbers: array[int]) -> None:
        """`numbers` are all entries, then all files, then all bytes."""
        self.keys = keys
        self._ids = ids
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self.keys)

    @overload
    def __getitem__(self, at: int) -> IndexChild: ...
    @overload
    def __getitem__(self, at: slice) -> list[IndexChild]: ...
    def __getitem__(self, at: int | slice) -> IndexChild | list[IndexChild]:
        positions = range(len(self.keys))[at]
        return self._child(positions) if isinstance(positions, int) else [self._child(number) for number in positions]

    def _child(self, at: int) -> IndexChild:
        numbers, count = self._numbers, len(self.keys)
        totals = Totals(numbers[at], numbers[count + at], numbers[2 * count + at])
        return IndexChild(self.keys[at], self._ids[ID_BYTES * at : ID_BYTES * (at + 1)], totals)

    @property
    def memory_bytes(self) -> int:
        """About what they occupy."""
        return 512 + sum(map(len, self.keys)) + (_CHILD_BYTES + _DECODED_KEY_BYTES) * len(self.keys)


class Index:
    """A decoded index: where in a tree to look for a key or for the entry with a number."""

    __slots__ = ("children", "level", "starts", "totals")

    def __init__(self, logical: bytes) -> None:
        """Decode. Raises CorruptDataError."""
        if len(logical) < HEADER_BYTES or not logical.startswith(MAGIC):
            raise CorruptDataError("an index is truncated or without its magic")
        self.level, count = _COUNTS.unpack_from(logical, len(MAGIC))
        if self.level > MAX_INDEX_LEVEL or (self.level and not count) or count * _CHILD_BYTES > len(logical):
            raise CorruptDataError("an index has an impossible level or count")
        lengths_end = HEADER_BYTES + 2 * count
        ends = list(accumulate(decode_column("H", logical[HEADER_BYTES:lengths_end]), initial=lengths_end))
        totals_at = ends[-1] + ID_BYTES * count
        if len(logical) != totals_at + 24 * count:
            raise CorruptDataError("an index does not have the length that its counts say")
        keys = [logical[a:b] for a, b in pairwise(ends)]
        numbers = decode_column("Q", logical[totals_at:])
        entries, files, file_bytes = numbers[:count], numbers[count : 2 * count], numbers[2 * count :]
        if not _is_plausible(keys, entries, files, file_bytes):
            raise CorruptDataError("an index has an impossible child, or children out of order")
        self.children = Children(keys, logical[ends[-1] : totals_at], numbers)
        self.starts: Sequence[int] = array("Q", accumulate(entries, initial=0))
        """The number of the first entry below each child, and after the last the number of all."""
        self.totals = Totals(self.starts[-1], sum(files), sum(file_bytes))

    @property
    def memory_bytes(self) -> int:
        """About what it occupies."""
        return 512 + self.children.memory_bytes + 8 * len(self.starts)

    def find(self, key: bytes) -> int:
        """The position of the only child that may hold `key`; -1 if it sorts before all of them."""
        return bisect_right(self.children.keys, key) - 1

    def locate(self, ordinal: int) -> int:
        """The position of the child below which the entry with that number lies."""
        return bisect_right(self.starts, ordinal) - 1
