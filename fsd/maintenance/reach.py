"""What a store's refs and runs reach: every commit that a branch, tag or subset ever named, the code, inputs and
outputs of every run, and all below them, each once.

The roots are the whole *history* of every ref, with the parents of each commit and what a subset was taken from: what
was ever published can be got back. Whoever walks is told of every page and recipe, by which it learns of the chunks
(`Visitor`); the walk itself keeps nothing but ids: 150 bytes an object, that is 200 KB for a million files.

A damaged or missing object does not end the walk: it is told, with the way that led there, and what lies below is left
out. A store that does not answer does end it.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import NamedTuple, Protocol

from fsd.errors import CorruptDataError, NotFoundError
from fsd.format.index import Index
from fsd.format.keys import ObjectKind
from fsd.format.page import Page
from fsd.format.recipe import Recipe
from fsd.format.ref import Move, RefKind
from fsd.format.run import RunName
from fsd.repo.objects import ObjectLoader, Objects, StoreLoader
from fsd.repo.refs import short
from fsd.repo.repository import Repositories
from fsd.tasks import gather

_Found = tuple[bytes, str]
"""An object's id and the way that led to it, for people."""


class Roots(NamedTuple):
    """Where a walk begins."""

    commits: dict[bytes, str]
    """Commits and subsets, with the ref that names each."""
    refs: int
    tips: set[bytes]
    """Those that a branch or tag names now, with the subsets of these, and those that runs name: expiry spares them."""


class Visitor(Protocol):
    """Who is told of what a walk meets, in trio's thread. Each object comes once; the order means nothing."""

    def page(self, page: Page, way: str) -> None:
        """A page; its entries name chunks, and recipes of a level below their own."""

    def recipe(self, recipe: Recipe, way: str) -> None:
        """A recipe; of level 0 it names chunks."""

    def damaged(self, kind: ObjectKind | None, object_id: bytes | None, why: str, way: str) -> None:
        """An object that is missing or not what it should be; without a kind and id it is a ref."""


class Reached:
    """The objects that a walk met, sound or not, by kind."""

    def __init__(self) -> None:
        self.by_kind: dict[ObjectKind, set[bytes]] = {kind: set() for kind in ObjectKind}

    def add(self, kind: ObjectKind, object_id: bytes) -> bool:
        """False if it is known."""
        known = self.by_kind[kind]
        if object_id in known:
            return False
        known.add(object_id)
        return True

    def __len__(self) -> int:
        return sum(map(len, self.by_kind.values()))


class Walk:
    """One walk. `reached` grows while `from_roots` runs."""

    def __init__(self, repositories: Repositories, visitor: Visitor, loader: ObjectLoader | None = None) -> None:
        """`loader` brings stored objects; None for the store itself."""
        self._repositories = repositories
        self.treeless: Container[bytes] = ()
        """Commits that count without their trees, since these were let go of."""
        # As they are in the store now: an object that was written anew may lead to other packs.
        store = repositories.store
        self._objects = Objects(loader or StoreLoader(store), repositories.limits, where=store.url)
        self._visitor = visitor
        self._tasks = repositories.limits.fetch_requests
        self.reached = Reached()

    async def roots(self) -> Roots:
        """What the refs of all repositories name, and ever named, and what runs name. Raises what a store raises."""
        roots = Roots({}, 0, set())
        refs = 0
        subsets: list[Move] = []
        for repository in await self._repositories.refs.repositories():
            for name in await self._repositories.refs.list(repository):
                refs += 1
                subsets += await self._history(repository, name, roots)
        roots.tips.update(move.commit for move in subsets if move.source in roots.tips)
        await self._runs(roots)
        return roots._replace(refs=refs)

    async def _runs(self, roots: Roots) -> None:
        """Add the code, inputs and outputs of every run."""
        runs = self._repositories.runs
        replaced = await runs.replaced()

        async def add(name: RunName) -> None:
            way = f"run {name.run} of {name.repository}"
            for read in (runs.read_start, runs.read_end):
                try:
                    record = await read(name)
                except NotFoundError:
                    continue  # it was deleted meanwhile
                except CorruptDataError as error:
                    self._visitor.damaged(None, None, error.message, way)
                    continue
                for commit in replaced.all_now(() if record is None else record.commits):
                    roots.commits.setdefault(commit, way)
                    roots.tips.add(commit)

        await gather(add, await runs.names(), tasks=self._tasks)

    async def _history(self, repository: str, name: str, roots: Roots) -> list[Move]:
        """Add what a ref names and named; returns the moves of one of subsets."""
        way = f"{repository}/{name}"
        subsets: list[Move] = []
        try:
            stored = await self._repositories.refs.read(repository, name)
            if stored is None:
                return []  # it was deleted meanwhile
            if stored.ref.kind is not RefKind.SUBSET:
                roots.tips.add(stored.ref.target)
            for segment in stored.ref.segments:
                self.reached.add(ObjectKind.SEGMENT, segment.id)
            async for move in self._repositories.refs.history(stored.ref):
                roots.commits.setdefault(move.commit, way)
                if move.source is not None:
                    roots.commits.setdefault(move.source, way)
                    subsets.append(move)
        except CorruptDataError as error:
            self._visitor.damaged(None, None, error.message, way)
        return subsets

    async def from_roots(self, roots: Iterable[_Found]) -> None:
        """Visit all that these commits reach and that was not reached before."""
        waiting = [found for found in roots if self.reached.add(ObjectKind.COMMIT, found[0])]
        while waiting:
            found, waiting = waiting, []
            for parents in await gather(self._commit, found, tasks=self._tasks):
                waiting += [parent for parent in parents if self.reached.add(ObjectKind.COMMIT, parent[0])]

    async def _commit(self, found: _Found) -> list[_Found]:
        """Visit a commit's tree; returns the commits that it names."""
        commit, way = found
        try:
            header, root = await self._objects.commit(commit)
        except CorruptDataError as error:
            self._visitor.damaged(ObjectKind.COMMIT, commit, error.message, way)
            return []
        if commit not in self.treeless:
            await self._index(root, f"{header.repository}/{short(commit)}")
        named = [*header.parents, *([header.source] if header.source is not None else [])]
        return [(parent, way) for parent in named]

    async def _index(self, index: Index, way: str) -> None:
        kind, visit = (ObjectKind.INDEX, self._deeper) if index.level else (ObjectKind.PAGE, self._page)
        fresh = [(child.id, way) for child in index.children if self.reached.add(kind, child.id)]
        await gather(visit, fresh, tasks=self._tasks)

    async def _deeper(self, found: _Found) -> None:
        index_id, way = found
        try:
            index = await self._objects.index(index_id)
        except CorruptDataError as error:
            self._visitor.damaged(ObjectKind.INDEX, index_id, error.message, way)
        else:
            await self._index(index, way)

    async def _page(self, found: _Found) -> None:
        page_id, way = found
        try:
            page = await self._objects.page(page_id)
        except CorruptDataError as error:
            self._visitor.damaged(ObjectKind.PAGE, page_id, error.message, way)
            return
        self._visitor.page(page, way)
        recipes = [
            (piece.id, f"{way}/{entry.path.decode(errors='surrogateescape')}")
            for entry in map(page.entry, page.recipe_positions())
            for piece in entry.pieces
        ]
        await self._recipes(recipes)

    async def _recipes(self, found: Iterable[_Found]) -> None:
        fresh = [each for each in found if self.reached.add(ObjectKind.RECIPE, each[0])]
        await gather(self._recipe, fresh, tasks=self._tasks)

    async def _recipe(self, found: _Found) -> None:
        recipe_id, way = found
        try:
            recipe = await self._objects.recipe(recipe_id)
        except CorruptDataError as error:
            self._visitor.damaged(ObjectKind.RECIPE, recipe_id, error.message, way)
            return
        self._visitor.recipe(recipe, way)
        if recipe.level:
            await self._recipes((recipe.id(position), way) for position in range(len(recipe)))
