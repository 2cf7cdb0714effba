"""Reading packs: ranges of stored bytes, and the table of contents. No chunk is decoded or verified here.

A pack that is gone may have been repacked: `moved/<pack>` will then say where its chunks went. Only gc writes those
notes, and there is none yet; following them belongs into `PackReader.read`, the one place that meets the loss.
"""

from __future__ import annotations

from typing import Protocol

from fsd.format.keys import pack_key
from fsd.format.pack import FOOTER_BYTES, Contents, parse_contents, parse_footer
from fsd.stores.base import Store

TAIL_BYTES = 64 * 1024
"""Asked for when the contents are wanted: the contents of 1,600 chunks, which is a full pack of small files."""


class PackSource(Protocol):
    """Where a cache gets packs from."""

    async def read(self, pack: bytes, start: int, length: int) -> bytes:
        """`length` stored bytes from byte `start`; fewer only where the pack ends.

        Raises ObjectNotFoundError for a pack that is gone, and what else a store raises.
        """

    async def contents(self, pack: bytes) -> Contents:
        """All chunks of the pack, in pack order. Raises also CorruptDataError."""


class PackReader:
    """The packs of a store. Holds no state, so that any number of tasks may share it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def read(self, pack: bytes, start: int, length: int) -> bytes:
        """See `PackSource`. One request."""
        return (await self._store.get_range(pack_key(pack), start, length)).data

    async def contents(self, pack: bytes) -> Contents:
        """See `PackSource`. One request for a pack of up to 1,600 chunks, else two."""
        what = f"pack {pack.hex()}"
        tail = await self._store.get_tail(pack_key(pack), TAIL_BYTES)
        footer = parse_footer(tail.data, tail.size, what)
        wanted = footer.contents_bytes + FOOTER_BYTES
        end = tail.data[-wanted:]
        if len(end) < wanted:
            end = (await self._store.get_range(pack_key(pack), tail.size - wanted, wanted)).data
        return parse_contents(end, tail.size, what)
