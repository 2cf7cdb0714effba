"""A store with the format's rules: what the layers above open and hand around.

`Repositories` composes; it holds no rules of its own.
"""

from __future__ import annotations

from fsd.clock import Clock, now_us
from fsd.errors import ConflictError, NotFoundError
from fsd.format.chunker import ChunkerParams
from fsd.format.commit import Commit
from fsd.format.index import Index
from fsd.format.keys import STORE_MARKER
from fsd.format.marker import StoreMarker, encode_marker, new_marker, parse_marker
from fsd.limits import DEFAULT_LIMITS, Limits
from fsd.repo.builder import Built
from fsd.repo.leases import Leases
from fsd.repo.objects import ObjectLoader, Objects, ObjectWriter, StoreLoader
from fsd.repo.packs import PackReader
from fsd.repo.refs import Refs
from fsd.repo.runs import Runs
from fsd.repo.tree import Tree
from fsd.stores.base import ObjectExistsError, ObjectNotFoundError, Store


async def read_marker(store: Store) -> StoreMarker:
    """What the store says of itself. One request.

    Raises NotFoundError if this is no fsd store, UnsupportedFormatError if this program cannot read it.
    """
    try:
        data = (await store.get(STORE_MARKER)).data
    except ObjectNotFoundError as error:
        raise NotFoundError(f"{store.url} is not an fsd store", hint=f"make one with 'fsd init {store.url}'") from error
    marker = parse_marker(data, store.url)
    marker.check_readable(store.url)
    return marker


async def init_store(
    store: Store,
    *,
    chunker: ChunkerParams | None = None,
    keep: tuple[str, ...] | None = None,
    clock: Clock = now_us,
) -> StoreMarker:
    """Make an empty place a store. Raises ConflictError if it is one already, or if there are other objects in it.

    What in a folder could be no object's key (a name with a space, a hidden file) is not seen from here.
    """
    already = ConflictError(f"{store.url} is an fsd store already", hint="use it as it is")
    async for info in store.list(""):
        if await _is_store(store):
            raise already
        raise ConflictError(
            f"{store.url} is not empty: there is {info.key} in it",
            hint="give an empty folder, or one that is to be made",
        )
    marker = new_marker(clock(), chunker, keep)
    try:
        await store.put_if_absent(STORE_MARKER, encode_marker(marker))
    except ObjectExistsError:
        raise already from None
    return marker


async def _is_store(store: Store) -> bool:
    try:
        await store.stat(STORE_MARKER)
    except ObjectNotFoundError:
        return False
    return True


class Repositories:
    """All repositories of a store."""

    def __init__(self, store: Store, marker: StoreMarker, loader: ObjectLoader, limits: Limits, clock: Clock) -> None:
        self.store = store
        self.marker = marker
        self.limits = limits
        self.clock = clock
        self.objects = Objects(loader, limits, where=store.url)
        self.leases = Leases(store, clock, limits)
        self.writer = ObjectWriter(store, self.leases)
        self.refs = Refs(store, self.objects, self.writer, clock, limits, self.check_writable, self.leases)
        self.runs = Runs(store, limits, self.leases)
        self.packs = PackReader(store)

    def check_writable(self) -> None:
        """Raises UnsupportedFormatError if this program must not write to the store: whoever writes asks first."""
        self.marker.check_writable(self.store.url)

    async def commit(self, commit: bytes) -> Commit:
        """The header of a commit or subset. Raises MissingObjectError."""
        return (await self.objects.commit(commit))[0]

    async def tree(self, commit: bytes) -> Tree:
        """The tree of a commit or subset: one request if it is not in memory, none otherwise."""
        header, root = await self.objects.commit(commit)
        return Tree(header.tree, root, self.objects, self.limits.listing_read_ahead_pages)

    def built_tree(self, built: Built) -> Tree:
        """A tree that was built just now, and that no commit names yet."""
        return Tree(built.id, Index(built.root), self.objects, self.limits.listing_read_ahead_pages)


async def open_repositories(
    store: Store,
    limits: Limits = DEFAULT_LIMITS,
    *,
    marker: StoreMarker | None = None,
    loader: ObjectLoader | None = None,
    clock: Clock = now_us,
) -> Repositories:
    """Open a store: one request, or none with a `marker` that was read already.

    `loader` brings stored objects from a cache; without it they come from the store. Raises as `read_marker`.
    """
    return Repositories(store, marker or await read_marker(store), loader or StoreLoader(store), limits, clock)
