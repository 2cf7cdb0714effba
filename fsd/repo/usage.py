"""How much is in a version: files, their bytes, and what the store holds of them; and how much of it another lacks.

*Stored* bytes count each chunk once for each place where it lies, compressed as it is there, so that what a version has
twice is counted once. They say what fetching all of it costs. Packs' contents, pages and recipes are not counted.
"""

from __future__ import annotations

from array import array
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from fsd.format.model import Entry, Kind, Piece, PlacedChunk, Placement
from fsd.format.page import Page
from fsd.repo.differences import Part, differences, is_same
from fsd.repo.lookup import find_path
from fsd.repo.objects import Objects

Report = Callable[[int, int], None]
"""Told of files and bytes more that were looked at."""


@dataclass(slots=True)
class Usage:
    """What something comes to."""

    files: int = 0
    directories: int = 0
    """Without the place itself."""
    symlinks: int = 0
    size_bytes: int = 0
    """Of the files."""
    stored_bytes: int = 0


class _Places:
    """Where chunks lie, 12 bytes each: a version has millions of them."""

    def __init__(self) -> None:
        self._packs: dict[bytes, tuple[array[int], array[int]]] = {}
        """Offsets and stored lengths."""

    def add(self, placement: Placement) -> None:
        pack = self._packs.get(placement.pack)
        if pack is None:
            pack = self._packs[placement.pack] = array("Q"), array("I")
        pack[0].append(placement.offset)
        pack[1].append(placement.stored)

    def stored_bytes(self, without: _Places | None = None) -> int:
        """Their sum, each place once and none that `without` has."""
        return sum(sum(places.values()) for places in self._by_pack(without))

    def _by_pack(self, without: _Places | None) -> Iterator[dict[int, int]]:
        for pack, (offsets, lengths) in self._packs.items():
            places = dict(zip(offsets, lengths, strict=True))
            if without is not None and pack in without._packs:
                for offset in without._packs[pack][0]:
                    places.pop(offset, None)
            yield places


async def usage_of(part: Part, path: bytes, objects: Objects, *, where: str, report: Report | None = None) -> Usage:
    """What is at and below `path`. Reads all pages, and the recipes of large files.

    Raises NotFoundError, with `where` for what the version is called, if there is no such path.
    """
    usage, places = Usage(), _Places()
    async with aclosing(_entries(part, path, where)) as entries:
        async for page, positions in entries:
            files = size = 0
            for position in positions:
                match page.kind(position):
                    case Kind.DIRECTORY:
                        usage.directories += 1
                    case Kind.SYMLINK:
                        usage.symlinks += 1
                    case _:
                        files += 1
                        size += page.size(position)
                        await _add_file(page, position, objects, places)
            usage.files += files
            usage.size_bytes += size
            if report is not None:
                report(files, size)
    usage.stored_bytes = places.stored_bytes()
    return usage


async def _entries(part: Part, path: bytes, where: str) -> AsyncGenerator[tuple[Page, Sequence[int]]]:
    if path:
        found = await find_path(part, path, where)
        if found.page.kind(found.position) != Kind.DIRECTORY:
            yield found.page, (found.position,)
            return
    async for listed in part.list_below(path):
        yield listed.page, listed.positions


async def usage_beyond(old: Part, new: Part, path: bytes, objects: Objects, *, read_ahead_pages: int) -> Usage:
    """What is at and below `path` in `new` and not so in `old`: what somebody who has that one fetches for this one.

    Takes as long as there are differences. Chunks are known again where files differ: of a file that `new` has at one
    more path than `old`, the copy is counted, which a cache would not fetch.
    """
    usage, places, had = Usage(), _Places(), _Places()
    async with aclosing(_pairs(old, new, path, read_ahead_pages)) as pairs:
        async for before, after in pairs:
            if before is not None:
                async for chunk in chunks_of(before, objects):
                    had.add(chunk.placement)
            if after is None:
                continue
            match after.kind:
                case Kind.DIRECTORY:
                    usage.directories += 1
                case Kind.SYMLINK:
                    usage.symlinks += 1
                case Kind.FILE:
                    usage.files += 1
                    usage.size_bytes += after.size
                    async for chunk in chunks_of(after, objects):
                        places.add(chunk.placement)
    usage.stored_bytes = places.stored_bytes(without=had)
    return usage


async def _pairs(
    old: Part, new: Part, path: bytes, read_ahead_pages: int
) -> AsyncGenerator[tuple[Entry | None, Entry | None]]:
    if path:
        directory, _, name = path.rpartition(b"/")
        found = [await part.find(directory, name) for part in (old, new)]
        before, after = (None if each is None else each.page.entry(each.position) for each in found)
        if not is_same(before, after):
            yield before, after
    async with aclosing(differences(old, new, read_ahead_pages=read_ahead_pages, below=path)) as found_below:
        async for difference in found_below:
            yield difference.old, difference.new


async def _add_file(page: Page, position: int, objects: Objects, places: _Places) -> None:
    single = page.single_chunk(position)
    if single is not None:
        places.add(single.placement)
        return
    async for chunk in chunks_of(page.entry(position), objects):
        places.add(chunk.placement)


async def chunks_of(entry: Entry, objects: Objects) -> AsyncGenerator[PlacedChunk]:
    """All chunks of an entry, those of a large file by way of its recipes."""
    if entry.level == 0:
        for chunk in entry.chunks():
            yield chunk
        return
    async with aclosing(_chunks_in(entry.pieces, objects)) as chunks:
        async for chunk in chunks:
            yield chunk


async def pieces_of(level: int, pieces: Sequence[Piece], objects: Objects) -> AsyncGenerator[Piece]:
    """The chunks of a file that has these pieces at a level, wherever they lie."""
    if level == 0:
        for piece in pieces:
            yield piece
        return
    async with aclosing(_chunks_in(pieces, objects)) as chunks:
        async for chunk in chunks:
            yield Piece(chunk.id, chunk.length)


async def _chunks_in(recipes: Sequence[Piece], objects: Objects) -> AsyncGenerator[PlacedChunk]:
    left = [piece.id for piece in reversed(recipes)]
    while left:
        recipe = await objects.recipe(left.pop())
        if recipe.level:
            left += [recipe.id(at) for at in reversed(range(len(recipe)))]
            continue
        for chunk in recipe.chunks(0, len(recipe)):
            yield chunk
