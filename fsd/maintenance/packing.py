"""Writing packs anew, of chunks as they are stored: for who repacks and who mends."""

from __future__ import annotations

from array import array
from typing import Protocol

from fsd.format.moved import LEFT_BEHIND
from fsd.format.pack import Contents, encode_end, encode_row
from fsd.ids import Buffer


class Sink(Protocol):
    """What takes the bytes of a pack: an upload, or something in memory."""

    async def write(self, data: Buffer) -> None:
        """Append `data`."""


class PackWriting:
    """A pack under way. Nobody can read it before its sink is finished."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._table = bytearray()
        self.offset = 0
        """Where the next chunk will lie: bytes of stored forms that were written."""

    async def add(self, chunk: bytes, stored: Buffer, length: int) -> int:
        """Append a chunk of `length` bytes in its stored form, which the caller has checked; returns its offset.

        Raises ValueError for an impossible chunk, and what the sink raises.
        """
        offset = self.offset
        self._table += encode_row(chunk, len(stored), length)
        self.offset += len(stored)
        await self._sink.write(stored)
        return offset

    async def end(self) -> None:
        """Append the contents. Raises ValueError for more than a pack may hold."""
        await self._sink.write(encode_end(self._table))


def nowhere(contents: Contents) -> array[int]:
    """Where the chunks of a moved pack are while none was taken over: for `encode_moved`."""
    return array("Q", [LEFT_BEHIND]) * len(contents)
