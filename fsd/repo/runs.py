"""Run records in a store: written once, listed, read.

A run is a root, as a ref is: what it names is kept (`fsd.maintenance.reach`). So who writes a record holds a lease, and
has made sure of everything that it names before: what is named is there, and stays. (Commits made under the same lease
are; of others `Leases.check_kept` tells.)

Records are never changed, so one may name a commit that was purged since. What became of it stands in notes beside them
(`Replaced`): nothing else may be made of a record's ids before they were looked up there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass

from fsd.errors import NotFoundError
from fsd.format.keys import REPLACED, RUNS, check_repository_name
from fsd.format.replaced import encode_replaced, parse_replaced
from fsd.format.run import (
    END,
    RUN_HEX_DIGITS,
    START,
    RunEnd,
    RunName,
    RunStart,
    encode_run_end,
    encode_run_start,
    parse_run_end,
    parse_run_key,
    parse_run_start,
)
from fsd.limits import Limits
from fsd.repo.leases import Leases
from fsd.stores.base import ObjectNotFoundError, Store
from fsd.tasks import gather


@dataclass(frozen=True, slots=True)
class Run:
    """A run's record."""

    start: RunStart
    end: RunEnd | None
    """None while it runs, and for ever if who kept the record was killed."""

    @property
    def commits(self) -> frozenset[bytes]:
        """What is kept for it."""
        return self.start.commits if self.end is None else self.start.commits | self.end.commits


class Replaced:
    """What became of commits that were purged."""

    def __init__(self, commits: Mapping[bytes, bytes | None]) -> None:
        """Of each the one that took its place; None if there is none."""
        self._commits = commits

    def now(self, commit: bytes) -> bytes | None:
        """What stands for a commit by now: itself, if it was not purged. Several purges may have followed each other,
        and one may have brought back what an earlier one had replaced."""
        seen: set[bytes] = set()
        while commit in self._commits and commit not in seen:
            seen.add(commit)
            new = self._commits[commit]
            if new is None:
                return None
            commit = new
        return commit

    def all_now(self, commits: Iterable[bytes]) -> set[bytes]:
        """What stands for some commits, without those that nothing stands for."""
        return {now for commit in commits if (now := self.now(commit)) is not None}


class Runs:
    """The runs of a store."""

    def __init__(self, store: Store, limits: Limits, leases: Leases) -> None:
        self._store = store
        self._limits = limits
        self._leases = leases

    async def write_start(self, start: RunStart) -> None:
        """Durable when this returns. Raises ValueError for what cannot be written down, ConflictError if the lease was
        lost or there is such a run, and what a store raises."""
        await self._put(start.name.key(START), encode_run_start(start))

    async def write_end(self, end: RunEnd) -> None:
        """The same for what came of it."""
        await self._put(end.name.key(END), encode_run_end(end))

    async def _put(self, key: str, data: bytes) -> None:
        await self._leases.take()
        self._leases.check()
        await self._store.put_if_absent(key, data)

    async def replaced(self) -> Replaced:
        """What became of purged commits. One listing, and a request for each purge. Raises CorruptDataError."""
        keys = [info.key async for info in self._store.list(REPLACED)]

        async def read(key: str) -> dict[bytes, bytes | None]:
            return parse_replaced((await self._store.get(key)).data, f"{key} in {self._store.url}")

        found = await gather(read, keys, tasks=self._limits.fetch_requests)
        return Replaced({old: new for notes in found for old, new in notes.items()})

    async def note_replaced(self, note: str, commits: Mapping[bytes, bytes | None]) -> None:
        """Write down what became of commits, before any of them is deleted. `note` names it: the same purge writes the
        same one again."""
        await self._store.overwrite(f"{REPLACED}{note}", encode_replaced(commits))

    async def names(self, repository: str = "", step: str = "") -> dict[RunName, bool]:
        """The runs of a repository (of all, if it is ''), and whether each has an end. One listing.

        An end whose start is not there, which nobody writes, is none.
        """
        if repository:
            check_repository_name(repository)
        prefix = RUNS + (f"{repository}/" if repository else "") + (f"{step}/" if step else "")
        started: set[RunName] = set()
        ended: set[RunName] = set()
        async for info in self._store.list(prefix):
            found = parse_run_key(info.key)
            if found is not None:
                (started if found[1] == START else ended).add(found[0])
        return {name: name in ended for name in started}

    async def find(self, text: str, repository: str = "") -> RunName:
        """The run whose id begins with `text`. One listing. Raises NotFoundError if there is none, or several."""
        found = [name for name in await self.names(repository) if name.run.startswith(text.lower())]
        if text and len(found) == 1:
            return found[0]
        if text and found:
            few = ", ".join(sorted(name.run for name in found)[:3])
            raise NotFoundError(f"{len(found):,} runs begin with {text!r}", hint=f"write more of it: {few}")
        what = f"an id has {RUN_HEX_DIGITS} hex digits; 'fsd exp list' shows which there are"
        raise NotFoundError(f"there is no run {text!r}", hint=what)

    async def read_start(self, name: RunName) -> RunStart:
        """What was started. Raises NotFoundError, CorruptDataError, and what a store raises."""
        key = name.key(START)
        return parse_run_start((await self._store.get(key)).data, f"{key} in {self._store.url}")

    async def read_end(self, name: RunName) -> RunEnd | None:
        """What came of it; None where nothing says so. Raises CorruptDataError, and what a store raises."""
        key = name.key(END)
        try:
            data = (await self._store.get(key)).data
        except ObjectNotFoundError:
            return None
        return parse_run_end(data, f"{key} in {self._store.url}")

    async def read(self, name: RunName) -> Run:
        """The whole record, as `read_start` and `read_end`."""
        return Run(await self.read_start(name), await self.read_end(name))

    async def read_all(self, repository: str = "") -> AsyncIterator[Run]:
        """All records of a repository (of all, if it is ''), in no order. Two requests for each run, many at once."""
        names = await self.names(repository)
        batch = 4 * self._limits.fetch_requests
        listed = sorted(names)
        for at in range(0, len(listed), batch):
            for run in await gather(self.read, listed[at : at + batch], tasks=self._limits.fetch_requests):
                yield run
