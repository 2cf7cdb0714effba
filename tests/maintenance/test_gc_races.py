"""Publishers, people who tag and delete, and collectors, all at once and in any order: nothing reachable is ever lost.

Everybody works on one store in memory through a store of their own that lets the others go on between any two requests,
and that may fail at any request for good, as if its machine was gone. What was made stays readable until it is given
up.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.lowlevel

from fsd.errors import ConflictError, CorruptDataError, FsdError, NotFoundError, StoreUnreachableError
from fsd.maintenance import repack
from fsd.maintenance.expiry import Keep
from fsd.maintenance.gc import Policy
from fsd.maintenance.verify import verify
from fsd.repo.repository import Repositories, open_repositories
from fsd.stores.memory import MemoryStore
from tests.faulty import Call, Fault, FaultyStore
from tests.maintenance.desks import AT_ONCE, LIMITS, Quiet, collected, numbered
from tests.publish.folders import Desk, Folder, read_commit

FILES = 24
STEPS = 12


class Interleaved(FaultyStore):
    """Lets others go on before each request; after `requests` of them nothing is heard from it any more."""

    def __init__(self, inner: MemoryStore, dice: random.Random, requests: int | None) -> None:
        super().__init__(inner)
        self._dice = dice
        self._left = requests

    async def _before(self, call: Call) -> Fault | None:
        for _ in range(self._dice.choice((1, 1, 1, 2, 8, 30))):
            await trio.lowlevel.checkpoint()
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                raise StoreUnreachableError("this machine is gone")
        return await super()._before(call)


class World:
    """What was made, and what of it must be there."""

    def __init__(self, place: Path, seed: int) -> None:
        self.place = place
        self.store = MemoryStore()
        self.dice = random.Random(seed)
        self.made: dict[bytes, Folder] = {}
        """Commits, with what they hold."""
        self.desks = 0

    def desk(self, *, lives: bool = True) -> Desk:
        """Somebody else's."""
        self.desks += 1
        store = Interleaved(self.store, self.dice, None if lives else self.dice.randrange(3, 120))
        return Desk(self.place, f"-{self.desks}", limits=LIMITS, store=store)

    async def check(self) -> None:
        """All that refs name and named is there, unless it was given up; what they name now is as it was made."""
        repositories = await open_repositories(self.store, LIMITS)
        report = await verify(repositories, Quiet(), data=True)
        assert report.is_whole, report.damages
        for repository in await repositories.refs.repositories():
            for name, stored in (await repositories.refs.read_all(repository)).items():
                held = await read_commit(repositories, stored.ref.target)
                assert held == self.made[stored.ref.target], name

    @asynccontextmanager
    async def holding(self, desk: Desk, purpose: str) -> AsyncIterator[Repositories]:
        """Who changes refs, as the commands do."""
        repositories = await desk.repositories()
        async with repositories.leases.held(purpose):
            yield repositories


async def publisher(world: World, branch: str) -> None:
    """Commits to a branch of its own, mostly what somebody had before; its machine may be gone at any moment."""
    desk = world.desk()
    for _ in range(STEPS):
        if world.dice.random() < 0.2:
            desk = world.desk(lives=world.dice.random() < 0.5)
        folder = numbered(*world.dice.sample(range(FILES), world.dice.randrange(1, FILES)))
        with suppress(StoreUnreachableError, ConflictError):
            published = await desk.commit(folder, branch=branch)
            assert world.made.setdefault(published.commit, folder) == folder
            continue
        # It may have been made before the machine was lost.
        repositories = await open_repositories(world.store, LIMITS)
        stored = await repositories.refs.read("repo", branch)
        if stored is not None and stored.ref.target not in world.made:
            world.made[stored.ref.target] = folder
        desk = world.desk()


async def tagger(world: World) -> None:
    """Tags commits, old ones too, and deletes tags and branches."""
    desk = world.desk()
    for number in range(STEPS):
        await trio.lowlevel.checkpoint()
        # What nothing names any more may be gone, whole or in part.
        with suppress(NotFoundError, ConflictError, CorruptDataError):
            async with world.holding(desk, "tag") as repositories:
                refs = await repositories.refs.read_all("repo")
                if refs and world.dice.random() < 0.5:
                    name = world.dice.choice(sorted(refs))
                    if not repositories.leases.sweeping.is_pending:
                        await repositories.refs.delete("repo", name, refs[name].version)
                elif world.made:
                    commit = world.dice.choice(sorted(world.made))
                    await repositories.leases.check_kept(commit)
                    # As the commands do, which begin with looking the commit up.
                    await read_commit(await open_repositories(world.store, LIMITS), commit)
                    await repositories.refs.set_tag("repo", f"t{number}", commit)


async def collector(world: World, policy: Policy) -> None:
    """Collects garbage again and again, and is killed in the middle of every third."""
    for number in range(STEPS):
        store = Interleaved(world.store, world.dice, world.dice.randrange(5, 200) if number % 3 == 2 else None)
        with suppress(StoreUnreachableError):
            await collected(store, policy)


@pytest.mark.timeout_s(240)
@pytest.mark.parametrize("seed", range(3))
async def test_nothing_reachable_is_ever_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.setattr(repack, "LEAST_DEAD_BYTES", 1000)
    world = World(tmp_path, seed)
    first = numbered(*range(FILES))
    world.made[(await world.desk().commit(first)).commit] = first
    policy = replace(AT_ONCE, wait_s=3, live_share=0.9)
    async with trio.open_nursery() as nursery:
        for branch in ("main", "other", "third"):
            nursery.start_soon(publisher, world, branch)
        nursery.start_soon(tagger, world)
        nursery.start_soon(collector, world, policy)
        nursery.start_soon(collector, world, replace(policy, keep=Keep(last=2)))
    await world.check()
    done = await collected(world.store, policy)
    assert done.waiting == []
    await world.check()
    with suppress(FsdError):
        await collected(world.store, policy)
    await world.check()
