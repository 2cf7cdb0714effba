"""Expiry: which old commits need not be kept, where somebody asks for that.

Nothing expires by itself: what a branch ever pointed to can be got back. With a `Keep`, what a branch, a tag or a
subset names now always stays, and what a run names, and more as it says; of all other commits the trees are let go of.
The commits themselves stay, with their messages and dates, so that histories remain whole; the note `expired/<commit>`
says that their files are gone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass

from fsd.errors import NotFoundError
from fsd.format.commit import Commit
from fsd.format.keys import expired_key
from fsd.format.ref import Move, RefKind
from fsd.repo.repository import Repositories
from fsd.stores.base import ObjectExistsError
from fsd.tasks import gather


@dataclass(frozen=True, slots=True)
class Keep:
    """What an expiry leaves besides what refs name now."""

    last: int = 1
    """Of each branch, so many of the commits that it pointed to last."""
    within_us: int = 0
    """Commits that were made, or that a branch was moved to, no longer ago than this, in microseconds."""
    tags: bool = False
    """Also what a tag named before it was moved."""
    repositories: tuple[str, ...] = ()
    """Only these expire; () means all."""


class _History:
    """What refs name and named."""

    def __init__(self) -> None:
        self.commits: set[bytes] = set()
        self.kept: set[bytes] = set()
        self.subsets: list[Move] = []


async def expire(repositories: Repositories, keep: Keep, *, dry_run: bool = False) -> set[bytes]:
    """The commits and subsets that `keep` does not keep. Unless `dry_run`, that is written down, for all marks to come.

    Raises NotFoundError for a repository that is not there, and what a store raises.
    """
    known = await repositories.refs.repositories()
    for name in keep.repositories:
        if name not in known:
            raise NotFoundError(f"there is no repository {name!r}", hint="'fsd ls' shows which there are")
    since_us = repositories.clock() - keep.within_us
    histories = [await _history(repositories, name, keep, since_us) for name in keep.repositories or known]
    # A commit may have got into several repositories' histories: whoever keeps it keeps it for all.
    kept: set[bytes] = set().union(*(history.kept for history in histories))
    replaced = await repositories.runs.replaced()
    async for run in repositories.runs.read_all():
        kept |= replaced.all_now(run.commits)
    found: set[bytes] = set().union(*(history.commits for history in histories))
    expired = found - kept
    for history in histories:
        expired |= {move.commit for move in history.subsets if move.source not in kept} - kept
    if not dry_run:
        await _write_down(repositories, expired)
    return expired


async def _history(repositories: Repositories, repository: str, keep: Keep, since_us: int) -> _History:
    history = _History()
    for stored in (await repositories.refs.read_all(repository)).values():
        ref = stored.ref
        position = 0
        async for move in repositories.refs.history(ref):
            if ref.kind is RefKind.SUBSET:
                history.subsets.append(move)
                continue
            history.commits.add(move.commit)
            is_last = position == 0 or (ref.kind is RefKind.BRANCH and position < keep.last)
            is_tagged = ref.kind is RefKind.TAG and keep.tags
            if is_last or is_tagged or (keep.within_us and move.time_us >= since_us):
                history.kept.add(move.commit)
            position += 1
    await _add_ancestors(repositories, history, keep, since_us)
    return history


async def _add_ancestors(repositories: Repositories, history: _History, keep: Keep, since_us: int) -> None:
    """Commits that no ref ever named itself: parents, as of merges, and what subsets were taken from."""
    waiting: Iterable[bytes] = history.commits | {move.source for move in history.subsets if move.source is not None}
    seen: set[bytes] = set()
    while waiting:
        fresh = [commit for commit in waiting if commit not in seen]
        seen.update(fresh)
        headers: list[Commit] = await gather(repositories.commit, fresh, tasks=repositories.limits.fetch_requests)
        for commit, header in zip(fresh, headers, strict=True):
            history.commits.add(commit)
            if keep.within_us and header.time_us >= since_us:
                history.kept.add(commit)
        waiting = {parent for header in headers for parent in header.parents}


async def _write_down(repositories: Repositories, expired: Collection[bytes]) -> None:
    async def note(commit: bytes) -> None:
        with suppress(ObjectExistsError):
            await repositories.store.put_if_absent(expired_key(commit), b"")

    await gather(note, sorted(expired), tasks=repositories.limits.publish_requests)
