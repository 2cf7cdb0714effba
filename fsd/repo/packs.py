"""Reading packs: ranges of stored bytes, and the table of contents. No chunk is decoded or verified here.

A pack that is gone may have been repacked: the note `moved/<pack>` then says where its chunks went, and what is read of
it is read there. Places in it go on meaning what they meant, so nobody above this knows.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol

import trio

from fsd.errors import CorruptDataError, NotFoundError
from fsd.format.keys import moved_key, pack_key
from fsd.format.model import PlacedChunk
from fsd.format.moved import MovedPack, parse_moved
from fsd.format.pack import FOOTER_BYTES, Contents, parse_contents, parse_footer
from fsd.stores.base import ObjectNotFoundError, Store
from fsd.tasks import gather

TAIL_BYTES = 64 * 1024
"""Asked for when the contents are wanted: the contents of 1,600 chunks, which is a full pack of small files."""

MOVED_KEPT_BYTES = 8 * 1024 * 1024
"""Of notes about moved packs, kept decoded: 170,000 chunks; the one that was read last is always kept."""

MOVED_TRUSTED_S = 600.0
"""A note is read again after so long: a repair may have found since what the first one left behind."""

PIECES_AT_ONCE = 8
"""Requests for one range of a pack whose chunks are no longer side by side."""


class MisplacedError(CorruptDataError):
    """A chunk is not where its placement says.

    Placements are hints: whoever has them from a page or recipe that was loaded a while ago asks the store for it once
    more (`Objects.fresh_page`) before this is what a user is told.
    """

    def __init__(self, chunk: PlacedChunk, message: str, *, hint: str = "") -> None:
        """`chunk`, with the placement that is wrong; `message` should name it."""
        super().__init__(message, hint=hint)
        self.misplaced = chunk


class PackGoneError(MisplacedError):
    """The pack that should have the chunk is not there, and no note says where its chunks went."""

    def __init__(self, chunk: PlacedChunk, error: NotFoundError) -> None:
        """`error` is the store's."""
        pack = f"pack {chunk.placement.pack.hex()}, which should have chunk {chunk.id.hex()}, is gone"
        super().__init__(chunk, f"{pack}: {error.message}", hint="see 'fsd verify'")


class PackSource(Protocol):
    """Where a cache gets packs from."""

    async def read(self, pack: bytes, start: int, length: int) -> bytes:
        """`length` stored bytes from byte `start`; fewer only where the pack ends.

        Raises ObjectNotFoundError for a pack that is gone, and what else a store raises.
        """

    async def contents(self, pack: bytes) -> Contents:
        """All chunks of the pack, in pack order. Raises also CorruptDataError."""


class PackReader:
    """The packs of a store. Any number of tasks may share it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._moved: OrderedDict[bytes, tuple[MovedPack, float]] = OrderedDict()
        """With when each was read, by trio's clock."""

    async def read(self, pack: bytes, start: int, length: int) -> bytes:
        """See `PackSource`. One request; for a pack that was moved one for each piece, and one for its note before.

        What a moved pack left behind reads as zeros: nobody who goes by a tree asks for it.
        """
        if pack not in self._moved:
            try:
                return (await self._store.get_range(pack_key(pack), start, length)).data
            except ObjectNotFoundError:
                # If it was not moved, it is this pack that is missed, not a note that few packs have.
                if await self.moved(pack) is None:
                    raise
        return await self._read_moved(pack, start, length)

    async def contents(self, pack: bytes) -> Contents:
        """See `PackSource`. One request for a pack of up to 1,600 chunks, else two; for a moved one, its note."""
        try:
            return await self._contents(pack)
        except ObjectNotFoundError:
            moved = await self.moved(pack)
            if moved is None:
                raise
            return moved.contents

    async def moved(self, pack: bytes) -> MovedPack | None:
        """Where the chunks of a pack went, as far as is known here; None if it was not moved. One request at most.

        Raises CorruptDataError for a note that is damaged.
        """
        kept, read_s = self._moved.get(pack, (None, 0.0))
        if kept is None or trio.current_time() - read_s > MOVED_TRUSTED_S:
            kept, read_s = await self.fresh_moved(pack), trio.current_time()
        if kept is None:
            self._moved.pop(pack, None)
            return None
        self._moved[pack] = kept, read_s
        self._moved.move_to_end(pack)
        while len(self._moved) > 1 and sum(each.memory_bytes for each, _ in self._moved.values()) > MOVED_KEPT_BYTES:
            self._moved.popitem(last=False)
        return kept

    async def fresh_moved(self, pack: bytes) -> MovedPack | None:
        """The same as the store has it now; not kept. One request."""
        key = moved_key(pack)
        try:
            return parse_moved((await self._store.get(key)).data, f"{key} in {self._store.url}")
        except ObjectNotFoundError:
            return None

    async def _read_moved(self, pack: bytes, start: int, length: int) -> bytes:
        """From where it went. A note in memory may be out of date, if that was repacked in its turn."""
        for is_last in (False, True):
            moved = await self.moved(pack)
            if moved is None:
                break
            try:
                return await self._pieces(moved, start, length)
            except ObjectNotFoundError:
                self._moved.pop(pack, None)
                if is_last:
                    raise
        raise ObjectNotFoundError(pack_key(pack), self._store.url)

    async def _pieces(self, moved: MovedPack, start: int, length: int) -> bytes:
        body = bytearray(max(0, min(length, moved.stored_bytes - start)))

        async def read(piece: tuple[int, int, int]) -> None:
            at, offset, size = piece
            data = (await self._store.get_range(pack_key(moved.target), offset, size)).data
            body[at : at + len(data)] = data

        await gather(read, moved.pieces(start, length), tasks=PIECES_AT_ONCE)
        return bytes(body)

    async def _contents(self, pack: bytes) -> Contents:
        what = f"pack {pack.hex()}"
        tail = await self._store.get_tail(pack_key(pack), TAIL_BYTES)
        footer = parse_footer(tail.data, tail.size, what)
        wanted = footer.contents_bytes + FOOTER_BYTES
        end = tail.data[-wanted:]
        if len(end) < wanted:
            end = (await self._store.get_range(pack_key(pack), tail.size - wanted, wanted)).data
        return parse_contents(end, tail.size, what)
