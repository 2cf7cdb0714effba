"""A mount of a bucket over a network on which everything goes wrong, one thing at a time.

Whatever happens: no wrong byte; what is cached is read at once; a read that fails does so with EIO and within its
deadline; and when it is over, reads work again within seconds, with no remount. `faults.cloud` holds every test to
that. docs/reliability.md shows what was measured.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fsd.limits import DEFAULT_LIMITS
from integration.faults.cloud import PROFILE, Watched, watched_cloud
from integration.faults.steady import Steady
from integration.gcs_server.faults import Action, Drip, FlipBit, Lengthen, Reset, Stall, Status, Truncate
from integration.program import status
from integration.test_cache_disk_full import fill

STALLED = 64

ANSWERS: dict[str, list[tuple[Action, float]]] = {
    "errors": [(Status(429), 0.07), (Status(500), 0.07), (Status(503), 0.06)],
    "resets": [(Reset(), 0.07), (Reset(1), 0.06), (Reset(10_000), 0.07)],
    "truncated": [(Truncate(1), 0.07), (Truncate(10_000), 0.07), (Truncate(1, honest=True), 0.06)],
    "too long": [(Lengthen(1), 0.1), (Lengthen(1000, honest=False), 0.1)],
    "flipped": [(FlipBit(0.1, 7), 0.1), (FlipBit(0.999, 0), 0.1)],
}
"""One request in five, of every kind."""

REPOSITORIES = {
    **{f"answers-{kind.replace(' ', '-')}": 12 for kind in ANSWERS},
    "one-stall": 4,
    "stalls": STALLED + 2,
    "unanswered": 3,
    "one-byte": 3,
    "gone": 12,
    "revoked": 6,
    "forbidden": 6,
    "deleted": 6,
}


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with watched_cloud(tmp_path_factory.mktemp("cloud"), REPOSITORIES) as made:
        yield made


def test_nothing_goes_wrong(watched: Watched) -> None:
    with watched.fault("none"):
        time.sleep(PROFILE.fault_s)  # nothing is waited for: this is what the others are compared with


@pytest.mark.parametrize("kind", ANSWERS)
def test_one_answer_in_five(watched: Watched, kind: str) -> None:
    files = watched.cloud.files(_repository(kind))
    with watched.fault(f"one answer in five: {kind}") as fault:
        for action, probability in ANSWERS[kind]:
            watched.cloud.server.faults.add(action, probability=probability)
        outcomes = fault.read(files)
        # A chunk that was damaged twice is given up, as it would be if it were damaged in the store.
        assert kind == "flipped" or all(outcome.error is None for outcome in outcomes)
        watched.cloud.server.faults.assert_all_exercised()
        watched.cloud.server.faults.clear()
        fault.recover(files)


def test_one_connection_stalls(watched: Watched) -> None:
    files = watched.cloud.files("one-stall")
    with watched.fault("one answer stalls for ever") as fault:
        stall = watched.cloud.server.faults.add(Stall(10_000), operations=["media"], match="*/packs/*", times=1)
        outcomes = fault.read(files)
        assert stall.exercised
        assert all(outcome.error is None for outcome in outcomes)
        fault.recover(files)


def test_all_connections_stall(watched: Watched) -> None:
    cloud = watched.cloud
    *stalled, one_more, large = cloud.files("stalls")
    assert fault_free(watched, [one_more])  # so that the names are known
    with watched.fault(f"{STALLED} readers stalled, one more not") as fault, ThreadPoolExecutor(STALLED) as threads:
        stall = cloud.server.faults.add(Stall(100), operations=["media"], match="*/packs/*")
        reading = [threads.submit(cloud.read_one, path) for path in stalled[:STALLED]]
        stall.wait_met(STALLED)
        stall.remove()
        assert cloud.status()["waiting_reads"] >= STALLED // 2  # the others may be hedged, and done
        started_s = time.monotonic()
        [outcome] = fault.read([large])
        assert outcome.error is None
        assert time.monotonic() - started_s < PROFILE.recovered_within_s
        for each in reading:
            fault.judge(each.result())
        fault.recover([*stalled, large])


def test_nothing_answers_any_more(watched: Watched) -> None:
    cloud = watched.cloud
    with watched.fault("every answer stalls for ever") as fault:
        # Also of what asks whether there is anything new.
        stall = cloud.server.faults.add(Stall())
        outcomes = fault.read(cloud.files("unanswered"))
        assert all(outcome.error is not None for outcome in outcomes)
        assert fault_free(watched, cloud.files("cached"))
        stall.remove()
        fault.recover(cloud.files("unanswered"))
        assert "no answer from the store" in cloud.errors() or "did not answer within" in cloud.errors()


def fault_free(watched: Watched, paths: list[Path]) -> bool:
    return all(outcome.error is None for outcome in watched.cloud.read(paths))


def test_a_byte_a_second(watched: Watched) -> None:
    cloud = watched.cloud
    files = cloud.files("one-byte")
    with watched.fault("every pack comes at a byte a second") as fault:
        drip = cloud.server.faults.add(Drip(1.0), operations=["media"], match="*/packs/*")
        outcomes = fault.read(files)
        assert all(outcome.error is not None for outcome in outcomes)
        drip.remove()
        # What trickles is no silence: it ends with the time that one request may take.
        fault.recover(files, within_s=PROFILE.recovered_within_s + DEFAULT_LIMITS.store_timeout_s)


def test_a_server_that_is_gone_for_a_while(watched: Watched) -> None:
    cloud = watched.cloud
    files = cloud.files("gone")
    half = len(files) // 2
    with watched.fault("the server is gone for a while") as fault:
        # As in the middle of an epoch: the names are known.
        assert len(os.listdir(cloud.version("gone"))) == len(files)
        cloud.server.stop()
        back_s = time.monotonic() + PROFILE.away_s
        outcomes = fault.read(files[:half], at_once=half)
        assert all(outcome.error is not None for outcome in outcomes)
        assert "cannot be reached" in cloud.errors()
        assert len(os.listdir(cloud.version("cached"))) == len(os.listdir(cloud.sources["cached"]))
        time.sleep(max(0.0, back_s - time.monotonic()))
        with ThreadPoolExecutor(half) as threads:
            # Who still waits when it comes back never learns that it was gone.
            waiting = [threads.submit(cloud.read_one, path) for path in files[half:]]
            while cloud.status()["waiting_reads"] < half:
                assert not any(each.done() for each in waiting)
            cloud.server.start()
            for each in waiting:
                fault.judge(each.result())
        assert all(each.result().error is None for each in waiting)
        fault.recover(files)


@pytest.mark.parametrize("how", ["revoked", "forbidden"])
def test_credentials_that_are_no_longer_good(watched: Watched, how: str) -> None:
    cloud = watched.cloud
    first, *others = cloud.files(how)
    access = cloud.server.access
    with watched.fault(f"credentials {how} in the middle of reading") as fault:
        assert fault_free(watched, [first])
        if how == "revoked":
            access.grants_tokens = False
            access.revoke()
        else:
            access.forbids = "storage.objects"
        outcomes = fault.read(others)
        assert all(outcome.error is not None for outcome in outcomes)
        assert ("expired or were revoked" if how == "revoked" else "access is denied") in cloud.errors()
        access.grants_tokens, access.forbids = True, None
        fault.recover(others)


def test_objects_deleted_under_the_mount(watched: Watched) -> None:
    cloud = watched.cloud
    files = cloud.files("deleted")
    with watched.fault("packs deleted under the mount") as fault:
        with cloud.deleted(cloud.packs["deleted"]):
            outcomes = fault.read(files)
            assert all(outcome.error is not None for outcome in outcomes)
            assert "is gone" in cloud.errors()
        fault.recover(files)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a tmpfs takes root")
def test_a_cache_on_a_full_disk(watched: Watched, tmp_path: Path) -> None:
    cloud = watched.cloud
    disk, mountpoint = tmp_path / "disk", tmp_path / "mount"
    for folder in (disk, mountpoint):
        folder.mkdir()
    files = [path for kind in ANSWERS for path in cloud.files(_repository(kind))]
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24M", "tmpfs", str(disk)], check=True)
    try:
        cloud.program("mount", "--cache-dir", disk / "cache", mountpoint)
        steady = Steady(mountpoint / "cached" / "v1", cloud.sources["cached"], tmp_path / "records")
        with steady, watched.fault("the cache's disk is full", steady=steady) as fault:
            fill(disk / "hog")
            for outcome in cloud.read(files, below=mountpoint):
                fault.judge(outcome)
            assert fault.figures.failed == 0
            cache = status(mountpoint)["cache"]
            assert cache["evicted_bytes"] + cache["streamed_bytes"] > 0
            (disk / "hog").unlink()
    finally:
        cloud.program("umount", mountpoint)
        subprocess.run(["umount", "-l", str(disk)], check=True)


def _repository(kind: str) -> str:
    return f"answers-{kind.replace(' ', '-')}"
