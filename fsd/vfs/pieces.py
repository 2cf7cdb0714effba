"""Which chunks hold which bytes of a file, however large it is.

An entry lists its chunks, or the recipes that do. Recipes are looked up where they are needed and not kept here: their
memory is bounded where they are cached, whatever the number and size of the files being read. Searching is by bisection
at each level. Knows no cache of chunks and no reads.

Placements may be out of date. `Pieces.placed_anew` is what every reader of chunks turns to when it is told so, once a
read (docs/decisions/0122).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple, Protocol

from fsd.errors import CorruptDataError
from fsd.format.model import Entry, PlacedChunk
from fsd.format.recipe import Recipe
from fsd.repo.packs import MisplacedError
from fsd.tasks import gather


class Recipes(Protocol):
    """Where recipes come from."""

    def recipe_nowait(self, recipe_id: bytes) -> Recipe | None:
        """A recipe that is in memory."""

    async def recipe(self, recipe_id: bytes) -> Recipe:
        """A recipe. Raises CorruptDataError, NotFoundError or StoreUnreachableError."""

    async def fresh_recipe(self, recipe: bytes) -> Recipe:
        """The same with the placements that the store has now (`Objects.fresh_recipe`)."""


RECIPES_AT_ONCE = 8
"""Of one stretch of a file, loaded anew."""


class ChunkRun(NamedTuple):
    """Chunks of a file that follow each other."""

    chunks: Sequence[PlacedChunk]
    skip: int
    """Bytes of the first chunk that lie before those that were asked for."""


class _RecipeNeededError(Exception):
    """Internal: a search came to a recipe that is not in memory."""

    def __init__(self, recipe_id: bytes) -> None:
        self.recipe_id = recipe_id


class Pieces:
    """The chunks of one file."""

    __slots__ = ("_chunks", "_ids", "_level", "_recipes", "_starts")

    def __init__(self, entry: Entry, recipes: Recipes) -> None:
        self._level = entry.level
        self._chunks = entry.chunks() if entry.level == 0 else ()
        self._ids = [piece.id for piece in entry.pieces] if entry.level else []
        self._starts = list(accumulate((piece.length for piece in entry.pieces), initial=0))
        self._recipes = recipes

    def __len__(self) -> int:
        """Chunks or recipes held here, by which memory is bounded."""
        return len(self._starts) - 1

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self._starts[-1]

    def run_nowait(self, start: int, end: int) -> ChunkRun | None:
        """The chunks of the bytes from `start` to before `end`, both in the file; None if a recipe is not in memory."""
        try:
            return self._run(start, end, {})
        except _RecipeNeededError:
            return None

    async def run(self, start: int, end: int) -> ChunkRun:
        """The same, loading recipes. Raises as `Recipes.recipe` does."""
        loaded: dict[bytes, Recipe] = {}
        while True:
            try:
                return self._run(start, end, loaded)
            except _RecipeNeededError as needed:
                loaded[needed.recipe_id] = await self._recipes.recipe(needed.recipe_id)

    async def all_runs(self, run_bytes: int) -> AsyncIterator[Sequence[PlacedChunk]]:
        """All chunks in order, those of about `run_bytes` at a time; a chunk that is cut comes once."""
        at = 0
        while at < self.size:
            chunks, skip = await self.run(at, min(at + run_bytes, self.size))
            yield chunks
            at += sum(chunk.length for chunk in chunks) - skip

    async def leaves(self, start: int, end: int) -> Sequence[bytes]:
        """The recipes that place the chunks of these bytes; none where the entry does so itself. Raises as `run`."""
        loaded: dict[bytes, Recipe] = {}
        while self._level:
            try:
                return [*self._leaves(self._level, self._starts, self._ids.__getitem__, start, end, loaded)]
            except _RecipeNeededError as needed:
                loaded[needed.recipe_id] = await self._recipes.recipe(needed.recipe_id)
        return []

    async def placed_anew(
        self, start: int, end: int, error: MisplacedError, load_entry: Callable[[], Awaitable[Entry]]
    ) -> Pieces:
        """The same file with its chunks, those from `start` to before `end`, placed as the store says now.

        `error` tells of one of them; it is raised if the store says the same still, or has nothing to say.
        `load_entry` gives the entry as it is in a fresh page. Raises also StoreUnreachableError.
        """
        try:
            pieces = self if self._level else Pieces(await load_entry(), self._recipes)
            await gather(self._recipes.fresh_recipe, await self.leaves(start, end), tasks=RECIPES_AT_ONCE)
            run = await pieces.run(start, end)
        except CorruptDataError:
            raise error from None
        if error.misplaced in run.chunks:
            raise error
        return pieces

    def _run(self, start: int, end: int, loaded: dict[bytes, Recipe]) -> ChunkRun:
        if self._level:
            return self._descend(self._level, self._starts, self._ids.__getitem__, start, end, loaded)
        first = bisect_right(self._starts, start) - 1
        last = bisect_left(self._starts, end, lo=first)
        return ChunkRun(self._chunks[first:last], start - self._starts[first])

    def _descend(
        self,
        level: int,
        starts: Sequence[int],
        id_at: Callable[[int], bytes],
        start: int,
        end: int,
        loaded: dict[bytes, Recipe],
    ) -> ChunkRun:
        """The run below pieces of `level`, which is above 0; offsets count from the first piece."""
        chunks: list[PlacedChunk] = []
        skip = 0
        first = bisect_right(starts, start) - 1
        for position in range(first, bisect_left(starts, end, lo=first)):
            base = starts[position]
            length = starts[position + 1] - base
            low, high = max(start - base, 0), min(end - base, length)
            recipe = self._recipe(id_at(position), level - 1, length, loaded)
            if recipe.level:
                below = self._descend(recipe.level, recipe.starts, recipe.id, low, high, loaded)
            else:
                chunk = recipe.find(low)
                below = ChunkRun(recipe.chunks(chunk, recipe.find(high - 1) + 1 - chunk), low - recipe.starts[chunk])
            if not chunks:
                skip = below.skip
            chunks += below.chunks
        return ChunkRun(chunks, skip)

    def _leaves(
        self,
        level: int,
        starts: Sequence[int],
        id_at: Callable[[int], bytes],
        start: int,
        end: int,
        loaded: dict[bytes, Recipe],
    ) -> Iterator[bytes]:
        """The same way down, to the recipes of level 0."""
        first = bisect_right(starts, start) - 1
        for position in range(first, bisect_left(starts, end, lo=first)):
            base, length = starts[position], starts[position + 1] - starts[position]
            if level == 1:
                yield id_at(position)
                continue
            recipe = self._recipe(id_at(position), level - 1, length, loaded)
            low, high = max(start - base, 0), min(end - base, length)
            yield from self._leaves(recipe.level, recipe.starts, recipe.id, low, high, loaded)

    def _recipe(self, recipe_id: bytes, level: int, size: int, loaded: dict[bytes, Recipe]) -> Recipe:
        recipe = loaded.get(recipe_id) or self._recipes.recipe_nowait(recipe_id)
        if recipe is None:
            raise _RecipeNeededError(recipe_id)
        if recipe.level != level or recipe.size != size:
            raise CorruptDataError(f"recipe {recipe_id.hex()} is not what the file or recipe above it describes")
        return recipe
