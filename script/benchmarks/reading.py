"""Reading through the mount, beside the same files on this machine's own file system."""

from __future__ import annotations

import shutil
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import data
import readers
from program import Mount, drop_caches, run
from report import Figure, Report, paired

MB = 1e6
GB = 1e9


@dataclass(frozen=True, slots=True)
class Bench:
    """Where a run works."""

    folder: Path
    report: Report

    @property
    def store(self) -> Path:
        """The store that everything is published to."""
        return self.folder / "store"

    def mount(self, cache: str, *, fresh: bool = False) -> Mount:
        """Mount the store with the cache folder of that name, emptied first if `fresh`."""
        path = self.folder / cache
        if fresh:
            shutil.rmtree(path, ignore_errors=True)
        return Mount(self.store, self.folder / "mnt", path)


def large(bench: Bench) -> None:
    """A file of 2 GiB: sequential and at random."""
    native = str(data.large_file(bench.folder / "large") / "weights.bin")

    def path(mount: Mount) -> str:
        return str(mount.path / "large/v1/weights.bin")

    def cold() -> float:
        drop_caches()
        with bench.mount("cache-cold", fresh=True) as mount:
            return readers.sequential(path(mount))

    def native_cold() -> float:
        drop_caches()
        return readers.sequential(native)

    ours, theirs = paired(cold, native_cold)
    bench.report.add(Figure("2 GiB sequential, cold from the local store", "MB/s", ours / MB, theirs / MB))

    def dropped() -> float:
        drop_caches()
        with bench.mount("cache-cold") as mount:
            return readers.sequential(path(mount))

    ours, theirs = paired(dropped, native_cold)
    bench.report.add(Figure("2 GiB sequential, from the mirror on disk", "MB/s", ours / MB, theirs / MB))

    def mirror() -> float:
        # A new mount has nothing in the kernel's cache, while the mirror's own pages are there.
        with bench.mount("cache-cold") as mount:
            return readers.sequential(path(mount))

    mirror()
    bench.report.add(
        Figure(
            "2 GiB sequential, mirror-warm",
            "MB/s",
            statistics.median(mirror() for _ in range(3)) / MB,
            readers.sequential(native) / MB,
            goal=1000,
        )
    )
    with bench.mount("cache-cold") as mount:
        for size, name, count in ((4096, "random 4 KiB", 20_000), (data.MIB, "random 1 MiB", 500)):
            ours = readers.random_reads(path(mount), size, count)
            bench.report.add(Figure(f"{name}, mirror-warm", "reads/s", ours, readers.random_reads(native, size, count)))
        readers.sequential(path(mount))
        ours, theirs = paired(lambda: readers.sequential(path(mount)), lambda: readers.sequential(native), rounds=5)
        bench.report.add(
            Figure("2 GiB sequential, kernel-warm", "MB/s", ours / MB, theirs / MB, goal=0.9, goal_is_ratio=True)
        )
        for size, name, count in ((4096, "random 4 KiB", 100_000), (data.MIB, "random 1 MiB", 2000)):
            ours, theirs = paired(
                lambda size=size, count=count: readers.random_reads(path(mount), size, count),
                lambda size=size, count=count: readers.random_reads(native, size, count),
            )
            bench.report.add(Figure(f"{name}, kernel-warm", "reads/s", ours, theirs))


def small(bench: Bench) -> None:
    """20,000 small files: epochs in random order, other versions, stats, listings."""
    source = data.small_files(bench.folder / "small")
    native = readers.files_below(str(source))
    for processes in (1, 4):

        def cold(processes: int = processes) -> float:
            drop_caches()
            with bench.mount("cache-small", fresh=True) as mount:
                return readers.epoch(_renamed(native, source, mount, "v1"), processes, seed=processes)[0]

        def native_cold(processes: int = processes) -> float:
            drop_caches()
            return readers.epoch(native, processes, seed=processes)[0]

        ours, theirs = paired(cold, native_cold)
        bench.report.add(Figure(f"epoch, cold from the local store, {_readers(processes)}", "files/s", ours, theirs))

        def mirror(processes: int = processes) -> float:
            with bench.mount("cache-small") as mount:
                readers.listing(str(mount.path / "small/v1"))
                return readers.epoch(_renamed(native, source, mount, "v1"), processes, seed=processes)[0]

        ours, theirs = paired(mirror, lambda processes=processes: readers.epoch(native, processes, seed=processes)[0])
        bench.report.add(Figure(f"epoch, mirror-warm, {_readers(processes)}", "files/s", ours, theirs, goal=10_000))
    with bench.mount("cache-small") as mount:
        _kernel_warm(bench, mount, native, source)
        _names(bench, mount, native, source)


def _readers(processes: int) -> str:
    return "1 reader" if processes == 1 else f"{processes} readers"


def _renamed(paths: list[str], source: Path, mount: Mount, version: str) -> list[str]:
    start = len(str(source))
    return [f"{mount.path}/small/{version}{path[start:]}" for path in paths]


def _kernel_warm(bench: Bench, mount: Mount, native: list[str], source: Path) -> None:
    first = _renamed(native, source, mount, "v1")
    readers.epoch(first, 1, seed=0)
    for processes in (1, 4):
        reads = mount.requests("read")
        ours, theirs = paired(
            lambda processes=processes: readers.epoch(first, processes, seed=7)[0],
            lambda processes=processes: readers.epoch(native, processes, seed=7)[0],
            rounds=5,
        )
        note = f"{mount.requests('read') - reads - 1} READ requests"
        name = f"second epoch, kernel-warm, {_readers(processes)}"
        bench.report.add(Figure(name, "files/s", ours, theirs, goal=0.9, goal_is_ratio=True, note=note))
    for version, rounds in (("v2", 5), ("v2+10pct", 9)):
        there, here = _known_files(mount, version, source)
        reads = mount.requests("read")
        ours, theirs = paired(
            lambda there=there: readers.epoch(there, 1, seed=8)[0],
            lambda here=here: readers.epoch(here, 1, seed=8)[0],
            rounds=rounds,
        )
        note = f"{mount.requests('read') - reads - 1} READ requests"
        name = f"second epoch over the same files in {version}, 1 reader"
        bench.report.add(Figure(name, "files/s", ours, theirs, goal=0.9, goal_is_ratio=True, note=note))


def _known_files(mount: Mount, version: str, source: Path) -> tuple[list[str], list[str]]:
    """The files of a version that v1 has as well, all of whose names the kernel then knows, and the same natively.

    Which these are is asked of their inodes, for that reads nothing.
    """
    top, first = mount.path / "small" / version, mount.path / "small" / "v1"
    there, here = [], []
    for path in readers.files_below(str(top)):
        relative = Path(path).relative_to(top)
        if (source / relative).exists() and Path(path).stat().st_ino == (first / relative).stat().st_ino:
            there.append(path)
            here.append(str(source / relative))
    return there, here


def _names(bench: Bench, mount: Mount, native: list[str], source: Path) -> None:
    def cold_stats() -> float:
        drop_caches()
        return readers.stat_storm(_renamed(native, source, mount, "v1"))

    def native_stats() -> float:
        drop_caches()
        return readers.stat_storm(native)

    ours, theirs = paired(cold_stats, native_stats)
    bench.report.add(Figure("stat storm, cold names", "stats/s", ours, theirs))
    ours, theirs = paired(
        lambda: readers.stat_storm(_renamed(native, source, mount, "v1")), lambda: readers.stat_storm(native)
    )
    bench.report.add(Figure("stat storm, kernel-warm", "stats/s", ours, theirs))


def listings(bench: Bench) -> None:
    """Listing all of a store of many tiny files, from its cache on disk."""
    source = data.many_tiny_files(bench.folder / "tiny", TINY_FILES)
    with bench.mount("cache-tiny", fresh=True) as mount:
        first = readers.listing(str(mount.path / "tiny/v1"))
        bench.report.add(Figure(f"listing of {TINY_FILES:,} files, cold from the local store", "entries/s", first))

    def ours() -> float:
        with bench.mount("cache-tiny") as mount:
            return readers.listing(str(mount.path / "tiny/v1"))

    def native() -> float:
        drop_caches()
        return readers.listing(str(source))

    value, theirs = paired(ours, native)
    bench.report.add(Figure(f"listing of {TINY_FILES:,} files", "entries/s", value, theirs, goal=150_000))


TINY_FILES = 300_000


def first_byte(bench: Bench) -> None:
    """From `fsd mount` to the first byte, with an empty cache: a small store and one with everything in it."""
    small_store = bench.folder / "store-one"
    if not (small_store / "fsd.json").exists():
        run("init", str(small_store))
        one = bench.folder / "one"
        one.mkdir(exist_ok=True)
        (one / "hello.txt").write_text("hello\n")
        run("commit", str(one), "one", "--tag", "v1", store=small_store)
    for store, path, name in (
        (small_store, "one/v1/hello.txt", "a store of one file"),
        (bench.store, "small/v1/train/class007/image000007.jpg", "the store of all of this"),
    ):

        def once(store: Path = store, path: str = path) -> float:
            cache = bench.folder / "cache-first"
            shutil.rmtree(cache, ignore_errors=True)
            start = time.perf_counter()
            with Mount(store, bench.folder / "mnt", cache) as mount:
                with open(mount.path / path, "rb", buffering=0) as file:
                    file.read(1)
                return time.perf_counter() - start

        seconds = statistics.median(once() for _ in range(3))
        bench.report.add(Figure(f"mount to first byte, {name}", "s", seconds, goal=1.0, least=False))


def memory(bench: Bench) -> None:
    """The daemon's peak after everything was listed and read."""
    with bench.mount("cache-all", fresh=True) as mount:
        for repository in ("tiny", "small", "large"):
            readers.listing(str(mount.path / repository / "v1"))
        readers.sequential(str(mount.path / "large/v1/weights.bin"))
        readers.epoch(readers.files_below(str(mount.path / "small/v1")), 4, seed=9)
        readers.epoch(readers.files_below(str(mount.path / "small/v2")), 4, seed=9)
        peak = mount.peak_bytes() / data.MIB
    bench.report.add(Figure("peak memory of the daemon, after all of it", "MiB", peak, goal=300, least=False))
