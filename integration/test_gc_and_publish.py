"""Machines run gc and publish at once: nothing reachable is ever missing.

Three publish, two collect, and a mount reads meanwhile. Each is the real program with a home of its own, and is killed
at random moments. In a bucket most time is waiting, so that the requests of all of them are mixed thoroughly; in a
folder they are at it as fast as they can. `script/reliability` has them work for ten minutes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import pytest

from integration.care.machines import Collector, Machine, MountReader, Publisher, Verifier, work
from integration.care.world import World
from integration.conftest import sweep
from integration.gcs_places import serving
from integration.gcs_server.faults import Cut, Reset, Slow, Status, Truncate
from integration.gcs_server.server import GcsServer

FIGURES = os.environ.get("FSD_RELIABILITY")
"""Where the figures of docs/reliability.md go, if they are wanted: then all takes longer."""

SECONDS = 300.0 if FIGURES else 6.0
ROUND_S = 30.0 if FIGURES else 6.0
"""So long everybody works; then nobody does, and all is looked at."""

AT_MOST_S = 60.0
"""Longer, on a machine so busy that something was not tried yet."""

WANTED = ("commits", "killed_publishers", "collections", "killed_collectors", "deleted_objects", "files_read")

LIMITS: dict[str, int | float | str] = {
    # Who was killed is waited for this long. A reference is moved within the margin, or not at all.
    "lease_s": 5.0,
    "lease_margin_s": 3.0,
    "store_retry_s": 1.0,
    # On a busy machine a daemon that fetches from a slow bucket was seen to take half a minute to end.
    "unmount_timeout_s": 100.0,
    # Packs of small files that are worth repacking.
    "pack_bytes": "2M",
    "own_pack_bytes": "2M",
}
CLOUD_LIMITS = LIMITS | {"lease_s": 8.0, "lease_margin_s": 5.0, "store_retry_s": 2.0, "store_timeout_s": 3.0}


@contextmanager
def _bucket() -> Iterator[str]:
    """A store in a bucket, where what is written arrives late now and then: by then others have looked.

    In the long run one request in twenty fails, too.
    """
    with serving(GcsServer(rtt_s=0.03, seed=1)) as server:
        server.create_bucket("bucket")
        server.faults.add(Slow(1.0), operations=["insert"], probability=0.15)
        for action in (Status(503), Status(429), Reset(), Cut(100), Truncate(1)) if FIGURES else ():
            server.faults.add(action, probability=0.01)
        yield "gs://bucket/store"
        server.faults.assert_all_exercised()


@contextmanager
def _folder(path: Path) -> Iterator[str]:
    yield f"file://{path}"


@pytest.mark.parametrize("kind", ["file", "gs"])
def test_nothing_reachable_is_ever_missing(tmp_path: Path, kind: str) -> None:
    with _bucket() if kind == "gs" else _folder(tmp_path / "store") as url:
        world = World(url, tmp_path, CLOUD_LIMITS if kind == "gs" else LIMITS)
        try:
            _rounds(world)
        finally:
            sweep(tmp_path)
            print(kind, asdict(world.figures), *world.violations, sep="\n")
    assert world.violations == []
    done = asdict(world.figures)
    assert [figure for figure in WANTED if not done[figure]] == [], "something was never tried"
    if FIGURES:
        with open(FIGURES, "a") as file:
            file.write(json.dumps({"care": kind, "seconds": SECONDS, **done}) + "\n")


def _rounds(world: World) -> None:
    verifier = Verifier(world, "verifier")
    verifier.program("init")
    keeper, expirer = Collector(world, "keeper"), Collector(world, "expirer", "--keep-last", "2")
    machines: list[Machine] = [*(Publisher(world, name) for name in ("one", "two", "three")), keeper, expirer]
    machines.append(MountReader(world, "reader"))
    if FIGURES:
        machines.append(verifier)
    for _ in range(round(SECONDS / ROUND_S)):
        world.begin(ROUND_S, WANTED, AT_MOST_S)
        work(machines)
        world.check(verifier.program)
        if world.violations:
            return
    keeper.finish()
    assert world.condemned() == []
    world.check(verifier.program)
