"""Where chunks end: by content, within bounds, and alike however the data arrives."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsd.errors import UsageError
from fsd.format.chunker import Chunker, ChunkerParams
from fsd.format.limits import MAX_CHUNK_BYTES

DATA = random.Random(5).randbytes(1_000_000)
PARAMS = ChunkerParams(average=4096)
DEFAULT_LENGTHS = [33700, 80263, 33371, 69373, 38941, 32850, 11502]


def cut(data: bytes, params: ChunkerParams = PARAMS) -> list[bytes]:
    chunks, at = [], 0
    for length in Chunker(params).cut(data, last=True):
        chunks.append(data[at : at + length])
        at += length
    assert b"".join(chunks) == data
    return chunks


def test_lengths_are_within_their_bounds() -> None:
    chunks = cut(DATA)
    assert all(1024 <= len(chunk) <= 16_384 for chunk in chunks[:-1])
    assert len(chunks[-1]) <= 16_384
    assert 4096 <= len(DATA) / len(chunks) <= 6000
    assert max(map(len, cut(bytes(100_000)))) == 16_384


def test_an_insertion_changes_only_what_is_around_it() -> None:
    before = set(cut(DATA))
    after = cut(DATA[:500_000] + b"inserted" + DATA[500_000:])
    assert sum(chunk not in before for chunk in after) <= 4


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 40_000), max_size=30))
def test_reading_in_pieces_changes_nothing(sizes: list[int]) -> None:
    data = DATA[:200_000]
    chunker = Chunker(PARAMS)
    lengths: list[int] = []
    waiting, at = b"", 0
    for size in sizes:
        waiting, at = waiting + data[at : at + size], at + size
        sure = chunker.cut(waiting, last=False)
        lengths += sure
        waiting = waiting[sum(sure) :]
    lengths += chunker.cut(waiting + data[at:], last=True)
    assert lengths == Chunker(PARAMS).cut(data, last=True)


def test_there_is_always_a_sure_cut_in_more_than_the_greatest_length() -> None:
    assert Chunker(PARAMS).cut(bytes(16_385), last=False) == [16_384]


def test_nothing_has_no_chunks() -> None:
    assert Chunker(PARAMS).cut(b"", last=True) == Chunker(PARAMS).cut(b"", last=False) == []


def test_where_the_default_cuts_is_part_of_the_format() -> None:
    """Publishers share chunks only if they cut alike: these lengths change with a new store format, never before."""
    assert Chunker(ChunkerParams()).cut(DATA[:300_000], last=True) == DEFAULT_LENGTHS


@pytest.mark.parametrize(
    ("average", "whole_file"), [(1023, 0), (MAX_CHUNK_BYTES, 0), (4096, MAX_CHUNK_BYTES + 1), (4096, -1)]
)
def test_impossible_parameters(average: int, whole_file: int) -> None:
    with pytest.raises(UsageError, match="average"):
        ChunkerParams(average, whole_file)


def test_the_greatest_length_is_within_the_format() -> None:
    assert ChunkerParams(MAX_CHUNK_BYTES // 16).maximum <= MAX_CHUNK_BYTES
    assert ChunkerParams(4096, 1_000_000).maximum == 1_000_000
