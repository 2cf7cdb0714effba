"""`script/bench cloud`: fsd over a bucket behind a simulated link, beside rclone and the native file system.

The link has a round trip of 30 ms and 2 Gbit/s, played by `integration/gcs_server`; what a plain client gets of it is
measured first. Requests and bytes are the server's own counts.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cloud_models
import cloud_publishing
import cloud_reading
from cloud_link import BYTES_PER_S, RTT_S, LinkedServer
from cloud_mounts import has_rclone
from cloud_place import FULL, QUICK, Cloud
from cloud_report import CloudReport, header
from cloud_server import UPLOADS
from report import machine

SCENARIO_TIMEOUT_S = 1800
"""One scenario; what hangs longer is given up, and everything is cleaned up."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One of the issue's goals."""

    measure: Callable[[Cloud], None]
    about: str


SCENARIOS = {
    "sequential": Scenario(cloud_reading.sequential, "a large file from its start to its end, cold"),
    "epoch": Scenario(cloud_reading.epochs, "small files in random order and in listing order, cold"),
    "shuffled": Scenario(cloud_reading.beyond_the_cache, "a random epoch over ten times the cache"),
    "random": Scenario(cloud_reading.random_reads, "4 KiB at random places, cold"),
    "first-byte": Scenario(cloud_models.first_byte, "from an empty cache to the first byte"),
    "switch": Scenario(cloud_models.switch, "another version, another subset"),
    "pin": Scenario(cloud_models.pin, "a pin in a work tree that moves to another commit"),
    "tensors": Scenario(cloud_models.tensors, "one tensor in twenty of a model"),
    "huge": Scenario(cloud_models.huge, "147 GB in 1.5 million files: mounting, listing, memory"),
    "publish": Scenario(cloud_publishing.publish, "small files, a large one, and 1% of changes"),
}


def main(arguments: list[str]) -> None:
    """Run the scenarios asked for, in order."""
    about = "\n".join(f"  {name:12} {scenario.about}" for name, scenario in SCENARIOS.items())
    parser = argparse.ArgumentParser(
        prog="script/bench cloud",
        description=__doc__,
        epilog=f"scenarios:\n{about}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("scenarios", nargs="*", choices=[*SCENARIOS, []], metavar="SCENARIO", help="default: all")
    parser.add_argument("--quick", action="store_true", help="less data, one round, no rclone: some minutes")
    parser.add_argument("--rounds", type=int, help="how often each is measured; default 3, with --quick 1")
    parser.add_argument("--no-rclone", action="store_true", help="do not measure rclone")
    parser.add_argument("--dir", type=Path, default=Path(".bench"), help="where data, bucket and caches go (15 GB)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--markdown", type=Path, help="write the table to this file")
    parser.add_argument("--plot", type=Path, help="draw how far each goal was reached")
    parser.add_argument("--profile", type=Path, metavar="FOLDER", help="have py-spy watch the daemon; costs some speed")
    options = parser.parse_args(arguments)
    report = CloudReport()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    size = QUICK if options.quick else FULL
    rclone = not (options.quick or options.no_rclone)
    if rclone and not has_rclone():
        parser.error("there is no rclone; install it, or give --no-rclone")
    try:
        with _place(options.dir.resolve(), report, size, options.rounds, rclone=rclone) as cloud:
            cloud.profiles = options.profile
            print(machine())
            _reference(cloud)
            print(header())
            for name in options.scenarios or SCENARIOS:
                with _bounded(name):
                    SCENARIOS[name].measure(cloud)
    finally:
        if options.json:
            options.json.write_text(report.json())
        if options.markdown:
            options.markdown.write_text(report.markdown())
        if options.plot:
            report.plot(options.plot)


@contextmanager
def _place(folder: Path, report: CloudReport, size: Any, rounds: int | None, *, rclone: bool) -> Iterator[Cloud]:
    """A server and folders; afterwards nothing is mounted and nothing runs."""
    work = folder / "cloud"
    work.mkdir(parents=True, exist_ok=True)
    with (work / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit(f"script/bench: another run is at work in {folder}; give --dir")
        with _served(work, Cloud.lay_out(folder, report, size, rounds, rclone=rclone)) as cloud:
            yield cloud


@contextmanager
def _served(work: Path, cloud: Cloud) -> Iterator[Cloud]:
    with LinkedServer(cloud.bucket, cloud.plain, cloud.huge, cloud.size.huge_files) as server:
        os.environ["STORAGE_EMULATOR_HOST"] = server.url
        os.environ["XDG_STATE_HOME"] = str(work / "state")
        cloud.server = server
        try:
            cloud.publish_what_is_missing()
            server.limited()
            yield cloud
        finally:
            sweep(work)
            for name in ("caches", "mnt"):
                shutil.rmtree(work / name, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Take away what is mounted below a folder; whoever served it ends."""
    mounts = [text.split()[1] for text in Path("/proc/self/mounts").read_text().splitlines()]
    for mountpoint in mounts:
        if mountpoint.startswith(f"{folder}/"):
            subprocess.run(["fusermount3", "-uzq", mountpoint], check=False, timeout=30)


@contextmanager
def _bounded(name: str) -> Iterator[None]:
    def give_up(*_: object) -> None:
        raise TimeoutError(f"the scenario {name} took more than {SCENARIO_TIMEOUT_S} s")

    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(SCENARIO_TIMEOUT_S)
    try:
        yield
    finally:
        signal.alarm(0)


def _end(*_: object) -> None:
    raise SystemExit(143)  # cleaning up on the way


def _reference(cloud: Cloud) -> None:
    """What a plain client gets of the link."""
    name = f"large{cloud.size.suffix}/weights.bin"
    with cloud.server.counted() as counted:
        throughput = cloud.server.throughput("plain", name, cloud.size.large_bytes)
    uploads = cloud.server.upload_throughput(UPLOADS, cloud.size.large_bytes // 2)
    cloud.server.empty(UPLOADS)
    latency_s = cloud.server.latency("plain", name, 4096, 20)
    cost_s = counted[0].cpu_s / cloud.size.large_bytes * 1e9
    cloud.report.reference = (
        f"The link: {RTT_S * 1000:.0f} ms and {BYTES_PER_S / 1e6:.0f} MB/s; a plain client gets 4 KiB in "
        f"{latency_s * 1000:.1f} ms, {throughput / 1e6:.0f} MB/s from the server (for which that takes "
        f"{cost_s:.2f} s of processor time a GB) and {uploads / 1e6:.0f} to it."
    )
    print(cloud.report.reference)
