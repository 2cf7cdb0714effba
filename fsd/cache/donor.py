"""A cache as a donor: what it has of a store goes back to where that lost it (`fsd.maintenance.mending.Donor`)."""

from __future__ import annotations

from collections.abc import Mapping

import trio

from fsd.cache.cache import Cache
from fsd.format.keys import ObjectKind
from fsd.ids import Buffer


class CacheDonor:
    """What a cache has, whose only user this process is. Nothing is fetched for it."""

    def __init__(self, cache: Cache, name: str) -> None:
        self._cache = cache
        self.name = name
        """See `Donor`."""

    async def look_for(self, chunks: Mapping[bytes, int]) -> None:  # noqa: ARG002 - it has an index
        """See `Donor`."""
        await trio.lowlevel.checkpoint()

    async def stored_object(self, kind: ObjectKind, object_id: bytes) -> bytes | None:
        """See `Donor`."""
        return await self._cache.stored_object(kind, object_id)

    async def chunk(self, chunk: bytes, length: int) -> Buffer | None:
        """See `Donor`."""
        return await self._cache.read_chunk(chunk, length, 0, length)
