"""Objects named by their hash, read and written: pages, indexes, recipes, commits, log segments.

`Objects` hands out only what was verified, decodes each object once however many tasks want it, and keeps the decoded
form within bounds. It does not know where stored bytes come from (an `ObjectLoader`: the store, or a cache of it) nor
which object leads to which. `ObjectWriter` is the one way in which such objects get into a store.

Decoding happens in the event loop: a full page takes 0.8 ms of Python code that would hold the interpreter's lock in a
thread just the same, and would then be switched away from the loop for 5 ms at a time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

import trio

from fsd.errors import CorruptDataError, FsdError
from fsd.format.commit import Commit, parse_commit
from fsd.format.envelope import seal, unseal, unseal_logical
from fsd.format.index import Index
from fsd.format.keys import ObjectKind, object_key, pack_key
from fsd.format.outline import Outline
from fsd.format.page import Page
from fsd.format.placement import placed_packs
from fsd.format.recipe import Recipe
from fsd.format.ref import Move, parse_segment
from fsd.limits import Limits
from fsd.repo.leases import Leases
from fsd.stores.base import ObjectExistsError, ObjectNotFoundError, Store

MAX_FRESH = 4096
"""Objects of which it is remembered when they were loaded anew; the oldest go first."""

CommitObject = tuple[Commit, Index]
"""A commit's header and the root of its tree: they are one object."""


class MissingObjectError(CorruptDataError):
    """An object that something names is not there. Never "not found": the path that led to it does exist."""

    def __init__(self, kind: ObjectKind, object_id: bytes, where: str) -> None:
        super().__init__(
            f"{kind.name.lower()} {object_id.hex()} is missing from {where}",
            hint="the files of a version that 'fsd gc' let expire are gone; of any other, see what 'fsd verify' finds",
        )


class ObjectLoader(Protocol):
    """Where stored objects come from."""

    async def load(self, kind: ObjectKind, object_id: bytes) -> bytes:
        """The stored bytes; need not be verified. Raises ObjectNotFoundError, StoreUnreachableError."""

    async def reload(self, kind: ObjectKind, object_id: bytes) -> bytes:
        """The same as they are now where they were written: what is not covered by the id may have changed."""

    async def forget(self, kind: ObjectKind, object_id: bytes) -> None:
        """The bytes were bad: the next `load` must get them from where they were written."""


class StoreLoader:
    """Objects straight from a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def load(self, kind: ObjectKind, object_id: bytes) -> bytes:
        """One request."""
        return (await self._store.get(object_key(kind, object_id))).data

    async def reload(self, kind: ObjectKind, object_id: bytes) -> bytes:
        """The same: nothing is kept here."""
        return await self.load(kind, object_id)

    async def forget(self, kind: ObjectKind, object_id: bytes) -> None:
        """Nothing is kept here."""


def _decode_page(object_id: bytes, stored: bytes) -> tuple[Page, int]:
    page = Page(*unseal(ObjectKind.PAGE, object_id, stored))
    return page, page.memory_bytes


def _decode_outline(object_id: bytes, stored: bytes) -> tuple[Outline, int]:
    logical = unseal_logical(ObjectKind.PAGE, object_id, stored)
    return Outline(logical), len(logical)


def _decode_index(object_id: bytes, stored: bytes) -> tuple[Index, int]:
    logical, _ = unseal(ObjectKind.INDEX, object_id, stored)
    index = Index(logical)
    return index, index.memory_bytes


def _decode_recipe(object_id: bytes, stored: bytes) -> tuple[Recipe, int]:
    recipe = Recipe(*unseal(ObjectKind.RECIPE, object_id, stored))
    return recipe, recipe.memory_bytes


def _decode_commit(object_id: bytes, stored: bytes) -> tuple[CommitObject, int]:
    logical, _ = unseal(ObjectKind.COMMIT, object_id, stored)
    commit, root = parse_commit(logical)
    # The header may be as long as its author likes.
    return (commit, root), root.memory_bytes + len(logical)


def _decode_segment(object_id: bytes, stored: bytes) -> tuple[tuple[Move, ...], int]:
    logical, _ = unseal(ObjectKind.SEGMENT, object_id, stored)
    return parse_segment(logical), len(logical)


Value = TypeVar("Value")

_Decode = Callable[[bytes, bytes], tuple[Value, int]]
"""From an id and the stored bytes to the value and about the bytes that it occupies."""


class _Kept(Generic[Value]):
    """Decoded objects of one kind by id, up to `capacity` bytes; the least recently used goes first."""

    def __init__(self, kind: ObjectKind, decode: _Decode[Value], capacity: int) -> None:
        self.kind = kind
        self.decode = decode
        self.flights: dict[bytes, _Flight] = {}
        self._capacity = capacity
        self._weight = 0
        self._values: OrderedDict[bytes, tuple[Value, int]] = OrderedDict()

    def get(self, object_id: bytes) -> Value | None:
        found = self._values.get(object_id)
        if found is None:
            return None
        self._values.move_to_end(object_id)
        return found[0]

    def put(self, object_id: bytes, value: Value, weight: int) -> None:
        if object_id in self._values:
            self._weight -= self._values.pop(object_id)[1]
        self._values[object_id] = (value, weight)
        self._weight += weight
        while self._weight > self._capacity and len(self._values) > 1:
            self._weight -= self._values.popitem(last=False)[1][1]


class _Flight:
    """One load that several tasks wait for."""

    def __init__(self, *, is_fresh: bool) -> None:
        self.is_fresh = is_fresh
        """Whether it goes past what the loader keeps."""
        self.landed = trio.Event()
        self.error: FsdError | None = None


class Objects:
    """Verified, decoded objects. For the tasks of one trio loop.

    All that is returned is immutable and may be kept for as long as it is wanted. Each call raises CorruptDataError
    for an object that is bad also on a second look, MissingObjectError (a CorruptDataError) for one that is not there,
    and what a store raises.
    """

    def __init__(self, loader: ObjectLoader, limits: Limits, *, where: str = "the store") -> None:
        self._loader = loader
        self._where = where
        self._fresh_s = limits.fresh_hints_s
        self._loaded_anew_s: OrderedDict[bytes, float] = OrderedDict()
        """When a page or recipe was asked for anew, by trio's clock, whatever came of it; oldest first."""
        self._pages = _Kept(ObjectKind.PAGE, _decode_page, limits.page_memory_bytes)
        # The others are few beside pages, yet each can hold a megabyte: a share of their own keeps a scan over pages
        # from throwing out what leads to them.
        self._indexes = _Kept(ObjectKind.INDEX, _decode_index, limits.page_memory_bytes // 4)
        self._recipes = _Kept(ObjectKind.RECIPE, _decode_recipe, limits.page_memory_bytes // 4)
        self._commits = _Kept(ObjectKind.COMMIT, _decode_commit, limits.page_memory_bytes // 4)

    def page_nowait(self, page: bytes) -> Page | None:
        """The page, if it is in memory."""
        return self._pages.get(page)

    def index_nowait(self, index: bytes) -> Index | None:
        """The index, if it is in memory."""
        return self._indexes.get(index)

    def recipe_nowait(self, recipe: bytes) -> Recipe | None:
        """The recipe, if it is in memory."""
        return self._recipes.get(recipe)

    def commit_nowait(self, commit: bytes) -> CommitObject | None:
        """The commit, if it is in memory."""
        return self._commits.get(commit)

    async def page(self, page: bytes) -> Page:
        """A page."""
        return await self._get(self._pages, page)

    async def outline(self, page: bytes) -> Outline:
        """The outline of a page. Not kept: a comparison looks at each once, and should not push out what is read."""
        kept = self._pages.get(page)
        return kept if kept is not None else (await self._load(ObjectKind.PAGE, page, _decode_outline))[0]

    async def index(self, index: bytes) -> Index:
        """An index that is not a root."""
        return await self._get(self._indexes, index)

    async def recipe(self, recipe: bytes) -> Recipe:
        """A recipe."""
        return await self._get(self._recipes, recipe)

    async def fresh_page(self, page: bytes) -> Page:
        """A page with the placements that the store has now: those of the one at hand led nowhere.

        At most one request, shared by all who want it at the same time. None if there was one `limits.fresh_hints_s`
        ago or less, whatever came of it: then this is `page`.
        """
        return await self._get_fresh(self._pages, page)

    async def fresh_recipe(self, recipe: bytes) -> Recipe:
        """The same for a recipe."""
        return await self._get_fresh(self._recipes, recipe)

    async def commit(self, commit: bytes) -> CommitObject:
        """A commit or subset: its header, and the root of its tree."""
        return await self._get(self._commits, commit)

    async def segment(self, segment: bytes) -> tuple[Move, ...]:
        """The moves in a log segment, oldest first. Not kept: histories are read once."""
        return (await self._load(ObjectKind.SEGMENT, segment, _decode_segment))[0]

    async def _get(self, kept: _Kept[Value], object_id: bytes) -> Value:
        """From memory, or load it unless somebody is at it already; then wait for them, and share their error.

        The first to come leads: it loads in its own task. If it is cancelled, one of those who wait leads instead.
        """
        while True:
            value = kept.get(object_id)
            if value is not None:
                return value
            flight = kept.flights.get(object_id)
            if flight is None:
                return await self._lead(kept, object_id)
            await flight.landed.wait()
            if flight.error is not None:
                raise flight.error

    async def _get_fresh(self, kept: _Kept[Value], object_id: bytes) -> Value:
        """As `_get`, from where the object was written. What is in memory or on disk stays if there is nothing new."""
        while True:
            flight = kept.flights.get(object_id)
            if flight is not None:
                # Also of a load that may bring what is old: it must not land behind us.
                await flight.landed.wait()
                if flight.is_fresh and flight.error is not None:
                    raise flight.error
            elif self._is_fresh(object_id):
                return await self._get(kept, object_id)
            else:
                return await self._lead_fresh(kept, object_id)

    async def _lead_fresh(self, kept: _Kept[Value], object_id: bytes) -> Value:
        try:
            value = await self._lead(kept, object_id, is_fresh=True)
        except CorruptDataError:
            self._note_fresh(object_id)
            raise
        self._note_fresh(object_id)
        return value

    def _is_fresh(self, object_id: bytes) -> bool:
        loaded_s = self._loaded_anew_s.get(object_id)
        return loaded_s is not None and trio.current_time() - loaded_s <= self._fresh_s

    def _note_fresh(self, object_id: bytes) -> None:
        self._loaded_anew_s[object_id] = trio.current_time()
        self._loaded_anew_s.move_to_end(object_id)
        if len(self._loaded_anew_s) > MAX_FRESH:
            self._loaded_anew_s.popitem(last=False)

    async def _lead(self, kept: _Kept[Value], object_id: bytes, *, is_fresh: bool = False) -> Value:
        flight = kept.flights[object_id] = _Flight(is_fresh=is_fresh)
        try:
            value, weight = await self._load(kept.kind, object_id, kept.decode, is_fresh=is_fresh)
            kept.put(object_id, value, weight)
            return value
        except FsdError as error:
            flight.error = error
            raise
        finally:
            del kept.flights[object_id]
            flight.landed.set()

    async def _load(
        self, kind: ObjectKind, object_id: bytes, decode: _Decode[Value], *, is_fresh: bool = False
    ) -> tuple[Value, int]:
        """The decoded object and its weight. A bad object is asked for once more, past the loader's own cache."""
        try:
            return decode(object_id, await self._stored(kind, object_id, is_fresh=is_fresh))
        except MissingObjectError:
            raise
        except CorruptDataError:
            await self._loader.forget(kind, object_id)
        try:
            return decode(object_id, await self._stored(kind, object_id))
        except MissingObjectError:
            raise
        except CorruptDataError as error:
            what = f"{kind.name.lower()} {object_id.hex()}"
            here = f"{what} in {self._where}"
            message = error.message.replace(what, here) if what in error.message else f"{here} is bad: {error.message}"
            raise CorruptDataError(message) from error

    async def _stored(self, kind: ObjectKind, object_id: bytes, *, is_fresh: bool = False) -> bytes:
        try:
            return await (self._loader.reload if is_fresh else self._loader.load)(kind, object_id)
        except ObjectNotFoundError as error:
            raise MissingObjectError(kind, object_id, self._where) from error


class ObjectWriter:
    """Puts objects into a store: sealed, under their own name, once."""

    def __init__(self, store: Store, leases: Leases | None = None) -> None:
        """`leases` tell what gc is about to delete; without, that is nothing."""
        self._store = store
        self._leases = leases
        self._present: set[bytes] = set()
        """Packs that were asked for, and are there."""

    async def write(self, kind: ObjectKind, logical: bytes, placement: bytes = b"") -> bytes:
        """The id of the object, which is durable when this returns.

        Idempotent: where the object is there already, it stays as it is, also if its placements differ. They name
        packs that hold the same chunks, and whoever reads the tree uses those. But one that is bad, or that names a
        pack which is gone, is replaced: else what was just published could not be read. So is any that gc may be about
        to delete: it deletes only what is as it was when it was condemned.
        """
        object_id, stored = seal(kind, logical, placement)
        await self._put(kind, object_id, stored)
        return object_id

    async def _put(self, kind: ObjectKind, object_id: bytes, stored: bytes) -> None:
        key = object_key(kind, object_id)
        if self._leases is not None:
            await self._leases.take()
        try:
            await self._store.put_if_absent(key, stored)
        except ObjectExistsError:
            is_doomed = self._leases is not None and self._leases.sweeping.is_pending
            if is_doomed or not await self._is_sound(kind, object_id, stored):
                await self._store.overwrite(key, stored)

    async def _is_sound(self, kind: ObjectKind, object_id: bytes, stored: bytes) -> bool:
        """Whether the object that is there is what its name promises, and leads to packs that are there.

        Mostly it is just `stored`.
        """
        try:
            found = (await self._store.get(object_key(kind, object_id))).data
            if found != stored:
                _, placement = unseal(kind, object_id, found)
                for pack in placed_packs(placement):
                    await self._check_pack(pack)
        except (CorruptDataError, ObjectNotFoundError):
            return False
        return True

    async def _check_pack(self, pack: bytes) -> None:
        """Raises ObjectNotFoundError. Garbage may name packs that are gone: a publisher that was killed left it."""
        if pack not in self._present:
            await self._store.stat(pack_key(pack))
            self._present.add(pack)
