"""Recipes: the chunk lists of large files, cut into objects of their own.

At level 0 the pieces are chunks, each with a placement; above, they are recipes one level lower. `docs/format.md` has
the bytes.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate

from fsd.errors import CorruptDataError
from fsd.format.columns import decode_column, encode_column
from fsd.format.keys import ObjectKind
from fsd.format.limits import MAX_CHUNK_BYTES, MAX_FILE_BYTES, MAX_LOGICAL_BYTES, MAX_RECIPE_LEVEL
from fsd.format.model import PlacedChunk, Placement
from fsd.format.placement import PlacementTable, encode_placements
from fsd.ids import ID_BYTES

MAGIC = ObjectKind.RECIPE.value

_COUNTS = struct.Struct("<II")
_PIECE_BYTES = ID_BYTES + 8
HEADER_BYTES = len(MAGIC) + _COUNTS.size

MAX_RECIPE_PIECES = (MAX_LOGICAL_BYTES - HEADER_BYTES) // _PIECE_BYTES


def encode_recipe(
    level: int, pieces: Sequence[tuple[bytes, int]], placements: Sequence[Placement] = ()
) -> tuple[bytes, bytes]:
    """The logical and the placement part; `placements` one a piece at level 0, none above.

    Raises ValueError for what a reader would refuse.
    """
    if not 0 < len(pieces) <= MAX_RECIPE_PIECES or not 0 <= level <= MAX_RECIPE_LEVEL:
        raise ValueError(f"a recipe of {len(pieces)} pieces at level {level}")
    if any(len(piece[0]) != ID_BYTES for piece in pieces) or not are_piece_lengths([p[1] for p in pieces], level):
        raise ValueError("a recipe with an impossible piece")
    if len(placements) != (0 if level else len(pieces)):
        raise ValueError("not one placement for each chunk of a recipe")
    logical = b"".join(
        (
            MAGIC,
            _COUNTS.pack(level, len(pieces)),
            *[piece[0] for piece in pieces],
            encode_column("Q", [piece[1] for piece in pieces]),
        )
    )
    return logical, encode_placements(placements)


def are_piece_lengths(lengths: Sequence[int], level: int) -> bool:
    """True if the pieces of one file or recipe may have these lengths: none empty, chunks within their limit."""
    if not lengths:
        return True
    most = MAX_FILE_BYTES if level else MAX_CHUNK_BYTES
    return min(lengths) > 0 and max(lengths) <= most and sum(lengths) <= MAX_FILE_BYTES


class Recipe:
    """A decoded recipe; pieces are addressed by position."""

    __slots__ = ("_logical", "_placements", "level", "starts")

    def __init__(self, logical: bytes, placement: bytes) -> None:
        """Decode. Raises CorruptDataError."""
        if len(logical) < HEADER_BYTES or not logical.startswith(MAGIC):
            raise CorruptDataError("a recipe is truncated or without its magic")
        self.level, count = _COUNTS.unpack_from(logical, len(MAGIC))
        if self.level > MAX_RECIPE_LEVEL or not count or len(logical) != HEADER_BYTES + _PIECE_BYTES * count:
            raise CorruptDataError("a recipe does not have the length or level that it says")
        lengths = decode_column("Q", logical[HEADER_BYTES + ID_BYTES * count :])
        if not are_piece_lengths(lengths, self.level):
            raise CorruptDataError("a recipe has a piece of impossible length")
        self._logical = logical
        self._placements = PlacementTable(placement, () if self.level else lengths)
        self.starts: list[int] = list(accumulate(lengths, initial=0))
        """Where each piece begins, in bytes from the recipe's own start, and after the last where it ends."""

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def size(self) -> int:
        """Bytes of the file that it stands for."""
        return self.starts[-1]

    @property
    def memory_bytes(self) -> int:
        """About what it occupies."""
        return len(self._logical) + self._placements.memory_bytes + 40 * len(self.starts)

    def find(self, offset: int) -> int:
        """The position of the piece that holds the byte at `offset`."""
        return bisect_right(self.starts, offset) - 1

    def id(self, position: int) -> bytes:
        """The id of the chunk or recipe at `position`."""
        at = HEADER_BYTES + ID_BYTES * position
        return self._logical[at : at + ID_BYTES]

    def length(self, position: int) -> int:
        """Bytes of the piece at `position`."""
        return self.starts[position + 1] - self.starts[position]

    def placed(self) -> Iterator[tuple[bytes, Sequence[int], Sequence[int]]]:
        """Each pack that it names, with the offsets and stored lengths of the chunks in it, in bytes."""
        return self._placements.by_pack()

    def chunks(self, start: int, count: int) -> tuple[PlacedChunk, ...]:
        """`count` chunks of a recipe of level 0, from position `start`."""
        return tuple(
            PlacedChunk(self.id(start + number), self.length(start + number), placement)
            for number, placement in enumerate(self._placements.run(start, count))
        )
