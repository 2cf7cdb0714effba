"""Where chunks lie: hints, yet bounded."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsd.errors import CorruptDataError
from fsd.format.limits import MAX_CHUNK_BYTES, MAX_PACK_BYTES
from fsd.format.model import Placement
from fsd.format.placement import PlacementTable, encode_placements
from tests.format.strategies import placements

LENGTH = 1000
PLACE = Placement(b"p" * 16, 5, LENGTH, 7)


@given(st.lists(placements(LENGTH), max_size=10))
def test_round_trip(found: list[Placement]) -> None:
    table = PlacementTable(encode_placements(found), [LENGTH] * len(found))
    assert len(table) == len(found)
    assert [table.at(number) for number in range(len(found))] == found
    for start in range(len(found)):
        for end in range(start, len(found) + 1):
            assert table.run(start, end - start) == tuple(found[start:end])


def test_packs_are_listed_once() -> None:
    one, many = encode_placements([PLACE]), encode_placements([PLACE] * 10)
    assert len(many) - len(one) == 9 * 24


@pytest.mark.parametrize(
    "place",
    [
        PLACE._replace(pack=b"short"),
        PLACE._replace(stored=0),
        PLACE._replace(stored=2**32),
        PLACE._replace(offset=-1),
        PLACE._replace(offset=MAX_PACK_BYTES + 1),
        PLACE._replace(plain_offset=MAX_PACK_BYTES + 1),
        PLACE._replace(plain_offset=2**64),
    ],
)
def test_impossible_placements_are_not_written(place: Placement) -> None:
    with pytest.raises(ValueError, match=r"."):
        encode_placements([place])


def raw(packs: int, which: int, offset: int, stored: int, plain_offset: int) -> bytes:
    return struct.pack(f"<II{16 * packs}xIQIQ", packs, 1, which, offset, stored, plain_offset)


@pytest.mark.parametrize(
    ("data", "lengths"),
    [
        (raw(1, 1, 0, 1, 0), [LENGTH]),  # a pack that is not listed
        (raw(1, 0, 0, 0, 0), [LENGTH]),  # nothing stored
        (raw(1, 0, 0, LENGTH + 1, 0), [LENGTH]),  # longer than the chunk
        (raw(1, 0, 0, MAX_CHUNK_BYTES + 1, 0), [LENGTH]),
        (raw(1, 0, MAX_PACK_BYTES + 1, 1, 0), [LENGTH]),
        (raw(1, 0, 0, 1, 2**64 - 1), [LENGTH]),
        (raw(1, 0, 0, 1, 0), []),  # a placement of no chunk
        (raw(1, 0, 0, 1, 0), [LENGTH, LENGTH]),
        (raw(1, 0, 0, 1, 0)[:-1], [LENGTH]),
        (raw(1, 0, 0, 1, 0) + b"x", [LENGTH]),
        (b"", [LENGTH]),
        (b"\0", []),
        (struct.pack("<II", 2**32 - 1, 2**32 - 1), []),
        (struct.pack("<II", 0, 1) + bytes(24), [LENGTH]),
    ],
)
def test_impossible_placements_are_not_read(data: bytes, lengths: list[int]) -> None:
    with pytest.raises(CorruptDataError, match="placement"):
        PlacementTable(data, lengths)
