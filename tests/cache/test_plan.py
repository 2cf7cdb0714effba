"""Which chunks go into one request, and how far a miss widens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsd.cache.plan import (
    NEAR_BYTES,
    RECENT_S,
    REST_AFTER_MISSES,
    WIDEN_FOUND_SHARE,
    WIDEN_FULL_SHARE,
    WIDEN_MIN_BYTES,
    Allowance,
    Misses,
    MissHistory,
    PackContents,
    check_placed,
    coalesce,
    window_bytes,
)
from fsd.errors import CorruptDataError
from fsd.format.limits import MAX_CHUNK_BYTES
from fsd.format.model import PlacedChunk, Placement
from fsd.format.pack import PackedChunk

PACK = bytes(16)


def placed(offset: int, stored: int, pack: bytes = PACK) -> PlacedChunk:
    return PlacedChunk(offset.to_bytes(32, "big"), stored, Placement(pack, offset, stored, offset))


@given(
    st.lists(
        st.builds(
            placed, st.integers(0, 5000), st.integers(1, 400), st.sampled_from([bytes(16), b"\1" * 16, b"\2" * 16])
        ),
        max_size=40,
    ),
    st.integers(1, 2000),
    st.integers(0, 300),
)
def test_ranges_hold_every_chunk_within_the_bounds(chunks: list[PlacedChunk], range_bytes: int, gap: int) -> None:
    ranges = coalesce(chunks, range_bytes=range_bytes, gap_bytes=gap)
    assert sorted(chunk for fetched in ranges for chunk in fetched.chunks) == sorted(chunks)
    for fetched in ranges:
        covered = fetched.start
        for chunk in fetched.chunks:
            place = chunk.placement
            assert place.pack == fetched.pack
            assert place.offset - covered <= gap
            covered = max(covered, place.offset + place.stored)
        assert covered == fetched.start + fetched.length
        longest = max(chunk.placement.stored for chunk in fetched.chunks)
        assert fetched.length <= max(range_bytes, longest) or len(fetched.chunks) == 1


def test_neighbours_share_a_range_and_a_far_chunk_has_its_own() -> None:
    chunks = [placed(0, 100), placed(100, 100), placed(250, 50), placed(1000, 10)]
    ranges = coalesce(reversed(chunks), range_bytes=1000, gap_bytes=50)
    assert [(fetched.start, fetched.length, len(fetched.chunks)) for fetched in ranges] == [(0, 300, 3), (1000, 10, 1)]


@pytest.mark.parametrize(
    ("length", "stored", "offset", "plain_offset"),
    [
        (0, 0, 0, 0),
        (10, 11, 0, 0),
        (10, 0, 0, 0),
        (MAX_CHUNK_BYTES + 1, 10, 0, 0),
        (10, 10, -1, 0),
        (10, 10, 1 << 62, 0),
        (10, 10, 0, -1),
    ],
)
def test_an_impossible_placement_is_refused(length: int, stored: int, offset: int, plain_offset: int) -> None:
    with pytest.raises(CorruptDataError, match="claims"):
        check_placed(PlacedChunk(bytes(32), length, Placement(PACK, offset, stored, plain_offset)))


def test_windows_grow_with_each_near_miss() -> None:
    most = 6 * WIDEN_MIN_BYTES
    windows = [window_bytes(Misses(before, before), most) for before in range(6)]
    assert windows == [0, *(WIDEN_MIN_BYTES * factor for factor in (1, 2, 4, 6, 6))]
    assert window_bytes(Misses(1 << 40, 0), most) == most
    assert [window_bytes(Misses(before, before), 0) for before in range(5)] == [0] * 5


def test_far_old_and_foreign_misses_do_not_count() -> None:
    history = MissHistory()
    assert [history.note(PACK, 1000 * n, 0.5 * n) for n in range(4)] == [(0, 0), (1, 1), (2, 2), (3, 3)]
    assert history.note(b"\1" * 16, 0, 2.0) == (0, 0)
    assert history.note(PACK, 4000 + NEAR_BYTES, 2.0) == (0, 4)
    assert history.note(PACK, 4000 + 2 * NEAR_BYTES, 2.0) == (1, 5)
    for number in range(20):
        assert history.note(PACK, 0, 2.0).all == min(6 + number, REST_AFTER_MISSES)
    assert history.note(PACK, 0, 3.0 + RECENT_S) == (0, 0)
    assert history.note(PACK, 0, 3.0 + RECENT_S) == (1, 1)


def test_an_allowance_lasts_while_windows_are_used() -> None:
    allowance = Allowance(1000)
    allowance.note_miss(10, 0, is_full=False)
    assert allowance.left_bytes == 1000
    allowance.spend(1000)
    allowance.note_miss(100, 0, is_full=True)
    assert allowance.left_bytes == 100 * WIDEN_FULL_SHARE
    allowance.note_miss(0, 300, is_full=True)
    assert allowance.left_bytes == 300 * WIDEN_FOUND_SHARE + 100 * WIDEN_FULL_SHARE
    allowance.note_miss(0, 6_000, is_full=True)
    assert allowance.left_bytes == 1000
    allowance.spend(1000)
    allowance.note_miss(0, 6_000, is_full=False)
    assert allowance.left_bytes == 1000


def contents(sizes: list[int]) -> PackContents:
    return PackContents(PACK, [PackedChunk(bytes([n]) * 32, size, size + n) for n, size in enumerate(sizes)])


def test_contents_give_back_the_placements() -> None:
    table = contents([10, 20, 30])
    assert [table.chunk(n) for n in range(3)] == [
        PlacedChunk(bytes([0]) * 32, 10, Placement(PACK, 0, 10, 0)),
        PlacedChunk(bytes([1]) * 32, 21, Placement(PACK, 10, 20, 10)),
        PlacedChunk(bytes([2]) * 32, 32, Placement(PACK, 30, 30, 31)),
    ]


def near(table: PackContents, position: int, window: int, known: set[int]) -> list[int]:
    found = table.neighbours(table.chunk(position).placement.offset, window, lambda chunk: chunk[0] in known)
    return [chunk.id[0] for chunk in found]


def test_a_window_lies_around_the_miss() -> None:
    table = contents([10] * 20)
    assert near(table, 10, 60, set()) == [7, 8, 9, 11, 12, 13]
    assert near(table, 10, 60, {9}) == [11, 12, 13, 14, 15, 16]
    assert near(table, 10, 60, {12}) == [5, 6, 7, 8, 9, 11]
    assert near(table, 0, 30, set()) == [1, 2, 3]
    assert near(table, 19, 30, set()) == [16, 17, 18]
    assert near(table, 10, 60, {9, 11}) == []


@given(
    st.lists(st.integers(1, 100), min_size=1, max_size=60),
    st.data(),
    st.integers(0, 500),
    st.sets(st.integers(0, 59)),
)
def test_neighbours_are_absent_contiguous_and_within_the_window(
    sizes: list[int], data: st.DataObject, window: int, known: set[int]
) -> None:
    table = contents(sizes)
    here = data.draw(st.integers(0, len(sizes) - 1))
    found = near(table, here, window, known)
    assert not known & set(found)
    assert here not in found
    assert sorted([*found, here]) == list(range(min([*found, here]), max([*found, here]) + 1))
    assert sum(sizes[n] for n in found) <= window
    assert found == sorted(found)


def test_an_offset_outside_the_pack_has_no_neighbours() -> None:
    assert contents([10]).neighbours(10**9, 100, lambda _: False) == []
