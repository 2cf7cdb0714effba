"""`kill -9` of publishers to a bucket and of a daemon that fetches from one; publishers who race for a branch.

The moments are exact: the server holds the request in question, and answers it only afterwards, or never.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from fsd.errors import ConflictError
from fsd.limits import DEFAULT_LIMITS
from fsd.publish.publisher import Request, publish
from fsd.repo.repository import init_store, open_repositories
from fsd.stores.open import open_store
from integration.accidents import kill, killed_at
from integration.datasets import noise, write_dataset
from integration.gcs_places import serving
from integration.gcs_server.faults import Action, Hold, Stall
from integration.gcs_server.server import GcsServer
from integration.program import Program, status
from integration.reader import different
from integration.verifying import verify

CONFLICT = 3
LARGE_BYTES = 18_000_000
"""Too much for an upload in one request."""


@pytest.fixture(scope="module")
def server() -> Iterator[GcsServer]:
    with serving(GcsServer()) as server:
        server.api.creates_buckets = True
        yield server


@pytest.fixture
def url(request: pytest.FixtureRequest, server: GcsServer) -> Iterator[str]:
    """An empty store of a test's own."""
    url = f"gs://bucket{abs(hash(request.node.name))}/data"
    trio.run(_init, url)
    yield url
    try:
        server.faults.assert_all_exercised()
    finally:
        server.faults.clear()


async def _init(url: str) -> None:
    store = open_store(url, DEFAULT_LIMITS)
    try:
        await init_store(store)
    finally:
        await store.aclose()


async def _commit(url: str, source: Path, state: Path) -> str:
    """In this process; otherwise as the program does. Returns the commit's id."""
    store = open_store(url, DEFAULT_LIMITS)
    try:
        repositories = await open_repositories(store)
        return (await publish(repositories, os.fsencode(source), Request("data"), state=state)).commit.hex()
    finally:
        await store.aclose()


def program_for(home: Path, url: str) -> Program:
    """With a store in a bucket."""
    program = Program(home)
    program.environment["FSD_STORE"] = url
    return program


# --- publishers that are killed


@dataclass(frozen=True)
class Moment:
    """A request, and how it is kept from being answered."""

    action: type[Hold] | type[Stall]
    operation: str
    match: str
    is_moved: bool = False
    """Whether the branch names the new commit by then."""


MOMENTS = {
    "during an upload": Moment(Hold, "resumable.part", "*/packs/*"),
    "between data and index": Moment(Hold, "insert", "*/pages/*"),
    "after its commit, before its branch": Moment(Hold, "insert", "*/refs/data/main"),
    "after its branch moved, before it knows": Moment(Stall, "insert", "*/refs/data/main", is_moved=True),
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_dataset(tmp_path_factory.mktemp("source") / "files", 5, small=30, large=0, large_bytes=0)
    (folder / "large").write_bytes(noise(55, LARGE_BYTES))
    return folder


@pytest.mark.parametrize("name", MOMENTS)
def test_a_publisher_killed(server: GcsServer, url: str, source: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "first").mkdir()
    first = trio.run(_commit, url, tmp_path / "first", tmp_path / "state")
    moment = MOMENTS[name]
    action: Action = moment.action()
    fault = server.faults.add(action, operations=[moment.operation], match=moment.match, times=1)
    program = program_for(tmp_path / "home", url)
    killed_at(fault, program, source)
    if isinstance(action, Hold):
        action.release.set()
        server.counters.wait_idle()
    before = verify(url)
    # What was held may have been done after all: its sender's death is not seen before the answer is sent.
    moved = before.targets["data/main"] != first
    assert moved or not moment.is_moved

    again = program.json("commit", source, "data")
    assert again["new"] is not moved
    after = verify(url)
    assert after.history["data/main"] == [again["commit"], first]
    assert len(after.files[again["commit"]]) == 31
    if name != "during an upload":
        assert again["added_bytes"] == 0, "what had been uploaded was uploaded again"


def test_a_daemon_killed_while_it_fetches(server: GcsServer, url: str, source: Path, tmp_path: Path) -> None:
    program = program_for(tmp_path / "home", url)
    program.configure(flush_interval_s=0.05, extent_bytes="256K")
    commit = trio.run(_commit, url, source, tmp_path / "state")
    mountpoint = tmp_path / "mount"
    mountpoint.mkdir()
    program("mount", mountpoint)
    version = mountpoint / "data" / commit
    small = sorted(path.relative_to(source) for path in source.rglob("f*") if path.is_file())
    assert (version / small[0]).read_bytes() == (source / small[0]).read_bytes()
    hold = server.faults.add(Hold(), operations=["media"], match="*/packs/*", after=1)
    with ThreadPoolExecutor(2) as threads:
        reading = threads.submit((version / "large").read_bytes)
        hold.wait_met(2)
        kill(mountpoint)
        assert isinstance(reading.exception(), OSError)
    assert isinstance(hold.action, Hold)
    hold.action.release.set()
    server.faults.clear()
    program("mount", mountpoint)
    assert different(version, source) == []
    after = status(mountpoint)
    assert after["errors"] == 0
    assert after["cache"]["dropped_chunks"] == 0, "a record was kept before its bytes"
    program("umount", mountpoint)


# --- races


def folder_of(number: int, tmp_path: Path) -> Path:
    """What one of the racing publishes: something of its own, and something that all have."""
    source = tmp_path / f"source{number}"
    source.mkdir()
    (source / f"of {number}").write_bytes(noise(number, 50_000))
    (source / "common").write_bytes(noise(99, 50_000))
    return source


def test_two_publishers_race(server: GcsServer, url: str, tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    trio.run(_commit, url, tmp_path / "first", tmp_path / "state")
    programs = [program_for(tmp_path / f"home{number}", url) for number in range(2)]
    sources = [folder_of(number, tmp_path) for number in range(2)]
    swap = server.faults.add(Hold(), operations=["insert"], match="*/refs/data/main", times=2)
    running = [each.start("commit", source, "data") for each, source in zip(programs, sources, strict=True)]
    swap.wait_met(2)
    assert isinstance(swap.action, Hold)
    swap.action.release.set()
    outputs = [process.communicate(timeout=60) for process in running]
    codes = [process.returncode for process in running]
    assert sorted(codes) == [0, CONFLICT]
    loser = codes.index(CONFLICT)
    [line] = outputs[loser][1].strip().split("\n")
    assert "was moved by somebody else" in line
    assert "nothing was lost" in line
    again = programs[loser].json("commit", sources[loser], "data")
    assert again["added_bytes"] == 0
    verified = verify(url)
    assert len(verified.history["data/main"]) == 3
    assert set(verified.files[again["commit"]]) == {b"common", b"of %d" % loser}


def test_eight_publishers_race_until_all_have_won(server: GcsServer, url: str, tmp_path: Path) -> None:
    sources = {number: folder_of(number, tmp_path) for number in range(8)}
    won: dict[int, str] = {}

    async def try_once(number: int) -> None:
        try:
            won[number] = await _commit(url, sources[number], tmp_path / f"state{number}")
        except ConflictError as error:
            assert "nothing was lost" in str(error)  # noqa: PT017

    async def race(racing: list[int]) -> None:
        swap = server.faults.add(Hold(), operations=["insert"], match="*/refs/data/main", times=len(racing))
        async with trio.open_nursery() as nursery:
            for number in racing:
                nursery.start_soon(try_once, number)
            # All have read where the branch is, and none has moved it.
            await trio.to_thread.run_sync(swap.wait_met, len(racing))
            assert isinstance(swap.action, Hold)
            swap.action.release.set()

    while racing := [number for number in sources if number not in won]:
        trio.run(race, racing)
        assert len(won) == 8 - len(racing) + 1, "one wins each round"
    verified = verify(url)
    assert verified.history["data/main"] == list(won.values())[::-1]
    for number, commit in won.items():
        assert set(verified.files[commit]) == {b"common", b"of %d" % number}
