"""Expiry: a branch's past goes when somebody asks for that, and nothing that is named or young."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fsd.clock import now_us
from fsd.errors import CorruptDataError, NotFoundError
from fsd.maintenance.expiry import Keep, expire
from fsd.repo.repository import open_repositories
from fsd.repo.rules import Rule
from fsd.repo.subsets import create_subset
from fsd.stores.memory import MemoryStore
from tests.maintenance.desks import (
    AT_ONCE,
    LIMITS,
    collected,
    is_whole,
    numbered,
    ref_of,
)
from tests.publish.folders import Desk

FIRST = numbered(*range(40))
SECOND = numbered(*range(0, 40, 8), *range(100, 104))


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path, limits=LIMITS, store=MemoryStore())


async def test_only_an_expiry_lets_go_of_a_branch_s_past(desk: Desk) -> None:
    versions = [numbered(*range(10 * number, 10 * number + 10)) for number in range(4)]
    commits = [(await desk.commit(version)).commit for version in versions]
    repositories = await desk.repositories()
    await repositories.refs.set_tag("repo", "v0", commits[0])
    outcome = await collected(desk.store, replace(AT_ONCE, keep=Keep(last=2)))
    assert outcome.expired_commits == 1
    for number in (0, 2, 3):
        assert await desk.read_back(commits[number]) == versions[number]
    repositories = await desk.repositories()
    assert [move.commit async for move in repositories.refs.history(await ref_of(desk, "main"))] == commits[::-1]
    assert (await repositories.commit(commits[1])).parents == (commits[0],), "histories stay whole"
    with pytest.raises(CorruptDataError):
        await desk.read_back(commits[1])
    assert await is_whole(desk), "what has expired is not missing"
    with pytest.raises(NotFoundError, match="given up"):
        await repositories.leases.check_kept(commits[1])
    await repositories.leases.check_kept(commits[2])


async def test_an_expiry_keeps_what_is_young_and_what_moved_tags_named(desk: Desk) -> None:
    clock = [now_us()]
    desk.clock = lambda: clock[0]
    day = 86_400_000_000
    commits = []
    for number in range(5):
        commits.append((await desk.commit(numbered(*range(10 * number, 10 * number + 5)))).commit)
        clock[0] += 10 * day
    refs = (await desk.repositories()).refs
    await refs.set_tag("repo", "best", commits[0])
    await refs.set_tag("repo", "best", commits[1], force=True)
    clock[0] += 1
    for keep, kept in (
        (Keep(within_us=25 * day), {1, 3, 4}),
        (Keep(tags=True), {0, 1, 4}),
        (Keep(last=3), {1, 2, 3, 4}),
    ):
        repositories = await open_repositories(desk.store, LIMITS, clock=desk.clock)
        expired = await expire(repositories, keep, dry_run=True)
        # (the tag was moved just now: within 25 days, what it named before counts as well)
        assert {commits.index(commit) for commit in expired} == {0, 1, 2, 3, 4} - kept - (
            {0} if keep.within_us else set()
        )


async def test_subsets_expire_with_what_they_were_taken_from(desk: Desk) -> None:
    first = await desk.commit(FIRST)
    repositories = await desk.repositories()
    old = await create_subset(repositories, "repo", first.commit, "few", Rule(limit=3))
    second = await desk.commit(SECOND)
    repositories = await desk.repositories()
    new = await create_subset(repositories, "repo", second.commit, "few", Rule(limit=3))
    outcome = await collected(desk.store, replace(AT_ONCE, keep=Keep()))
    assert outcome.expired_commits == 2
    assert len(await desk.read_back(new.id)) == 3
    with pytest.raises(CorruptDataError):
        await desk.read_back(old.id)


async def test_an_expired_commit_that_is_named_again_is_kept(desk: Desk) -> None:
    """Somebody tagged it between the expiry and the sweep: what a ref names now stays."""
    first = await desk.commit(FIRST)
    await desk.commit(SECOND)
    keep = replace(AT_ONCE, keep=Keep(), grace_s=1e-6)
    assert (await collected(desk.store, keep)).condemned_objects > 0
    await (await desk.repositories()).refs.set_tag("repo", "saved", first.commit)
    outcome = await collected(desk.store, keep)
    assert outcome.spared_objects > 0 == outcome.deleted_objects
    assert await desk.read_back(first.commit) == FIRST


async def test_an_unknown_repository_does_not_expire(desk: Desk) -> None:
    await desk.commit(FIRST)
    with pytest.raises(NotFoundError, match="nothing-like-it"):
        await collected(desk.store, replace(AT_ONCE, keep=Keep(repositories=("nothing-like-it",))))
