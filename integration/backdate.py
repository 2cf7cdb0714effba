"""Makes a branch of a store in a folder look as if it had been moved long ago: for pages about time.

`python -m integration.backdate STORE REPO BRANCH DAYS ...` takes, of each of its moves, how many days ago it was.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import trio

from fsd.clock import now_us
from fsd.format.keys import ref_key
from fsd.format.ref import encode_ref
from fsd.limits import DEFAULT_LIMITS
from fsd.repo.repository import open_repositories
from fsd.stores.open import open_store

DAY_US = 24 * 3600 * 1_000_000


async def backdate(url: str, repository: str, branch: str, days: list[int]) -> None:
    store = open_store(url, DEFAULT_LIMITS)
    repositories = await open_repositories(store)
    stored = await repositories.refs.read(repository, branch)
    assert stored is not None
    now = now_us()
    moves = [move._replace(time_us=now - ago * DAY_US) for move, ago in zip(stored.ref.moves, days, strict=True)]
    data = encode_ref(replace(stored.ref, moves=tuple(moves)))
    await store.compare_and_swap(ref_key(repository, branch), data, stored.version)
    await store.aclose()


if __name__ == "__main__":
    trio.run(backdate, *sys.argv[1:4], list(map(int, sys.argv[4:])))
