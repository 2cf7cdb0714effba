"""Putting back what a store lost, from what a machine has of it (`fsd.maintenance.mending.Donor`).

1. A verification in which each missing or damaged object is put back as the walk meets it (`MendingLoader`).
2. What trees look for in the packs that are not as they should be, and these packs, one by one (`rebuild`).
3. A second verification, of all objects as the store has them now and of those packs: what is left.

No id changes: not of a commit, nor of a page. Refs are nobody's to guess: a damaged one stays reported. Killed at any
point, whatever read right before does so still, and the next repair goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from fsd.maintenance.mark import expired_commits
from fsd.maintenance.mending import Donor, Mended, MendingLoader
from fsd.maintenance.placed import PlacedRows
from fsd.maintenance.progress import Progress
from fsd.maintenance.reach import Walk
from fsd.maintenance.rebuild import LostPack, mend_pack
from fsd.maintenance.verify import Damage, Report, verify
from fsd.repo.objects import StoreLoader
from fsd.repo.repository import Repositories

PURPOSE = "repair"
"""What others are told of who holds the lease."""


@dataclass
class Repaired:
    """What a repair found and did."""

    left: Report
    """What a verification finds now."""
    found: list[Damage] = field(default_factory=list)
    """What was wrong and is not an object that was put back: those are in `mended` alone."""
    mended: list[Mended] = field(default_factory=list)


async def repair(
    repositories: Repositories, donors: Sequence[Donor], progress: Progress, *, data: bool = False
) -> Repaired:
    """Verify a store, put back what `donors` have of what is missing or damaged, the first first, and verify that.

    With `data` the bytes of all chunks are verified. Raises UnsupportedFormatError if this program must not write to
    the store, ConflictError if the lease has run out, and what a store raises.
    """
    repositories.check_writable()
    loader = MendingLoader(repositories.store, donors, lambda: mending.leases.take())
    mending = _opened(repositories, loader)
    async with mending.leases.held(PURPOSE):
        first = await verify(mending, progress, data=data, loader=loader)
        mended = loader.mended
        mended += await _mend_refs_index(mending, first)
        mended += await _mend_packs(mending, donors, first, progress)
        if not mended:
            return Repaired(first, first.damages)
        second = await verify(_opened(repositories), progress, data=data, packs=first.bad_packs)
    left = replace(
        first,
        damages=second.damages,
        files=second.files,
        files_concerned=second.files_concerned,
        bad_packs=second.bad_packs,
    )
    return Repaired(left, first.damages, mended)


def _opened(repositories: Repositories, loader: MendingLoader | None = None) -> Repositories:
    """The same store, with nothing of it in memory."""
    return Repositories(
        repositories.store,
        repositories.marker,
        loader or StoreLoader(repositories.store),
        repositories.limits,
        repositories.clock,
    )


async def _mend_refs_index(repositories: Repositories, report: Report) -> list[Mended]:
    damage = next((damage for damage in report.damages if damage.what == "refs"), None)
    if damage is None:
        return []
    await repositories.leases.take()
    if not await repositories.refs.renew_index():
        return []
    return [Mended(damage.what, damage.id, (), damage.why)]


async def _mend_packs(
    repositories: Repositories, donors: Sequence[Donor], report: Report, progress: Progress
) -> list[Mended]:
    if not report.bad_packs:
        return []
    progress.phase("mend")
    lost = await _lost_packs(repositories, report)
    wanted = {row.chunk: row.length for each in lost for row in each.rows}
    for donor in donors:
        await donor.look_for(wanted)
    progress.expect(sum(row.stored for each in lost for row in each.rows))
    mended = []
    for each in lost:
        outcome = await mend_pack(repositories, donors, each, lambda size: progress.advance(0, size))
        if outcome is not None:
            mended.append(outcome)
    return mended


async def _lost_packs(repositories: Repositories, report: Report) -> list[LostPack]:
    """The packs that are not as they should be, with what trees look for in them."""
    placed = PlacedRows(report.bad_packs.__contains__)
    walk = Walk(repositories, placed)
    roots = await walk.roots()
    walk.treeless = await expired_commits(repositories) - roots.tips
    await walk.from_roots(roots.commits.items())
    return [
        LostPack(pack, placed.packs[pack].by_offset(), bad)
        for pack, bad in sorted(report.bad_packs.items())
        if pack in placed.packs
    ]
