"""Where two commits come from."""

from __future__ import annotations

import heapq

from fsd.errors import FsdError
from fsd.repo.refs import short
from fsd.repo.repository import Repositories

MAX_ANCESTORS = 10_000
"""Commits looked at for a common ancestor, a request each: two branches that parted longer ago are not merged."""

_FIRST, _SECOND = 1, 2


async def common_ancestor(repositories: Repositories, one: bytes, other: bytes) -> bytes | None:
    """The latest commit from which both were made, perhaps one of them; None if there is none.

    Goes back in the order of the commits' times, as far as it must. Raises FsdError after MAX_ANCESTORS, and
    CorruptDataError for a commit that is gone.
    """
    sides: dict[bytes, int] = {}
    waiting: list[tuple[int, bytes]] = []

    async def reach(commit: bytes, side: int) -> None:
        known = sides.get(commit, 0)
        if known | side == known:
            return
        sides[commit] = known | side
        # Again, if it was passed already: by a clock that is behind, a commit can seem older than its parents.
        heapq.heappush(waiting, (-(await repositories.commit(commit)).time_us, commit))

    await reach(one, _FIRST)
    await reach(other, _SECOND)
    for _ in range(MAX_ANCESTORS):
        if not waiting:
            return None
        _, commit = heapq.heappop(waiting)
        if sides[commit] == _FIRST | _SECOND:
            return commit
        for parent in (await repositories.commit(commit)).parents:
            await reach(parent, sides[commit])
    raise FsdError(
        f"{short(one)} and {short(other)} have no common ancestor among the last {MAX_ANCESTORS:,} commits",
        hint="commit to a branch of its own",
    )
