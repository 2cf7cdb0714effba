"""The mounts: what their daemons take of the machine over the time, and how one is ended and begun again."""

from __future__ import annotations

import ctypes
import itertools
import os
import random
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from fsd.daemon import mounts
from integration.program import Program, status
from integration.reader import REPOSITORY
from integration.soak.truth import Shape

CACHE_SIZE = "24M"
MAY_GROW = 0.05
"""From the first to the last third of a life."""
FEW = 3
"""Descriptors and threads that may be more at any rate: there are so few that one is more than 5 %."""

WARM_UP = 0.3
"""Of a life: caches and tables fill, and allocators learn how much is needed."""

FORGET_EVERY = 10
"""Samples. Else every version that is published adds to what daemons hold, as it may, and would hide a leak."""

_MS_REMOUNT = 1 | 2 | 4 | 32
"""MS_REMOUNT, with MS_RDONLY, MS_NOSUID and MS_NODEV as they are."""

GONE_WITHIN_S = 60.0
MOUNTED_WITHIN_S = 90.0


@dataclass(frozen=True)
class Sample:
    """What a daemon takes at some moment."""

    at_s: float
    """Since the beginning."""
    rss_bytes: int
    pss_bytes: int
    descriptors: int
    threads: int
    inodes: int
    """That the kernel has not forgotten. They grow with all that is looked at, and are not judged."""


MEASURES = tuple(each.name for each in fields(Sample) if each.name != "at_s")
JUDGED = MEASURES[:-1]


def sample(pid: int, mountpoint: Path, at_s: float) -> Sample:
    """Look at a process. Raises OSError if it has ended."""
    process = Path("/proc", str(pid))
    sizes = dict(line.split(":", 1) for line in (process / "smaps_rollup").read_text().splitlines()[1:])
    rss_bytes, pss_bytes = (int(sizes[name].split()[0]) * 1024 for name in ("Rss", "Pss"))
    descriptors, threads = len(os.listdir(process / "fd")), len(os.listdir(process / "task"))
    inodes = status(mountpoint)["inodes"]["in_trees"]
    return Sample(at_s, rss_bytes, pss_bytes, descriptors, threads, inodes)


def make_kernel_forget(mountpoint: Path) -> bool:
    """Have the kernel forget the names of a mount that nobody uses, as it does when memory is short. False without the
    right to: then a daemon keeps the inodes of all that was ever looked at."""
    libc = ctypes.CDLL(None, use_errno=True)
    # Whatever a remount is asked for, it begins with that, and changes nothing else of a FUSE mount.
    return libc.mount(None, os.fsencode(mountpoint), None, _MS_REMOUNT, None) == 0


@dataclass(frozen=True)
class Growth:
    """Of one measure over a life: the medians of the first and of the last third after its warm-up."""

    measure: str
    first: float
    last: float
    peak: float

    @property
    def share(self) -> float:
        """By how much more than at first, as a share of that."""
        return self.last / self.first - 1

    @property
    def is_leak(self) -> bool:
        """Whether that is more than may be."""
        least = FEW if self.measure in ("descriptors", "threads") else 0
        return self.measure in JUDGED and self.last - self.first > max(MAY_GROW * self.first, least)


def growths(samples: Sequence[Sample]) -> list[Growth]:
    """Of all measures. `samples` are of one life, at even distances, and there are 10 at least."""
    warm = samples[int(WARM_UP * len(samples)) :]
    third = len(warm) // 3
    found = []
    for measure in MEASURES:
        values = [getattr(each, measure) for each in warm]
        first, last = statistics.median(values[:third]), statistics.median(values[-third:])
        found.append(Growth(measure, first, last, max(values)))
    return found


@dataclass
class Down:
    """A stretch of time in which a mount is not there, or not for everybody. Monotonic seconds."""

    began_s: float
    ended_s: float = float("inf")


@dataclass
class Life:
    """A mount and who reads it."""

    name: str
    program: Program
    folder: Path
    samples: list[Sample] = field(default_factory=list)
    downs: list[Down] = field(default_factory=list)
    starts: int = 0
    retried_starts: int = 0
    """That failed because of the weather."""
    kills: int = 0
    stops: int = 0
    busy: int = 0
    """Times that 'fsd umount' refused, for there were readers."""

    def __post_init__(self) -> None:
        self.mountpoint = self.folder / f"mount of {self.name}"
        self.mountpoint.mkdir()
        self.records = [self.folder / f"records of {self.name}, {number}" for number in range(3)]
        self.pid = 0
        self._readers: list[subprocess.Popen[bytes]] = []

    def mount(self) -> None:
        """Begin, again if it has to be. Raises AssertionError if that goes on failing."""
        deadline_s = time.monotonic() + MOUNTED_WITHIN_S
        cache = self.folder / f"cache of {self.name}"
        while True:
            done = self.program.run("mount", self.mountpoint, "--cache-dir", cache, "--cache-size", CACHE_SIZE)
            if done.returncode == 0:
                break
            assert time.monotonic() < deadline_s, f"cannot mount: {done.stderr}"
            self.retried_starts += 1
        self.pid = status(self.mountpoint)["pid"]
        self.starts += 1

    def restart(self, dice: random.Random) -> None:
        """End the daemon in one of three ways, and mount again. Raises AssertionError where one of them fails."""
        down = Down(time.monotonic())
        self.downs.append(down)
        pidfd = os.pidfd_open(self.pid)
        try:
            how = dice.choice([signal.SIGKILL, signal.SIGTERM, None])
            if how is None and not self._unmount():
                how = signal.SIGTERM
            if how is not None:
                signal.pidfd_send_signal(pidfd, how)
            if not mounts.wait_gone(pidfd, timeout_s=GONE_WITHIN_S):
                raise AssertionError(f"the daemon did not end within {GONE_WITHIN_S:g} s:\n{stacks(self.pid)}")
        finally:
            os.close(pidfd)
        self.kills += how == signal.SIGKILL
        self.stops += how != signal.SIGKILL
        self.mount()
        down.ended_s = time.monotonic()

    def _unmount(self) -> bool:
        """False if somebody uses it."""
        done = self.program.run("umount", self.mountpoint)
        if done.returncode == 0:
            return True
        assert "is in use" in done.stderr, f"{done.stderr}\n{stacks(self.pid)}"
        self.busy += 1
        return False

    def is_down(self, began_s: float, ended_s: float, *, and_for_s: float = 1.0) -> bool:
        """Whether it was not there, or had not been a moment before."""
        return any(down.began_s <= ended_s and began_s <= down.ended_s + and_for_s for down in [*self.downs])

    def start_readers(self, ledger: Path, seed: int, shape: Shape) -> None:
        """As many as there are records."""
        for number, records in enumerate(self.records):
            where = map(str, (self.mountpoint, ledger, records, seed + number, shape.small, shape.large))
            command = [sys.executable, "-m", "integration.soak.reader", *where]
            self._readers.append(subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.PIPE))

    def stop_readers(self) -> list[str]:
        """At the end; what is wrong with them."""
        wrong = [f"a reader of {self.name} ended with {code}" for each in self._readers if (code := each.poll())]
        for each in self._readers:
            assert each.stdin is not None
            each.stdin.close()
        for each in self._readers:
            try:
                if each.wait(GONE_WITHIN_S):
                    wrong.append(f"a reader of {self.name} ended with {each.returncode}")
            except subprocess.TimeoutExpired:
                wrong.append(f"a reader of {self.name} hangs:\n{stacks(self.pid)}")
                each.kill()
                each.wait()
        self._readers.clear()
        return wrong


def watch(lives: Sequence[Life], began_s: float, every_s: float, over: threading.Event) -> None:
    """Take samples until that is set."""
    for number in itertools.count():
        if over.wait(every_s):
            return
        for life in lives:
            try:
                life.samples.append(sample(life.pid, life.mountpoint, time.monotonic() - began_s))
            except (OSError, KeyError, ValueError):
                continue  # it has just ended
            if number % FORGET_EVERY == 0:
                make_kernel_forget(life.mountpoint)


def stacks(pid: int) -> str:
    """What the threads of a daemon do, if py-spy is there to tell."""
    spy = Path(sys.executable).with_name("py-spy")
    if not spy.exists() or not Path("/proc", str(pid)).exists():
        return ""
    return subprocess.run([spy, "dump", "--pid", str(pid)], capture_output=True, text=True, check=False).stdout
