"""What a path below a mount stands for: a version, or a folder or file of one, and all chunks that lie in it.

A walk over a target yields *stretches*: chunks of files that follow each other, some megabytes at a time, in the order
of the tree. That is also the order of packs, as far as one commit wrote them. Pages are read ahead, recipes are loaded
where they are needed, and memory is bounded whatever the target's size. Knows no cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from fsd.errors import CorruptDataError, NotFoundError, UsageError
from fsd.format.model import Kind, PlacedChunk
from fsd.format.page import Page
from fsd.format.recipe import Recipe
from fsd.ids import content_id
from fsd.limits import Limits
from fsd.repo.filtered import FilteredTree
from fsd.repo.tree import Found, Tree, TreeView
from fsd.vfs.kept import KeptObjects
from fsd.vfs.nodes import Version
from fsd.vfs.pieces import Pieces, Recipes
from fsd.vfs.versions import Link, Versions

STRETCH_CHUNKS = 1024
"""At most so many in a stretch, however small they are: it is looked up in one go, at ten microseconds each."""


class Place(NamedTuple):
    """A version and a path in it, b'' for its top."""

    version: Version
    path: bytes

    @property
    def name(self) -> str:
        """For people, and for pins: from the mountpoint."""
        shown = f"{self.version.repository}/{self.version.label}"
        return f"{shown}/{self.path.decode(errors='surrogateescape')}" if self.path else shown


class Target(NamedTuple):
    """A place that is there."""

    place: Place
    tree: TreeView
    objects: KeptObjects
    file: Found | None
    """None for a directory."""

    @property
    def key(self) -> str:
        """Hex digits that name the content: the same for every name of a version."""
        return content_id(self.tree.id + b"\0" + self.place.path).hex()


class FreshObjects(Protocol):
    """Where a stretch is looked up anew."""

    async def fresh_page(self, page: bytes) -> Page:
        """See `fsd.repo.objects.Objects`."""

    async def fresh_recipe(self, recipe: bytes) -> Recipe:
        """The same."""


@dataclass(slots=True)
class Stretch:
    """Chunks of files that follow each other."""

    chunks: list[PlacedChunk] = field(default_factory=list)
    pages: set[bytes] = field(default_factory=set)
    """Where their placements are from, """
    recipes: set[bytes] = field(default_factory=set)
    """and those of large files."""
    ends: list[int] = field(default_factory=list)
    """For each file that ends here, how many of `chunks` lie before its end. The last file may go on behind."""
    size_bytes: int = 0

    def add(self, chunk: PlacedChunk) -> None:
        """One chunk more of the file."""
        self.chunks.append(chunk)
        self.size_bytes += chunk.length

    def end_file(self) -> None:
        """The file ends."""
        self.ends.append(len(self.chunks))

    async def place_anew(self, objects: FreshObjects) -> None:
        """Place the chunks as the store says now; those of which it says nothing stay as they are.

        Raises StoreUnreachableError.
        """
        placed: dict[bytes, PlacedChunk] = {}
        for page_id in self.pages:
            with suppress(CorruptDataError):
                page = await objects.fresh_page(page_id)
                for entry in page.entries():
                    if entry.level == 0:
                        placed.update((chunk.id, chunk) for chunk in entry.chunks())
        for recipe_id in self.recipes:
            with suppress(CorruptDataError):
                recipe = await objects.fresh_recipe(recipe_id)
                placed.update((chunk.id, chunk) for chunk in recipe.chunks(0, len(recipe)))
        self.chunks = [placed.get(chunk.id, chunk) for chunk in self.chunks]

    def is_full(self, stretch_bytes: int) -> bool:
        """Whether it is time for the next one."""
        return (
            self.size_bytes >= stretch_bytes or len(self.ends) >= STRETCH_CHUNKS or len(self.chunks) >= STRETCH_CHUNKS
        )


async def find_place(versions: Versions, path: bytes) -> Place:
    """The place at a path from the mountpoint, whose symlinks have been followed. Raises NotFoundError, UsageError."""
    names = [name for name in path.split(b"/") if name]
    if len(names) < 2:
        raise UsageError("that is no version, nor in one", hint="name a version, or a folder or file in it")
    repository, label = (name.decode(errors="surrogateescape") for name in names[:2])
    named = await versions.find(repository, label)
    if named is None:
        raise NotFoundError(f"there is no {repository}/{label}")
    if isinstance(named.node, Link):
        raise UsageError(f"{repository}/{label} is a symlink to {named.node.target}", hint="follow it first")
    return Place(named.node, b"/".join(names[2:]))


async def open_target(place: Place, objects: KeptObjects, limits: Limits) -> Target:
    """What is at a place. All that leads there, and below, comes through `objects`. Raises NotFoundError."""
    version = place.version
    if version.commit != version.tree_of:
        await objects.commit(version.commit)  # asked for when the version is looked up
    header, root = await objects.commit(version.tree_of)
    stored = Tree(header.tree, root, objects, limits.listing_read_ahead_pages)
    tree: TreeView = stored if version.rule is None else FilteredTree(stored, version.rule)
    found: Found | None = None
    names = place.path.split(b"/") if place.path else []
    for depth, name in enumerate(names):
        found = await tree.find(b"/".join(names[:depth]), name)
        if found is None:
            raise NotFoundError(f"there is no {place.name}")
    if found is not None and found.page.kind(found.position) == Kind.DIRECTORY:
        found = None
    return Target(place, tree, objects, found)


class LargeFile:
    """A file that is being walked, a run of chunks at a time."""

    def __init__(self, page: Page, position: int, recipes: Recipes) -> None:
        """The file at a position of a page."""
        self._page = page.id
        self._pieces = Pieces(page.entry(position), recipes)
        self._at = 0

    @property
    def is_over(self) -> bool:
        """Whether all of it was given."""
        return self._at >= self._pieces.size

    async def add_run(self, stretch: Stretch, run_bytes: int) -> int:
        """Add the next chunks to a stretch, about so many bytes of them: how many it was. Raises as `Pieces.run`."""
        end = min(self._at + run_bytes, self._pieces.size)
        chunks, skip = await self._pieces.run(self._at, end)
        if leaves := await self._pieces.leaves(self._at, end):
            stretch.recipes.update(leaves)
        else:
            stretch.pages.add(self._page)
        size = sum(chunk.length for chunk in chunks)
        for chunk in chunks:
            stretch.add(chunk)
        self._at += size - skip
        return size


class Stretches:
    """An async iterator over all chunks of a target. Raises what loading objects raises.

    May be left at any point, with nothing to close.
    """

    def __init__(self, target: Target, stretch_bytes: int, limit_bytes: int | None = None) -> None:
        """Each stretch has about `stretch_bytes`; all of them together `limit_bytes` at most."""
        self._objects = target.objects
        self._stretch_bytes = stretch_bytes
        self._left_bytes = limit_bytes
        self._pages = aiter(target.tree.list_below(target.place.path)) if target.file is None else None
        self._page: Page | None = target.file.page if target.file is not None else None
        self._positions: Iterator[int] = iter((target.file.position,) if target.file is not None else ())
        self._large: LargeFile | None = None

    def __aiter__(self) -> Stretches:
        return self

    async def __anext__(self) -> Stretch:
        stretch = Stretch()
        while not stretch.is_full(self._stretch_bytes):
            if self._large is not None:
                await self._add_run(stretch, self._large)
            elif not self._add_files(stretch) and not await self._next_page():
                break
        if self._left_bytes is not None:
            self._left_bytes -= stretch.size_bytes
        if not (stretch.ends or stretch.chunks) or (self._left_bytes is not None and self._left_bytes < 0):
            raise StopAsyncIteration
        return stretch

    async def _next_page(self) -> bool:
        listed = None if self._pages is None else await anext(self._pages, None)
        if listed is None:
            return False
        self._page, self._positions = listed.page, iter(listed.positions)
        return True

    def _add_files(self, stretch: Stretch) -> bool:
        """The next files of the page, up to a large one; False if there are none left."""
        page = self._page
        if page is None:
            return False
        for position in self._positions:
            chunk = page.single_chunk(position)
            if chunk is not None:
                stretch.pages.add(page.id)
                stretch.add(chunk)
                stretch.end_file()
            elif page.kind(position) == Kind.FILE:
                self._large = LargeFile(page, position, self._objects)
                return True
            if stretch.is_full(self._stretch_bytes):
                return True
        self._page = None
        return False

    async def _add_run(self, stretch: Stretch, large: LargeFile) -> None:
        if not large.is_over:
            await large.add_run(stretch, self._stretch_bytes)
        if large.is_over:
            stretch.end_file()
            self._large = None
