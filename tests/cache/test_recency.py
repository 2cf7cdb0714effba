"""When extents were last used."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fsd.cache.recency import Recency

EXTENTS = st.integers(0, 700) | st.integers(1 << 20, (1 << 20) + 10)


@given(st.lists(st.tuples(EXTENTS, st.integers(0, 1 << 60)), max_size=60))
def test_it_is_a_dictionary(steps: list[tuple[int, int]]) -> None:
    recency, model = Recency(), dict[int, int]()
    for extent, tick in steps:
        if tick:
            recency.use(extent, tick)
            model[extent] = tick
        else:
            recency.drop(extent)
            model.pop(extent, None)
        assert recency.last_use(extent) == model.get(extent, 0)
    again = Recency.decode(recency.encode())
    for table in (recency, again):
        assert {extent: tick for tick, extent in table} == model
        assert len(table) == len(model)


@given(st.binary(max_size=100))
def test_nonsense_gives_a_table(data: bytes) -> None:
    assert len(list(Recency.decode(data))) == len(Recency.decode(data))


def test_a_far_extent_costs_little() -> None:
    recency = Recency()
    recency.use(1 << 40, 1)
    assert len(recency.encode()) < 3000
