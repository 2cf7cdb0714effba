"""The index on disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fsd.cache.index import Held, IndexFailedError, Location, PresenceIndex

EXTENT = 16


def chunk(number: int) -> bytes:
    return number.to_bytes(32, "big")


def test_records_outlive_it_with_their_epoch(tmp_path: Path) -> None:
    index = PresenceIndex.open(tmp_path / "index", EXTENT)
    first = index.epoch
    number = index.add_mirror(b"p" * 16)
    index.put([(chunk(1), Location(number, 100, 50, first))])
    index.put_recency([(number, b"recent")])
    index.close()

    index = PresenceIndex.open(tmp_path / "index", EXTENT)
    assert index.was_clean
    assert index.epoch == first + 1
    assert index.get(chunk(1)) == Location(number, 100, 50, first)
    assert index.get(chunk(2)) is None
    assert index.mirrors() == [(number, b"p" * 16, b"recent")]
    assert index.add_mirror(b"q" * 16) > number
    index.close()


def test_an_index_that_was_not_closed_says_so(tmp_path: Path) -> None:
    index = PresenceIndex.open(tmp_path / "index", EXTENT)
    number = index.add_mirror(b"p" * 16)
    index._db.close()
    index = PresenceIndex.open(tmp_path / "index", EXTENT)
    assert not index.was_clean
    assert index.add_mirror(b"q" * 16) > number
    index.close()


def test_a_mirrors_number_is_not_used_again(tmp_path: Path) -> None:
    index = PresenceIndex.open(tmp_path / "index", EXTENT)
    number = index.add_mirror(b"p" * 16)
    index.put([(chunk(1), Location(number, 0, 5, 1))])
    index.remove_mirror(number)
    assert index.mirrors() == []
    assert index.get(chunk(1)) is None
    index.close()
    index = PresenceIndex.open(tmp_path / "index", EXTENT)
    assert index.add_mirror(b"p" * 16) > number
    index.close()


def test_removing_leaves_a_chunk_that_is_elsewhere(tmp_path: Path) -> None:
    index = PresenceIndex.open(tmp_path / "index", EXTENT)
    index.put([(chunk(1), Location(1, 0, 5, 1))])
    index.remove(2, [Held(0, 5, chunk(1))])
    assert index.get(chunk(1)) == Location(1, 0, 5, 1)
    index.remove(1, [Held(0, 5, chunk(1))])
    assert index.get(chunk(1)) is None
    assert index.of_mirror(1) == []
    index.close()


@pytest.mark.parametrize("damage", ["garbage", "no manifest", "truncated tables", "other version", "a file"])
def test_a_broken_index_is_begun_anew(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    directory = tmp_path / "index"
    index = PresenceIndex.open(directory, EXTENT)
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
        other = PresenceIndex.open(directory, EXTENT)
        other._db.put(b"v", (99).to_bytes(4, "little") + bytes(16))
        other._db.close()
    else:
        for path in directory.iterdir():
            path.unlink()
        directory.rmdir()
        directory.write_bytes(b"a file")
    index = PresenceIndex.open(directory, EXTENT)
    assert index.get(chunk(5)) is None
    assert index.mirrors() == []
    assert (tmp_path / "index.broken").exists()
    assert "begins anew" in caplog.text
    index.close()


def test_an_index_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(IndexFailedError):
        PresenceIndex.open(tmp_path / "file" / "index", EXTENT)


def test_the_size_of_extents_stays(tmp_path: Path) -> None:
    PresenceIndex.open(tmp_path / "index", 16).close()
    index = PresenceIndex.open(tmp_path / "index", 32)
    assert index.extent_bytes == 16
    index.close()


def test_what_was_decoded_is_not_decoded_again(tmp_path: Path) -> None:
    index = PresenceIndex.open(tmp_path / "index", EXTENT)
    index.put([(chunk(1), Location(1, 3, 5, 1))])
    known: dict[tuple[int, int], list[Held]] = {}
    assert index.last_before(1, 100, known) == Held(3, 5, chunk(1))
    index.remove(1, [Held(3, 5, chunk(1))])
    assert index.last_before(1, 100, known) == Held(3, 5, chunk(1))
    assert index.last_before(1, 100) is None
    index.close()


RECORDS = st.lists(st.tuples(st.integers(1, 3), st.integers(0, 90)), max_size=40)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(RECORDS, RECORDS, st.integers(0, 100))
def test_the_reverse_follows(
    tmp_path: Path, added: list[tuple[int, int]], removed: list[tuple[int, int]], offset: int
) -> None:
    index = _shared(tmp_path)
    for mirror in (1, 2, 3):
        index.remove(mirror, index.of_mirror(mirror))
    index.put([(chunk(mirror * 100 + at), Location(mirror, at, 1, 1)) for mirror, at in added[::2]])
    index.put([(chunk(mirror * 100 + at), Location(mirror, at, 1, 1)) for mirror, at in added])
    for mirror, at in removed:
        index.remove(mirror, [Held(at, 1, chunk(mirror * 100 + at))])
    for mirror in (1, 2, 3):
        offsets = sorted({at for other, at in added if other == mirror and (mirror, at) not in removed})
        held = [Held(at, 1, chunk(mirror * 100 + at)) for at in offsets]
        assert index.of_mirror(mirror) == held
        assert index.extent(mirror, 2) == [row for row in held if 2 * EXTENT <= row.offset < 3 * EXTENT]
        before = [row for row in held if row.offset < offset]
        assert index.last_before(mirror, offset) == (before[-1] if before else None)
        assert all(index.get(row.id) is not None for row in held)


_open: dict[Path, PresenceIndex] = {}


def _shared(directory: Path) -> PresenceIndex:
    """One index for all examples: opening takes longer than the test."""
    if directory not in _open:
        _open[directory] = PresenceIndex.open(directory / "index", EXTENT)
    return _open[directory]
