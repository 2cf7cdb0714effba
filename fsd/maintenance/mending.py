"""Who may have what a store lost (`Donor`), and a loader that puts lost objects back as it meets them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from fsd.errors import CorruptDataError
from fsd.format.envelope import unseal
from fsd.format.keys import ObjectKind, object_key
from fsd.ids import Buffer
from fsd.stores.base import ObjectExistsError, ObjectNotFoundError, Store


class Donor(Protocol):
    """A place on this machine where contents of a store may be. What it gives is checked by who asks.

    Raises nothing for what it does not have or cannot read; FsdError where it is itself out of order.
    """

    @property
    def name(self) -> str:
        """For people: `the cache …`, a folder."""

    async def look_for(self, chunks: Mapping[bytes, int]) -> None:
        """These chunks (their lengths in bytes, by id) will be asked for: whoever has to search does so now."""

    async def stored_object(self, kind: ObjectKind, object_id: bytes) -> bytes | None:
        """An object as a store holds it; None if it is not here."""

    async def chunk(self, chunk: bytes, length: int) -> Buffer | None:
        """A chunk's plaintext; None if it is not here."""


class Mended(NamedTuple):
    """Something that is in the store again."""

    what: str
    """As in `Damage`: commit, index, page, recipe, segment, refs, or pack."""
    id: str
    origins: tuple[str, ...]
    """The donors that gave something; none where all was still in the store."""
    why: str
    """What was wrong with it."""
    chunks: int = 0
    """Of a pack: those that were put back."""
    bytes: int = 0
    """Of these chunks, as stored; of an object, all of it."""


class MendingLoader:
    """Objects straight from a store. One that is missing or damaged there is put back, if a donor has it.

    So one walk mends all that it meets, and what lies below.
    """

    def __init__(self, store: Store, donors: Sequence[Donor], before_writing: Callable[[], Awaitable[None]]) -> None:
        """`before_writing` takes a lease."""
        self._store = store
        self._donors = donors
        self._before_writing = before_writing
        self.mended: list[Mended] = []

    async def load(self, kind: ObjectKind, object_id: bytes) -> bytes:
        """One request for what is sound. Raises what a store raises; gives what is damaged where nobody has better."""
        try:
            stored, why = await self._stored(kind, object_id)
        except ObjectNotFoundError:
            found = await self._mend(kind, object_id, "it is missing", is_there=False)
            if found is None:
                raise
            return found
        if not why:
            return stored
        return await self._mend(kind, object_id, why, is_there=True) or stored

    async def reload(self, kind: ObjectKind, object_id: bytes) -> bytes:
        """The same: nothing is kept here."""
        return await self.load(kind, object_id)

    async def forget(self, kind: ObjectKind, object_id: bytes) -> None:
        """Nothing is kept here."""

    async def _stored(self, kind: ObjectKind, object_id: bytes) -> tuple[bytes, str]:
        """What the store has, and what is wrong with it. What the network has spoiled is right on a second look."""
        why = ""
        for _ in range(2):
            stored = (await self._store.get(object_key(kind, object_id))).data
            try:
                unseal(kind, object_id, stored)
                return stored, ""
            except CorruptDataError as error:
                why = error.message
        return stored, why

    async def _mend(self, kind: ObjectKind, object_id: bytes, why: str, *, is_there: bool) -> bytes | None:
        """What a donor has of the object, which is in the store then; None if nobody has it."""
        for donor in self._donors:
            data = await donor.stored_object(kind, object_id)
            if data is None:
                continue
            try:
                unseal(kind, object_id, data)
            except CorruptDataError:
                continue
            key = object_key(kind, object_id)
            await self._before_writing()
            if is_there:
                await self._store.overwrite(key, data)
            else:
                try:
                    await self._store.put_if_absent(key, data)
                except ObjectExistsError:
                    return data  # somebody else put it back: who looks next sees what that is
            self.mended.append(Mended(kind.name.lower(), object_id.hex(), (donor.name,), why, bytes=len(data)))
            return data
        return None
