"""Columns of unsigned little-endian numbers, as arrays."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable

from fsd.ids import Buffer

MAX_U64 = 2**64 - 1


def decode_column(typecode: str, data: Buffer) -> array[int]:
    """The numbers of a column: "H" 2 bytes each, "I" 4, "Q" 8."""
    numbers = array(typecode)
    numbers.frombytes(data)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def encode_column(typecode: str, values: Iterable[int]) -> bytes:
    """The bytes of a column. Raises ValueError for a number that does not fit."""
    try:
        numbers = array(typecode, values)
    except OverflowError as error:
        raise ValueError(f"a number that the format cannot hold: {error}") from error
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()
