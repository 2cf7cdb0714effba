"""zstd, where it pays. The rule everywhere: a stored form as long as the plain one *is* the plain one.

Compressors are not safe to share between threads, so each thread has its own.
"""

from __future__ import annotations

import struct
import threading
from typing import BinaryIO

import zstandard

from fsd.errors import CorruptDataError
from fsd.ids import Buffer

CHUNK_LEVEL = 1
METADATA_LEVEL = 3

SAMPLE_BYTES = 4 * 1024
"""A chunk is sampled in its middle before it is compressed whole: what is compressed already (JPEG, weights) is most of
the data there is, and this finds it out at a sixteenth of the cost."""

MIN_CHUNK_BYTES = 64
"""Below this a frame's own overhead eats the gain."""

WORTHWHILE = 0.95
"""A stored form longer than this share of the plain one is not worth the decompression of every reader."""


_FITTING_LEVELS = (1, 3, 9, 19)
"""Tried one after the other where a frame has to have a given length."""

_EMPTY_BLOCK = bytes(3)
"""A raw block of no bytes that is not the last."""

_FRAME_MAGIC = 0xFD2FB528
_WINDOW_24 = (24 - 10) << 3
"""16 MiB, which holds every chunk."""

MAX_STREAM_WINDOW_BYTES = 128 * 1024 * 1024
"""What `decompressing` allocates at most: as much as the program zstd does unless it is told to take more."""

FrameError = zstandard.ZstdError
"""What reading from `decompressing` raises for damage."""


class _Codecs(threading.local):
    def __init__(self) -> None:
        self.chunk = zstandard.ZstdCompressor(level=CHUNK_LEVEL, write_content_size=True)
        self.metadata = zstandard.ZstdCompressor(level=METADATA_LEVEL, write_content_size=True)
        self.decompressor = zstandard.ZstdDecompressor()


_codecs = _Codecs()


def compress_chunk(data: Buffer) -> bytes | None:
    """One zstd frame, or None where storing `data` as it is serves readers better. Releases the GIL."""
    size = len(data)
    if size < MIN_CHUNK_BYTES:
        return None
    compressor = _codecs.chunk
    if size > 4 * SAMPLE_BYTES:
        start = (size - SAMPLE_BYTES) // 2
        sample = compressor.compress(memoryview(data)[start : start + SAMPLE_BYTES])
        if len(sample) > WORTHWHILE * SAMPLE_BYTES:
            return None
    frame = compressor.compress(data)
    return frame if len(frame) <= WORTHWHILE * size else None


def compress_to_size(data: Buffer, size: int) -> bytes | None:
    """One zstd frame of just `size` bytes; None where that cannot be. Blocks; releases the GIL.

    For who puts a chunk back where another compressor's frame had stood: a tree's placements name its length. What a
    frame is shorter is made up for by empty blocks of 3 bytes each, and by the form of the header.
    """
    headers = _headers(len(data))
    for level in _FITTING_LEVELS:
        frame = zstandard.ZstdCompressor(level=level, write_content_size=True).compress(data)
        if len(frame) == size:
            return frame
        blocks = frame[zstandard.frame_header_size(frame) :]
        for header in headers:
            missing = size - len(header) - len(blocks)
            if missing >= 0 and missing % len(_EMPTY_BLOCK) == 0:
                return header + _EMPTY_BLOCK * (missing // len(_EMPTY_BLOCK)) + blocks
    return None


def _headers(length: int) -> tuple[bytes, ...]:
    """Frame headers for a content of `length` bytes: of 9, 10 and 14 bytes, so that any length leaves three a multiple.

    RFC 8878, 3.1.1.1: the descriptor says how long the content's size is (its two highest bits), and whether there is
    a window (if the next is 0).
    """
    return (
        struct.pack("<IBI", _FRAME_MAGIC, 2 << 6 | 1 << 5, length),
        struct.pack("<IBBI", _FRAME_MAGIC, 2 << 6, _WINDOW_24, length),
        struct.pack("<IBBQ", _FRAME_MAGIC, 3 << 6, _WINDOW_24, length),
    )


def compress_metadata(data: bytes) -> bytes:
    """The shorter of `data` and its zstd frame."""
    frame = _codecs.metadata.compress(data)
    return frame if len(frame) < len(data) else data


def decompressing(file: BinaryIO) -> BinaryIO:
    """The plain form of a file of zstd frames, read as it goes along. Leaves `file` open. For archives of others."""
    reader = zstandard.ZstdDecompressor(max_window_size=MAX_STREAM_WINDOW_BYTES)
    return reader.stream_reader(file, read_across_frames=True, closefd=False)


def decompress(stored: Buffer, size: int, what: str) -> bytes:
    """The plain form of `stored`, `size` bytes of it. Allocates no more than that. Raises CorruptDataError."""
    if len(stored) == size:
        return bytes(stored)
    if len(stored) > size:
        raise CorruptDataError(f"{what} is stored in {len(stored)} bytes, longer than its {size} plain ones")
    try:
        # The frame's own idea of its size is checked before zstd allocates for it.
        if zstandard.frame_content_size(stored) != size:
            raise CorruptDataError(f"{what} is compressed to another size than the {size} bytes it should have")
        plain = _codecs.decompressor.decompress(stored, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise CorruptDataError(f"{what} cannot be decompressed: {error}") from error
    if len(plain) != size:
        raise CorruptDataError(f"{what} has {len(plain)} bytes instead of {size}")
    return plain
