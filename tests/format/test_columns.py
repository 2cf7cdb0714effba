"""Columns of numbers."""

from __future__ import annotations

import pytest

from fsd.format.columns import MAX_U64, decode_column, encode_column


@pytest.mark.parametrize(("typecode", "size"), [("H", 2), ("I", 4), ("Q", 8)])
def test_numbers_are_little_endian_and_of_a_fixed_width(typecode: str, size: int) -> None:
    most = 256**size - 1
    data = encode_column(typecode, [0, 1, most])
    assert data == bytes(size) + b"\1" + bytes(size - 1) + b"\xff" * size
    assert list(decode_column(typecode, data)) == [0, 1, most]


@pytest.mark.parametrize("number", [-1, MAX_U64 + 1])
def test_a_number_that_does_not_fit_is_a_value_error(number: int) -> None:
    with pytest.raises(ValueError, match="cannot hold"):
        encode_column("Q", [number])
