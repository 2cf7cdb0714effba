"""The index of known chunks for as long as one publisher works, and what it is to learn for a part of a tree."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import trio

from fsd.publish.cover import cover
from fsd.publish.known import KnownChunks
from fsd.repo.repository import Repositories
from fsd.repo.tree import Tree

_LEARNED_BYTES = 100
"""What an entry of a tree costs to be learnt of (`cover`), about. Adding less than the whole tree would cost means to
upload, at worst, so much again that is in the store already."""


@asynccontextmanager
async def known_chunks(repositories: Repositories, state: Path) -> AsyncIterator[KnownChunks]:
    """The index is open, and kept in the end."""
    known = KnownChunks(state / "chunks" / repositories.marker.id)
    await trio.to_thread.run_sync(known.open)
    try:
        yield known
    finally:
        with trio.CancelScope(shield=True), suppress(OSError):
            await trio.to_thread.run_sync(known.close)


async def learn(
    repositories: Repositories, known: KnownChunks, commit: bytes, tree: Tree, size: Callable[[], int]
) -> None:
    """Learn what chunks a commit's tree has, unless that costs more than it can save.

    `size` says how many bytes are to be added. It blocks, and is not asked where nothing is to be learnt.
    """
    if known.covers(commit):
        return
    if await trio.to_thread.run_sync(size) > _LEARNED_BYTES * tree.totals.entries:
        await cover(repositories, known, commit)
