"""One store that many machines work on, what it must hold, and what was counted.

Contents come from a pool, so that what was deleted comes back: `f7` has the same bytes in every version. The message of
a commit lists its files, and so whoever meets a commit knows what it has to hold.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import TypeVar

import trio

from fsd.errors import FsdError
from fsd.format.keys import CONDEMNED, EXPIRED, REFS
from fsd.limits import DEFAULT_LIMITS
from fsd.repo.repository import Repositories, open_repositories
from fsd.stores.base import Store
from fsd.stores.open import open_store
from integration.datasets import noise
from integration.program import Program
from tests.publish.folders import read_commit

_T = TypeVar("_T")

REPOSITORY = "data"
POOL = range(40)
"""Files that there are."""

_LARGE_EVERY = 10
_COMMON_BYTES = 1_300_000
"""That large files have in common: who deletes one leaves a pack of which half is needed."""


@cache
def content_of(number: int) -> bytes:
    """What file `f<number>` holds: some 80 KB, or enough for a recipe and a pack of its own."""
    if number % _LARGE_EVERY == 0:
        return noise(1000, _COMMON_BYTES) + noise(number, _COMMON_BYTES)
    return noise(number, 20_000 + 3_000 * number)


def message_of(files: Iterable[int]) -> str:
    """Of a commit that has these."""
    return " ".join(f"f{number}" for number in sorted(files))


def name_of(number: int) -> str:
    """Of a file."""
    return f"f{number}"


@dataclass
class Figures:
    """What was done, counted."""

    commits: int = 0
    tags: int = 0
    deletions: int = 0
    """Of branches and tags."""
    killed_publishers: int = 0
    collections: int = 0
    killed_collectors: int = 0
    deleted_objects: int = 0
    spared_objects: int = 0
    expired_commits: int = 0
    repacked_packs: int = 0
    refused: int = 0
    """Commands that ended with the exit codes of a conflict, of what is gone, or of a store that does not answer."""
    verifications: int = 0
    unsettled: int = 0
    """Verifications during which refs were moved, so that what they missed says nothing."""
    files_read: int = 0
    """Through mounts, and compared."""
    given_up_reads: int = 0
    """Of commits that no branch or tag named any more: with no grace they may be gone."""
    outdated_mounts: int = 0
    """Mounts that knew a page from before it was deleted and published anew: only a grace protects them."""
    violations: int = 0


UNREACHABLE = 5


def patiently(program: Program, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command that is right to give up where a store fails too often."""
    for _ in range(5):
        done = program.run(*arguments)
        if done.returncode != UNREACHABLE:
            break
    return done


@dataclass(frozen=True)
class Named:
    """What a branch or tag names."""

    commit: str
    message: str


@dataclass
class World:
    """See the module. Threads may use all of it."""

    url: str
    folder: Path
    limits: dict[str, int | float | str]
    """For the machines' configuration."""
    figures: Figures = field(default_factory=Figures)
    violations: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._until_s = self._at_most_s = 0.0
        self._wanted: list[str] = []

    def machine(self, name: str) -> Program:
        """A machine of its own."""
        program = Program(self.folder / name)
        program.environment["FSD_STORE"] = self.url
        program.configure(**self.limits)
        return program

    # --- time

    def begin(self, for_s: float, wanted: Iterable[str] = (), at_most_s: float = 0.0) -> None:
        """Everybody goes on for so long, or until something is wrong; and longer, until all the figures that are
        wanted count something."""
        self._until_s = time.monotonic() + for_s
        self._wanted, self._at_most_s = [*wanted], at_most_s

    @property
    def is_over(self) -> bool:
        """Whether machines are to begin nothing any more."""
        late_s = time.monotonic() - self._until_s
        is_enough = all(getattr(self.figures, each) for each in self._wanted)
        return self._over.is_set() or late_s > (0.0 if is_enough else self._at_most_s)

    def rest(self, seconds: float) -> None:
        """Somebody does nothing for a while."""
        self._over.wait(seconds)

    # --- what was seen

    def count(self, **more: int) -> None:
        """Add to the figures."""
        with self._lock:
            for each in fields(self.figures):
                if each.name in more:
                    setattr(self.figures, each.name, getattr(self.figures, each.name) + more.pop(each.name))
        assert not more, more

    def violation(self, what: str) -> None:
        """Something that must never be; ends all."""
        self.violations.append(what)
        self.count(violations=1)
        self._over.set()

    # --- the store, looked at by somebody who knows nothing of it

    def named(self) -> dict[str, Named]:
        """What all branches and tags name now."""
        return trio.run(self._with_store, _named)

    def roots(self) -> list[tuple[str, str]]:
        """What decides what is needed: refs and expiries, each with its version."""

        async def listed(store: Store) -> list[tuple[str, str]]:
            return [(info.key, info.version) for prefix in (REFS, EXPIRED) async for info in store.list(prefix)]

        return trio.run(self._with_store, listed)

    def condemned(self) -> list[str]:
        """The condemnations that stand."""

        async def listed(store: Store) -> list[str]:
            return [info.key async for info in store.list(CONDEMNED) if "." not in info.key]

        return trio.run(self._with_store, listed)

    def check(self, verifier: Program) -> None:
        """While nobody works: all that is named is whole, and what is named now is what its publisher had."""
        done = patiently(verifier, "verify", "--data", "--json")
        if done.returncode:
            self.violation(f"verify, while nobody works: {done.stdout}{done.stderr}")
        try:
            trio.run(self._with_store, self._check_contents)
        except FsdError as error:
            self.violation(f"reading all that is named: {error!r}")
        self.count(verifications=1)

    async def _check_contents(self, store: Store) -> None:
        for name, named in (await _named(store)).items():
            if not await _is_held(store, named):
                self.violation(f"{name} names {named.commit}, which is not what was published")

    def why_missing(self, named: Named) -> str:
        """What keeps somebody who knows nothing from reading all of a version; "" if nothing does."""

        async def look(store: Store) -> str:
            try:
                return "" if await _is_held(store, named) else "it is not what was published"
            except FsdError as error:
                return repr(error)

        return trio.run(self._with_store, look)

    async def _with_store(self, work: Callable[[Store], Awaitable[_T]]) -> _T:
        store = open_store(self.url, DEFAULT_LIMITS)
        try:
            return await work(store)
        finally:
            await store.aclose()


async def _named(store: Store) -> dict[str, Named]:
    repositories = await open_repositories(store)
    found = {}
    for repository in await repositories.refs.repositories():
        for name, stored in (await repositories.refs.read_all(repository)).items():
            found[name] = await _read(repositories, stored.ref.target)
    return found


async def _is_held(store: Store, named: Named) -> bool:
    """Whether a version is what its publisher had. Raises FsdError if it cannot be read."""
    held = await read_commit(await open_repositories(store), bytes.fromhex(named.commit))
    wanted = {each.encode(): content_of(int(each[1:])) for each in named.message.split()}
    return {path: item.data for path, item in held.items()} == wanted


async def _read(repositories: Repositories, commit: bytes) -> Named:
    return Named(commit.hex(), (await repositories.commit(commit)).message)
