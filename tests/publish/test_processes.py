"""Publishers as processes: killed at any moment, and many at once on one branch."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import trio

from fsd.errors import ConflictError
from fsd.limits import MIB
from fsd.stores.base import Store, Version
from fsd.stores.memory import MemoryStore
from tests.publish.child import LIMITS
from tests.publish.folders import Desk, Item, file, verify_store, write_folder

KILLS = 4
PUBLISHERS = 8


def noise(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


@contextmanager
def child(place: Path, name: str = "") -> Iterator[subprocess.Popen[str]]:
    """A publisher that is ready and waits for a line."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.publish.child", str(place), name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def start(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


@pytest.mark.timeout_s(180)
async def test_a_publisher_killed_at_any_moment(tmp_path: Path) -> None:
    desk = Desk(tmp_path, limits=LIMITS)
    folder: dict[bytes, Item] = {b"first": file(b"first")}
    await desk.commit(folder)
    moments = random.Random(17)
    duration_s = 0.3
    for kill in range(KILLS):
        new = {b"%d-%03d" % (kill, number): file(noise(1000 * kill + number, 40_000)) for number in range(100)}
        new[b"large-%d" % kill] = file(noise(kill, 4 * MIB))
        write_folder(desk.top, {**folder, **new})
        with child(tmp_path) as process:
            start(process)
            # A moment of a duration that was measured, not a wait for something to happen.
            await trio.sleep(duration_s * moments.random())
        content = (await verify_store(desk.store))["repo/main"]
        assert content in (folder, {**folder, **new})
        with child(tmp_path) as process:
            started = trio.current_time()
            start(process)
            out, errors = process.communicate()
            assert process.returncode == 0, errors
        duration_s = trio.current_time() - started
        folder |= new
        assert (await verify_store(desk.store))["repo/main"] == folder
        size = sum(len(item.data) for item in new.values())
        assert int(out.split()[1]) <= size


@pytest.mark.timeout_s(180)
async def test_many_processes_on_one_branch(tmp_path: Path) -> None:
    desks = [Desk(tmp_path, str(number), limits=LIMITS) for number in range(PUBLISHERS)]
    await desks[0].commit({b"first": file(b"first")})
    for number, desk in enumerate(desks):
        write_folder(desk.top, {b"of-%d" % number: file(noise(number, 300_000)), b"common": file(noise(99, 300_000))})
    with ExitStack() as stack:
        processes = [stack.enter_context(child(tmp_path, str(number))) for number in range(PUBLISHERS)]
        for process in processes:
            start(process)
        errors = [process.communicate()[1] for process in processes]
    assert {process.returncode for process in processes} <= {0, ConflictError.exit_code}, errors
    won = [process.returncode for process in processes].count(0)
    assert won >= 1
    assert all("was moved by somebody else" in error for error in errors if error)
    repositories = await desks[0].repositories()
    stored = await repositories.refs.read("repo", "main")
    assert stored is not None
    assert len(stored.ref.moves) == 1 + won
    await verify_store(desks[0].store)


class _StartingLine(MemoryStore):
    """Lets nobody move a ref before all have come to it."""

    def __init__(self, runners: int) -> None:
        super().__init__()
        self.runners = runners
        self._waiting = 0
        self._all_here = trio.Event()

    def line_up(self, runners: int) -> None:
        self.runners, self._waiting, self._all_here = runners, 0, trio.Event()

    async def compare_and_swap(self, key: str, data: object, expected: Version | None) -> Version:
        self._waiting += 1
        if self._waiting == self.runners:
            self._all_here.set()
        await self._all_here.wait()
        return await super().compare_and_swap(key, data, expected)  # type: ignore[arg-type]


async def test_of_many_at_once_one_wins_each_round(tmp_path: Path) -> None:
    store = _StartingLine(1)
    desks = [Desk(tmp_path, str(number), limits=LIMITS, store=store) for number in range(PUBLISHERS)]
    await desks[0].commit({b"first": file(b"first")})
    for number, desk in enumerate(desks):
        write_folder(desk.top, {b"of-%d" % number: file(noise(number, 3000))})
    waiting = list(desks)
    while waiting:
        store.line_up(len(waiting))
        lost: list[Desk] = []

        async def run(desk: Desk, lost: list[Desk] = lost) -> None:
            try:
                await desk.commit()
            except ConflictError:
                lost.append(desk)

        async with trio.open_nursery() as nursery:
            for desk in waiting:
                nursery.start_soon(run, desk)
        assert len(lost) == len(waiting) - 1
        waiting = lost
    contents: Store = store
    assert len((await verify_store(contents))["repo/main"]) == 1
