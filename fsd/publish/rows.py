"""Chunks and where they lie, 64 bytes each, with a hash table over them: the bytes of the local chunk index.

A row (numbers little-endian):

    32  id of the chunk            8  offset in the pack      8  plain offset
     4  stored length              4  plain length            4  number of the pack      4  CRC-32 of the 60 before

A plain length of 0 marks a note: the stored length then says which, and the id is what the note is about. Each row
stands for itself, so that a file cut off or half written is read as far as it goes.

The table has 8 bytes a slot: the first 4 bytes of the chunk's id, then 1 + the number of its row; 0 is a free slot. A
chunk's place is the remainder of those 4 bytes, or the next free slot. What it finds is only a candidate: the row
decides. For 1.5 million chunks it takes 32 MB, where a dictionary takes 420.
"""

from __future__ import annotations

import struct
import zlib
from array import array
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from fsd.ids import PACK_ID_BYTES, Buffer

_ROW = struct.Struct("<32sQQIIII")
_CHECKED = struct.Struct("<32sQQIII")
_CHECK = struct.Struct("<I")

ROW_BYTES = _ROW.size

NOTE_PACK = 1
"""The pack that the row names, and numbers, is whole and durable."""
NOTE_GONE = 2
"""The pack is no longer in the store."""
NOTE_COVERED = 3
"""All chunks of the commit that the row names are in this index."""

_MIN_SLOTS = 1024
_FULL = 0.7
_TAG = struct.Struct("<I")


class Row(NamedTuple):
    """A decoded row."""

    id: bytes
    offset: int
    plain_offset: int
    stored: int
    length: int
    pack: int
    """The number that the pack has in this file."""

    @property
    def is_note(self) -> bool:
        """Whether it is no chunk."""
        return self.length == 0


def encode_row(chunk: bytes, offset: int, plain_offset: int, stored: int, length: int, pack: int) -> bytes:
    """The 64 bytes of a row."""
    checked = _CHECKED.pack(chunk, offset, plain_offset, stored, length, pack)
    return checked + _CHECK.pack(zlib.crc32(checked))


def encode_note(note: int, about: bytes, pack: int = 0) -> bytes:
    """The 64 bytes of a note about a pack or a commit."""
    return encode_row(about, 0, 0, note, 0, pack)


def decode_row(data: Buffer) -> Row | None:
    """The row, or None if it is not as it was written."""
    if len(data) != ROW_BYTES:
        return None
    chunk, offset, plain_offset, stored, length, pack, check = _ROW.unpack(data)
    if zlib.crc32(data[: _CHECKED.size]) != check:
        return None
    return Row(chunk, offset, plain_offset, stored, length, pack)


def decode_rows(data: bytes) -> Iterator[Row | None]:
    """All whole rows in `data`, None for those that are damaged."""
    whole = data[: len(data) // ROW_BYTES * ROW_BYTES]
    for number, (chunk, offset, plain_offset, stored, length, pack, check) in enumerate(_ROW.iter_unpack(whole)):
        at = ROW_BYTES * number
        if zlib.crc32(whole[at : at + _CHECKED.size]) == check:
            yield Row(chunk, offset, plain_offset, stored, length, pack)
        else:
            yield None


def pack_of_note(row: Row) -> bytes:
    """The pack that a note is about."""
    return row.id[:PACK_ID_BYTES]


class Table:
    """From chunk ids to candidate rows. A reader in another thread sees all that was added before it came."""

    __slots__ = ("_mask", "_used", "slots")

    def __init__(self, slots: array[int] | memoryview | None = None) -> None:
        """An empty table, or one with the slots of another, which may not be added to if they are a memoryview."""
        self.slots: array[int] | memoryview = array("Q", (0,)) * _MIN_SLOTS if slots is None else slots
        self._mask = len(self.slots) - 1
        self._used = 0

    def candidates(self, chunk: bytes) -> Sequence[int]:
        """Numbers of the rows that may be of `chunk`, in no order; mostly none or one."""
        slots = self.slots
        # The table may grow meanwhile: the length must be that of the slots in hand.
        mask = len(slots) - 1
        (tag,) = _TAG.unpack_from(chunk)
        at = tag & mask
        found: list[int] | None = None
        while value := slots[at]:
            if value >> 32 == tag:
                found = [*(found or ()), (value & 0xFFFFFFFF) - 1]
            at = (at + 1) & mask
        return found or ()

    def add(self, chunk: bytes, row: int) -> None:
        """Enter the row of a chunk."""
        if self._used >= _FULL * (self._mask + 1):
            self._grow()
        (tag,) = _TAG.unpack_from(chunk)
        self._place(self.slots, tag << 32 | (row + 1))
        self._used += 1

    def _grow(self) -> None:
        larger = array("Q", (0,)) * (2 * len(self.slots))
        for value in self.slots:
            if value:
                self._place(larger, value)
        self.slots, self._mask = larger, len(larger) - 1

    @staticmethod
    def _place(slots: array[int] | memoryview, value: int) -> None:
        mask = len(slots) - 1
        at = (value >> 32) & mask
        while slots[at]:
            at = (at + 1) & mask
        slots[at] = value
