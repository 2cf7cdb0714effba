"""Where the chunks of a repacked pack went: the note `moved/<pack>`.

It holds the pack's table of contents as it was, so that whatever names a place in that pack goes on meaning the same
chunk, and for each chunk where it lies in the pack that took it over. A chunk that nothing reached was left behind.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate

from fsd.errors import CorruptDataError
from fsd.format.columns import MAX_U64, decode_column, encode_column
from fsd.format.limits import MAX_PACK_BYTES, MAX_PACK_CHUNKS
from fsd.format.pack import CONTENTS_CHUNK_BYTES, Contents, check_table
from fsd.format.sealed import seal_list, unseal_list
from fsd.ids import PACK_ID_BYTES

MAGIC = b"fsdmovd1"
LEFT_BEHIND = MAX_U64
"""Stands for the offset of a chunk that was not taken over."""

_COUNT = struct.Struct("<I")
_CHUNK_BYTES = CONTENTS_CHUNK_BYTES + 8
MAX_BODY_BYTES = PACK_ID_BYTES + _COUNT.size + _CHUNK_BYTES * MAX_PACK_CHUNKS


class MovedPack:
    """A decoded note. Offsets and lengths in bytes of the stored form."""

    def __init__(self, target: bytes, contents: Contents, offsets: array[int]) -> None:
        """`offsets`: where each chunk of `contents` lies in pack `target`, or LEFT_BEHIND."""
        self.target = target
        self.contents = contents
        self._offsets = offsets
        self._ends = array("Q", accumulate(chunk.stored for chunk in contents))

    @property
    def stored_bytes(self) -> int:
        """Where the last chunk ended in the pack that was."""
        return self._ends[-1] if self._ends else 0

    @property
    def target_end(self) -> int:
        """Where the last of the chunks ends in the target."""
        taken = zip(self._offsets, self.contents, strict=True)
        return max((offset + chunk.stored for offset, chunk in taken if offset != LEFT_BEHIND), default=0)

    @property
    def memory_bytes(self) -> int:
        """About what it occupies."""
        return _CHUNK_BYTES * len(self.contents) + 8 * len(self._ends) + 512

    def new_offset(self, offset: int) -> int | None:
        """Where the chunk that began at `offset` lies in the target; None if it was left behind, or never was."""
        number = bisect_left(self._ends, offset + 1)
        if number == len(self._ends) or self._ends[number] - self.contents[number].stored != offset:
            return None
        new = self._offsets[number]
        return None if new == LEFT_BEHIND else new

    def holds(self, start: int, length: int) -> bool:
        """Whether all of `length` bytes from `start` was taken over."""
        return sum(size for _, _, size in self.pieces(start, length)) == length

    def pieces(self, start: int, length: int) -> Iterator[tuple[int, int, int]]:
        """What of `length` bytes from `start` is to be had: (offset from `start`, offset in the target, length).

        Neighbours that are still side by side are one piece.
        """
        end = min(start + length, self.stored_bytes)
        number = bisect_left(self._ends, start + 1)
        piece: tuple[int, int, int] | None = None
        while number < len(self._ends) and self._ends[number] - self.contents[number].stored < end:
            first = self._ends[number] - self.contents[number].stored
            low, high = max(first, start), min(self._ends[number], end)
            new = self._offsets[number]
            number += 1
            if new == LEFT_BEHIND:
                continue
            at = (low - start, new + low - first, high - low)
            if piece is not None and (piece[0] + piece[2], piece[1] + piece[2]) == at[:2]:
                piece = (piece[0], piece[1], piece[2] + at[2])
                continue
            if piece is not None:
                yield piece
            piece = at
        if piece is not None:
            yield piece


def encode_moved(target: bytes, contents: Contents, offsets: array[int]) -> bytes:
    """The bytes of a note; as `MovedPack`. Raises ValueError for what a reader would refuse."""
    if len(target) != PACK_ID_BYTES or len(offsets) != len(contents):
        raise ValueError("not one place for each chunk, or an impossible pack")
    body = b"".join((target, _COUNT.pack(len(contents)), contents.table, encode_column("Q", offsets)))
    return seal_list(MAGIC, body, MAX_BODY_BYTES)


def parse_moved(data: bytes, what: str) -> MovedPack:
    """The note. `what` names it in errors. Raises CorruptDataError."""
    body = unseal_list(MAGIC, data, what, MAX_BODY_BYTES)
    table_at = PACK_ID_BYTES + _COUNT.size
    if len(body) < table_at:
        raise CorruptDataError(f"{what} is cut off")
    (count,) = _COUNT.unpack_from(body, PACK_ID_BYTES)
    offsets_at = table_at + CONTENTS_CHUNK_BYTES * count
    if len(body) != offsets_at + 8 * count:
        raise CorruptDataError(f"{what} does not have the length that its count says")
    offsets = decode_column("Q", body[offsets_at:])
    table = body[table_at:offsets_at]
    check_table(table, what)
    if any(MAX_PACK_BYTES < offset < LEFT_BEHIND for offset in offsets):
        raise CorruptDataError(f"{what} names a place that no pack has")
    return MovedPack(body[:PACK_ID_BYTES], Contents(table), offsets)
