"""Sealing and unsealing."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsd.errors import CorruptDataError
from fsd.format.envelope import seal, unseal
from fsd.format.keys import ObjectKind
from fsd.format.limits import MAX_COMMIT_BYTES, MAX_LOGICAL_BYTES, MAX_PLACEMENT_BYTES
from fsd.ids import content_id

PAGE = ObjectKind.PAGE
HEADER_BYTES = 28


@given(st.sampled_from(ObjectKind), st.binary(max_size=500), st.binary(max_size=500))
def test_round_trip(kind: ObjectKind, rest: bytes, placement: bytes) -> None:
    logical = kind.value + rest
    object_id, stored = seal(kind, logical, placement)
    assert object_id == content_id(logical)
    assert unseal(kind, object_id, stored) == (logical, placement)


def test_the_name_does_not_depend_on_the_placement() -> None:
    first, second = seal(PAGE, PAGE.value, b"here"), seal(PAGE, PAGE.value, b"there")
    assert first[0] == second[0]
    assert first[1] != second[1]


def test_a_kind_is_not_another() -> None:
    object_id, stored = seal(PAGE, PAGE.value)
    with pytest.raises(CorruptDataError, match=r"recipe .* does not match its name"):
        unseal(ObjectKind.RECIPE, object_id, stored)


@pytest.mark.parametrize(
    ("kind", "logical", "placement"),
    [
        (PAGE, b"", b""),
        (PAGE, ObjectKind.RECIPE.value, b""),
        (PAGE, PAGE.value + bytes(MAX_LOGICAL_BYTES - 7), b""),
        (PAGE, PAGE.value, bytes(MAX_PLACEMENT_BYTES + 1)),
        (ObjectKind.COMMIT, ObjectKind.COMMIT.value + bytes(MAX_COMMIT_BYTES - 7), b""),
    ],
)
def test_what_is_too_large_or_of_another_kind_is_not_sealed(kind: ObjectKind, logical: bytes, placement: bytes) -> None:
    with pytest.raises(ValueError, match="bytes"):
        seal(kind, logical, placement)


def test_the_largest_are_sealed() -> None:
    logical, placement = PAGE.value + os.urandom(MAX_LOGICAL_BYTES - 8), os.urandom(MAX_PLACEMENT_BYTES)
    object_id, stored = seal(PAGE, logical, placement)
    assert unseal(PAGE, object_id, stored) == (logical, placement)


def test_every_single_change_is_noticed() -> None:
    logical, placement = PAGE.value + b"a" * 200 + os.urandom(20), b"b" * 100
    object_id, stored = seal(PAGE, logical, placement)
    for at in range(len(stored)):
        changed = bytearray(stored)
        changed[at] ^= 1
        with pytest.raises(CorruptDataError, match=object_id.hex()):
            unseal(PAGE, object_id, bytes(changed))
    for length in range(len(stored)):
        with pytest.raises(CorruptDataError, match=object_id.hex()):
            unseal(PAGE, object_id, stored[:length])
    with pytest.raises(CorruptDataError, match="header says otherwise"):
        unseal(PAGE, object_id, stored + b"x")


def test_lengths_are_checked_before_anything_is_allocated() -> None:
    object_id, stored = seal(PAGE, PAGE.value)
    for at in (4, 12):
        huge = bytearray(stored)
        huge[at : at + 4] = b"\xff\xff\xff\xff"
        with pytest.raises(CorruptDataError, match="more than the format allows"):
            unseal(PAGE, object_id, bytes(huge))
