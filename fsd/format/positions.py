"""Sets of numbers that are mostly runs of neighbours, such as which entries of a tree somebody looked at.

A set is its *stretches*: half-open, ascending, with a gap between any two. Written down are the lengths of gap,
stretch, gap, stretch, … as LEB128 numbers, each but the first gap at least 1. So a set takes what it has to say,
however large the tree is: four bytes for all of a million entries, two for a lone one that is not far from the last.
`docs/format.md` has the bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from fsd.errors import CorruptDataError

Stretches = tuple[tuple[int, int], ...]
"""(first, end) of each; the end is not in it."""

_MAX_BYTES_A_NUMBER = 7
"""Of 2^48, the greatest position that a tree can have, and one more."""


def stretches_of(positions: Iterable[int]) -> Stretches:
    """The set of some numbers, in whatever order."""
    found: list[tuple[int, int]] = []
    for position in sorted(set(positions)):
        if found and found[-1][1] == position:
            found[-1] = (found[-1][0], position + 1)
        else:
            found.append((position, position + 1))
    return tuple(found)


def count_of(stretches: Stretches) -> int:
    """How many numbers are in a set."""
    return sum(end - first for first, end in stretches)


def encode_positions(stretches: Stretches) -> bytes:
    """The bytes of a set. Raises ValueError where the stretches are out of order or touch each other."""
    encoded = bytearray()
    at = 0
    for first, end in stretches:
        if first < at or end <= first or (at and first == at):
            raise ValueError("stretches that are out of order")
        _append(encoded, first - at)
        _append(encoded, end - first)
        at = end
    return bytes(encoded)


def _append(encoded: bytearray, number: int) -> None:
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)


def decode_positions(data: bytes, what: str, end: int) -> Stretches:
    """The set, all of it below `end`. `what` names it in errors. Raises CorruptDataError."""
    numbers: list[int] = []
    number, shift = 0, 0
    for byte in data:
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte & 0x80:
            if shift >= 7 * _MAX_BYTES_A_NUMBER:
                raise CorruptDataError(f"{what} has a number that is too long")
            continue
        if (not byte and shift > 7) or (not number and numbers):
            raise CorruptDataError(f"{what} has a number that could be shorter, or a length of 0")
        numbers.append(number)
        number, shift = 0, 0
    if shift or len(numbers) % 2:
        raise CorruptDataError(f"{what} is cut off")
    borders = [0]
    for length in numbers:
        borders.append(borders[-1] + length)
    if borders[-1] > end:
        raise CorruptDataError(f"{what} goes beyond position {end:,}")
    return tuple(list(pairwise(borders[1:]))[::2])
