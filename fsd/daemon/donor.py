"""A mount as a donor: its daemon, which alone may use its cache, gives what is there
(`fsd.maintenance.mending.Donor`)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import trio

from fsd.daemon.control_client import Fetching
from fsd.format.keys import ObjectKind
from fsd.ids import Buffer


class MountDonor:
    """What the cache of a mount has. The daemon fetches nothing for it."""

    def __init__(self, fetching: Fetching, mountpoint: str) -> None:
        self._fetching = fetching
        self._one_at_a_time = trio.Lock()
        self.name = f"the cache of {mountpoint}"
        """See `Donor`."""

    async def look_for(self, chunks: Mapping[bytes, int]) -> None:  # noqa: ARG002 - it has an index
        """See `Donor`."""
        await trio.lowlevel.checkpoint()

    async def stored_object(self, kind: ObjectKind, object_id: bytes) -> bytes | None:
        """See `Donor`. Raises FsdError if the daemon has gone away."""
        return await self._fetch("object", {"id": object_id.hex(), "kind": kind.name.lower()})

    async def chunk(self, chunk: bytes, length: int) -> Buffer | None:
        """See `Donor`. Raises FsdError if the daemon has gone away."""
        return await self._fetch("chunk", {"id": chunk.hex(), "length": length})

    async def _fetch(self, what: str, asked: dict[str, Any]) -> bytes | None:
        async with self._one_at_a_time:
            return await trio.to_thread.run_sync(partial(self._fetching.fetch, what, asked))
