"""`kill -9` of a daemon and of publishers, at any moment; publishers that race.

A moment is drawn from a time that such work takes, or is the appearance of the next object in the store: nothing waits
for it.
"""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fsd.daemon import mounts
from fsd.limits import DEFAULT_LIMITS
from integration.accidents import kill
from integration.datasets import noise, write_dataset
from integration.program import Program, status
from integration.reader import Readers, different
from integration.verifying import Verified, verify

CONFLICT = 3

# --- the daemon


@pytest.fixture
def readable(program: Program, tmp_path: Path) -> Path:
    """A folder of 25 MB that is published as data/v1."""
    source = write_dataset(tmp_path / "source", 1, small=200, large=3, large_bytes=6_000_000)
    program("init")
    program("commit", source, "data", "--tag", "v1")
    return source


@pytest.mark.parametrize("cache_size", ["1G", "12M"])
def test_a_daemon_killed_while_many_read(program: Program, readable: Path, tmp_path: Path, cache_size: str) -> None:
    # Records reach the disk often, so that the next daemon finds much that this one left.
    program.configure(flush_interval_s=0.1, flush_bytes="1M", extent_bytes="256K")
    mountpoint, moments = tmp_path / "m", random.Random(cache_size)
    version = mountpoint / "data" / "v1"
    options = ("--cache-dir", str(tmp_path / "cache"), "--cache-size", cache_size)
    for round_number in range(3):
        program.mount(mountpoint, *options)
        assert [mount.mountpoint for mount in mounts.list_mounts()].count(str(mountpoint)) == 1
        with Readers(4, version, readable, seed=10 * round_number) as readers:
            time.sleep(0.7 * moments.random())
            killed_s = time.monotonic()
            kill(mountpoint)
            results = readers.results()
        assert [result["wrong"] for result in results] == [[]] * 4
        assert all(result["time_s"] >= killed_s for result in results), "an error before there was a reason for one"
        program.mount(mountpoint, *options)
        assert different(version, readable) == []
        after = status(mountpoint)
        assert after["errors"] == 0
        assert after["cache"]["dropped_chunks"] == 0, "a record was kept before its bytes"
        kill(mountpoint)
    program("umount", mountpoint)


# --- publishers


class Publication:
    """A store with one commit of a folder, which has changed a lot since."""

    def __init__(self, home: Path, source: Path) -> None:
        self.source = source
        self.program = Program(home)
        # Small packs: there are many moments between them.
        self.program.configure(pack_bytes="512K", own_pack_bytes="2M", publish_queue_bytes="2M")
        (source / "first").write_bytes(noise(1, 10_000))
        self.program("init")
        self.first: str = self.program.json("commit", source, "data")["commit"]
        # What cannot be decided by a path alone must be taken from each commit, after the branch was moved to it.
        self.program("subset", "create", "data/main", "some", "--limit", "1", "--no-keep", "--follow")
        write_dataset(source, 2, small=150, large=3, large_bytes=3_000_000)

    def copy(self, home: Path) -> Program:
        """The same store, and the same notes about it, elsewhere."""
        shutil.copytree(self.program.home, home)
        return Program(home)


@pytest.fixture(scope="module")
def publication(tmp_path_factory: pytest.TempPathFactory) -> Publication:
    folder = tmp_path_factory.mktemp("publication")
    (folder / "source").mkdir()
    return Publication(folder / "home", folder / "source")


@pytest.fixture(scope="module")
def undisturbed(publication: Publication, tmp_path_factory: pytest.TempPathFactory) -> tuple[Verified, int, float]:
    """What publishing gives that nobody disturbs; the bytes that it adds, and how long it takes."""
    program = publication.copy(tmp_path_factory.mktemp("undisturbed") / "home")
    started_s = time.monotonic()
    made = program.json("commit", publication.source, "data")
    return verify(program.store), made["added_bytes"], time.monotonic() - started_s


def objects(store: Path, kind: str) -> int:
    """How many objects of a kind there are: packs, pages, commits, refs."""
    return sum(len(files) for _, _, files in os.walk(store / kind))


def until_there_are(number: int, kind: str) -> Callable[[Path, subprocess.Popen[str]], None]:
    """Wait for so many objects more than there were, or for the publisher's end."""

    def wait(store: Path, publisher: subprocess.Popen[str]) -> None:
        there = objects(store, kind)
        while objects(store, kind) < there + number and publisher.poll() is None:
            time.sleep(0.0005)

    return wait


def until_the_branch_moves(store: Path, publisher: subprocess.Popen[str]) -> None:
    branch = store / "refs" / "data" / "main"
    before = branch.read_bytes()
    while branch.read_bytes() == before and publisher.poll() is None:
        time.sleep(0.0005)


MOMENTS = {
    "before its first pack": until_there_are(0, "packs"),
    "after its first pack": until_there_are(1, "packs"),
    "after 6 packs": until_there_are(6, "packs"),
    "after 12 packs": until_there_are(12, "packs"),
    "after its first page": until_there_are(1, "pages"),
    "after its commit": until_there_are(1, "commits"),
    "after its branch": until_the_branch_moves,
}


@pytest.mark.parametrize("moment", [*MOMENTS, "at random", "at random again"])
def test_a_publisher_killed(
    publication: Publication, undisturbed: tuple[Verified, int, float], tmp_path: Path, moment: str
) -> None:
    expected, whole_bytes, duration_s = undisturbed
    program = publication.copy(tmp_path / "home")
    publisher = program.start("commit", publication.source, "data")
    if moment in MOMENTS:
        MOMENTS[moment](program.store, publisher)
    else:
        time.sleep(duration_s * random.Random(moment).random())
    publisher.kill()
    publisher.communicate()
    packs = objects(program.store, "packs") - 1
    before = verify(program.store)
    new_tree = expected.trees[expected.targets["data/main"]]
    is_old = before.targets["data/main"] == publication.first
    assert is_old or before.trees[before.targets["data/main"]] == new_tree

    again = program.json("commit", publication.source, "data")
    assert again["new"] is is_old
    after = verify(program.store)
    assert after.trees[after.targets["data/main"]] == new_tree
    assert after.history["data/main"] == [again["commit"], publication.first]
    assert after.files[again["commit"]] == expected.files[expected.targets["data/main"]]
    assert again["added_bytes"] <= whole_bytes
    if packs > DEFAULT_LIMITS.upload_tasks:  # so many may be there that were not noted yet
        assert again["added_bytes"] < whole_bytes, "nothing was resumed"
    if objects(program.store, "pages") and not is_old:
        assert again["added_bytes"] == 0
    assert len(after.history["data/some"]) == 2, "the subset of the new commit was never taken"
    assert len(program("ls", "data/main+some", "--recursive").splitlines()) > 1
    assert program.json("commit", publication.source, "data")["new"] is False


def test_a_subset_killed(publication: Publication, tmp_path: Path) -> None:
    program = publication.copy(tmp_path / "home")
    program("commit", publication.source, "data")
    for moment in (until_there_are(1, "pages"), until_there_are(1, "commits"), until_there_are(1, "refs")):
        maker = program.start("subset", "create", "data/main", "half", "--sample", "50%", "--no-keep")
        moment(program.store, maker)
        maker.kill()
        maker.communicate()
        verify(program.store)
    program("subset", "create", "data/main", "half", "--sample", "50%", "--no-keep")
    assert len(verify(program.store).history["data/half"]) == 1


# --- races


def test_eight_publishers_on_one_branch(tmp_path: Path) -> None:
    store = tmp_path / "store"
    # Half of them share a home, and so their notes.
    publishers = [Program(tmp_path / f"home{max(0, number - 3)}") for number in range(8)]
    for publisher in publishers:
        publisher.environment["FSD_STORE"] = str(store)
    publishers[0]("init")
    sources = []
    for number in range(8):
        source = tmp_path / f"source{number}"
        source.mkdir()
        (source / f"of {number}").write_bytes(noise(number, 200_000))
        (source / "common").write_bytes(noise(99, 200_000))
        sources.append(source)
    first = tmp_path / "first"
    first.mkdir()
    targets = [publishers[0].json("commit", first, "data")["commit"]]
    racing = list(range(8))
    while len(racing) > 6:
        running = _start_together(store, publishers, sources, racing)
        outputs = {number: process.communicate(timeout=60) for number, process in running.items()}
        codes = {number: process.returncode for number, process in running.items()}
        [winner] = [number for number, code in codes.items() if code == 0]
        assert set(codes.values()) == {0, CONFLICT}
        for number in racing:
            if number != winner:
                lines = outputs[number][1].strip().split("\n")
                assert len(lines) == 1
                assert "was moved by somebody else" in lines[0]
                assert "nothing was lost" in lines[0]
        verified = verify(store)
        assert set(verified.files[verified.targets["data/main"]]) == {b"common", b"of %d" % winner}
        targets.append(verified.targets["data/main"])
        assert verified.history["data/main"] == targets[::-1]
        racing.remove(winner)
    # What the others had uploaded is there for their next try.
    for number in racing:
        assert publishers[number].json("commit", sources[number], "data")["added_bytes"] == 0
    assert len(verify(store).history["data/main"]) == len(targets) + len(racing)


def _start_together(
    store: Path, publishers: list[Program], sources: list[Path], racing: list[int]
) -> dict[int, subprocess.Popen[str]]:
    """Publishers that have all read where the branch is before any may move it: we hold the lock that this takes."""
    lock = os.open(store / ".lock", os.O_CREAT | os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        there = objects(store, "commits")
        running = {number: publishers[number].start("commit", sources[number], "data") for number in racing}
        deadline = time.monotonic() + 25  # less than they wait for the lock
        while objects(store, "commits") < there + len(racing):
            assert time.monotonic() < deadline
            assert all(process.poll() is None for process in running.values())
            time.sleep(0.01)
        return running
    finally:
        os.close(lock)
