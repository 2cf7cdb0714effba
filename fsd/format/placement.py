"""The placement part of pages and recipes: where chunks lie. See `fsd.format.page` for the bytes."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from fsd.errors import CorruptDataError
from fsd.format.columns import encode_column
from fsd.format.model import Placement
from fsd.ids import PACK_ID_BYTES

_COUNTS = struct.Struct("<II")
_CHUNK_BYTES = 4 + 8 + 4 + 8


def encode_placements(placements: Sequence[Placement]) -> bytes:
    """The placement part for chunks in this order; b'' for none."""
    if not placements:
        return b""
    packs = {pack: number for number, pack in enumerate(dict.fromkeys(place.pack for place in placements))}
    return b"".join(
        (
            _COUNTS.pack(len(packs), len(placements)),
            *packs,
            encode_column("I", [packs[place.pack] for place in placements]),
            encode_column("Q", [place.offset for place in placements]),
            encode_column("I", [place.stored for place in placements]),
            encode_column("Q", [place.plain_offset for place in placements]),
        )
    )


class PlacementTable:
    """A decoded placement part; rows are made only where they are asked for."""

    __slots__ = ("_chunks", "_data", "_offsets_at", "_packs", "_plain_at", "_stored_at", "_which_at")

    def __init__(self, data: bytes) -> None:
        """Decode. Raises CorruptDataError."""
        self._data = data
        self._packs, self._chunks = 0, 0
        if data:
            if len(data) < _COUNTS.size:
                raise CorruptDataError("a placement part is truncated")
            self._packs, self._chunks = _COUNTS.unpack_from(data)
            if len(data) != _COUNTS.size + PACK_ID_BYTES * self._packs + _CHUNK_BYTES * self._chunks:
                raise CorruptDataError("a placement part does not have the length that its counts say")
        self._which_at = _COUNTS.size + PACK_ID_BYTES * self._packs
        self._offsets_at = self._which_at + 4 * self._chunks
        self._stored_at = self._offsets_at + 8 * self._chunks
        self._plain_at = self._stored_at + 4 * self._chunks

    def __len__(self) -> int:
        return self._chunks

    @property
    def memory_bytes(self) -> int:
        """About what it occupies."""
        return len(self._data) + 128

    def run(self, start: int, count: int) -> tuple[Placement, ...]:
        """The placements of `count` chunks from number `start`. Raises CorruptDataError."""
        which = struct.unpack_from(f"<{count}I", self._data, self._which_at + 4 * start)
        offsets = struct.unpack_from(f"<{count}Q", self._data, self._offsets_at + 8 * start)
        stored = struct.unpack_from(f"<{count}I", self._data, self._stored_at + 4 * start)
        plain = struct.unpack_from(f"<{count}Q", self._data, self._plain_at + 8 * start)
        if count and max(which) >= self._packs:
            raise CorruptDataError("a placement names a pack that is not listed")
        return tuple(map(Placement, [self._pack(number) for number in which], offsets, stored, plain))

    def _pack(self, number: int) -> bytes:
        at = _COUNTS.size + PACK_ID_BYTES * number
        return self._data[at : at + PACK_ID_BYTES]
