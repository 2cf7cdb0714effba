"""How old answers about refs may be, what they cost, and what happens while the store is away. In virtual time."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from fsd.errors import StoreUnreachableError
from fsd.ids import content_id
from fsd.limits import DEFAULT_LIMITS
from fsd.repo.repository import Repositories, init_store, open_repositories
from fsd.stores.memory import MemoryStore
from fsd.vfs.refcache import RefCache
from tests.faulty import READS, Fail, FaultyStore, FlipBit, Slow, Stall

COMMITS = [content_id(b"%d" % number) for number in range(4)]
TTL_S = DEFAULT_LIMITS.refs_ttl_s

pytestmark = pytest.mark.usefixtures("autojump_clock")


class World:
    def __init__(self, store: FaultyStore, writer: Repositories, cache: RefCache) -> None:
        self.store = store
        self.refs = writer.refs
        self.cache = cache

    def asked(self) -> int:
        count = len(self.store.calls)
        self.store.calls.clear()
        return count

    async def target(self, name: str) -> bytes | None:
        ref = await self.cache.ref("data", name)
        return ref.target if ref else None


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    inner = MemoryStore()
    await init_store(inner)
    writer = await open_repositories(inner)
    await writer.refs.move_branch("data", "main", COMMITS[0], expected=None)
    await writer.refs.set_tag("data", "v1", COMMITS[0])
    store = FaultyStore(inner)
    reader = await open_repositories(store)
    async with trio.open_nursery() as nursery:
        store.calls.clear()
        yield World(store, writer, RefCache(reader, DEFAULT_LIMITS, nursery))
        nursery.cancel_scope.cancel()


async def test_an_answer_is_asked_for_once_while_it_is_fresh() -> None:
    async with world() as here:
        for _ in range(5):
            assert await here.target("main") == COMMITS[0]
        assert here.asked() == 1
        await trio.sleep(TTL_S)
        assert await here.target("main") == COMMITS[0]
        await trio.testing.wait_all_tasks_blocked()
        assert here.asked() == 1


async def test_an_answer_that_is_a_little_old_is_given_while_a_new_one_is_asked_for() -> None:
    async with world() as here:
        await here.target("main")
        await here.refs.move_branch("data", "main", COMMITS[1], expected=COMMITS[0])
        await trio.sleep(TTL_S)
        here.store.inject("get", "refs/data/main", Slow(0.5), times=1)
        started_s = trio.current_time()
        assert await here.target("main") == COMMITS[0]
        assert trio.current_time() == started_s
        await trio.sleep(0.6)
        assert await here.target("main") == COMMITS[1]
        here.store.assert_all_exercised()


async def test_repositories_that_were_listed_elsewhere_are_something_new() -> None:
    async with world() as made:
        made.cache.prime(["data"])
        assert made.cache.changes == 1
        made.cache.prime(["data"])
        assert made.cache.changes == 1
        made.cache.prime(["data", "more"])
        assert made.cache.changes == 2


async def test_what_moved_is_seen_when_the_answer_is_too_old() -> None:
    async with world() as here:
        await here.target("main")
        assert await here.cache.repositories() == ["data"]
        assert sorted(await here.cache.refs_of("data")) == ["main", "v1"]
        await here.refs.move_branch("data", "main", COMMITS[1], expected=COMMITS[0])
        await here.refs.set_tag("data", "v2", COMMITS[1])
        await here.refs.set_tag("more", "v1", COMMITS[1])
        await trio.sleep(2 * TTL_S)
        assert await here.target("main") == COMMITS[1]
        assert await here.cache.has_repository("more")
        assert sorted(await here.cache.refs_of("data")) == ["main", "v1", "v2"]


async def test_many_who_ask_at_once_share_a_request() -> None:
    async with world() as here, trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(here.target, "main")
            nursery.start_soon(here.cache.repositories)
            nursery.start_soon(here.cache.refs_of, "data")
        await trio.testing.wait_all_tasks_blocked()
        assert here.asked() <= 1 + 1 + 3


async def test_repositories_that_are_not_there_cost_nothing() -> None:
    async with world() as here:
        here.cache.prime()
        assert await here.cache.has_repository("data")
        here.asked()
        for name in (".git", "HEAD", "objects", "", "a/b", "x" * 200):
            assert not await here.cache.has_repository(name)
        assert here.asked() == 0


async def test_a_known_repository_is_not_waited_for() -> None:
    async with world() as here:
        assert await here.cache.has_repository("data")
        await trio.sleep(TTL_S)
        stalled = here.store.inject("list", "refs/", Stall(), times=1)
        started_s = trio.current_time()
        assert await here.cache.has_repository("data")
        assert trio.current_time() == started_s
        await stalled.wait_met()
        here.store.assert_all_exercised()


async def test_after_one_missing_ref_the_others_are_free() -> None:
    async with world() as here:
        assert await here.target("HEAD") is None
        await trio.testing.wait_all_tasks_blocked()
        assert here.asked() == 2
        for name in ("config", "objects", "refs", "-bad", "0123456789", "10pct"):
            assert await here.target(name) is None
        assert here.asked() == 0
        assert await here.target("main") == COMMITS[0]


async def test_a_listing_answers_for_each_of_its_refs() -> None:
    async with world() as here:
        await here.cache.refs_of("data")
        here.asked()
        assert await here.target("v1") == COMMITS[0]
        assert await here.target("v2") is None
        assert here.asked() == 0


async def test_while_the_store_is_away_what_is_known_is_given_at_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with world() as here:
        await here.target("main")
        await here.cache.repositories()
        await here.cache.refs_of("data")
        await trio.sleep(TTL_S)
        away = here.store.inject((*READS, "list"), "refs/*", Fail(StoreUnreachableError("no route")))
        for _ in range(50):
            assert await here.target("main") == COMMITS[0]
            assert await here.cache.repositories() == ["data"]
            assert sorted(await here.cache.refs_of("data")) == ["main", "v1"]
            await trio.sleep(1)
        assert len([record for record in caplog.records if "no route" in record.getMessage()]) == 1
        with pytest.raises(StoreUnreachableError, match="no route"):
            await here.target("never-seen")
        here.store.assert_all_exercised()

        away.remove()
        await here.refs.move_branch("data", "main", COMMITS[1], expected=COMMITS[0])
        await trio.sleep(TTL_S)
        await here.target("main")
        await trio.testing.wait_all_tasks_blocked()
        assert await here.target("main") == COMMITS[1]
        assert caplog.records[-1].getMessage() == "the store answers again"


async def test_a_slow_store_is_not_waited_for_long() -> None:
    async with world() as here:
        await here.target("main")
        await here.refs.move_branch("data", "main", COMMITS[1], expected=COMMITS[0])
        await trio.sleep(2 * TTL_S)
        here.store.inject("get", "refs/data/main", Slow(20), times=1)
        started_s = trio.current_time()
        assert await here.target("main") == COMMITS[0]
        assert trio.current_time() - started_s == pytest.approx(DEFAULT_LIMITS.refs_wait_s)
        # Once is enough: nobody else waits for the same answer.
        for _ in range(3):
            await trio.sleep(1)
            started_s = trio.current_time()
            assert await here.target("main") == COMMITS[0]
            assert trio.current_time() == started_s
        await trio.sleep(20)
        assert await here.target("main") == COMMITS[1]
        here.store.assert_all_exercised()


async def test_giving_up_waiting_does_not_lose_the_answer() -> None:
    async with world() as here:
        stalled = here.store.inject("get", "refs/data/main", Stall(), times=1)
        with trio.move_on_after(1):
            await here.target("main")
        assert isinstance(stalled.action, Stall)
        stalled.action.release.set()
        await trio.testing.wait_all_tasks_blocked()
        here.asked()
        here.store.assert_all_exercised()


async def test_a_bad_ref_does_not_hide_the_others(caplog: pytest.LogCaptureFixture) -> None:
    async with world() as here:
        here.store.inject("get", "refs/data/v1", FlipBit())
        refs = await here.cache.refs_of("data")
        assert sorted(refs) == ["main"]
        assert "refs/data/v1" in caplog.text
        here.store.assert_all_exercised()
