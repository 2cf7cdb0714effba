"""Where the scenarios of `script/bench cloud` work: data, stores, mounts, and the server behind the link."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import data
from cloud_link import LinkedServer
from cloud_mounts import FsdMount, RcloneMount
from cloud_report import CloudReport
from cloud_server import HUGE, STORE
from program import run


@dataclass(frozen=True, slots=True)
class Size:
    """How much is read."""

    suffix: str
    large_bytes: int
    small_files: int
    rclone_files: int
    """How many of the small files rclone reads: it takes minutes for all of them."""
    layers: int
    """Of the model: 48 MiB each."""
    huge_files: int
    rounds: int


FULL = Size("", data.LARGE_BYTES, data.SMALL_FILES, 1_000, 24, 1_500_000, 3)
QUICK = Size("-quick", 256 * data.MIB, 2_000, 200, 4, 100_000, 1)

COMMAND_TIMEOUT_S = 600.0


@dataclass(slots=True)
class Cloud:
    """See the module's docstring."""

    folder: Path
    report: CloudReport
    size: Size
    rounds: int
    rclone: bool
    profiles: Path | None = None
    """Where what py-spy sees of each daemon goes, if anybody wants to know."""
    server: LinkedServer = field(init=False)
    _mounts: int = 0

    @classmethod
    def lay_out(cls, folder: Path, report: CloudReport, size: Size, rounds: int | None, *, rclone: bool) -> Cloud:
        """Make the data that is not there yet. What is plain to others is the very same files."""
        cloud = cls(folder, report, size, rounds or size.rounds, rclone)
        cloud.plain.mkdir(parents=True, exist_ok=True)
        for source in (cloud.large, cloud.small):
            link = cloud.plain / source.name
            if not link.exists():
                link.symlink_to(source)
        return cloud

    @property
    def work(self) -> Path:
        """What only these benchmarks use."""
        return self.folder / "cloud"

    @property
    def bucket(self) -> Path:
        """The server's folder."""
        return self.work / "bucket"

    @property
    def plain(self) -> Path:
        """What the server shows as plain objects."""
        return self.work / "plain"

    @property
    def store(self) -> str:
        """The prefix of the store that is read from."""
        return f"data{self.size.suffix}"

    @property
    def large(self) -> Path:
        """A folder with one large file, `weights.bin`."""
        return data.large_file(self.folder / f"large{self.size.suffix}", self.size.large_bytes)

    @property
    def small(self) -> Path:
        """A folder of small files."""
        return data.small_files(self.folder / f"small{self.size.suffix}", self.size.small_files)

    @property
    def huge(self) -> str:
        """The prefix of the store that is too large to be kept."""
        return f"huge{self.size.suffix}"

    @property
    def changed(self) -> Path:
        """The small files, one in a hundred of which is another."""
        return data.changed_copy(self.small, self.folder / f"small-changed{self.size.suffix}")

    @property
    def models(self) -> Path:
        """A model in two versions, each in a folder."""
        return data.model_versions(self.folder / f"models{self.size.suffix}", self.size.layers)

    # --- stores

    def publish_what_is_missing(self) -> None:
        """Fill the store, without the link, once."""
        marker = self.work / f"{self.store}.published"
        if marker.exists():
            return
        self.server.unlimited()
        self.server.empty(STORE, f"{self.store}/")  # what a run left that did not get through
        self.fsd("init", f"gs://store/{self.store}")
        for source, repository, version in (
            (self.large, "large", "v1"),
            (self.small, "small", "v1"),
            (self.changed, "small", "v2"),
            (self.models / "v1", "model", "v1"),
            (self.models / "v2", "model", "v2"),
        ):
            self.fsd("commit", str(source), repository, "--tag", version, store=f"gs://store/{self.store}")
        marker.touch()

    def make_huge_store(self) -> None:
        """Its metadata, without the link, once."""
        marker = self.work / f"{self.huge}.published"
        if marker.exists():
            return
        self.server.unlimited()
        self.server.empty(HUGE, f"{self.huge}/")
        program = str(Path(__file__).with_name("cloud_huge.py"))
        command = [sys.executable, program, f"gs://{HUGE}/{self.huge}", str(self.size.huge_files)]
        subprocess.run(command, check=True, timeout=COMMAND_TIMEOUT_S)
        self.server.limited()
        marker.touch()

    def fsd(self, *arguments: str, store: str | None = None) -> None:
        """Run a command."""
        run(*arguments, store=store, timeout_s=COMMAND_TIMEOUT_S)

    # --- mounts

    def fsd_mount(self, *options: str, url: str | None = None) -> FsdMount:
        """A mount with an empty cache, of the store that is read from or of another."""
        cache = self.work / "caches" / "fsd"
        shutil.rmtree(cache, ignore_errors=True)
        return FsdMount(url or f"gs://{STORE}/{self.store}", self._mountpoint(), cache, *options)

    def rclone_mount(self, source: Path) -> RcloneMount:
        """The same for rclone, of a folder of plain files."""
        cache = self.work / "caches" / "rclone"
        shutil.rmtree(cache, ignore_errors=True)
        cache.mkdir(parents=True)
        return RcloneMount(self.server.url, source.name, self._mountpoint(), cache)

    @contextmanager
    def profiled(self, mount: FsdMount) -> Iterator[None]:
        """py-spy watches the daemon meanwhile, if that was asked for: its Python stacks, in the order of the mounts."""
        if self.profiles is None:
            yield
            return
        self.profiles.mkdir(parents=True, exist_ok=True)
        output = self.profiles / f"{self._mounts:02}.txt"
        command = [
            str(Path(sys.executable).with_name("py-spy")),
            "record",
            "-f",
            "raw",
            "-r",
            "250",
            "-d",
            "600",
            "--gil",
            "-p",
            str(mount.pid),
            "-o",
            str(output),
        ]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)

    def _mountpoint(self) -> Path:
        self._mounts += 1
        return self.work / "mnt" / str(self._mounts)


def forget(paths: Iterable[str]) -> None:
    """Drop files from the kernel's cache of pages: theirs alone, since the server's files are to stay there."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)
