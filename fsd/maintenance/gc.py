"""Garbage collection: what nothing reaches any more is condemned, and deleted a grace period later.

    expire     only where that is asked for: old commits whose trees need not be kept (`expiry`)
    sweep      condemnations whose grace is over, and that no publisher at work is unaware of (`sweep`)
    mark       what the refs reach at this moment (`mark`)
    delete     of what is being swept, what is still not reached
    repack     packs of which little is reached (`repack`)
    condemn    what is not reached (`condemn`)

What is reached: everything in the history of every ref, what runs name, and all that these are made of. The grace is
for readers, who cannot say that they are reading; publishers hold leases (`fsd.repo.leases`). Killed at any point, what
was condemned stays so, nothing that is reached is lost, and the next collection goes on. Several may run at once, on
whichever machines.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from fsd.errors import ConflictError, CorruptDataError
from fsd.format.keys import EXPIRED, REFS, RUNS
from fsd.maintenance.condemn import condemn
from fsd.maintenance.expiry import Keep, expire
from fsd.maintenance.mark import Reachable, expired_commits, mark, pack_sizes
from fsd.maintenance.progress import Progress
from fsd.maintenance.repack import Repacked, mostly_dead, repack
from fsd.maintenance.sweep import Sweep, store_time_us
from fsd.repo.repository import Repositories
from fsd.stores.base import Version

DEFAULT_GRACE_S = 14 * 86_400.0
YOUNG_S = 3600.0
"""What is younger is not condemned: mostly it belongs to a publisher at work."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What a collection may do. Durations in seconds."""

    grace_s: float = DEFAULT_GRACE_S
    """Between condemning and deleting. With 0, what is condemned is deleted at once."""
    wait_s: float = 0.0
    """For publishers that were at work when a sweep began."""
    keep: Keep | None = None
    """What an expiry leaves; None: nothing expires."""
    live_share: float = 0.5
    """Packs of which less is needed are repacked; 0: none is."""


@dataclass
class Collected:
    """What a collection did. Sizes in bytes."""

    reached_objects: int = 0
    reached_packs: int = 0
    expired_commits: int = 0
    """That had not expired before."""
    deleted_objects: int = 0
    deleted_bytes: int = 0
    spared_objects: int = 0
    """Condemned, and named or written anew since."""
    repacked: Repacked = field(default_factory=Repacked)
    condemned_objects: int = 0
    condemned_bytes: int = 0
    waiting: list[str] = field(default_factory=list)
    """Condemnations that are not carried out yet, each with why: a line for people."""


async def collect(
    repositories: Repositories, policy: Policy, progress: Progress, *, dry_run: bool = False
) -> Collected:
    """Delete what was condemned long enough ago, and condemn what is unreachable now; with `dry_run`, only count it.

    Raises UnsupportedFormatError if this program must not, CorruptDataError for a store that is not whole,
    ConflictError if others keep deleting at the same time, and what a store raises.
    """
    repositories.marker.check_collectable(repositories.store.url)
    for _ in range(repositories.limits.ref_attempts):
        before = await _roots(repositories)
        try:
            return await _Collection(repositories, policy, progress, dry_run=dry_run).run()
        except CorruptDataError:
            # Something was missing of what was marked. If it was given up meanwhile that is as it should be.
            if before == await _roots(repositories):
                raise
    raise ConflictError(
        f"others keep deleting in {repositories.store.url}", hint="nothing was lost; try again when they are done"
    )


async def _roots(repositories: Repositories) -> list[tuple[str, Version]]:
    """What decides what is reached, as it is now."""
    return [
        (info.key, info.version) for prefix in (REFS, RUNS, EXPIRED) async for info in repositories.store.list(prefix)
    ]


class _Collection:
    def __init__(self, repositories: Repositories, policy: Policy, progress: Progress, *, dry_run: bool) -> None:
        self._repositories = repositories
        self._policy = policy
        self._progress = progress
        self._dry_run = dry_run
        self._sweep = Sweep(repositories, policy.grace_s, dry_run=dry_run)
        self._outcome = Collected()

    async def run(self) -> Collected:
        """See `collect`."""
        expired = await self._expire()
        young_s = min(YOUNG_S, self._policy.grace_s)
        # What expires while a sweep goes on does so in the next one: somebody may be naming it.
        self._progress.phase("sweep")
        due = await self._sweep.due(self._policy.wait_s)
        before_us = await store_time_us(self._repositories.store) - round(young_s * 1e6) if young_s else None
        reachable = await self._mark(expired)
        await self._delete(due, reachable)
        await self._repack(reachable)
        self._progress.phase("condemn")
        condemned = await condemn(self._repositories, reachable, before_us=before_us, dry_run=self._dry_run)
        self._outcome.condemned_objects, self._outcome.condemned_bytes = condemned.objects, condemned.bytes
        if condemned.objects and not self._policy.grace_s and not self._dry_run:
            due = await self._sweep.due(self._policy.wait_s)
            if due:
                await self._delete(due, await self._mark(expired))
        self._outcome.waiting = self._sweep.waiting
        return self._outcome

    async def _expire(self) -> Collection[bytes]:
        """All commits that have expired, or do so now."""
        expired = await expired_commits(self._repositories)
        if self._policy.keep is not None:
            self._progress.phase("expire")
            found = await expire(self._repositories, self._policy.keep, dry_run=self._dry_run)
            self._outcome.expired_commits = len(found - expired)
            expired |= found
        return expired

    async def _mark(self, expired: Collection[bytes]) -> Reachable:
        self._progress.phase("mark")
        reachable = await mark(self._repositories, expired, self._progress.advance)
        self._outcome.reached_objects, self._outcome.reached_packs = reachable.objects, len(reachable.packs)
        return reachable

    async def _delete(self, due: list[str], reachable: Reachable) -> None:
        self._progress.phase("delete")
        for each in due:
            swept = await self._sweep.carry_out(each, reachable)
            self._outcome.deleted_objects += swept.deleted_objects
            self._outcome.deleted_bytes += swept.deleted_bytes
            self._outcome.spared_objects += swept.spared_objects

    async def _repack(self, reachable: Reachable) -> None:
        if not self._policy.live_share:
            return
        self._progress.phase("repack")
        sizes = await pack_sizes(self._repositories.store)
        chosen = mostly_dead(reachable, sizes, self._policy.live_share)
        async with self._repositories.leases.held("collect garbage"):
            if chosen and not self._dry_run:
                await self._repositories.leases.take()
            self._outcome.repacked = await repack(self._repositories, reachable, chosen, sizes, dry_run=self._dry_run)
