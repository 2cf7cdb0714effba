"""Chunk lists: what an entry says of a file's chunks, in itself or through recipes.

Up to MAX_INLINE_PIECES chunks stand in the entry. A longer list is cut into recipes behind each piece whose id says so,
or after as many as a recipe may hold, and the entry names the recipes; if those are too many as well, they are cut by
the same rule, one level higher. Where a list is cut depends only on the pieces since the last cut, so that two versions
of a file share the recipes of what did not change. The rule is part of the format: equal content and equal chunks give
an equal entry, whoever publishes it.
"""

from __future__ import annotations

from collections.abc import Sequence

from fsd.format.keys import ObjectKind
from fsd.format.limits import MAX_INLINE_PIECES
from fsd.format.model import Piece, Placement
from fsd.format.recipe import MAX_RECIPE_PIECES, encode_recipe
from fsd.publish.writer import DeferredWriter

MEAN_RECIPE_PIECES = 2048
"""80 KiB of logical part: 70 MiB of a file at the usual chunk size, so that one recipe serves a whole read-ahead."""


def ends_recipe(piece: bytes) -> bool:
    """True if a recipe ends behind the piece of that id."""
    return int.from_bytes(piece[:4], "little") % MEAN_RECIPE_PIECES == 0


class ChunkList:
    """The chunks of one file, as they come. Holds at most a recipe for each level."""

    def __init__(self, writer: DeferredWriter, level: int = 0) -> None:
        self._writer = writer
        self._level = level
        self._pieces: list[Piece] = []
        self._placements: list[Placement] = []
        self._above: ChunkList | None = None

    def add(self, piece: Piece, placement: Placement | None) -> None:
        """The next chunk and where it lies (or, above level 0, the next recipe and None)."""
        self._pieces.append(piece)
        if placement is not None:
            self._placements.append(placement)
        if self._above is not None:
            if ends_recipe(piece.id) or len(self._pieces) == MAX_RECIPE_PIECES:
                self._end_recipe(len(self._pieces))
        elif len(self._pieces) > MAX_INLINE_PIECES:
            self._above = ChunkList(self._writer, self._level + 1)
            self._cut_all()

    def finish(self) -> tuple[int, tuple[Piece, ...], tuple[Placement, ...]]:
        """The level, pieces and placements of the file's entry."""
        if self._above is None:
            return self._level, tuple(self._pieces), tuple(self._placements)
        if self._pieces:
            self._end_recipe(len(self._pieces))
        return self._above.finish()

    def _cut_all(self) -> None:
        """Cut the pieces that waited to become too many."""
        at = 0
        while at < len(self._pieces):
            at += 1
            if ends_recipe(self._pieces[at - 1].id):
                self._end_recipe(at)
                at = 0

    def _end_recipe(self, count: int) -> None:
        assert self._above is not None
        pieces, self._pieces = self._pieces[:count], self._pieces[count:]
        placements, self._placements = self._placements[:count], self._placements[count:]
        recipe = self._writer.write_soon(ObjectKind.RECIPE, *encode_recipe(self._level, pieces, placements))
        self._above.add(Piece(recipe, sum(_lengths(pieces))), None)


def _lengths(pieces: Sequence[Piece]) -> list[int]:
    return [piece.length for piece in pieces]
