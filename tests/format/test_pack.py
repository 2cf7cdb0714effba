"""Packs: contents, footer, chunks."""

from __future__ import annotations

import struct
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsd.errors import CorruptDataError
from fsd.format.limits import MAX_CHUNK_BYTES, MAX_PACK_CHUNKS
from fsd.format.pack import (
    CONTENTS_CHUNK_BYTES,
    FOOTER_BYTES,
    PackedChunk,
    decode_chunk,
    encode_contents,
    parse_contents,
    parse_footer,
)
from fsd.ids import content_id
from tests.format.samples import sample_chunks, sample_id, sample_pack
from tests.format.strategies import packed_chunks


@given(st.lists(packed_chunks, max_size=10))
def test_round_trip(chunks: list[PackedChunk]) -> None:
    end = encode_contents(chunks)
    size = sum(chunk.stored for chunk in chunks) + len(end)
    footer = parse_footer(end, size, "pack")
    assert footer.chunks == len(chunks)
    assert footer.stored_bytes == sum(chunk.stored for chunk in chunks)
    assert footer.plain_bytes == sum(chunk.length for chunk in chunks)
    contents = parse_contents(end, size, "pack")
    assert list(contents) == [contents[number] for number in range(len(contents))] == chunks
    assert contents[1:] == chunks[1:]
    assert contents[::-2] == chunks[::-2]
    assert encode_contents(contents) == end


def test_positions_are_a_sequences() -> None:
    chunks = [PackedChunk(sample_id(number), 1, 1) for number in range(3)]
    end = encode_contents(chunks)
    contents = parse_contents(end, len(end) + 3, "pack")
    assert contents[-1] == chunks[-1]
    assert contents.index(chunks[1]) == 1
    with pytest.raises(IndexError):
        contents[3]


def test_a_pack_is_read_from_its_end() -> None:
    pack = sample_pack()
    footer = parse_footer(pack[-FOOTER_BYTES:], len(pack), "pack")
    contents = parse_contents(pack[footer.stored_bytes :], len(pack), "pack")
    at = 0
    for chunk, plain in zip(contents, sample_chunks(), strict=True):
        stored = memoryview(pack)[at : at + chunk.stored]
        assert bytes(decode_chunk(chunk.id, stored, chunk.length)) == plain
        at += chunk.stored
    assert at == footer.stored_bytes


def test_a_chunk_stored_as_it_is_is_not_copied() -> None:
    stored = memoryview(b"plain")
    assert decode_chunk(content_id(b"plain"), stored, 5) is stored


@pytest.mark.parametrize(
    ("stored", "length"),
    [(b"plain", 5), (b"longer than it should be", 5), (b"", 5), (b"x", MAX_CHUNK_BYTES + 1), (b"x", 2**40)],
)
def test_a_bad_chunk_is_named(stored: bytes, length: int) -> None:
    chunk_id = sample_id(1)
    with pytest.raises(CorruptDataError, match=chunk_id.hex()):
        decode_chunk(chunk_id, stored, length)


CHUNK = PackedChunk(sample_id(1), 5, 10)


@pytest.mark.parametrize(
    "chunk",
    [
        CHUNK._replace(id=b"short"),
        CHUNK._replace(stored=0),
        CHUNK._replace(stored=11),
        CHUNK._replace(length=0),
        CHUNK._replace(stored=MAX_CHUNK_BYTES + 1, length=MAX_CHUNK_BYTES + 1),
    ],
)
def test_impossible_chunks_are_not_listed(chunk: PackedChunk) -> None:
    with pytest.raises(ValueError, match="impossible chunk"):
        encode_contents([CHUNK, chunk])


def seal_end(
    rows: bytes, count: int, stored: int, plain: int, *, magic: bytes = b"fsdpack1", reserved: int = 0
) -> bytes:
    end = rows + struct.pack("<8sIIQQ", magic, count, reserved, stored, plain)
    return end + content_id(end)


def row(stored: int, length: int) -> bytes:
    return struct.pack("<32sII", sample_id(1), stored, length)


@pytest.mark.parametrize(
    ("end", "pack_size"),
    [
        (b"", 0),
        (bytes(FOOTER_BYTES), FOOTER_BYTES),
        (seal_end(row(5, 10), 1, 5, 10, magic=b"fsdpack2"), 109),
        (seal_end(row(5, 10), 1, 5, 10, reserved=1), 109),
        (seal_end(row(5, 10), 1, 5, 10), 110),
        (seal_end(row(5, 10), 2, 5, 10), 109),
        (seal_end(row(5, 10), 1, 2**64 - 1, 10), 109),
        (seal_end(row(5, 10), 1, 5, 11), 109),
        (seal_end(row(6, 10), 1, 5, 10), 109),
        (seal_end(row(11, 10), 1, 11, 10), 115),
        (seal_end(row(0, 10), 1, 0, 10), 104),
        (seal_end(row(0, 0), 1, 0, 0), 104),
        (seal_end(row(5, MAX_CHUNK_BYTES + 1), 1, 5, MAX_CHUNK_BYTES + 1), 109),
        (seal_end(row(5, 10), 1, 5, 10)[1:], 109),
        (b"x" + seal_end(row(5, 10), 1, 5, 10), 109),
        (seal_end(row(5, 10), 1, 5, 10)[:-1] + b"x", 109),
    ],
)
def test_a_bad_end_is_refused(end: bytes, pack_size: int) -> None:
    with pytest.raises(CorruptDataError, match="the pack"):
        parse_contents(end, pack_size, "the pack")


def test_the_number_of_chunks_is_bounded() -> None:
    count = MAX_PACK_CHUNKS + 1
    end = seal_end(b"", count, count, count)
    with pytest.raises(CorruptDataError, match="footer says otherwise"):
        parse_footer(end, count + count * CONTENTS_CHUNK_BYTES + FOOTER_BYTES, "pack")


def test_contents_hold_no_more_than_their_bytes() -> None:
    end = encode_contents([CHUNK] * 20_000)
    tracemalloc.start()
    try:
        contents = parse_contents(end, 20_000 * 5 + len(end), "pack")
        assert tracemalloc.get_traced_memory()[0] < 1.1 * 20_000 * CONTENTS_CHUNK_BYTES
    finally:
        tracemalloc.stop()
    assert len(contents) == 20_000
