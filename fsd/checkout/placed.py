"""Contents that are not where a placement says, read once more from where the store has them now."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Protocol

from fsd.checkout.contents import Contents
from fsd.format.model import Entry
from fsd.format.page import Page
from fsd.ids import Buffer
from fsd.repo.packs import MisplacedError
from fsd.repo.tree import TreeView
from fsd.vfs.pieces import Pieces, Recipes


class PlacingObjects(Recipes, Protocol):
    """What places the chunks of files: see `fsd.repo.objects.Objects`."""

    async def fresh_page(self, page: bytes) -> Page:
        """A page with the placements that the store has now."""


class PlacedContents:
    """The contents of one tree's files, whose placements may be out of date."""

    def __init__(self, contents: Contents, tree: TreeView, objects: PlacingObjects) -> None:
        """`contents` is what reads; entries are the tree's, and placed by `objects`."""
        self._contents = contents
        self._tree = tree
        self._objects = objects

    async def read_small(self, files: Sequence[Entry]) -> list[Buffer]:
        """See `Contents`."""
        try:
            return await self._contents.read_small(files)
        except MisplacedError as error:
            misplaced = error
        return await self._contents.read_small([await self._placed_anew(file, misplaced) for file in files])

    async def read(self, file: Entry, pieces: Pieces, start: int, end: int) -> Sequence[Buffer]:
        """See `Contents`."""
        try:
            return await self._contents.read(file, pieces, start, end)
        except MisplacedError as error:
            fresh = await pieces.placed_anew(start, end, error, partial(self._fresh_entry, file))
        return await self._contents.read(file, fresh, start, end)

    async def share(self, pieces: Pieces, start: int, end: int, target: int) -> bool:
        """See `Contents`."""
        return await self._contents.share(pieces, start, end, target)

    async def _placed_anew(self, file: Entry, misplaced: MisplacedError) -> Entry:
        """A file with its chunks placed as the store says now; raises `misplaced` if it says the same of that one."""
        if file.size:
            pieces = Pieces(file, self._objects)
            await pieces.placed_anew(0, file.size, misplaced, partial(self._fresh_entry, file))
        return await self._fresh_entry(file)

    async def _fresh_entry(self, file: Entry) -> Entry:
        found = await self._tree.find(file.directory, file.name)
        assert found is not None
        return (await self._objects.fresh_page(found.page.id)).entry(found.position)
