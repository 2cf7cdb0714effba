"""The index on disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fsd.cache.index import Held, IndexFailedError, Location, PresenceIndex


def chunk(number: int) -> bytes:
    return number.to_bytes(32, "big")


def test_records_outlive_it_with_their_epoch(tmp_path: Path) -> None:
    index = PresenceIndex.open(tmp_path / "index")
    first = index.epoch
    number = index.add_mirror(b"p" * 16)
    index.put([(chunk(1), Location(number, 100, 50, first))])
    index.put_recency([(number, b"recent")])
    index.close()

    index = PresenceIndex.open(tmp_path / "index")
    assert index.was_clean
    assert index.epoch == first + 1
    assert index.get(chunk(1)) == Location(number, 100, 50, first)
    assert index.get(chunk(2)) is None
    assert index.mirrors() == [(number, b"p" * 16, b"recent")]
    assert index.add_mirror(b"q" * 16) > number
    index.close()


def test_an_index_that_was_not_closed_says_so(tmp_path: Path) -> None:
    index = PresenceIndex.open(tmp_path / "index")
    number = index.add_mirror(b"p" * 16)
    index._db.close()
    index = PresenceIndex.open(tmp_path / "index")
    assert not index.was_clean
    assert index.add_mirror(b"q" * 16) > number
    index.close()


def test_a_mirrors_number_is_not_used_again(tmp_path: Path) -> None:
    index = PresenceIndex.open(tmp_path / "index")
    number = index.add_mirror(b"p" * 16)
    index.put([(chunk(1), Location(number, 0, 5, 1))])
    index.remove_mirror(number)
    assert index.mirrors() == []
    assert index.get(chunk(1)) is None
    index.close()
    index = PresenceIndex.open(tmp_path / "index")
    assert index.add_mirror(b"p" * 16) > number
    index.close()


def test_removing_leaves_a_chunk_that_is_elsewhere(tmp_path: Path) -> None:
    index = PresenceIndex.open(tmp_path / "index")
    index.put([(chunk(1), Location(1, 0, 5, 1))])
    index.remove(2, [Held(chunk(1), 0, 5)])
    assert index.get(chunk(1)) == Location(1, 0, 5, 1)
    index.remove(1, [Held(chunk(1), 0, 5)])
    assert index.get(chunk(1)) is None
    assert index.starting_in(1, 0, 100) == []
    index.close()


@pytest.mark.parametrize("damage", ["garbage", "no manifest", "truncated tables", "other version", "a file"])
def test_a_broken_index_is_begun_anew(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    directory = tmp_path / "index"
    index = PresenceIndex.open(directory)
    index.put([(chunk(n), Location(1, n * 10, 10, 1)) for n in range(1000)])
    index._db.flush()
    index.close()
    if damage == "garbage":
        (directory / "CURRENT").write_bytes(b"nonsense")
    elif damage == "no manifest":
        for path in directory.glob("MANIFEST*"):
            path.unlink()
    elif damage == "truncated tables":
        for path in directory.glob("*.sst"):
            path.write_bytes(path.read_bytes()[:100])
    elif damage == "other version":
        other = PresenceIndex.open(directory)
        other._db.put(b"v", (99).to_bytes(4, "little") + bytes(12))
        other._db.close()
    else:
        for path in directory.iterdir():
            path.unlink()
        directory.rmdir()
        directory.write_bytes(b"a file")
    index = PresenceIndex.open(directory)
    assert index.get(chunk(5)) is None
    assert index.mirrors() == []
    assert (tmp_path / "index.broken").exists()
    assert "begins anew" in caplog.text
    index.close()


def test_an_index_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(IndexFailedError):
        PresenceIndex.open(tmp_path / "file" / "index")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 40)), max_size=40), st.integers(0, 45), st.integers(0, 45))
def test_the_reverse_is_ordered(tmp_path: Path, records: list[tuple[int, int]], start: int, end: int) -> None:
    index = _shared(tmp_path)
    for mirror in (1, 2, 3):
        index.remove(mirror, index.starting_in(mirror, 0, 1 << 60))
    index.put([(chunk(mirror * 100 + offset), Location(mirror, offset, 1, 1)) for mirror, offset in records])
    for mirror in (1, 2, 3):
        offsets = sorted({offset for other, offset in records if other == mirror})
        held = [Held(chunk(mirror * 100 + offset), offset, 1) for offset in offsets]
        assert index.starting_in(mirror, start, end) == [row for row in held if start <= row.offset < end]
        before = [row for row in held if row.offset < start]
        assert index.last_before(mirror, start) == (before[-1] if before else None)


_open: dict[Path, PresenceIndex] = {}


def _shared(directory: Path) -> PresenceIndex:
    """One index for all examples: opening takes longer than the test."""
    if directory not in _open:
        _open[directory] = PresenceIndex.open(directory / "index")
    return _open[directory]
