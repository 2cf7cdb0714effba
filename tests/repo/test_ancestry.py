"""Where two commits come from."""

from __future__ import annotations

import pytest

from fsd.errors import FsdError
from fsd.repo import ancestry
from fsd.repo.ancestry import common_ancestor
from fsd.repo.repository import Repositories, init_store, open_repositories
from fsd.stores.memory import MemoryStore
from tests.repo.trees import commit_tree, file


class History:
    """Commits by name, each a microsecond later than the one before."""

    def __init__(self, repositories: Repositories) -> None:
        self.repositories = repositories
        self.commits: dict[str, bytes] = {}

    async def add(self, name: str, *parents: str, time_us: int | None = None) -> None:
        time_us = len(self.commits) + 1 if time_us is None else time_us
        found = tuple(self.commits[parent] for parent in parents)
        store = self.repositories.store
        self.commits[name] = await commit_tree(
            store, "repo", [file(b"name", name.encode())], time_us=time_us, parents=found
        )

    async def common(self, one: str, other: str) -> str | None:
        found = await common_ancestor(self.repositories, self.commits[one], self.commits[other])
        return next((name for name, commit in self.commits.items() if commit == found), None)


async def history(*lines: str) -> History:
    """`"c a b"`: commit c with the parents a and b."""
    store = MemoryStore()
    await init_store(store)
    made = History(await open_repositories(store))
    for line in lines:
        await made.add(*line.split())
    return made


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("c", "c", "c"),
        ("a", "d", "a"),
        ("c", "d", "b"),
        ("c", "x", None),
        ("merged", "c", "c"),
        ("merged", "d", "d"),
        ("after", "merged", "merged"),
        ("after", "beside", "d"),
        ("both", "c", "c"),
        ("both", "x", "x"),
    ],
)
async def test_the_latest_commit_that_both_come_from(one: str, other: str, expected: str | None) -> None:
    commits = await history("a", "x", "b a", "c b", "d b", "merged c d", "after merged", "beside d", "both c x")
    assert await commits.common(one, other) == expected
    assert await commits.common(other, one) == expected


async def test_clocks_may_differ() -> None:
    commits = await history("a", "b a")
    await commits.add("early", "b", time_us=0)
    await commits.add("late", "b", time_us=1_000_000)
    assert await commits.common("early", "late") == "b"
    assert await commits.common("early", "b") == "b"


async def test_a_search_that_goes_too_far(monkeypatch: pytest.MonkeyPatch) -> None:
    commits = await history("a", "b a", "c b", "d a", "e d")
    monkeypatch.setattr(ancestry, "MAX_ANCESTORS", 3)
    with pytest.raises(FsdError, match="no common ancestor among the last 3 commits"):
        await commits.common("c", "e")
