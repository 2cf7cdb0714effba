"""`refs/index` tells what a listing tells, whoever moves refs at once, and whoever dies in between."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import hypothesis
import hypothesis.strategies as st
import pytest
import trio

from fsd.errors import StoreUnreachableError
from fsd.format.keys import REFS
from fsd.format.refs_index import parse_refs_index
from fsd.ids import content_id
from fsd.limits import DEFAULT_LIMITS
from fsd.repo.refs import Refs
from fsd.repo.refs_index import RefsIndex
from fsd.stores.base import Store
from fsd.stores.memory import MemoryStore
from tests.faulty import Fail, FaultyStore
from tests.repo.test_refs import commit, refs_of

KEY = "refs/index"


async def indexed(store: Store) -> dict[str, tuple[bytes, str]]:
    """What the index tells: the hash and version of each ref."""
    index = parse_refs_index((await store.get(KEY)).data, KEY)
    return {path: (ref.content, ref.version) for path, ref in index.items()}


async def stored(store: Store) -> dict[str, tuple[bytes, str]]:
    """What a listing tells."""
    keys = [info.key async for info in store.list(REFS) if info.key != KEY]
    fetched = {key: await store.get(key) for key in keys}
    return {key.removeprefix(REFS): (content_id(ref.data), ref.version) for key, ref in fetched.items()}


async def test_it_follows_each_change() -> None:
    store = MemoryStore()
    refs = refs_of(store)
    await refs.move_branch("data", "main", commit(1), expected=None)
    assert list(await indexed(store)) == ["data/main"]
    await refs.set_tag("data", "v1", commit(1))
    await refs.set_subset("data", "tiny", commit(1), commit(9))
    await refs.move_branch("data", "main", commit(2), expected=commit(1))
    await refs.set_tag("other", "v1", commit(1))
    assert await indexed(store) == await stored(store)
    assert list(await indexed(store)) == ["data/main", "data/tiny", "data/v1", "other/v1"]
    tag = await refs.read("data", "v1")
    assert tag is not None
    await refs.delete("data", "v1", tag.version)
    assert await indexed(store) == await stored(store)
    assert "data/v1" not in await indexed(store)


async def test_only_what_changed_is_read() -> None:
    store = FaultyStore(MemoryStore())
    refs = refs_of(store)
    for number in range(5):
        await refs.set_tag("data", f"v{number}", commit(number))
    await refs.move_branch("data", "main", commit(1), expected=None)
    store.calls.clear()
    await refs.move_branch("data", "main", commit(2), expected=commit(1))
    asked = [(call.operation, call.key) for call in store.calls if call.key != "refs/data/main"]
    assert asked == [("get", KEY), ("list", REFS), ("compare_and_swap", KEY)]
    store.calls.clear()
    await refs.move_branch("data", "main", commit(2), expected=commit(1))
    asked = [(call.operation, call.key) for call in store.calls if call.key != "refs/data/main"]
    assert asked == [("get", KEY)], "it is right already"


@pytest.mark.parametrize("publishers", [2, 8])
async def test_publishers_at_once(publishers: int) -> None:
    store = MemoryStore()

    async def publish(number: int) -> None:
        refs = refs_of(store)
        for round_ in range(5):
            await refs.set_tag(f"data{number}", f"v{round_}", commit(round_))

    async with trio.open_nursery() as nursery:
        for number in range(publishers):
            nursery.start_soon(publish, number)
    assert len(await stored(store)) == 5 * publishers
    assert await indexed(store) == await stored(store)


class _KilledError(Exception):
    """A publisher that is no more."""


async def _publish(refs: Refs, number: int, lives: int) -> None:
    """Some moves, with death between one and its index."""
    for round_ in range(4):
        if round_ == lives:
            refs._index.keep = _die  # type: ignore[method-assign,assignment]
        try:
            await refs.set_tag("data", f"{number}.{round_}", commit(round_), force=True)
            await refs.move_branch(
                f"data{number}", "main", commit(round_), expected=commit(round_ - 1) if round_ else None
            )
        except _KilledError:
            return


async def _die(*_: object, **__: object) -> None:
    raise _KilledError


@hypothesis.given(st.lists(st.integers(0, 9), min_size=1, max_size=6))
@hypothesis.settings(max_examples=30)
async def test_who_moves_next_mends_what_the_dead_left(lives: Sequence[int]) -> None:
    store = MemoryStore()
    async with trio.open_nursery() as nursery:
        for number, each in enumerate(lives):
            nursery.start_soon(_publish, refs_of(store), number, each)
    listed = await stored(store)
    if KEY in [info.key async for info in store.list(REFS)]:
        assert (await indexed(store)).keys() <= listed.keys(), "it never runs ahead"
    if all(each >= 4 for each in lives):
        assert await indexed(store) == listed
    await refs_of(store).set_tag("last", "v1", commit(1))
    assert await indexed(store) == await stored(store)


async def test_who_tries_again_after_a_death_mends_his_own() -> None:
    store = MemoryStore()
    refs = refs_of(store)
    refs._index.keep = _die  # type: ignore[method-assign,assignment]
    with pytest.raises(_KilledError):
        await refs.move_branch("data", "main", commit(1), expected=None)
    await refs_of(store).move_branch("data", "main", commit(1), expected=None)
    assert await indexed(store) == await stored(store)


@pytest.mark.parametrize("damage", [b"", b"nonsense", b"{}\n" + b"0" * 64 + b"\n"])
async def test_a_damaged_index_is_replaced(damage: bytes) -> None:
    store = MemoryStore()
    await refs_of(store).set_tag("data", "v1", commit(1))
    await store.overwrite(KEY, damage)
    await refs_of(store).set_tag("data", "v2", commit(1))
    assert await indexed(store) == await stored(store)


async def test_what_hinders_the_index_fails_no_move(caplog: pytest.LogCaptureFixture) -> None:
    store = FaultyStore(MemoryStore())
    store.inject("compare_and_swap", KEY, Fail(StoreUnreachableError("gone")), times=2)
    refs = refs_of(store)
    await refs.move_branch("data", "main", commit(1), expected=None)
    await refs.move_branch("data", "main", commit(2), expected=commit(1))
    assert [record.message for record in caplog.records] == [
        f"cannot keep {KEY} in {store.url}, which web servers need: gone"
    ]
    await refs.move_branch("data", "main", commit(3), expected=commit(2))
    assert await indexed(store) == await stored(store)
    store.assert_all_exercised()


async def test_a_stalled_index_is_not_waited_for_long(autojump_clock: trio.testing.MockClock) -> None:
    del autojump_clock

    class Stalled(MemoryStore):
        async def get(self, key: str) -> object:  # type: ignore[override]
            if key == KEY:
                await trio.sleep_forever()
            return await super().get(key)

    store = Stalled()
    index = RefsIndex(store, replace(DEFAULT_LIMITS, refs_index_wait_s=3.0))
    started_s = trio.current_time()
    assert await index.look() is None
    await index.keep("data", "main", None)
    assert trio.current_time() - started_s == pytest.approx(6.0)
