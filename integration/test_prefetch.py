"""`fsd prefetch`, `evict` and `status` of a path in a mount of a bucket, which is there at first and then gone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from integration.accidents import kill
from integration.datasets import write_dataset
from integration.gcs_places import serving
from integration.gcs_server.faults import Stall
from integration.gcs_server.server import GcsServer
from integration.program import Program, status
from integration.reader import different, files_below, read_range
from integration.users import NOBODY, needs_root
from integration.waiting import wait_for

DATA = {"small": 120, "large": 2, "large_bytes": 2_000_000}
"""About 9 MB."""

FAILED, NOT_FOUND, UNREACHABLE, INTERRUPTED = 1, 4, 5, 130
MIB = 1024 * 1024


class Shop:
    """A bucket with data/v1 and data/v2, which differ in a tenth, and mounts of it."""

    def __init__(self, program: Program, server: GcsServer, folder: Path) -> None:
        self.program = program
        self.server = server
        self.folder = folder
        self.source = write_dataset(folder / "source", 1, **DATA)
        self.paths = files_below(self.source)
        self.files = len(self.paths)
        self.bytes = sum((self.source / path).stat().st_size for path in self.paths)
        self.mountpoint = folder / "m"
        self.mountpoint.mkdir()
        self.version = self.mountpoint / "data" / "v1"

    @contextmanager
    def mounted(self, cache: Path, *options: str) -> Iterator[Path]:
        self.program("mount", self.mountpoint, "--cache-dir", str(cache), *options)
        try:
            yield self.version
        finally:
            self.program("umount", self.mountpoint)

    def packs_asked(self) -> list[str]:
        """Requests for packs since the last time, in order."""
        self.server.counters.wait_idle()
        asked = [record.name for record in self.server.counters.records if "packs/" in record.name]
        self.server.counters.reset()
        return asked


@pytest.fixture(scope="module")
def shop(module_program: Program, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with serving(GcsServer()) as server:
        server.create_bucket("bucket")
        module_program.environment |= {"FSD_STORE": "gs://bucket/store", "STORAGE_EMULATOR_HOST": server.url}
        # Small extents and packs, so that little data makes many; short patience, so that what is gone is gone soon.
        module_program.configure(
            extent_bytes="128K", pack_bytes="1M", store_retry_s=1.0, read_deadline_s=3.0, store_timeout_s=1.0
        )
        made = Shop(module_program, server, tmp_path_factory.mktemp("shop"))
        module_program("init")
        module_program("commit", made.source, "data", "--tag", "v1")
        yield made


def seen(shop: Shop, path: Path, *options: str) -> dict[str, Any]:
    """What `fsd status` says of a path."""
    found: dict[str, Any] = shop.program.json("status", path, *options)
    return found


def forgotten(path: Path) -> bytes:
    """A file's content out of the daemon, not out of the kernel's pages."""
    return read_range(path, 0, path.stat().st_size)


def test_what_is_prefetched_is_complete_and_asked_for_in_whole_ranges(shop: Shop, tmp_path: Path) -> None:
    with shop.mounted(tmp_path / "cache") as version:
        before = seen(shop, shop.mountpoint / "data" / "main")
        assert (before["files"], before["bytes"], before["cached_bytes"]) == (shop.files, shop.bytes, 0)
        shop.packs_asked()
        done = shop.program.json("prefetch", shop.mountpoint / "data" / "main")
        assert (done["files"], done["bytes"], done["left_bytes"]) == (shop.files, shop.bytes, 0)
        asked = shop.packs_asked()
        assert len(asked) <= len(set(asked)) + shop.bytes // (8 * MIB) + 1
        after = seen(shop, version)
        assert (after["complete"], after["verified"], after["pinned"]) == (True, True, False)
        assert after["complete_files"] == shop.files
        assert "fetched  0 B" in shop.program("prefetch", version)
        assert different(version, shop.source) == []
        assert shop.packs_asked() == []
        gone = shop.program.json("evict", version / "d0")
        assert gone["files"] == 40
        assert seen(shop, version / "d0")["cached_bytes"] == 0
        assert seen(shop, version)["complete_files"] == shop.files - 40
        shop.program("prefetch", version / "d0")
        assert "is complete" in shop.program("status", version, "--verify")


def test_pins_hold_against_everything(shop: Shop, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    size = ("--cache-size", "7M")
    with shop.mounted(cache, *size) as version:
        refused = shop.program.run("prefetch", version)
        assert refused.returncode == FAILED
        assert "data/v1 takes" in refused.stderr
        assert "--partial" in refused.stderr
        assert seen(shop, version)["cached_bytes"] == 0
        shop.program("prefetch", version / "d1", "--pin")
        assert seen(shop, version / "d1")["pinned"]
        kill(shop.mountpoint)
    with shop.mounted(cache, *size) as version:
        assert [pin["path"] for pin in status(shop.mountpoint)["pins"]] == ["data/v1/d1"]
        shop.program("prefetch", version / "large", "--pin")
        for path in shop.paths:
            assert forgotten(version / path) == (shop.source / path).read_bytes()
        assert status(shop.mountpoint)["cache"]["evicted_bytes"] > 0
        for pinned in ("d1", "large"):
            assert seen(shop, version / pinned)["pinned"]
        kept = shop.program.json("evict", version)
        assert kept["pinned_bytes"] >= seen(shop, version / "d1")["bytes"]
        gone = shop.program.json("evict", version, "--unpin")
        assert (gone["pinned_bytes"], sorted(gone["ended_pins"])) == (0, ["data/v1/d1", "data/v1/large"])
        assert status(shop.mountpoint)["cache"]["mirror_bytes"] == 0


def test_an_order_is_recorded_and_replayed_by_another_cache(shop: Shop, tmp_path: Path) -> None:
    order = tmp_path / "order"
    names = [f"d2/f{number}" for number in (117, 81, 95, 80, 110)] + ["large/l1"]
    with (
        shop.mounted(tmp_path / "first") as version,
        shop.program.start("prefetch", version, "--record", order) as recording,
    ):
        assert recording.stderr is not None
        assert "recording" in recording.stderr.readline()
        for name in names:
            (version / name).read_bytes()
        wait_for(lambda: len(order.read_text().splitlines()) > len(names), "all names in the record")
        assert recording.poll() is None
        recording.send_signal(signal.SIGINT)
        assert recording.wait(10) == 0
    header, *lines = map(json.loads, order.read_text().splitlines())
    assert (header["repository"], header["revision"], lines) == ("data", "v1", names)
    with shop.mounted(tmp_path / "second") as version:
        shop.packs_asked()
        done = shop.program.json("prefetch", version, "--replay", order)
        assert (done["files"], done["unknown_paths"]) == (len(names), 0)
        assert shop.packs_asked() != []
        for name in names:
            assert (version / name).read_bytes() == (shop.source / name).read_bytes()
        assert shop.packs_asked() == []


def test_others_are_refused_and_what_is_no_version_as_well(shop: Shop, tmp_path: Path) -> None:
    with shop.mounted(tmp_path / "cache") as version:
        control = Path(status(shop.mountpoint)["control"])
        assert control.stat().st_mode & 0o777 == 0o600
        for path, code in ((version / "nothing", NOT_FOUND), (Path("/proc"), NOT_FOUND), (shop.mountpoint, 2)):
            assert shop.program.run("prefetch", path).returncode == code
        assert shop.program.run("status", shop.mountpoint, "--verify").returncode == 2
    assert not control.exists()


@needs_root
def test_other_users_may_read_but_not_control(shop: Shop, tmp_path: Path) -> None:
    with shop.mounted(tmp_path / "cache", "--allow-other") as version:
        command = [*NOBODY, sys.executable, "-m", "fsd_cli", "prefetch", str(version)]
        done = subprocess.run(command, env=shop.program.environment, capture_output=True, text=True, check=False)
        assert done.returncode == FAILED
        assert "somebody else's" in done.stderr
        assert seen(shop, version)["cached_bytes"] == 0


def test_an_interrupted_prefetch_stops_and_can_go_on(shop: Shop, tmp_path: Path) -> None:
    with shop.mounted(tmp_path / "cache") as version:
        stalled = shop.server.faults.add(Stall(), match="*packs/*", times=3)
        with shop.program.start("prefetch", version) as running:
            stalled.wait_met(3)
            running.send_signal(signal.SIGINT)
            assert running.wait(10) == INTERRUPTED
        stalled.remove()
        # What is under way for nobody is cancelled at once, not when the request's time is up.
        assert shop.program.json("prefetch", version)["files"] == shop.files
        assert seen(shop, version)["complete"]


@pytest.fixture
def leaving(shop: Shop) -> Iterator[Shop]:
    """A shop whose server may be stopped; it is started again afterwards."""
    yield shop
    shop.server.stop()
    shop.server.start()


def test_what_is_pinned_can_be_read_and_mounted_when_the_bucket_is_gone(leaving: Shop, tmp_path: Path) -> None:
    shop = leaving
    cache = tmp_path / "cache"
    with shop.mounted(cache) as version:
        shop.program("prefetch", version, "--pin")
        main = (shop.mountpoint / "data" / "main").resolve()
        assert seen(shop, main)["pinned"]
        shop.server.stop()
        assert all(forgotten(version / path) == (shop.source / path).read_bytes() for path in shop.paths)
        assert seen(shop, version, "--verify")["verified"]
        known = cache / "refs.json"
        wait_for(lambda: known.exists() and b'"main"' in known.read_bytes(), "where the branch stands, written down")
        kill(shop.mountpoint)
    with shop.mounted(cache):
        assert sorted(os.listdir(shop.mountpoint)) == ["data"]
        assert (shop.mountpoint / "data" / "main").resolve() == main
        for version in (shop.version, main):
            assert all(forgotten(version / path) == (shop.source / path).read_bytes() for path in shop.paths)
        found = seen(shop, shop.version, "--verify")
        assert (found["complete"], found["verified"], found["pinned"]) == (True, True, True)
        assert shop.program.json("prefetch", main, "--pin")["fetched_bytes"] == 0
    # What nobody has mounted here before is not known.
    assert shop.program.run("mount", shop.mountpoint, "--cache-dir", str(tmp_path / "new")).returncode == UNREACHABLE
