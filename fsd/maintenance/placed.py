"""What trees say of packs: which chunks they look for in each, and where.

Memory: 48 bytes a chunk of the packs whose rows are kept (225 MB for 150 GB), nothing that grows with the chunks of the
others.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from operator import add
from typing import NamedTuple

from fsd.format.keys import ObjectKind
from fsd.format.model import PlacedChunk
from fsd.format.page import Page
from fsd.format.recipe import Recipe

_ROW = struct.Struct("<QII32s")
"""Offset, stored length, length, id: what a tree says of a chunk."""

_LEAST_ROWS_BYTES = 64 * 1024
"""Fewer are not worth looking through for duplicates."""


class Row(NamedTuple):
    """A chunk in a pack. Offsets and lengths in bytes."""

    offset: int
    stored: int
    length: int
    chunk: bytes


class PackRows:
    """What trees say of one pack."""

    __slots__ = ("_rows", "_unique_bytes", "end")

    def __init__(self) -> None:
        self.end = 0
        """Where the last chunk ends that anybody looks for in it."""
        self._rows = bytearray()
        self._unique_bytes = _LEAST_ROWS_BYTES

    def add(self, chunk: PlacedChunk) -> None:
        """A chunk of it; the same ones come again with every version of a page."""
        place = chunk.placement
        self._rows += _ROW.pack(place.offset, place.stored, chunk.length, chunk.id)
        if len(self._rows) > 2 * self._unique_bytes:
            self._rows = bytearray().join(set(self._slices()))
            self._unique_bytes = max(len(self._rows), _LEAST_ROWS_BYTES)

    def by_offset(self) -> list[Row]:
        """What was added, each once."""
        return sorted(map(Row._make, map(_ROW.unpack, set(self._slices()))))

    def _slices(self) -> Iterator[bytes]:
        return (bytes(self._rows[at : at + _ROW.size]) for at in range(0, len(self._rows), _ROW.size))


class PlacedRows:
    """A visitor of walks: what is looked for in each pack."""

    def __init__(self, keeps_rows: Callable[[bytes], bool]) -> None:
        """`keeps_rows` says of which packs not only the end is wanted."""
        self.packs: dict[bytes, PackRows] = {}
        self._keeps_rows = keeps_rows

    def page(self, page: Page, way: str) -> None:  # noqa: ARG002 - nobody asks for the way of what is sound
        """Note its chunks."""
        if self._note_ends(page):
            for entry in page.entries():
                if entry.placements:
                    self._note(entry.chunks())

    def recipe(self, recipe: Recipe, way: str) -> None:  # noqa: ARG002
        """Note its chunks."""
        if self._note_ends(recipe) and not recipe.level:
            self._note(recipe.chunks(0, len(recipe)))

    def damaged(self, kind: ObjectKind | None, object_id: bytes | None, why: str, way: str) -> None:
        """What is damaged names nothing."""

    def _note_ends(self, named: Page | Recipe) -> bool:
        """Note where its chunks end; whether of any of their packs the rows are wanted too.

        Column by column, since entry by entry it takes four times as long.
        """
        is_wanted = False
        for pack, offsets, stored in named.placed():
            rows = self.packs.get(pack)
            if rows is None:
                rows = self.packs[pack] = PackRows()
            rows.end = max(rows.end, max(map(add, offsets, stored), default=0))
            is_wanted = is_wanted or self._keeps_rows(pack)
        return is_wanted

    def _note(self, chunks: Sequence[PlacedChunk]) -> None:
        for chunk in chunks:
            pack = chunk.placement.pack
            if self._keeps_rows(pack):
                self.packs[pack].add(chunk)


def runs(rows: Sequence[Row], run_bytes: int) -> Iterator[Sequence[Row]]:
    """Rows by offset, those together that one request gets: gaps are what no tree names."""
    first = 0
    for at, row in enumerate(rows):
        before = rows[max(at - 1, first)]
        is_apart = row.offset > before.offset + before.stored
        if at > first and (is_apart or row.offset + row.stored - rows[first].offset > run_bytes):
            yield rows[first:at]
            first = at
    if rows:
        yield rows[first:]
