"""Sets of positions come back as they were, in one form only, and take what they have to say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsd.errors import CorruptDataError
from fsd.format.positions import count_of, decode_positions, encode_positions, stretches_of

END = 2**40


@given(st.sets(st.integers(0, 300) | st.integers(0, END - 1)))
def test_a_set_comes_back(positions: set[int]) -> None:
    stretches = stretches_of(positions)
    assert count_of(stretches) == len(positions)
    assert decode_positions(encode_positions(stretches), "it", END) == stretches
    assert {position for first, end in stretches for position in range(first, end)} == positions


@given(st.binary(max_size=40))
def test_there_is_one_form_of_each_set(data: bytes) -> None:
    try:
        stretches = decode_positions(data, "it", END)
    except CorruptDataError:
        return
    assert encode_positions(stretches) == data


def test_a_million_neighbours_take_four_bytes() -> None:
    assert len(encode_positions(((0, 1_000_000),))) == 4


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\x01", "cut off"),
        (b"\x01\x81", "cut off"),
        (b"\x01\x00", "length of 0"),
        (b"\x80\x00\x01", "could be shorter"),
        (b"\xff" * 8 + b"\x01\x01", "too long"),
        (b"\x05\x06", "beyond position 10"),
    ],
)
def test_what_is_no_set_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(CorruptDataError, match=why):
        decode_positions(data, "it", 10)


@pytest.mark.parametrize("stretches", [((3, 3),), ((3, 5), (4, 6)), ((3, 5), (5, 6)), ((-1, 2),)])
def test_what_is_out_of_order_is_not_written(stretches: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises(ValueError, match="out of order"):
        encode_positions(stretches)
