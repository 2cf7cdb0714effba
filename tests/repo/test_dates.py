"""A branch as it stood on a date: what a date means, and what it costs to find."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsd.errors import NotFoundError, UsageError
from fsd.format.keys import ObjectKind, ref_key
from fsd.format.ref import MAX_MOVES, Move, Ref, RefKind, encode_ref, encode_segment
from fsd.ids import content_id
from fsd.repo.dates import last_moment_us
from fsd.repo.objects import ObjectWriter
from fsd.repo.repository import Repositories, init_store, open_repositories
from fsd.repo.revisions import RevisionKind, parse_revision, resolve
from fsd.repo.rules import Rule
from fsd.repo.subsets import create_subset, open_tree
from fsd.stores.base import Store
from fsd.stores.memory import MemoryStore
from tests.faulty import FaultyStore
from tests.repo.trees import commit_tree, file

SECOND = 1_000_000
HOUR = 3600 * SECOND


def at(text: str) -> int:
    return (datetime.fromisoformat(text).replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(
        microseconds=1
    )


NOW = at("2026-11-24T10:00:30")

# --- what is written


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("2026-11-17", "2026-11-18T00:00:00"),
        ("2026-11-17T09:30", "2026-11-17T09:31:00"),
        ("2026-11-17T09:30:15", "2026-11-17T09:30:16"),
        ("2026-11-17T09:30:15Z", "2026-11-17T09:30:16"),
        ("2026-11-17T09:30+01:00", "2026-11-17T08:31:00"),
        ("2026-11-17T23:59:59-05:30", "2026-11-18T05:30:00"),
        ("2026-11-17-08:00", "2026-11-18T08:00:00"),
        ("2026-11-23", "2026-11-24T00:00:00"),
        ("2026-11-24T10:00:29", "2026-11-24T10:00:30"),
        ("2024-02-29", "2024-03-01T00:00:00"),
        ("1969-12-31", "1970-01-01T00:00:00"),
        ("2026-11-24+14:00", "2026-11-24T10:00:00"),
        ("yesterday", "2026-11-24T00:00:00"),
    ],
)
def test_a_date_means_the_end_of_what_is_written(text: str, end: str) -> None:
    assert last_moment_us(text, NOW) == at(end) - 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2026-11-24", "is not over"),
        ("2026-11-24T10:00", "is not over"),
        ("2026-11-24T10:00:30", "is not over"),
        ("2026-11-23-11:00", "is not over"),
        ("2026-11-24T10:00:31", "is in the future"),
        ("2026-11-25", "is in the future"),
        ("9999-12-31", "is in the future"),
    ],
)
def test_what_is_not_over_means_nothing_yet(text: str, message: str) -> None:
    with pytest.raises(NotFoundError, match=message):
        last_moment_us(text, NOW)


@pytest.mark.parametrize(
    "text",
    [
        "", "2026", "2026-11", "2026-13-01", "2026-02-30", "20261117", "2026-11-17T", "2026-11-17T9:30",
        "2026-11-17T24:01", "2026-11-17T09:30:60", "2026-11-17 09:30", "2026-11-17T09:30+0100",
        "2026-11-17T09:30+25:00", "today", "now", "2026-11-17T09:30:15.5", "last week", "٢٠٢٦-11-17", "0000-01-01",
        "0001-01-01T00:00+14:00", "2026-W47-2", "2026-11-17\n",
    ],
)  # fmt: skip
def test_what_is_no_date(text: str) -> None:
    with pytest.raises(UsageError, match="is no date"):
        last_moment_us(text, NOW)


@pytest.mark.parametrize(
    ("text", "base", "subset"),
    [
        ("main@2026-11-17", "main@2026-11-17", None),
        ("main@2026-11-17+tiny", "main@2026-11-17", "tiny"),
        ("main@2026-11-17T09:30+01:00", "main@2026-11-17T09:30+01:00", None),
        ("main@2026-11-17T09:30+01:00+10pct", "main@2026-11-17T09:30+01:00", "10pct"),
        ("main@2026-11-17T09:30+0100", "main@2026-11-17T09:30", "0100"),
        ("main@yesterday+tiny", "main@yesterday", "tiny"),
        ("main+tiny@2026-11-17", "main", "tiny@2026-11-17"),
    ],
)
def test_a_zone_is_told_from_a_subset(text: str, base: str, subset: str | None) -> None:
    assert parse_revision(text) == (base, subset)


@pytest.mark.parametrize("text", ["@2026-11-17", "main@2026-11-17+", "main@2026-11-17+01:00+", "main@2026-11-17+a+b"])
def test_what_is_no_revision(text: str) -> None:
    with pytest.raises(UsageError):
        parse_revision(text)


# --- what it is found to mean


async def write_history(
    store: Store, moves: Sequence[Move], segment_moves: int = MAX_MOVES // 2, name: str = "main"
) -> None:
    """A branch with these moves, all but the last few of them in segments."""
    ref = Ref(RefKind.BRANCH, tuple(moves))
    while len(ref.moves) > segment_moves:
        older = ref.moves[:segment_moves]
        ref = ref.with_segment(await ObjectWriter(store).write(ObjectKind.SEGMENT, encode_segment(older)), older)
    await store.overwrite(ref_key("data", name), encode_ref(ref))


async def opened(store: Store) -> Repositories:
    return await open_repositories(store, clock=lambda: NOW)


async def new_store() -> MemoryStore:
    store = MemoryStore()
    await init_store(store)
    return store


async def test_a_date_among_ten_thousand_commits_takes_three_requests() -> None:
    inner = await new_store()
    begin = at("2026-01-01T00:00:00")
    wanted = await commit_tree(inner, "data", [file(b"a.txt", b"1")])
    moves = [Move(content_id(b"%d" % number), begin + number * HOUR // 2) for number in range(10_000)]
    moves[1234] = Move(wanted, moves[1234].time_us)
    await write_history(inner, moves)
    store = FaultyStore(inner)
    repositories = await opened(store)
    store.calls.clear()
    # 1234 half hours after new year.
    resolved = await resolve(repositories, "data", "main@2026-01-26T17:00")
    tree = await open_tree(repositories, resolved)
    assert (resolved.commit, resolved.kind, resolved.name) == (wanted, RevisionKind.DATE, "main@2026-01-26T17:00")
    assert tree.totals is not None
    assert [call.operation for call in store.calls] == ["get", "get", "get"]
    assert [call.key.partition("/")[0] for call in store.calls] == ["refs", "logs", "commits"]
    store.calls.clear()
    assert (await resolve(repositories, "data", "main@2026-01-26T17:29")).commit == wanted
    assert (await resolve(repositories, "data", "main@2026-01-26T17:30")).commit == moves[1235].commit
    assert (await resolve(repositories, "data", "main@2026-01-26T16:59:59")).commit == moves[1233].commit


async def test_before_and_after() -> None:
    store = await new_store()
    moves = [Move(content_id(b"%d" % number), at("2026-11-01T00:00:00") + number * HOUR) for number in range(10)]
    await write_history(store, moves, segment_moves=3)
    repositories = await opened(store)
    assert (await resolve(repositories, "data", "main@2026-11-17")).commit == moves[-1].commit
    assert (await resolve(repositories, "data", "main@yesterday")).commit == moves[-1].commit
    with pytest.raises(NotFoundError, match="has only been there since") as caught:
        await resolve(repositories, "data", "main@2026-10-31")
    assert "--moves" in caught.value.hint
    with pytest.raises(NotFoundError, match="is not over"):
        await resolve(repositories, "data", "main@2026-11-24")
    with pytest.raises(UsageError, match="is no date"):
        await resolve(repositories, "data", "main@lately")
    with pytest.raises(NotFoundError, match="no revision 'mian'") as caught:
        await resolve(repositories, "data", "mian@2026-11-17")
    assert "'main'" in caught.value.hint


async def test_only_branches_have_dates() -> None:
    store = await new_store()
    repositories = await opened(store)
    commit = await commit_tree(store, "data", [file(b"a.txt", b"1")])
    await repositories.refs.set_tag("data", "v1", commit)
    with pytest.raises(NotFoundError, match="'v1' of 'data' is a tag"):
        await resolve(repositories, "data", "v1@2026-11-17")


async def test_subsets_of_a_date() -> None:
    store = await new_store()
    repositories = await opened(store)
    commit = await commit_tree(store, "data", [file(b"a.txt", b"1")])
    await write_history(store, [Move(commit, at("2026-11-01T00:00:00"))])
    created = await create_subset(repositories, "data", commit, "tiny", Rule())
    resolved = await resolve(repositories, "data", "main@2026-11-17T09:30+01:00+tiny")
    assert resolved.subset is not None
    assert (resolved.commit, resolved.subset.id) == (commit, created.id)


# --- clocks


async def test_clocks_that_differ_by_minutes_blur_a_date_and_no_more() -> None:
    """One publisher's clock is five minutes late, so its move seems to come before the one that it followed."""
    store = await new_store()
    a, b, c = (content_id(name) for name in (b"a", b"b", b"c"))
    noon = at("2026-11-01T12:00:00")
    await write_history(store, [Move(a, noon), Move(b, noon - 300 * SECOND), Move(c, noon + HOUR)])
    repositories = await opened(store)
    for minute, expected in [("12:00", b), ("12:30", b), ("11:57", b), ("13:00", c)]:
        assert (await resolve(repositories, "data", f"main@2026-11-01T{minute}")).commit == expected, minute


times = st.lists(st.integers(0, 40), min_size=1, max_size=30)


@given(times, st.integers(1, 4), st.integers(0, 41))
@settings(max_examples=60)
async def test_the_last_move_that_is_not_too_late(hours: list[int], segment_moves: int, hour: int) -> None:
    """With clocks that agree, as a plain search finds it."""
    store = await new_store()
    begin = at("2026-11-01T00:00:00")
    moves = [Move(content_id(b"%d" % number), begin + each * HOUR) for number, each in enumerate(sorted(hours))]
    await write_history(store, moves, segment_moves)
    repositories = await opened(store)
    stored = await repositories.refs.read("data", "main")
    assert stored is not None
    limit = begin + hour * HOUR
    expected = [move for move in moves if move.time_us <= limit]
    assert await repositories.refs.find_move(stored.ref, limit) == (expected[-1] if expected else None)
