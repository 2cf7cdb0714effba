"""A store in a bucket that can fail in every way, its mount, and what is expected of reads through it.

Every fault has a repository of its own, never read before: its first read goes through refs, commit, page, recipe and
packs. One more repository is cached, and a process of its own reads it all the time (`steady`).

`FSD_RELIABILITY=FILE` has the tests run with the limits that users have and longer faults, and write the figures of
`docs/reliability.md` to that file (`script/reliability`).
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import trio

from fsd.limits import DEFAULT_LIMITS
from fsd.publish.publisher import Request, publish
from fsd.repo.repository import init_store, open_repositories
from fsd.stores.open import open_store
from integration.datasets import noise, text, write_dataset
from integration.faults.steady import Latencies, Steady
from integration.gcs_places import key_file, serving
from integration.gcs_server.server import GcsServer
from integration.program import Program, status
from integration.reader import files_below

URL = "gs://bucket/data"
SMALL_BYTES = 30_000
LARGE_BYTES = 3_000_000
"""About 90 chunks, so that there is a recipe."""

FIGURES = os.environ.get("FSD_RELIABILITY")


@dataclass(frozen=True)
class Profile:
    """How patient the mount is, and how long faults last. Seconds."""

    limits: dict[str, int | float | str]
    deadline_s: float
    fault_s: float
    """What passes by itself goes on for so long."""
    away_s: float
    """The same for a server that is gone."""
    cached_quantile: str
    """So many of the reads of what is cached"""
    cached_s: float
    """take no longer than this."""
    recovered_within_s: float


QUICK = Profile(
    {
        "store_timeout_s": 1.0,
        "store_retry_s": 2.0,
        "retry_min_s": 0.02,
        "retry_max_s": 0.3,
        "hedge_first_s": 0.3,
        "fetch_slow_s": 0.3,
    },
    deadline_s=2.5,
    fault_s=0.5,
    away_s=1.0,
    # A machine that does other things as well takes long for anything. Who waits for the network waits longer.
    cached_quantile="p90_s",
    cached_s=1.0,
    recovered_within_s=10.0,
)
AS_USERS = Profile(
    {}, deadline_s=20.0, fault_s=10.0, away_s=60.0, cached_quantile="p50_s", cached_s=0.05, recovered_within_s=5.0
)
PROFILE = AS_USERS if FIGURES else QUICK

SLACK_S = 3.0
"""For a busy machine to notice that a deadline has passed."""


@dataclass(frozen=True)
class Outcome:
    """Of reading one file from its first to its last byte."""

    path: Path
    error: int | None
    """errno, if it failed."""
    is_right: bool
    took_s: float
    """Of the last read(2) where it failed; of all of them else."""


@dataclass
class Figures:
    """What was measured of a fault, for the table."""

    fault: str
    reads: int = 0
    failed: int = 0
    longest_failure_s: float | None = None
    recovered_s: float | None = None
    cached: Latencies | None = None


@dataclass
class Fault:
    """One fault while it lasts and after it: outcomes are judged and counted."""

    cloud: Cloud
    figures: Figures
    since_s: float = field(default_factory=time.monotonic)

    def read(self, paths: Iterable[Path], *, at_once: int = 4) -> list[Outcome]:
        """Read files. Raises AssertionError for a wrong byte, for another error than EIO, and for one that was late."""
        outcomes = self.cloud.read(paths, at_once=at_once)
        for outcome in outcomes:
            self.judge(outcome)
        return outcomes

    def judge(self, outcome: Outcome) -> None:
        """Count it."""
        figures = self.figures
        figures.reads += 1
        assert outcome.is_right, f"wrong bytes of {outcome.path}"
        if outcome.error is not None:
            assert outcome.error == errno.EIO, f"{os.strerror(outcome.error)}: {outcome.path}"
            assert outcome.took_s < PROFILE.deadline_s + SLACK_S
            figures.failed += 1
            figures.longest_failure_s = max(figures.longest_failure_s or 0.0, outcome.took_s)

    def recover(self, paths: Sequence[Path], *, within_s: float = PROFILE.recovered_within_s) -> None:
        """It is over: within a few seconds all of these are read."""
        since_s = time.monotonic()
        left = list(paths)
        while left := [outcome.path for outcome in self.cloud.read(left) if outcome.error is not None]:
            assert time.monotonic() - since_s < within_s, f"still failing: {left}"
        self.figures.recovered_s = time.monotonic() - since_s


class Cloud:
    """See the module."""

    def __init__(self, folder: Path, server: GcsServer, program: Program, repositories: Mapping[str, int]) -> None:
        """`repositories`: how many small files each has."""
        self.server = server
        self.program = program
        self.sources = {name: folder / "sources" / name for name in ("cached", *repositories)}
        self.mountpoint = folder / "mount"
        self.packs: dict[str, set[str]] = {}
        """By repository: the keys of its packs."""
        for number, (name, source) in enumerate(self.sources.items()):
            if name == "cached":
                write_dataset(source, 77, small=60, large=1, large_bytes=LARGE_BYTES)
            else:
                write_source(source, number, small=repositories[name])
        trio.run(self._publish, folder / "state")
        program.environment["FSD_STORE"] = URL
        program.configure(read_deadline_s=PROFILE.deadline_s, **PROFILE.limits)

    async def _publish(self, state: Path) -> None:
        """In this process: to start one for each of them takes longer than all the rest."""
        store = open_store(URL, DEFAULT_LIMITS)
        try:
            await init_store(store)
            # A small file has a pack of its own: what is read of one brings no other.
            repositories = await open_repositories(store, replace(DEFAULT_LIMITS, pack_bytes=SMALL_BYTES))
            for name, source in self.sources.items():
                before = {info.key async for info in store.list("packs/")}
                await publish(repositories, os.fsencode(source), Request(name, tag="v1"), state=state)
                self.packs[name] = {info.key async for info in store.list("packs/")} - before
        finally:
            await store.aclose()

    def version(self, repository: str) -> Path:
        """Where it is mounted."""
        return self.mountpoint / repository / "v1"

    def files(self, repository: str) -> list[Path]:
        """Relative to `mountpoint`, in the order in which a program would read them."""
        return [Path(repository, "v1", path) for path in files_below(self.sources[repository])]

    def read(self, paths: Iterable[Path], *, at_once: int = 4, below: Path | None = None) -> list[Outcome]:
        """Read files, some at once, through this mount or another one of the same store."""
        with ThreadPoolExecutor(at_once) as threads:
            return list(threads.map(lambda path: self.read_one(path, below), paths))

    def read_one(self, path: Path, below: Path | None = None) -> Outcome:
        """Read a file and compare it with the plain copy."""
        plain = (self.sources[path.parts[0]] / Path(*path.parts[2:])).read_bytes()
        started_s = step_s = time.monotonic()
        at = 0
        try:
            # Unbuffered: each step is one read(2), which has the deadline.
            with open((below or self.mountpoint) / path, "rb", buffering=0) as file:
                while True:
                    step_s = time.monotonic()
                    data = file.read(1 << 17)
                    if data != plain[at : at + len(data)] or (not data and at != len(plain)):
                        return Outcome(path, None, False, 0.0)
                    if not data:
                        return Outcome(path, None, True, time.monotonic() - started_s)
                    at += len(data)
        except OSError as error:
            return Outcome(path, error.errno, True, time.monotonic() - step_s)

    @contextmanager
    def deleted(self, keys: Iterable[str]) -> Iterator[None]:
        """These objects are gone from the bucket, and come back."""

        async def delete() -> dict[str, bytes]:
            store = open_store(URL, DEFAULT_LIMITS)
            try:
                found = {key: (await store.get(key)).data for key in keys}
                for key in found:
                    await store.delete(key)
            finally:
                await store.aclose()
            return found

        async def bring_back(objects: dict[str, bytes]) -> None:
            store = open_store(URL, DEFAULT_LIMITS)
            try:
                for key, data in objects.items():
                    await store.put_if_absent(key, data)
            finally:
                await store.aclose()

        objects = trio.run(delete)
        yield
        trio.run(bring_back, objects)

    def status(self) -> dict[str, Any]:
        """What the daemon says of itself."""
        return status(self.mountpoint)

    def errors(self) -> str:
        """What it says went wrong."""
        return (self.mountpoint / ".fsd" / "errors").read_text()


def write_source(source: Path, seed: int, *, small: int) -> None:
    """A file with a recipe, and small ones."""
    source.mkdir(parents=True)
    (source / "large").write_bytes(noise(seed, LARGE_BYTES) if seed % 2 else text(seed, 2 * LARGE_BYTES))
    for number in range(small):
        (source / f"{number:02}").write_bytes(noise(1000 * seed + number, SMALL_BYTES))


class Watched:
    """A cloud and the process that reads what is cached of it."""

    def __init__(self, cloud: Cloud, steady: Steady) -> None:
        self.cloud = cloud
        self._steady = steady

    @contextmanager
    def fault(self, name: str, *, steady: Steady | None = None) -> Iterator[Fault]:
        """Something is to go wrong inside; afterwards it has. What is cached must not have suffered.

        With a `steady` reader of another mount, what is cached may have gone, and only its bytes are judged.
        """
        fault = Fault(self.cloud, Figures(name))
        try:
            yield fault
            self.cloud.server.faults.assert_all_exercised()
        finally:
            self.cloud.server.faults.clear()
        fault.figures.cached = (steady or self._steady).latencies(fault.since_s)
        write_figures(fault.figures)
        assert steady or getattr(fault.figures.cached, PROFILE.cached_quantile) < PROFILE.cached_s, fault.figures


def write_figures(figures: Figures) -> None:
    """A line of JSON, if somebody wants it."""
    if FIGURES:
        with open(FIGURES, "a") as file:
            file.write(json.dumps(asdict(figures)) + "\n")


@contextmanager
def watched_cloud(folder: Path, repositories: Mapping[str, int]) -> Iterator[Watched]:
    """A server, a store, its mount and its steady reader, all taken down afterwards."""
    with serving(GcsServer(seed=1)) as server, key_file(server, folder):
        server.create_bucket("bucket")
        cloud = Cloud(folder, server, Program(folder / "home"), repositories)
        cloud.mountpoint.mkdir()
        cloud.program("mount", cloud.mountpoint)
        try:
            with Steady(cloud.version("cached"), cloud.sources["cached"], folder / "records") as steady:
                yield Watched(cloud, steady)
        finally:
            cloud.program("umount", cloud.mountpoint)
