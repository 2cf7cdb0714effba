"""All of a version in the order of its tree, with the contents: read ahead in parallel, bounded, and checked."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import NamedTuple

import trio
from blake3 import blake3

from fsd.checkout.checkout import LARGE_BYTES, WINDOW_BYTES, Version, in_batches
from fsd.checkout.contents import Contents
from fsd.checkout.placed import PlacedContents
from fsd.errors import CorruptDataError
from fsd.format.model import Entry, Kind
from fsd.ids import Buffer, content_id
from fsd.publish.source import shown
from fsd.tasks import one_error
from fsd.vfs.pieces import Pieces

_AHEAD = 6
"""Batches, or windows of a large file, under way at once: 48 MiB."""


class Part(NamedTuple):
    """An entry with its content, or the beginning of it, or more of the last one."""

    entry: Entry
    """With its path in what is exported."""
    content: Sequence[Buffer]
    """Of a file."""
    start: int
    """Where in the file the content begins."""

    @property
    def is_last(self) -> bool:
        """Whether nothing of the entry follows."""
        return self.entry.kind is not Kind.FILE or self.start + sum(map(len, self.content)) == self.entry.size


class _Slot:
    """A place in the order."""

    def __init__(self) -> None:
        self.is_read = trio.Event()
        self.parts: Sequence[Part] = ()


@asynccontextmanager
async def parts_of(version: Version, contents: Contents) -> AsyncGenerator[AsyncGenerator[Part]]:
    """All parts, in order. Raises CorruptDataError for a content that is not what the tree says, and what a store
    raises."""
    with one_error():
        async with trio.open_nursery() as nursery:
            send, receive = trio.open_memory_channel[_Slot](_AHEAD - 1)
            placed = PlacedContents(contents, version.tree, version.objects)
            nursery.start_soon(_read, version, placed, send, nursery)
            async with receive, aclosing(_in_order(receive)) as parts:
                yield parts
            nursery.cancel_scope.cancel()


async def _in_order(receive: trio.MemoryReceiveChannel[_Slot]) -> AsyncGenerator[Part]:
    digest = blake3()
    async for slot in receive:
        await slot.is_read.wait()
        for part in slot.parts:
            if part.entry.kind is Kind.FILE:
                if part.start == 0 and part.is_last:
                    found = content_id(b"".join(part.content))
                else:
                    digest = blake3() if part.start == 0 else digest
                    for piece in part.content:
                        digest.update(piece)
                    found = digest.digest()
                if part.is_last and found != part.entry.content:
                    raise CorruptDataError(
                        f"the content of {shown(part.entry.path)} is not what the tree says", hint="see 'fsd verify'"
                    )
            yield part


async def _read(
    version: Version, contents: Contents, send: trio.MemorySendChannel[_Slot], nursery: trio.Nursery
) -> None:
    """Begin to read everything, a bounded number of places ahead of who takes it."""

    async def read_small(slot: _Slot, batch: Sequence[Entry]) -> None:
        files = [version.in_tree(entry) for entry in batch if entry.kind is Kind.FILE]
        read = iter(await contents.read_small(files) if files else ())
        slot.parts = [Part(entry, [next(read)] if entry.kind is Kind.FILE else (), 0) for entry in batch]
        slot.is_read.set()

    async def read_window(slot: _Slot, entry: Entry, pieces: Pieces, start: int) -> None:
        end = min(start + WINDOW_BYTES, entry.size)
        slot.parts = [Part(entry, await contents.read(version.in_tree(entry), pieces, start, end), start)]
        slot.is_read.set()

    async with send, aclosing(in_batches(version)) as batches:
        async for batch in batches:
            first = batch[0]
            if first.kind is Kind.FILE and first.size > LARGE_BYTES:
                pieces = Pieces(version.in_tree(first), version.objects)
                for start in range(0, first.size, WINDOW_BYTES):
                    slot = _Slot()
                    await send.send(slot)
                    nursery.start_soon(read_window, slot, first, pieces, start)
            else:
                slot = _Slot()
                await send.send(slot)
                nursery.start_soon(read_small, slot, batch)
