"""The bytes of an upload on their way: what is collected for the next part, without copying what never changes.

Knows neither the bucket nor the upload; computes the checksum of all that passes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from fsd.ids import Buffer
from fsd.limits import KIB, MIB
from fsd.stores.gcs_bucket import checksum

SHORT_BYTES = 64 * KIB
"""Shorter pieces are joined, since each piece of a part is a call to the system when it is sent."""

_JOINED_BYTES = MIB


class Part:
    """Some bytes of an upload, in pieces. May be sent again from any place, as often as need be."""

    def __init__(self, pieces: list[memoryview]) -> None:
        self._pieces = pieces
        self._bytes = sum(piece.nbytes for piece in pieces)

    def __len__(self) -> int:
        """In bytes: what requests takes for the length of the body."""
        return self._bytes

    def __iter__(self) -> Iterator[memoryview]:
        """The pieces, from the first on: requests asks again when it sends again."""
        return iter(self._pieces)

    def behind(self, count: int) -> Part:
        """All but the first `count` bytes."""
        pieces: list[memoryview] = []
        for piece in self._pieces:
            if count < piece.nbytes:
                pieces.append(piece[count:])
            count = max(0, count - piece.nbytes)
        return Part(pieces)


class _Piece(NamedTuple):
    data: memoryview
    crc32c: int
    """Of all bytes of the upload up to the end of this piece."""


class Collected:
    """What is to be sent next."""

    def __init__(self) -> None:
        self._pieces: deque[_Piece] = deque()
        self._short = bytearray()
        self._bytes = 0
        self._crc32c = 0
        """Of all that was ever appended, but for what is short: counted as it comes by, a little at a time."""
        self.crc32c = 0
        """Of all that was ever taken."""

    def __len__(self) -> int:
        return self._bytes

    def append(self, data: Buffer) -> None:
        """Bytes that follow. `bytes` are kept as they are; others are copied, since their owner may change them."""
        view = memoryview(data).cast("B")
        self._bytes += view.nbytes
        if view.nbytes < SHORT_BYTES:
            self._short += view
            if len(self._short) >= _JOINED_BYTES:
                self._end_short()
            return
        self._end_short()
        self._add(view if isinstance(view.obj, bytes) else memoryview(bytes(view)))

    def take(self, count: int) -> Part:
        """The first `count` bytes, which are collected no longer."""
        self._end_short()
        self._bytes -= count
        taken: list[memoryview] = []
        while count:
            piece = self._pieces.popleft()
            if piece.data.nbytes > count:
                self._pieces.appendleft(_Piece(piece.data[count:], piece.crc32c))
                piece = _Piece(piece.data[:count], checksum(self.crc32c, piece.data[:count]))
            self.crc32c = piece.crc32c
            taken.append(piece.data)
            count -= piece.data.nbytes
        return Part(taken)

    def _end_short(self) -> None:
        if self._short:
            self._add(memoryview(bytes(self._short)))
            self._short.clear()

    def _add(self, data: memoryview) -> None:
        self._crc32c = checksum(self._crc32c, data)
        self._pieces.append(_Piece(data, self._crc32c))
