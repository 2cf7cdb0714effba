"""How much of a target the cache has: files, bytes, and whether they were checked. Proves that nothing is missing.

Looks at every chunk of every file, and has the cache keep all pages and recipes on the way. Reads of the mount go on
beside it: the work is cut into pieces of a millisecond or two.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import trio

from fsd.cache.pins import Pin
from fsd.cache.stock import LOOK_UP_CHUNKS, Holding, Stock
from fsd.format.model import PlacedChunk
from fsd.limits import MIB
from fsd.vfs.targets import Stretch, Stretches, Target

_STRETCH_BYTES = 64 * MIB
_VERIFIED_BYTES = 4 * MIB
"""Read and hashed at once, in a thread."""


@dataclass(slots=True)
class Coverage:
    """Counted so far. A chunk that several files have is counted with each."""

    files: int = 0
    complete_files: int = 0
    """Of which all chunks are there."""
    size_bytes: int = 0
    cached_bytes: int = 0
    checked_bytes: int = 0
    """Of these, what was checked since the daemon started."""
    pinned_bytes: int = 0
    """Of the cached ones, what is not to be evicted."""
    unkept_objects: int = 0
    """Pages and recipes for which the cache has no room."""

    @property
    def missing_bytes(self) -> int:
        """Not in the cache."""
        return self.size_bytes - self.cached_bytes

    @property
    def is_complete(self) -> bool:
        """Whether all of it can be read with the store out of reach."""
        return not self.missing_bytes and not self.unkept_objects

    @property
    def is_verified(self) -> bool:
        """Complete, and every chunk checked since the daemon started."""
        return self.is_complete and self.checked_bytes == self.size_bytes


async def survey(
    target: Target,
    stock: Stock,
    report: Callable[[Coverage], None] = lambda _: None,
    *,
    verify: bool = False,
    besides: Pin | None = None,
) -> Coverage:
    """Look at all of `target`; `report` is told now and then. With `verify`, every chunk is read and checked now.

    What only the pin `besides` holds does not count as pinned.
    Raises what loading pages and recipes raises: what the store did not give, nobody can say anything about.
    """
    coverage = Coverage()
    file_is_complete = True
    async for stretch in Stretches(target, _STRETCH_BYTES):
        if verify:
            await _verify(stretch, stock)
        holdings: list[Holding] = []
        for step in range(0, len(stretch.chunks), LOOK_UP_CHUNKS):
            some = stretch.chunks[step : step + LOOK_UP_CHUNKS]
            looked = stock.look(some)
            holdings += looked
            there = [chunk for chunk, holding in zip(some, looked, strict=True) if holding]
            coverage.pinned_bytes += stock.held_bytes(there, besides)
            await trio.lowlevel.checkpoint()
        file_is_complete = _count(coverage, stretch, holdings, file_is_complete=file_is_complete)
        coverage.unkept_objects = target.objects.refused
        report(coverage)
    return coverage


async def _verify(stretch: Stretch, stock: Stock) -> None:
    some: list[PlacedChunk] = []
    size = 0
    for chunk in stretch.chunks:
        some.append(chunk)
        size += chunk.length
        if size >= _VERIFIED_BYTES:
            await stock.verify(some)
            some, size = [], 0
    await stock.verify(some)


def _count(coverage: Coverage, stretch: Stretch, holdings: list[Holding], *, file_is_complete: bool) -> bool:
    """Add a stretch; `file_is_complete` is of the file that it begins in, the result of the one that it ends in."""
    for chunk, holding in zip(stretch.chunks, holdings, strict=True):
        if holding:
            coverage.cached_bytes += chunk.length
            if holding is Holding.CHECKED:
                coverage.checked_bytes += chunk.length
    coverage.size_bytes += stretch.size_bytes
    coverage.files += len(stretch.ends)
    absent = [position for position, holding in enumerate(holdings) if not holding]
    if not absent:
        coverage.complete_files += len(stretch.ends) - (not file_is_complete and bool(stretch.ends))
        return file_is_complete or bool(stretch.ends)
    return _count_incomplete(coverage, stretch, absent, file_is_complete=file_is_complete)


def _count_incomplete(coverage: Coverage, stretch: Stretch, absent: list[int], *, file_is_complete: bool) -> bool:
    start, next_absent = 0, 0
    for end in stretch.ends:
        while next_absent < len(absent) and absent[next_absent] < start:
            next_absent += 1
        has_absent = next_absent < len(absent) and absent[next_absent] < end
        coverage.complete_files += file_is_complete and not has_absent
        start, file_is_complete = end, True
    return file_is_complete and absent[-1] < start
