"""What gc keeps in a store: leases, condemnations, and where repacked chunks went."""

from __future__ import annotations

import random
import tracemalloc
from array import array
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsd.errors import CorruptDataError
from fsd.format.condemned import (
    MAX_PART_KEYS,
    Condemnation,
    Listed,
    encode_condemnation,
    encode_keys,
    parse_condemnation,
    parse_keys,
)
from fsd.format.lease import MAX_WORDS_CHARACTERS, Lease, encode_lease, parse_lease
from fsd.format.limits import MAX_TIME_US
from fsd.format.moved import LEFT_BEHIND, MovedPack, encode_moved, parse_moved
from fsd.format.pack import Contents, encode_row
from fsd.format.sealed import seal_list, unseal_list

TARGET = b"t" * 16

leases = st.builds(
    Lease,
    st.text(st.characters(codec="utf-8"), max_size=40),
    st.text(st.characters(codec="utf-8"), max_size=40),
    st.integers(0, MAX_TIME_US),
    st.integers(1, 86_400),
    st.integers(0, 1000),
)
condemnations = st.builds(
    Condemnation,
    st.integers(0, 1000),
    st.frozensets(st.binary(min_size=16, max_size=16)),
    st.frozensets(st.binary(min_size=32, max_size=32)),
)
# As stores give them: no line ends in a version, but spaces and quotes.
listed = st.builds(
    Listed,
    st.from_regex(r"[a-z]+/[0-9a-f]{4}", fullmatch=True),
    st.text(st.characters(codec="ascii", exclude_categories=("Cc",)), max_size=20),
    st.integers(0, MAX_TIME_US),
)


@st.composite
def moved_packs(draw: st.DrawFn) -> tuple[list[tuple[int, int]], bytes]:
    """(stored length, new offset) of each chunk, in the order of the pack that was, and the note."""
    chunks = draw(st.lists(st.tuples(st.integers(1, 60), st.booleans()), min_size=1, max_size=30))
    shuffled = draw(st.booleans())
    order = [number for number, (_, taken) in enumerate(chunks) if taken]
    if shuffled:
        order = draw(st.permutations(order))
    offsets = [LEFT_BEHIND] * len(chunks)
    at = draw(st.integers(0, 100))
    for number in order:
        offsets[number] = at
        at += chunks[number][0]
    table = b"".join(encode_row(bytes([number]) * 32, size, size) for number, (size, _) in enumerate(chunks))
    rows = [(size, offset) for (size, _), offset in zip(chunks, offsets, strict=True)]
    return rows, encode_moved(TARGET, Contents(table), array("Q", offsets))


@given(leases)
def test_a_lease_comes_back(lease: Lease) -> None:
    assert parse_lease(encode_lease(lease), "it") == lease


def test_long_words_of_a_lease_are_cut() -> None:
    lease = parse_lease(encode_lease(Lease("w" * 5000, "ü" * 5000, 0, 1)), "it")
    assert (len(lease.who), len(lease.purpose)) == (MAX_WORDS_CHARACTERS, MAX_WORDS_CHARACTERS)


@given(condemnations)
def test_a_condemnation_comes_back(condemnation: Condemnation) -> None:
    assert parse_condemnation(encode_condemnation(condemnation), "it") == condemnation


@given(st.lists(listed, max_size=20))
def test_lists_come_back(keys: list[Listed]) -> None:
    assert parse_keys(encode_keys(keys), "it") == keys


def test_what_would_not_come_back_is_refused() -> None:
    with pytest.raises(ValueError, match="line end"):
        encode_keys([Listed("a/b", "1\n2", 0)])
    with pytest.raises(ValueError, match="too many"):
        encode_keys([Listed("a/b", "1", 0)] * (MAX_PART_KEYS + 1))
    with pytest.raises(ValueError, match="list of"):
        seal_list(b"fsdcond1", b"x" * 11, 10)
    with pytest.raises(CorruptDataError, match="impossible length"):
        unseal_list(b"fsdcond1", seal_list(b"fsdcond1", b"x" * 11, 11), "it", 10)


@given(moved_packs(), st.integers(0, 1000), st.integers(0, 1000))
def test_any_range_of_a_moved_pack_is_found(made: tuple[list[tuple[int, int]], bytes], start: int, length: int) -> None:
    """Byte by byte: where each lies now, or that it was left behind."""
    rows, data = made
    note = parse_moved(data, "it")
    expected: list[int | None] = []
    for size, offset in rows:
        expected += [None] * size if offset == LEFT_BEHIND else range(offset, offset + size)
    assert note.target == TARGET
    assert note.stored_bytes == len(expected)
    assert note.target_end == max((at + 1 for at in expected if at is not None), default=0)
    found: list[int | None] = [None] * len(expected[start : start + length])
    ends = [0]
    for at, offset, size in note.pieces(start, length):
        assert at >= ends[-1], "in order, and none twice"
        ends.append(at + size)
        found[at : at + size] = range(offset, offset + size)
    assert found == expected[start : start + length]
    begin = 0
    for size, offset in rows:
        assert note.new_offset(begin) == (None if offset == LEFT_BEHIND else offset)
        assert size == 1 or note.new_offset(begin + 1) is None
        begin += size
    assert note.new_offset(begin) is None


def test_neighbours_that_stay_together_are_one_piece() -> None:
    table = b"".join(encode_row(bytes([number]) * 32, 10, 10) for number in range(4))
    note = MovedPack(TARGET, Contents(table), array("Q", [100, 110, LEFT_BEHIND, 120]))
    assert list(note.pieces(0, 40)) == [(0, 100, 20), (30, 120, 10)]
    assert list(note.pieces(5, 10)) == [(0, 105, 10)]


PARSERS: list[tuple[Callable[[bytes, str], object], bytes]] = [
    (parse_lease, encode_lease(Lease("me", "commit", 5, 900))),
    (parse_condemnation, encode_condemnation(Condemnation(3, frozenset({b"p" * 16}), frozenset({b"c" * 32})))),
    (parse_keys, encode_keys([Listed("pages/ab/ab", '"etag"', 7)])),
    (
        parse_moved,
        encode_moved(
            TARGET, Contents(encode_row(b"a" * 32, 10, 10) + encode_row(b"b" * 32, 9, 10)), array("Q", [0, 10])
        ),
    ),
]


def said(parsed: object) -> object:
    """What a note says, to be compared: not every bit of a zstd frame bears on what comes out of it."""
    if isinstance(parsed, MovedPack):
        return parsed.target, parsed.contents.table, list(parsed.pieces(0, parsed.stored_bytes))
    return parsed


@pytest.mark.parametrize(("parse", "data"), PARSERS, ids=lambda each: getattr(each, "__name__", ""))
def test_what_is_spoilt_is_corrupt_and_nothing_else(parse: Callable[[bytes, str], object], data: bytes) -> None:
    rng = random.Random(3)
    tracemalloc.start()
    for _ in range(3000):
        spoilt = bytearray(data)
        way = rng.randrange(4)
        if way == 0:
            spoilt[rng.randrange(len(spoilt))] ^= 1 << rng.randrange(8)
        elif way == 1:
            del spoilt[rng.randrange(len(spoilt)) :]
        elif way == 2:
            at = rng.randrange(len(spoilt) + 1)
            spoilt[at:at] = rng.randbytes(rng.choice([1, 8, 40]))
        else:
            at = rng.randrange(len(spoilt))
            spoilt[at : at + 8] = rng.choice([b"\0" * 8, b"\xff" * 8, rng.randbytes(8)])
        if bytes(spoilt) != data:
            with suppress(CorruptDataError):
                assert said(parse(bytes(spoilt), "it")) == said(parse(data, "it")), "something else, and no error"
    assert tracemalloc.get_traced_memory()[1] < 32 * 1024 * 1024
    tracemalloc.stop()


def test_a_note_whose_inside_is_wrong_is_corrupt() -> None:
    body = TARGET + (1).to_bytes(4, "little") + encode_row(b"a" * 32, 10, 10)
    for inside in (
        b"",
        body[:20],
        body,
        body + b"\0" * 7,
        body + (2**60).to_bytes(8, "little"),
        TARGET + (1).to_bytes(4, "little") + b"\0" * 40 + b"\0" * 8,
    ):
        with pytest.raises(CorruptDataError):
            parse_moved(seal_list(b"fsdmovd1", inside, 1000), "it")
