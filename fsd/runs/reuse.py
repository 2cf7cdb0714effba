"""Whether an earlier run of the same step is the one that is asked for: then its outputs are, and nothing runs.

It is, if running it again would read the same and be the same. What cannot be known counts as a difference: never is a
run taken for another one that it is not. Reads records and trees, and changes nothing.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import NamedTuple

import trio

from fsd.format.run import RunEnd, RunStart, StoredTree
from fsd.repo.diff import changes_between
from fsd.repo.repository import Repositories
from fsd.repo.runs import Replaced, Run
from fsd.runs.identity import differing
from fsd.runs.inputs import changed_inputs
from fsd.runs.meanings import Meanings
from fsd.tasks import gather
from fsd.vfs.refcache import RefCache

MAX_CANDIDATES = 1000
"""Runs of a step whose starts are read."""

MAX_COMPARED = 20
"""Of those that are the same by what was said, the newest: what they read is compared."""

NEVER_RUN = "it was never run"

_SHOWN_FILES = 2
_SHOWN_DIGITS = 8


class Verdict(NamedTuple):
    """What came of looking."""

    run: Run | None
    """The one to be taken: it has an end."""
    reasons: tuple[str, ...] = ()
    """Why there is none; not empty then."""

    @property
    def is_hit(self) -> bool:
        """Whether nothing needs to run."""
        return self.run is not None


async def look_up(repositories: Repositories, now: RunStart) -> Verdict:
    """The newest run that is the same as the one that would begin `now`, or why there is none.

    Raises CorruptDataError, and what a store raises.
    """
    impossible = list(_impossible(now))
    if impossible:
        return Verdict(None, tuple(impossible))
    runs = repositories.runs
    names = await runs.names(now.name.repository, now.name.step)
    some = sorted(name for name, has_end in names.items() if has_end)[:MAX_CANDIDATES]
    starts = await gather(runs.read_start, some, tasks=repositories.limits.fetch_requests)
    starts.sort(key=lambda start: -start.time_us)
    replaced = await runs.replaced() if starts else Replaced({})
    async with trio.open_nursery() as nursery:
        meanings = Meanings(repositories, RefCache(repositories, repositories.limits, nursery))
        verdict = await _Search(repositories, now, meanings, replaced).among(starts)
        nursery.cancel_scope.cancel()
    return verdict


def _impossible(now: RunStart) -> Iterator[str]:
    """Why no run could be the same."""
    if now.code is None:
        yield "its code is not known: no Git work tree (name it with --code)"
    if now.stdin is None:
        yield "it could read its standard input: add </dev/null"


class _Search:
    def __init__(self, repositories: Repositories, now: RunStart, meanings: Meanings, replaced: Replaced) -> None:
        self._repositories = repositories
        self._now = now
        self._meanings = meanings
        self._replaced = replaced
        self._links = {pin.link: pin for pin in now.pins}

    async def among(self, starts: list[RunStart]) -> Verdict:
        """The first of some starts that is the same; else the reasons of the one that has the fewest."""
        best: list[str] = []
        compared = 0
        nearest: tuple[int, RunStart] | None = None
        for start in starts:
            said = [*_unusable_start(start), *differing(start, self._now)]
            if said or not await self._is_same_code(start):
                count = len(said) + (not said or not self._is_same_tree(start))
                if nearest is None or count < nearest[0]:
                    nearest = (count, start)
                continue
            if compared == MAX_COMPARED:
                break
            compared += 1
            end = await self._repositories.runs.read_end(start.name)
            assert end is not None
            reasons = await self._end_reasons(start, end)
            if not reasons:
                return Verdict(Run(start, end))
            if not best or len(reasons) < len(best):
                best = reasons
        if not best and nearest is not None:
            best = await self._start_reasons(nearest[1])
        return Verdict(None, tuple(best) or (NEVER_RUN,))

    async def _start_reasons(self, start: RunStart) -> list[str]:
        """All that is to be said of one that is another by its start."""
        reasons = [*_unusable_start(start), *differing(start, self._now)]
        if not await self._is_same_code(start):
            reasons.append(await self._code_reason(start))
        return reasons

    async def _end_reasons(self, start: RunStart, end: RunEnd) -> list[str]:
        """Why what a run made is not what would be made now; [] if it is."""
        run = Run(start, end)
        reasons = list(_unusable_end(start, end))
        reasons += [f"{path} changed" for path in end.read if self._now.found.get(path) != start.found.get(path)]
        if not reasons and any(self._replaced.now(commit) != commit for commit in run.commits):
            reasons = ["what it read or made was purged"]
        if not reasons:
            reasons = await changed_inputs(self._meanings, end, self._links, start.pins)
        return reasons

    # --- code

    def _is_same_tree(self, start: RunStart) -> bool:
        return start.code is not None and self._now.code is not None and start.code.tree == self._now.code.tree

    async def _is_same_code(self, start: RunStart) -> bool:
        """Whether the code is the same, as far as it counts."""
        if start.code is None or self._now.code is None:
            return False
        if self._is_same_tree(start):
            return True
        if not self._now.code_paths or any(commit != self._replaced.now(commit) for commit in start.commits):
            return False
        async with aclosing(self._changed_files(start.code, self._now.code)) as changed:
            return await anext(changed, None) is None

    async def _code_reason(self, start: RunStart) -> str:
        if start.code is None or self._now.code is None:
            return "its code is not known"
        if any(self._replaced.now(code.commit) != code.commit for code in (start.code, self._now.code)):
            return "its code was purged"
        shown: list[str] = []
        more = 0
        async with aclosing(self._changed_files(start.code, self._now.code)) as changed:
            async for path in changed:
                if len(shown) < _SHOWN_FILES:
                    shown.append(path)
                else:
                    more += 1
        return f"code: {', '.join(shown)}{f', and {more} more' if more else ''}"

    async def _changed_files(self, old: StoredTree, new: StoredTree) -> AsyncGenerator[str]:
        """Paths of the code that counts."""
        trees = [await self._repositories.tree(each.commit) for each in (old, new)]
        pages = self._repositories.limits.listing_read_ahead_pages
        paths = [path.encode() for path in self._now.code_paths]
        async with aclosing(changes_between(*trees, read_ahead_pages=pages)) as changes:
            async for change in changes:
                for fact in (change.old, change.new):
                    if fact is not None and (not paths or any(_is_at_or_below(fact.path, path) for path in paths)):
                        yield fact.path.decode(errors="backslashreplace")
                        break


def _is_at_or_below(path: bytes, place: bytes) -> bool:
    return place in (path, b"") or path.startswith(place + b"/")


def _unusable_start(start: RunStart) -> Iterator[str]:
    """Why nothing may be taken from a run, as its start says."""
    shown = start.name.run[:_SHOWN_DIGITS]
    if not start.is_reusable:
        yield f"run {shown} was made with --no-reuse"
    if start.outputs_before:
        yield f"run {shown} could read what was at {start.outputs_before[0]} before it began"
    if start.stdin is None:
        yield f"run {shown} could read its standard input: add </dev/null"


def _unusable_end(start: RunStart, end: RunEnd) -> Iterator[str]:
    """The same, as its end says."""
    shown = end.name.run[:_SHOWN_DIGITS]
    if not end.is_success:
        yield f"run {shown} failed"
    elif end.inputs.problem:
        yield f"what run {shown} read is not known: {end.inputs.problem}"
    elif (start.outputs and end.outputs is None) or end.files is None:
        yield f"run {shown} did not keep what it made"
