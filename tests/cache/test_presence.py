"""Which chunks are in the cache: pending, recorded, claimed."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fsd.cache.index import Held, IndexFailedError, Location, PresenceIndex
from fsd.cache.presence import Presence

EXTENT = 16


def claim(presence: Presence, number: int, offset: int, length: int) -> bool:
    return presence.claim(1, [Held(offset, length, chunk(number))]) == [True]


def chunk(number: int) -> bytes:
    return number.to_bytes(32, "big")


async def no_sync(_mirrors: set[int]) -> None:
    await trio.lowlevel.checkpoint()


def limiter() -> trio.CapacityLimiter:
    return trio.CapacityLimiter(2)


async def test_pending_then_recorded(tmp_path: Path) -> None:
    presence = Presence(PresenceIndex.open(tmp_path / "index", EXTENT), {1})
    assert claim(presence, 1, 0, 10)
    assert presence.find(chunk(1)) is None
    presence.add(1, chunk(1), 0, 10)
    here = Location(1, 0, 10, presence.epoch)
    assert presence.find(chunk(1)) == here
    synced: list[set[int]] = []

    async def sync(mirrors: set[int]) -> None:
        synced.append(mirrors)
        assert presence._index.get(chunk(1)) is None  # data first

    assert await presence.flush(sync, limiter()) == 1
    assert synced == [{1}]
    assert presence.find(chunk(1)) == here
    assert len(presence) == 0
    assert await presence.flush(no_sync, limiter()) == 0
    presence._index.close()


async def test_what_is_dropped_during_a_flush_stays_dropped(tmp_path: Path) -> None:
    presence = Presence(PresenceIndex.open(tmp_path / "index", EXTENT), {1})
    for number in (1, 2):
        claim(presence, number, number * 10, 10)
        presence.add(1, chunk(number), number * 10, 10)
    location = presence.find(chunk(1))
    assert location is not None
    put = presence._index.put

    def put_slowly(records: list[tuple[bytes, Location]]) -> None:
        put(records)
        trio.from_thread.run_sync(presence.drop, chunk(1), location)

    presence._index.put = put_slowly  # type: ignore[method-assign,assignment]
    await presence.flush(no_sync, limiter())
    assert presence.find(chunk(1)) is None
    assert presence.find(chunk(2)) is not None
    assert claim(presence, 3, 10, 10)
    presence._index.close()


async def test_eviction_waits_for_a_flush_and_a_flush_writes_nothing_that_was_evicted(tmp_path: Path) -> None:
    presence = Presence(PresenceIndex.open(tmp_path / "index", EXTENT), {1})
    claim(presence, 1, 0, 10)
    presence.add(1, chunk(1), 0, 10)

    async def sync(_mirrors: set[int]) -> None:
        async with presence.dropping():
            presence.take(1, presence.starting_in(1, 0, 100))

    assert await presence.flush(sync, limiter()) == 0
    assert presence.find(chunk(1)) is None
    assert presence._index.get(chunk(1)) is None
    presence._index.close()


async def test_a_sync_that_fails_records_nothing(tmp_path: Path) -> None:
    presence = Presence(PresenceIndex.open(tmp_path / "index", EXTENT), {1})
    claim(presence, 1, 0, 10)
    presence.add(1, chunk(1), 0, 10)

    async def sync(_mirrors: set[int]) -> None:
        raise OSError(errno.EIO, "no")

    with pytest.raises(OSError, match="no"):
        await presence.flush(sync, limiter())
    assert presence._index.get(chunk(1)) is None
    assert presence.find(chunk(1)) is not None
    presence.abandon_pending()
    assert presence.find(chunk(1)) is None
    assert claim(presence, 2, 5, 10)
    presence._index.close()


async def test_a_confirmed_chunk_has_the_present_epoch(tmp_path: Path) -> None:
    index = PresenceIndex.open(tmp_path / "index", EXTENT)
    index.put([(chunk(1), Location(1, 0, 10, index.epoch - 1))])
    presence = Presence(index, {1})
    location = presence.find(chunk(1))
    assert location is not None
    presence.confirm(chunk(1), location)
    await presence.flush(no_sync, limiter())
    assert index.get(chunk(1)) == Location(1, 0, 10, index.epoch)
    assert not claim(presence, 2, 9, 10)
    index.close()


async def test_an_index_that_fails_makes_chunks_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error_logs: list[object]
) -> None:
    index = PresenceIndex.open(tmp_path / "index", EXTENT)
    index.put([(chunk(1), Location(1, 0, 10, index.epoch))])
    presence = Presence(index, {1})

    def fail(*_: object) -> None:
        raise IndexFailedError("broken")

    for name in ("get", "last_before", "remove"):
        monkeypatch.setattr(index, name, fail)
    assert presence.find(chunk(1)) is None
    assert not claim(presence, 2, 50, 10)
    presence.drop(chunk(1), Location(1, 0, 10, 1))
    assert presence.failures == 3
    assert len(error_logs) == 1
    index.close()


RANGES = st.tuples(st.integers(0, 60), st.integers(1, 20))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(["claim", "add", "release", "flush", "take"]), RANGES), max_size=40))
async def test_ranges_never_overlap(tmp_path: Path, steps: list[tuple[str, tuple[int, int]]]) -> None:
    index = _shared(tmp_path)
    presence = Presence(index, {1})
    index.remove(1, index.of_mirror(1))
    taken: dict[int, int] = {}
    added: set[int] = set()
    for step, (start, length) in steps:
        if step == "claim":
            free = all(start + length <= other or other + size <= start for other, size in taken.items())
            assert claim(presence, start, start, length) == free
            if free:
                taken[start] = length
        elif step == "add" and start in taken and start not in added:
            presence.add(1, chunk(start), start, taken[start])
            added.add(start)
        elif step == "release" and start in taken and start not in added:
            presence.release(1, start)
            del taken[start]
        elif step == "flush":
            await presence.flush(no_sync, limiter())
        elif step == "take" and set(taken) <= added:
            async with presence.dropping():
                presence.take(1, presence.starting_in(1, start, start + length))
            for offset in [offset for offset in taken if start <= offset < start + length]:
                del taken[offset]
                added.discard(offset)
        assert presence.starting_in(1, 0, 100) == [Held(n, taken[n], chunk(n)) for n in sorted(taken)]
        before = [n for n in sorted(taken) if n < start]
        last = presence.last_before(1, start)
        assert (last.offset if last else None) == (before[-1] if before else None)
        assert presence.of_mirror(1) == presence.starting_in(1, 0, 100)
        for offset in added:
            assert presence.find(chunk(offset)) is not None


_open: dict[Path, PresenceIndex] = {}


def _shared(directory: Path) -> PresenceIndex:
    """One index for all examples: opening takes longer than the test."""
    if directory not in _open:
        _open[directory] = PresenceIndex.open(directory / "index", EXTENT)
    return _open[directory]
