"""The mounts that are compared: fsd's and rclone's, over the same server, each with an empty cache of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from cloud_link import processor_s
from cloud_server import PLAIN
from program import Mount

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 60.0


class FsdMount(Mount):
    """A store of the simulated bucket; what its daemon cost is known when it is over."""

    def __init__(self, url: str, mountpoint: Path, cache: Path, *options: str) -> None:
        super().__init__(url, mountpoint, cache, *options)
        self.pid = int(self.status()["pid"])

    def __exit__(self, *_: object) -> None:
        try:
            super().__exit__()
        except subprocess.CalledProcessError:
            # Making much of a cache durable takes its time on a busy disk. What hangs longer is ended.
            subprocess.run(["fusermount3", "-uzq", str(self.path)], check=False, timeout=STOP_TIMEOUT_S)
            deadline = time.monotonic() + STOP_TIMEOUT_S
            while _is_running(self.pid) and time.monotonic() < deadline:
                time.sleep(0.1)
            if _is_running(self.pid):
                os.kill(self.pid, signal.SIGKILL)
                raise

    def processor_s(self) -> float:
        """Of the daemon so far."""
        return processor_s(self.pid)


class RcloneMount:
    """`rclone mount --vfs-cache-mode full` of the plain files, with its other settings as they come."""

    def __init__(self, url: str, folder: str, mountpoint: Path, cache: Path) -> None:
        mountpoint.mkdir(parents=True, exist_ok=True)
        self.path = mountpoint
        remote = f":gcs,anonymous=true,bucket_policy_only=true,endpoint='{url}/storage/v1/':{PLAIN}/{folder}"
        command = ["rclone", "mount", "--config", "/dev/null", remote, str(mountpoint), "--read-only"]
        command += ["--vfs-cache-mode", "full", "--vfs-cache-max-size", "off", "--cache-dir", str(cache)]
        with (cache.parent / "rclone.log").open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not os.path.ismount(mountpoint):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                raise RuntimeError(f"rclone did not mount; see {cache.parent}/rclone.log")
            time.sleep(0.02)

    def __enter__(self) -> RcloneMount:
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["fusermount3", "-uzq", str(self.path)], check=False, timeout=STOP_TIMEOUT_S)
        self.process.terminate()
        try:
            self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(STOP_TIMEOUT_S)

    def processor_s(self) -> float:
        """Of rclone so far."""
        return processor_s(self.process.pid)


def _is_running(pid: int) -> bool:
    try:
        return "fsd_cli" in Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return False


def has_rclone() -> bool:
    """Whether there is one."""
    return shutil.which("rclone") is not None
