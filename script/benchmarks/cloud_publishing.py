"""Publishing over the link: small files, a large one, and one per cent of changes."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import data
from cloud_link import BYTES_PER_S
from cloud_place import COMMAND_TIMEOUT_S, Cloud
from cloud_report import Figure, Goal
from cloud_server import UPLOADS
from program import Finished, run

MB = 1e6
LEAST_OF_LINK = 0.8
MOST_OF_FIRST = 0.05


def publish(cloud: Cloud) -> None:
    """Into a store of its own each time, which is deleted afterwards."""
    for source, name in ((cloud.small, f"{cloud.size.small_files:,} small files"), (cloud.large, "one large file")):
        firsts, seconds, wire, cost = [], [], 0.0, ""
        size = sum(os.path.getsize(path) for path in source.rglob("*") if path.is_file())
        for _ in range(cloud.rounds):
            with _Publication(cloud, source) as publication:
                with cloud.server.counted() as traffic:
                    first = publication.commit("first")
                firsts.append(first.seconds)
                wire = traffic[0].bytes_in / size
                cost = (
                    f"{traffic[0].requests} requests, {wire:.3f} bytes a byte; processor time a GB: "
                    f"fsd {first.processor_seconds / size * 1e9:.2f} s, server {traffic[0].cpu_s / size * 1e9:.2f} s"
                )
                if source == cloud.small:
                    data.change_some(publication.folder, seed=99)
                    seconds.append(publication.commit("second").seconds)
        cloud.report.add(
            Figure(
                f"publish {name}",
                "MB/s",
                [size / first / MB for first in firsts],
                [Goal(LEAST_OF_LINK, "link")],
                link=BYTES_PER_S / MB,
                rclone=_rclone(cloud) if cloud.rclone and source == cloud.small else None,
                native=_copy(cloud, source, size) / MB,
                note=cost + "; native: cp and sync",
            )
        )
        if seconds:
            shares = [second / first for first, second in zip(firsts, seconds, strict=True)]
            note = f"{sorted(seconds)[len(seconds) // 2]:.2f} s"
            name = "commit with 1% changed, as a share of the first one's time"
            cloud.report.add(Figure(name, "", shares, [Goal(MOST_OF_FIRST, least=False)], note=note))


class _Publication:
    """A copy of a folder and an empty store; both gone afterwards."""

    def __init__(self, cloud: Cloud, source: Path) -> None:
        self._cloud = cloud
        self.folder = cloud.work / "caches" / "publication"
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(source, self.folder, copy_function=os.link)
        self._url = f"gs://{UPLOADS}/store"
        self._state = cloud.work / "caches" / "publication-state"
        shutil.rmtree(self._state, ignore_errors=True)
        cloud.fsd("init", self._url)

    def __enter__(self) -> _Publication:
        return self

    def __exit__(self, *_: object) -> None:
        self._cloud.server.empty(UPLOADS)
        shutil.rmtree(self.folder, ignore_errors=True)

    def commit(self, message: str) -> Finished:
        """Publish the folder as it is."""
        before, os.environ["XDG_STATE_HOME"] = os.environ["XDG_STATE_HOME"], str(self._state)
        try:
            return run("commit", str(self.folder), "data", "-m", message, store=self._url, timeout_s=COMMAND_TIMEOUT_S)
        finally:
            os.environ["XDG_STATE_HOME"] = before


def _copy(cloud: Cloud, source: Path, size: int) -> float:
    copy = cloud.work / "caches" / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    os.sync()
    began = time.perf_counter()
    subprocess.run(["cp", "-r", str(source), str(copy)], check=True, timeout=COMMAND_TIMEOUT_S)
    os.sync()
    seconds = time.perf_counter() - began
    shutil.rmtree(copy)
    return size / seconds


def _rclone(cloud: Cloud) -> float:
    """`rclone copy` of some of the small files: MB/s."""
    few = cloud.work / "caches" / "few"
    shutil.rmtree(few, ignore_errors=True)
    few.mkdir()
    files = sorted(path for path in cloud.small.rglob("*.jpg"))[: cloud.size.rclone_files]
    for number, path in enumerate(files):
        os.link(path, few / f"{number:06}.jpg")
    remote = f":gcs,anonymous=true,bucket_policy_only=true,endpoint='{cloud.server.url}/storage/v1/':{UPLOADS}/few"
    command = ["rclone", "copy", "--config", "/dev/null", "--gcs-no-check-bucket", str(few), remote]
    began = time.perf_counter()
    subprocess.run(command, check=True, timeout=COMMAND_TIMEOUT_S)
    seconds = time.perf_counter() - began
    cloud.server.empty(UPLOADS)
    return sum(path.stat().st_size for path in files) / seconds / MB
