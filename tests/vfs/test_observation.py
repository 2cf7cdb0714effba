"""The recorder of what is asked for in a view, and the room that recorders share."""

from __future__ import annotations

from collections.abc import Callable
from sys import getsizeof

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsd.format.inputs import Inputs, ListingInputs, NameInputs, VersionInputs
from fsd.format.positions import stretches_of
from fsd.ids import content_id
from fsd.limits import MIB
from fsd.vfs.observation import Observation, ObservationRoom, Positions, ShownVersion

COMMIT, OTHER = content_id(b"commit"), content_id(b"other")
V1 = ShownVersion("data", "v1", COMMIT)


def inputs_of(observation: Observation) -> Inputs:
    return observation.snapshot().inputs()


@given(st.lists(st.integers(0, 3000) | st.integers(0, 1 << 48)))
def test_positions_are_a_set(numbers: list[int]) -> None:
    positions = Positions()
    for number in numbers:
        positions.add(number)
        assert positions.has_room(number)
    assert positions.stretches() == stretches_of(numbers)
    copied = positions.copy()
    positions.add(1 << 50)
    assert copied.stretches() == stretches_of(numbers)


@pytest.mark.parametrize("step", [1, 7, 10])
def test_a_million_positions_take_less_than_ten_megabytes(step: int) -> None:
    positions = Positions()
    for number in range(0, 1_000_000 * step, step):
        positions.add(number)
    parts = positions._parts
    assert getsizeof(parts) + sum(getsizeof(part) + 32 for part in parts.values()) < 10_000_000


def test_everything_is_told_as_a_record_has_it() -> None:
    observation = ObservationRoom(1, MIB).enter(None)
    observation.named("data", "", "")
    observation.named("data", "main", "v1")
    observation.named("data", "v1", "", COMMIT)
    observation.named("data", "v2", None)
    for position in (0, 5, 6, 5):
        observation.saw(V1, position)
    observation.listed(V1, 5)
    observation.missed(V1, b"b\xff")
    observation.missed(V1, b"a")
    observation.identified(V1)
    observation.enumerated("", COMMIT)
    for _ in range(2):
        observation.enumerated("data", OTHER)
        observation.named("data", "main", "v1")
    assert inputs_of(observation) == Inputs(
        versions=(VersionInputs(*V1, ((0, 1), (5, 7)), ((5, 6),), (b"a", b"b\xff"), is_identified=True),),
        names=(
            NameInputs("data", "", ""),
            NameInputs("data", "main", "v1"),
            NameInputs("data", "v1", ""),
            NameInputs("data", "v2", None),
        ),
        listings=(ListingInputs("", COMMIT), ListingInputs("data", OTHER)),
    )


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda each: each.named("data", "main", "v2"), "data/main came to mean something else while it ran"),
        (lambda each: each.named("data", "main", None), "data/main came to mean something else while it ran"),
        (lambda each: each.named("data", "v1", "", OTHER), "data/v1 came to mean something else while it ran"),
        (lambda each: each.named("data", "", None), "data came to mean something else while it ran"),
        (lambda each: each.enumerated("data", OTHER), "the names in /data changed while it ran"),
        (lambda each: each.fail("broken"), "broken"),
    ],
)
def test_what_cannot_be_compared_is_a_problem(change: Callable[[Observation], None], problem: str) -> None:
    outer = (room := ObservationRoom(9, MIB)).enter(None)
    inner, beside = room.enter(outer), room.enter(outer)
    inner.named("data", "", "")
    inner.named("data", "main", "v1")
    inner.named("data", "v1", "", COMMIT)
    inner.enumerated("data", COMMIT)
    before = inputs_of(inner)
    change(inner)
    inner.fail("later")
    assert inputs_of(inner) == Inputs(before.versions, before.names, before.listings, problem)
    assert (outer.problem, beside.problem) == (problem, "")


def test_what_is_around_it_hears_all() -> None:
    room = ObservationRoom(9, MIB)
    outer = room.enter(None)
    inner = room.enter(outer)
    outer.saw(V1, 1)
    inner.saw(V1, 2)
    inner.missed(V1, b"x")
    assert (outer.depth, inner.depth) == (1, 2)
    assert inputs_of(inner).versions == (VersionInputs(*V1, ((2, 3),), (), (b"x",)),)
    assert inputs_of(outer).versions == (VersionInputs(*V1, ((1, 3),), (), (b"x",)),)
    room.end(inner)
    assert inputs_of(outer).versions[0].seen == ((1, 3),)


def test_one_too_many_has_a_problem() -> None:
    room = ObservationRoom(2, MIB)
    first, second, third = (room.enter(None) for _ in range(3))
    assert (first.problem, second.problem) == ("", "")
    assert third.problem == "more than 2 runs were observed at once"
    room.end(first)
    room.end(third)
    assert room.enter(None).problem == ""


@pytest.mark.parametrize(
    "record",
    [
        lambda each, number: each.saw(V1, number * 1000),
        lambda each, number: each.listed(V1, number * 1000),
        lambda each, number: each.missed(V1, b"%d" % number),
        lambda each, number: each.named("data", str(number), None),
        lambda each, number: each.enumerated(str(number), COMMIT),
        lambda each, number: each.saw(V1._replace(name=str(number)), 0),
    ],
)
def test_beyond_the_room_it_is_incomplete_and_the_room_comes_back(record: Callable[[Observation, int], None]) -> None:
    room = ObservationRoom(2, 20_000)
    first, second = room.enter(None), room.enter(None)
    for number in range(200):
        record(first, number)
    assert first.problem == "more was read than the mount could remember"
    assert second.problem == ""
    assert 0 < room.used_bytes <= 20_000
    room.end(first)
    assert (room.used_bytes, len(room)) == (0, 1)
    record(first, 1)  # late: nobody will ask
    assert room.used_bytes == 0
    record(second, 1)
    assert second.problem == ""
