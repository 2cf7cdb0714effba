"""The placement part of pages and recipes: where chunks lie. `docs/format.md` has the bytes.

Placements are hints, but a hint is obeyed before it is found to be wrong: what it can ask of a reader is bounded here.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator, Sequence
from itertools import compress
from operator import gt

from fsd.errors import CorruptDataError
from fsd.format.columns import decode_column, encode_column
from fsd.format.limits import MAX_PACK_BYTES
from fsd.format.model import Placement
from fsd.ids import PACK_ID_BYTES

_COUNTS = struct.Struct("<II")
_CHUNK_BYTES = 4 + 8 + 4 + 8


def encode_placements(placements: Sequence[Placement]) -> bytes:
    """The placement part for chunks in this order; b'' for none. Raises ValueError for what a reader would refuse."""
    if not placements:
        return b""
    ids, offsets, stored, plain = zip(*placements, strict=True)
    packs = {pack: number for number, pack in enumerate(dict.fromkeys(ids))}
    if any(len(pack) != PACK_ID_BYTES for pack in packs):
        raise ValueError("a pack id of another length")
    if max(offsets) > MAX_PACK_BYTES or max(plain) > MAX_PACK_BYTES or min(stored) <= 0:
        raise ValueError("a placement outside of what a pack can hold")
    return b"".join(
        (
            _COUNTS.pack(len(packs), len(placements)),
            *packs,
            encode_column("I", map(packs.__getitem__, ids)),
            encode_column("Q", offsets),
            encode_column("I", stored),
            encode_column("Q", plain),
        )
    )


def placed_packs(data: bytes) -> list[bytes]:
    """The packs that a placement part names. Raises CorruptDataError for one that is cut off."""
    if not data:
        return []
    packs = _COUNTS.unpack_from(data)[0] if len(data) >= _COUNTS.size else 0
    end = _COUNTS.size + PACK_ID_BYTES * packs
    if len(data) < end or not packs:
        raise CorruptDataError("a placement part is cut off")
    return [data[at : at + PACK_ID_BYTES] for at in range(_COUNTS.size, end, PACK_ID_BYTES)]


class PlacementTable:
    """A decoded placement part; rows are made only where they are asked for."""

    __slots__ = ("_offsets", "_packs", "_plain", "_stored", "_which")

    def __init__(self, data: bytes, lengths: Sequence[int]) -> None:
        """Decode the placements of chunks of these `lengths` in bytes. Raises CorruptDataError."""
        packs, chunks = _COUNTS.unpack_from(data) if len(data) >= _COUNTS.size else (0, 0)
        header = _COUNTS.size if data else 0
        if len(data) != header + PACK_ID_BYTES * packs + _CHUNK_BYTES * chunks or chunks != len(lengths):
            raise CorruptDataError("a placement part does not have the length that its counts say")
        which_at = header + PACK_ID_BYTES * packs
        offsets_at = which_at + 4 * chunks
        stored_at = offsets_at + 8 * chunks
        plain_at = stored_at + 4 * chunks
        self._packs = [data[at : at + PACK_ID_BYTES] for at in range(header, which_at, PACK_ID_BYTES)]
        self._which: array[int] = decode_column("I", data[which_at:offsets_at])
        self._offsets: array[int] = decode_column("Q", data[offsets_at:stored_at])
        self._stored: array[int] = decode_column("I", data[stored_at:plain_at])
        self._plain: array[int] = decode_column("Q", data[plain_at:])
        if chunks:
            self._check(lengths)

    def _check(self, lengths: Sequence[int]) -> None:
        if max(self._which) >= len(self._packs):
            raise CorruptDataError("a placement names a pack that is not listed")
        if min(self._stored) == 0 or any(map(gt, self._stored, lengths)):
            raise CorruptDataError("a placement names a stored form that is empty, or longer than its chunk")
        if max(self._offsets) > MAX_PACK_BYTES or max(self._plain) > MAX_PACK_BYTES:
            raise CorruptDataError("a placement lies outside of what a pack can hold")

    def __len__(self) -> int:
        return len(self._which)

    @property
    def memory_bytes(self) -> int:
        """About what it occupies."""
        return 512 + _CHUNK_BYTES * len(self) + (PACK_ID_BYTES + 41) * len(self._packs)

    def by_pack(self) -> Iterator[tuple[bytes, Sequence[int], Sequence[int]]]:
        """Each pack with the offsets and stored lengths of the chunks in it, in bytes."""
        if len(self._packs) == 1:
            yield self._packs[0], self._offsets, self._stored
            return
        for number, pack in enumerate(self._packs):
            is_here = [which == number for which in self._which]
            yield pack, array("Q", compress(self._offsets, is_here)), array("I", compress(self._stored, is_here))

    def at(self, number: int) -> Placement:
        """The placement of the chunk with that number."""
        return Placement(
            self._packs[self._which[number]], self._offsets[number], self._stored[number], self._plain[number]
        )

    def run(self, start: int, count: int) -> tuple[Placement, ...]:
        """The placements of `count` chunks from number `start`."""
        if count == 1:
            return (self.at(start),)
        end = start + count
        packs = map(self._packs.__getitem__, self._which[start:end])
        return tuple(map(Placement, packs, self._offsets[start:end], self._stored[start:end], self._plain[start:end]))
