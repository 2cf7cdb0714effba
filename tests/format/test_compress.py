"""zstd where it pays, and nothing that a hostile frame can make happen."""

from __future__ import annotations

import os
import random
import tracemalloc

import pytest
import zstandard

from fsd.errors import CorruptDataError
from fsd.format.compress import compress_chunk, compress_metadata, compress_to_size, decompress


def test_what_compresses_is_one_frame() -> None:
    data = b"spam and eggs " * 5000
    stored = compress_chunk(data)
    assert stored is not None
    assert len(stored) < len(data) / 10
    assert zstandard.frame_content_size(stored) == len(data)
    assert decompress(memoryview(stored), len(data), "chunk") == data


@pytest.mark.parametrize("data", [b"", b"a" * 63, os.urandom(1000), os.urandom(100_000)], ids=len)
def test_what_does_not_is_stored_as_it_is(data: bytes) -> None:
    assert compress_chunk(data) is None
    assert decompress(data, len(data), "chunk") == data


def test_what_only_the_middle_tells_apart_follows_the_middle() -> None:
    noise = random.Random(1).randbytes(20_000)
    assert compress_chunk(b"a" * 20_000 + noise + b"a" * 20_000) is None
    assert compress_chunk(noise + b"a" * 40_000 + noise) is not None


@pytest.mark.parametrize("length", [100, 255, 256, 1000, 65_791, 65_792, 300_000, 16 * 1024 * 1024])
def test_a_frame_can_be_had_in_any_length_that_is_not_too_short(length: int) -> None:
    """Whatever lengths the frames of another compressor have."""
    data = (random.Random(length).randbytes(16) * (length // 16 + 1))[:length]
    shortest = compress_chunk(data)
    assert shortest is not None
    for size in [*range(len(shortest) + 8, min(len(shortest) + 14, length)), length - 1, len(shortest)]:
        frame = compress_to_size(data, size)
        assert frame is not None
        assert len(frame) == size
        assert decompress(frame, length, "chunk") == data
    assert compress_to_size(data, 8) is None


@pytest.mark.parametrize("data", [b"", b"x", b"abc" * 1000, os.urandom(500)], ids=len)
def test_metadata_is_never_longer(data: bytes) -> None:
    stored = compress_metadata(data)
    assert len(stored) <= len(data)
    assert decompress(stored, len(data), "page") == data


FRAME = zstandard.ZstdCompressor().compress(b"a" * 1000)


@pytest.mark.parametrize(
    ("stored", "size"),
    [
        (b"a" * 11, 10),  # longer than plain
        (b"", 10),
        (b"short", 10),
        (FRAME[:-1], 1000),
        (FRAME + b"x", 1000),  # something after the frame
        (FRAME + FRAME, 2000),
        (FRAME, 999),
        (FRAME, 1001),
        (b"\x50\x2a\x4d\x18\x00\x00\x00\x00", 1000),  # a skippable frame: has no content
        (zstandard.ZstdCompressor(write_content_size=False).compress(b"a" * 1000), 1000),
    ],
)
def test_anything_else_is_corrupt(stored: bytes, size: int) -> None:
    with pytest.raises(CorruptDataError, match="page"):
        decompress(stored, size, "page")


def test_a_frame_that_lies_about_its_size_costs_no_memory() -> None:
    bomb = zstandard.ZstdCompressor(level=19).compress(bytes(256 * 1024 * 1024))
    assert len(bomb) < 100_000
    tracemalloc.start()
    try:
        for size in (100_000, 1_000_000):
            with pytest.raises(CorruptDataError, match="another size"):
                decompress(bomb, size, "page")
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
