"""Packs: chunks back to back, each as it is or as one zstd frame, then a table of contents, then a footer.

A chunk's offset and plain offset are the sums of the lengths before it. Readers of files need only placements; the
contents serve widening, verify and gc. `docs/format.md` has the bytes.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable, Iterator, Sequence
from operator import gt
from typing import NamedTuple, overload

from fsd.errors import CorruptDataError
from fsd.format.columns import decode_column
from fsd.format.compress import decompress
from fsd.format.limits import MAX_CHUNK_BYTES, MAX_PACK_BYTES, MAX_PACK_CHUNKS
from fsd.ids import ID_BYTES, Buffer, content_id

MAGIC = b"fsdpack1"

_CHUNK = struct.Struct("<32sII")
_FOOTER = struct.Struct("<8sIIQQ")
_CHECK_BYTES = 32

_ROW_NUMBERS = _CHUNK.size // 4
_STORED_AT, _PLAIN_AT = _ROW_NUMBERS - 2, _ROW_NUMBERS - 1
"""A row of the contents read as numbers of 4 bytes, and where in it the two that are numbers stand."""

FOOTER_BYTES = _FOOTER.size + _CHECK_BYTES
CONTENTS_CHUNK_BYTES = _CHUNK.size


class PackedChunk(NamedTuple):
    """A chunk as a pack's contents name it, in pack order."""

    id: bytes
    stored: int
    """Bytes in the pack."""
    length: int
    """Bytes of plaintext."""


class Footer(NamedTuple):
    """The end of a pack."""

    chunks: int
    stored_bytes: int
    """Where the contents start: the chunks' stored lengths summed up."""
    plain_bytes: int

    @property
    def contents_bytes(self) -> int:
        """Length of the table of contents, without the footer."""
        return self.chunks * _CHUNK.size


class Contents(Sequence[PackedChunk]):
    """A decoded table of contents, in pack order. It holds 40 bytes a chunk; rows are made where they are asked for."""

    __slots__ = ("_table",)

    def __init__(self, table: bytes) -> None:
        self._table = table

    @property
    def table(self) -> bytes:
        """The rows back to back, as they are stored."""
        return self._table

    def __len__(self) -> int:
        return len(self._table) // _CHUNK.size

    @overload
    def __getitem__(self, at: int) -> PackedChunk: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[PackedChunk]: ...
    def __getitem__(self, at: int | slice) -> PackedChunk | Sequence[PackedChunk]:
        if isinstance(at, slice):
            return [self[number] for number in range(*at.indices(len(self)))]
        # A range knows what an index means, and raises IndexError as a sequence must.
        return PackedChunk._make(_CHUNK.unpack_from(self._table, range(len(self))[at] * _CHUNK.size))

    def __iter__(self) -> Iterator[PackedChunk]:
        return map(PackedChunk._make, _CHUNK.iter_unpack(self._table))


def encode_row(chunk_id: bytes, stored: int, length: int) -> bytes:
    """A row of the contents: what a publisher keeps of a chunk until the pack ends. Raises ValueError."""
    if len(chunk_id) != ID_BYTES or not 0 < stored <= length <= MAX_CHUNK_BYTES:
        raise ValueError("a pack with an impossible chunk")
    return _CHUNK.pack(chunk_id, stored, length)


def encode_contents(chunks: Iterable[PackedChunk]) -> bytes:
    """The table of contents and the footer: what follows the last chunk. Raises ValueError for impossible chunks."""
    return encode_end(b"".join(encode_row(*chunk) for chunk in chunks))


def encode_end(table: bytes | bytearray) -> bytes:
    """The same from rows back to back. Raises ValueError for more than a pack may hold."""
    stored, plain = _lengths(table)
    if not _is_plausible(stored, plain):
        raise ValueError("a pack with an impossible chunk, or with more than a pack may hold")
    end = table + _FOOTER.pack(MAGIC, len(plain), 0, sum(stored), sum(plain))
    return bytes(end) + content_id(end)


def _lengths(table: Buffer) -> tuple[array[int], array[int]]:
    """The stored and the plain lengths in a table of contents."""
    numbers = decode_column("I", table)
    return numbers[_STORED_AT::_ROW_NUMBERS], numbers[_PLAIN_AT::_ROW_NUMBERS]


def _is_plausible(stored: Sequence[int], plain: Sequence[int]) -> bool:
    return not plain or (
        len(plain) <= MAX_PACK_CHUNKS
        and min(stored) > 0
        and not any(map(gt, stored, plain))
        and max(plain) <= MAX_CHUNK_BYTES
        and sum(plain) <= MAX_PACK_BYTES
    )


def parse_footer(tail: bytes, pack_size: int, what: str) -> Footer:
    """The footer at the end of `tail` (the pack's last bytes, FOOTER_BYTES or more). Raises CorruptDataError."""
    if len(tail) < FOOTER_BYTES:
        raise CorruptDataError(f"{what} is truncated: {pack_size} bytes")
    magic, count, reserved, stored_bytes, plain_bytes = _FOOTER.unpack_from(tail, len(tail) - FOOTER_BYTES)
    if magic != MAGIC or reserved != 0:
        raise CorruptDataError(f"{what} does not end in a footer")
    footer = Footer(count, stored_bytes, plain_bytes)
    if count > MAX_PACK_CHUNKS or pack_size != stored_bytes + footer.contents_bytes + FOOTER_BYTES:
        raise CorruptDataError(f"{what} has {pack_size} bytes where its footer says otherwise")
    return footer


def parse_contents(end: bytes, pack_size: int, what: str) -> Contents:
    """The contents from `end`: the table of contents with the footer, exactly. Raises CorruptDataError."""
    footer = parse_footer(end, pack_size, what)
    if len(end) != footer.contents_bytes + FOOTER_BYTES:
        raise CorruptDataError(f"the contents of {what} are incomplete")
    if content_id(memoryview(end)[:-_CHECK_BYTES]) != end[-_CHECK_BYTES:]:
        raise CorruptDataError(f"the contents of {what} do not match their checksum")
    contents = Contents(end[: footer.contents_bytes])
    stored, plain = check_table(contents.table, what)
    if sum(stored) != footer.stored_bytes or sum(plain) != footer.plain_bytes:
        raise CorruptDataError(f"the contents of {what} do not add up")
    return contents


def check_table(table: bytes, what: str) -> tuple[array[int], array[int]]:
    """The stored and the plain lengths, in bytes, in a table of contents. Raises CorruptDataError."""
    stored, plain = _lengths(table)
    if not _is_plausible(stored, plain):
        raise CorruptDataError(f"the contents of {what} name a chunk of impossible size")
    return stored, plain


def decode_chunk(chunk_id: bytes, stored: Buffer, length: int) -> Buffer:
    """The chunk's plaintext, checked against its id; `stored` itself where it is not compressed.

    Releases the GIL for most of its work. Raises CorruptDataError.
    """
    plain: Buffer = stored
    if len(stored) != length:
        if length > MAX_CHUNK_BYTES:
            raise CorruptDataError(f"chunk {chunk_id.hex()} claims {length} bytes, more than the format allows")
        plain = decompress(stored, length, f"chunk {chunk_id.hex()}")
    if content_id(plain) != chunk_id:
        raise CorruptDataError(f"chunk {chunk_id.hex()} does not match its hash")
    return plain
