"""Columns of unsigned little-endian numbers, as arrays."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable

from fsd.ids import Buffer


def decode_column(typecode: str, data: Buffer) -> array[int]:
    """The numbers of a column: "H" 2 bytes each, "I" 4, "Q" 8."""
    numbers = array(typecode)
    numbers.frombytes(data)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def encode_column(typecode: str, values: Iterable[int]) -> bytes:
    """The bytes of a column. Raises OverflowError for a number that does not fit."""
    numbers = array(typecode, values)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()
