"""Pins by themselves: the set of extents, and the files."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from fsd.cache.pins import Extents, Pin, Pins, pinned_packs

numbers = st.integers(0, 5000) | st.integers(0, 1 << 40)


@given(st.lists(numbers, max_size=50), numbers)
def test_extents_are_a_set(given_numbers: list[int], other: int) -> None:
    extents = Extents()
    known: set[int] = set()
    for number in given_numbers:
        assert extents.add(number) == (number not in known)
        known.add(number)
    assert list(extents) == sorted(known)
    assert len(extents) == len(known)
    assert (other in extents) == (other in known)
    assert list(Extents.decode(extents.encode())) == sorted(known)


@given(st.sets(st.integers(0, 300), max_size=20), st.integers(1, 64), st.integers(1, 64))
def test_scaled_extents_cover_the_same_bytes(extents: set[int], old: int, new: int) -> None:
    covered = {byte for extent in extents for byte in range(extent * old, (extent + 1) * old)}
    assert set(Extents(extents).scaled(old, new)) == {byte // new for byte in covered}


@pytest.mark.parametrize("encoded", [{"0": "0"}, {"-1": "1"}, {"0": "1" + "0" * 64}, {"0": "-1"}, {"x": "1"}])
def test_impossible_extents_are_refused(encoded: dict[str, str]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - that it is refused is all
        Extents.decode(encoded)


def opened(directory: Path, extent_bytes: int = 100) -> Pins:
    pins = Pins(directory, extent_bytes, trio.CapacityLimiter(1))
    pins.load()
    return pins


PACK, OTHER = bytes(range(16)), bytes(16)


async def test_a_saved_pin_is_there_after_a_restart_and_an_unsaved_one_is_not(tmp_path: Path) -> None:
    pins = opened(tmp_path / "pins")
    pin = pins.begin("aa", {"path": "data/v1"})
    assert pins.begin("aa", {}) is pin
    assert pin.add(PACK, 3)
    assert not pin.add(PACK, 3)
    pin.objects.add("x.page")
    await pins.save(pin)
    pin.add(OTHER, 1)  # too late
    pins.begin("bb", {}).add(OTHER, 1)
    for found, extents in ((opened(tmp_path / "pins"), {3}), (opened(tmp_path / "pins", 60), {5, 6})):
        assert [pin.about for pin in found] == [{"path": "data/v1"}]
        assert {extent for extent in range(10) if found.holds(PACK, extent)} == extents
        assert not found.of_pack(OTHER)
        assert found.holds_object("x.page")
        assert not found.holds_object("y.page")
    assert pinned_packs(tmp_path / "pins") == {PACK.hex()}
    await pins.remove(pin)
    assert list(opened(tmp_path / "pins")) == []
    assert not pins.holds(PACK, 3)


async def test_what_two_pins_hold_stays_with_the_other(tmp_path: Path) -> None:
    pins = opened(tmp_path / "pins")
    first, second = pins.begin("aa", {}), pins.begin("bb", {})
    for pin in (first, second):
        pin.add(PACK, 1)
    second.add(PACK, 2)
    await pins.remove(second)
    assert [pins.holds(PACK, extent) for extent in (1, 2)] == [True, False]


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"version": 2}', b"\xff", Pin("x", {}).encode(1)[:-4]])
async def test_a_file_that_makes_no_sense_is_put_aside(tmp_path: Path, content: bytes) -> None:
    pins = opened(tmp_path / "pins")
    await pins.save(pins.begin("good", {}))
    (tmp_path / "pins" / "bad.json").write_bytes(content)
    assert [pin.key for pin in opened(tmp_path / "pins")] == ["good"]
    assert sorted(path.name for path in (tmp_path / "pins").iterdir()) == ["bad.bad", "good.json"]
    assert pinned_packs(tmp_path / "pins") == frozenset()
