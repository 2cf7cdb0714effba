"""Objects of which the cache keeps a copy on disk, whatever is in memory: pages, indexes, recipes, commits.

Stands between a walk and `Objects`: all that the walk touches is kept, so that the same way can be gone again when the
store is out of reach. With a pin they are kept for good.
"""

from __future__ import annotations

from fsd.cache.pins import Pin
from fsd.cache.stock import Stock
from fsd.format.index import Index
from fsd.format.keys import ObjectKind
from fsd.format.outline import Outline
from fsd.format.page import Page
from fsd.format.recipe import Recipe
from fsd.repo.objects import CommitObject, Objects


class KeptObjects:
    """See the module. Raises what `Objects` and a loader raise."""

    def __init__(self, objects: Objects, stock: Stock | None, pin: Pin | None = None) -> None:
        """Without `stock` nothing is kept: for a walk that is to leave no traces."""
        self._objects = objects
        self._stock = stock
        self._pin = pin
        self._kept: set[bytes] = set()
        self.refused = 0
        """Objects for which the cache has no room."""

    async def _keep(self, kind: ObjectKind, object_id: bytes) -> None:
        if object_id not in self._kept:
            if self._stock is not None and not await self._stock.keep_object(kind, object_id, self._pin):
                self.refused += 1
            self._kept.add(object_id)

    def page_nowait(self, page: bytes) -> Page | None:
        """The page, if it is in memory, and known to be on disk."""
        return self._objects.page_nowait(page) if page in self._kept else None

    def index_nowait(self, index: bytes) -> Index | None:
        """The index, the same way."""
        return self._objects.index_nowait(index) if index in self._kept else None

    def recipe_nowait(self, recipe_id: bytes) -> Recipe | None:
        """The recipe, the same way."""
        return self._objects.recipe_nowait(recipe_id) if recipe_id in self._kept else None

    async def page(self, page: bytes) -> Page:
        """A page."""
        found = await self._objects.page(page)
        await self._keep(ObjectKind.PAGE, page)
        return found

    async def outline(self, page: bytes) -> Outline:
        """A page's outline."""
        return await self.page(page)

    async def index(self, index: bytes) -> Index:
        """An index that is not a root."""
        found = await self._objects.index(index)
        await self._keep(ObjectKind.INDEX, index)
        return found

    async def recipe(self, recipe_id: bytes) -> Recipe:
        """A recipe."""
        found = await self._objects.recipe(recipe_id)
        await self._keep(ObjectKind.RECIPE, recipe_id)
        return found

    async def fresh_page(self, page: bytes) -> Page:
        """See `Objects.fresh_page`."""
        found = await self._objects.fresh_page(page)
        await self._keep(ObjectKind.PAGE, page)
        return found

    async def fresh_recipe(self, recipe: bytes) -> Recipe:
        """See `Objects.fresh_recipe`."""
        found = await self._objects.fresh_recipe(recipe)
        await self._keep(ObjectKind.RECIPE, recipe)
        return found

    async def commit(self, commit: bytes) -> CommitObject:
        """A commit or subset, with the root of its tree."""
        found = await self._objects.commit(commit)
        await self._keep(ObjectKind.COMMIT, commit)
        return found
