"""Indexes."""

from __future__ import annotations

import struct
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsd.errors import CorruptDataError
from fsd.format.index import HEADER_BYTES, MAGIC, Index, IndexChild, Totals, child_bytes, encode_index
from fsd.format.limits import MAX_ENTRIES, MAX_INDEX_LEVEL, MAX_KEY_BYTES, MAX_LOGICAL_BYTES
from tests.format.samples import sample_children, sample_id
from tests.format.strategies import index_children


@given(st.integers(0, MAX_INDEX_LEVEL), index_children)
def test_round_trip(level: int, children: list[IndexChild]) -> None:
    level = level if children else 0
    logical = encode_index(level, children)
    index = Index(logical)
    assert (index.level, list(index.children)) == (level, children)
    assert index.children[1:] == children[1:]
    assert list(index.starts) == [0, *accumulate(child.totals.entries for child in children)]
    assert index.totals == tuple(sum(child.totals[column] for child in children) for column in range(3))
    assert encode_index(index.level, index.children) == logical
    assert len(logical) == HEADER_BYTES + sum(map(child_bytes, children))


@given(index_children, st.binary(max_size=20))
def test_a_key_is_below_the_last_child_that_does_not_come_after_it(children: list[IndexChild], key: bytes) -> None:
    index = Index(encode_index(0, children))
    at = index.find(key)
    assert at == -1 or children[at].first_key <= key
    assert at + 1 == len(children) or key < children[at + 1].first_key


def test_a_number_is_below_one_child() -> None:
    index = Index(encode_index(0, sample_children()))
    assert [index.locate(ordinal) for ordinal in (0, 999, 1000, 1001, 1001 + 2**40 - 1)] == [0, 0, 1, 2, 2]
    assert index.memory_bytes > 1000


CHILD = IndexChild(b"\0\0a", sample_id(1), Totals(1, 1, 1))


@pytest.mark.parametrize(
    ("level", "children"),
    [
        (-1, [CHILD]),
        (MAX_INDEX_LEVEL + 1, [CHILD]),
        (1, []),
        (0, [CHILD, CHILD]),
        (0, [CHILD._replace(first_key=b"b"), CHILD]),
        (0, [CHILD._replace(id=b"short")]),
        (0, [CHILD._replace(first_key=b"k" * (MAX_KEY_BYTES + 1))]),
        (0, [CHILD._replace(totals=Totals(0, 0, 0))]),
        (0, [CHILD._replace(totals=Totals(1, 2, 0))]),
        (0, [CHILD._replace(totals=Totals(1, 1, 2**64))]),
        (0, [CHILD._replace(totals=Totals(MAX_ENTRIES + 1, 1, 1))]),
        (0, [CHILD._replace(totals=Totals(1, 1, 2**63)), CHILD._replace(first_key=b"b", totals=Totals(1, 1, 2**63))]),
        (0, [CHILD._replace(first_key=b"%08d" % n) for n in range(MAX_LOGICAL_BYTES // 66 + 1)]),
    ],
)
def test_impossible_indexes_are_not_written(level: int, children: list[IndexChild]) -> None:
    with pytest.raises(ValueError, match=r"."):
        encode_index(level, children)


def raw(level: int, count: int, keys: list[bytes], numbers: list[int]) -> bytes:
    lengths = struct.pack(f"<{len(keys)}H", *map(len, keys))
    return b"".join(
        (
            MAGIC,
            struct.pack("<II", level, count),
            lengths,
            *keys,
            bytes(32 * len(keys)),
            struct.pack(f"<{len(numbers)}Q", *numbers),
        )
    )


ONE = raw(0, 1, [b"a"], [1, 1, 1])


@pytest.mark.parametrize(
    "logical",
    [
        b"",
        MAGIC,
        ONE[:-1],
        ONE + b"x",
        b"fsdindx2" + ONE[8:],
        raw(1, 0, [], []),
        raw(MAX_INDEX_LEVEL + 1, 1, [b"a"], [1, 1, 1]),
        raw(0, 2, [b"a"], [1, 1, 1]),
        raw(0, 2**32 - 1, [b"a"], [1, 1, 1]),
        raw(0, 1, [b"a"], [0, 0, 0]),
        raw(0, 1, [b"a"], [1, 2, 0]),
        raw(0, 1, [b"k" * (MAX_KEY_BYTES + 1)], [1, 1, 1]),
        raw(0, 2, [b"a", b"a"], [1, 1, 1, 1, 1, 1]),
        raw(0, 2, [b"b", b"a"], [1, 1, 1, 1, 1, 1]),
        raw(0, 2, [b"a", b"b"], [1, 1, 1, 1, 2**63, 2**63]),
        raw(0, 2, [b"a", b"b"], [2**48, 1, 1, 1, 1, 1]),
    ],
)
def test_impossible_indexes_are_not_read(logical: bytes) -> None:
    with pytest.raises(CorruptDataError, match="index"):
        Index(logical)
