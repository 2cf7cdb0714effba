"""Who may send the next request."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fsd.cache.slots import Slots


def slots(requests: int = 4, ahead: int = 2, size: int = 1000) -> Slots[str]:
    return Slots(requests=requests, ahead_requests=ahead, size_bytes=size)


def start_all(some: Slots[str]) -> list[str]:
    started = []
    while (key := some.start_next()) is not None:
        started.append(key)
    return started


def test_readers_go_before_read_ahead_and_have_slots_of_their_own() -> None:
    some = slots()
    for key in ("a1", "a2", "a3"):
        some.add(key, 1, ahead=True)
    assert start_all(some) == ["a1", "a2"]
    for key in ("r1", "r2", "r3"):
        some.add(key, 1, ahead=False)
    assert start_all(some) == ["r1", "r2"]
    some.finish("a1")
    assert start_all(some) == ["r3"]
    some.finish("r1")
    assert start_all(some) == ["a3"]


def test_a_reader_who_waits_for_read_ahead_brings_it_forward() -> None:
    some = slots(requests=1)
    for key in ("a1", "a2", "a3"):
        some.add(key, 1, ahead=True)
    assert start_all(some) == ["a1"]
    some.promote("a3")
    some.promote("a1")
    some.finish("a1")
    assert start_all(some) == ["a3"]


def test_a_request_larger_than_the_bound_goes_alone() -> None:
    some = slots(size=10)
    some.add("small", 1, ahead=False)
    some.add("large", 100, ahead=False)
    some.add("next", 1, ahead=False)
    assert start_all(some) == ["small"]
    some.finish("small")
    assert start_all(some) == ["large"]
    some.finish("large")
    assert start_all(some) == ["next"]


def test_a_slow_request_lends_its_slot() -> None:
    some = slots(requests=2)
    for key in ("r1", "r2", "r3", "r4", "r5"):
        some.add(key, 1, ahead=False)
    assert start_all(some) == ["r1", "r2"]
    assert some.lend("r1")
    assert not some.lend("r5")
    assert some.running() == ["r2"]
    assert start_all(some) == ["r3"]
    assert some.lend("r2")
    assert not some.lend("r3")
    assert start_all(some) == ["r4"]
    assert len(some) == 4
    some.finish("r1")
    assert some.lend("r3")
    assert start_all(some) == ["r5"]


@given(
    st.lists(
        st.tuples(st.sampled_from(["add", "ahead", "finish", "lend", "discard"]), st.integers(1, 500)), max_size=80
    )
)
def test_bounds_hold_and_nobody_is_forgotten(steps: list[tuple[str, int]]) -> None:
    some = slots(requests=4, ahead=2, size=1000)
    sizes: dict[str, int] = {}
    running: list[str] = []
    lent: set[str] = set()
    for number, (step, size) in enumerate(steps):
        key = f"{number}"
        if step in ("add", "ahead"):
            sizes[key] = size
            some.add(key, size, ahead=step == "ahead")
        elif running and step == "finish":
            done = running.pop(size % len(running))
            some.finish(done)
            lent.discard(done)
            del sizes[done]
        elif running and step == "lend" and some.lend(running[size % len(running)]):
            lent.add(running[size % len(running)])
        elif sizes and step == "discard":
            chosen = list(sizes)[size % len(sizes)]
            assert some.discard(chosen) == (chosen not in running)
            if chosen not in running:
                del sizes[chosen]
        running += start_all(some)
        assert len(running) - len(lent) <= 4
        assert len(some) == len(running)
        assert some.running_bytes <= 1000
    while running:
        some.finish(running.pop())
        running += start_all(some)
    assert some.waiting == 0
    assert some.running_bytes == 0
