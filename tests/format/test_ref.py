"""Refs and log segments."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsd.errors import CorruptDataError
from fsd.format.limits import MAX_REF_BYTES, MAX_TIME_US
from fsd.format.ref import (
    MAX_MOVES,
    MAX_SUMMARY_CHARACTERS,
    Move,
    Ref,
    RefKind,
    SegmentInfo,
    encode_ref,
    encode_segment,
    parse_ref,
    parse_segment,
)
from fsd.ids import content_id
from tests.format.samples import TIME_US, sample_branch, sample_id, sample_moves, sample_subset_ref
from tests.format.strategies import refs


@given(refs())
def test_round_trip(ref: Ref) -> None:
    data = encode_ref(ref)
    assert parse_ref(data, "ref") == ref
    assert encode_ref(parse_ref(data, "ref")) == data
    assert data.count(b"\n") == 2


@given(refs())
def test_a_segment_is_its_moves(ref: Ref) -> None:
    logical = encode_segment(ref.moves)
    assert parse_segment(logical) == ref.moves
    assert encode_segment(parse_segment(logical)) == logical


def test_a_history_moves_into_segments() -> None:
    ref = Ref(RefKind.BRANCH, sample_moves(1))
    kept: list[Move] = []
    for move in sample_moves(1000)[1:]:
        ref = ref.moved(move)
        if old := ref.overflow():
            ref = ref.with_segment(sample_id(len(kept)), old)
            kept += old
        assert len(ref.moves) <= MAX_MOVES
        assert ref.target == move.commit
    assert (*kept, *ref.moves) == sample_moves(1000)
    assert sum(info.moves for info in ref.segments) == len(kept)
    assert [info.last_us for info in ref.segments[:-1]] < [info.first_us for info in ref.segments[1:]]
    assert parse_ref(encode_ref(ref), "ref") == ref


def test_the_last_move_for_a_commit_counts() -> None:
    old, new = (Move(sample_id(number), TIME_US, "", sample_id(9)) for number in (1, 2))
    ref = Ref(RefKind.SUBSET, (old, new))
    assert ref.subset_of(sample_id(9)) == new.commit
    assert ref.subset_of(sample_id(8)) is None


def test_a_long_summary_is_cut() -> None:
    ref = Ref(RefKind.TAG, (Move(sample_id(1), 1, "é" * 1000),))
    assert parse_ref(encode_ref(ref), "ref").moves[0].summary == "é" * MAX_SUMMARY_CHARACTERS


MOVE = Move(sample_id(1), 1)


@pytest.mark.parametrize(
    "ref",
    [
        Ref(RefKind.BRANCH, ()),
        Ref(RefKind.BRANCH, (MOVE._replace(commit=b"short"),)),
        Ref(RefKind.BRANCH, (MOVE._replace(time_us=-1),)),
        Ref(RefKind.BRANCH, (MOVE._replace(summary="\ud800"),)),
        Ref(RefKind.BRANCH, (MOVE._replace(source=sample_id(2)),)),
        Ref(RefKind.SUBSET, (MOVE,)),
        Ref(RefKind.BRANCH, (MOVE,), (SegmentInfo(sample_id(1), 0, MAX_TIME_US + 1, 1),)),
        Ref(RefKind.BRANCH, (MOVE._replace(summary="x" * 120),) * (MAX_REF_BYTES // 200)),
    ],
)
def test_impossible_refs_are_not_written(ref: Ref) -> None:
    with pytest.raises(ValueError, match=r"."):
        encode_ref(ref)


def test_segments_are_bounded() -> None:
    with pytest.raises(ValueError, match="log segment"):
        encode_segment((MOVE._replace(summary="x" * 120),) * 10_000)


def with_check(line: bytes) -> bytes:
    return line + b"\n" + content_id(line).hex().encode() + b"\n"


def body_of(ref: Ref) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(encode_ref(ref).split(b"\n")[0])
    return found


def test_unknown_members_are_ignored() -> None:
    body = body_of(sample_branch()) | {"later": 1}
    assert parse_ref(with_check(json.dumps(body).encode()), "ref") == sample_branch()


def test_every_single_change_is_noticed() -> None:
    data = encode_ref(sample_branch())
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 1
        with pytest.raises(CorruptDataError, match="refs/a/main"):
            parse_ref(bytes(changed), "refs/a/main")
    for length in range(len(data)):
        with pytest.raises(CorruptDataError, match="refs/a/main"):
            parse_ref(data[:length], "refs/a/main")
    with pytest.raises(CorruptDataError, match="checksum"):
        parse_ref(data + b"\n", "ref")


MOVES: list[object] = [
    None,
    "x",
    [],
    {},
    [None],
    ["ab"],
    [{"commit": "00" * 32}],
    [{"time_us": 1}],
    [{"commit": "00", "time_us": 1}],
    [{"commit": "00" * 32, "time_us": "1"}],
    [{"commit": "00" * 32, "time_us": 1.0}],
    [{"commit": "00" * 32, "time_us": 1, "summary": 5}],
    [{"commit": "00" * 32, "time_us": 1, "summary": "x" * 121}],
    [{"commit": "00" * 32, "time_us": 1, "source": "00"}],
    [{"commit": "00" * 32, "time_us": 1, "source": "00" * 32}],
]
KINDS: list[object] = [None, 1, "", "head", ["branch"], {}]
FOLLOWS: list[object] = [None, [], "a", {"main": 1}, {"main": [["a", 1]]}]
SEGMENTS: list[object] = [None, {}, "a", [1], [{}], [{"id": "00" * 32, "first_us": 1, "last_us": 1, "moves": -1}]]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("kind", kind) for kind in KINDS],
        *[("moves", moves) for moves in MOVES],
        *[("segments", segments) for segments in SEGMENTS],
        *[("follow", follow) for follow in FOLLOWS],
    ],
)
def test_a_member_of_another_type_or_range(name: str, value: object) -> None:
    line = json.dumps(body_of(sample_branch()) | {name: value}).encode()
    with pytest.raises(CorruptDataError, match="refs/a/main cannot be read"):
        parse_ref(with_check(line), "refs/a/main")


@pytest.mark.parametrize("line", [b"", b"[]", b"null", b"{", b"\xff", b"[" * 100_000, b" " * MAX_REF_BYTES])
def test_a_line_that_is_no_object(line: bytes) -> None:
    with pytest.raises(CorruptDataError, match="ref"):
        parse_ref(with_check(line), "ref")


@pytest.mark.parametrize("moves", [moves for moves in MOVES if moves not in ([], MOVES[-1])])
def test_a_bad_segment(moves: object) -> None:
    with pytest.raises(CorruptDataError, match="log segment"):
        parse_segment(b"fsdsegm1" + json.dumps(moves).encode())
    with pytest.raises(CorruptDataError, match="magic"):
        parse_segment(json.dumps(moves).encode())


@given(st.lists(st.integers(0, 3), max_size=6))
def test_a_ref_is_a_value(numbers: list[int]) -> None:
    ref = sample_subset_ref()
    changed = ref
    for number in numbers:
        changed = changed.moved(Move(sample_id(number), TIME_US, "", sample_id(5)))
    assert ref == sample_subset_ref()
    assert replace(changed, moves=ref.moves) == ref
