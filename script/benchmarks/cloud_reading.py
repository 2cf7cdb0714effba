"""Cold reads over the link: a large file, epochs over small ones, single reads at random."""

from __future__ import annotations

import itertools
import os
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import readers
from cloud_link import BYTES_PER_S, RTT_S, Traffic
from cloud_mounts import FsdMount, RcloneMount
from cloud_place import Cloud, forget
from cloud_report import Figure, Goal, in_turn

import fsd
from fsd.format.pack import FOOTER_BYTES, parse_contents, parse_footer

MB = 1e6
LINK = BYTES_PER_S / MB
READERS = 4
RANDOM_READS = 200
RCLONE_RANDOM_READS = 30
SHARE_OF_CACHE = 10


def _cost(mount: FsdMount | RcloneMount, before_s: float, traffic: Traffic, read_bytes: float) -> str:
    daemon = (mount.processor_s() - before_s) / read_bytes * 1e9
    return (
        f"{traffic.requests} requests, {traffic.bytes_out / read_bytes:.3f} bytes a byte; processor time a GB: "
        f"daemon {daemon:.2f} s, server {traffic.cpu_s / read_bytes * 1e9:.2f} s"
    )


class _Measured:
    """Measures a reading program through a new mount each time, and keeps what the last time cost."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self.cost = ""

    def fsd(self, repository: str, work: Callable[[Path], float], read_bytes: float) -> float:
        """`work` on the repository's folder."""
        with self._cloud.fsd_mount() as mount:
            before_s = mount.processor_s()
            with self._cloud.server.counted() as traffic, self._cloud.profiled(mount):
                result = work(mount.path / repository / "v1")
            self.cost = _cost(mount, before_s, traffic[0], read_bytes)
        return result

    def rclone(self, source: Path, work: Callable[[Path], float]) -> float:
        """`work` on the same folder of plain files."""
        with self._cloud.rclone_mount(source) as mount:
            return work(mount.path)


def sequential(cloud: Cloud) -> None:
    """A large file."""
    measured = _Measured(cloud)
    native_path = str(cloud.large / "weights.bin")

    def ours() -> float:
        return measured.fsd(
            "large", lambda top: readers.sequential(str(top / "weights.bin")) / MB, cloud.size.large_bytes
        )

    def rclones() -> float:
        return measured.rclone(cloud.large, lambda top: readers.sequential(str(top / "weights.bin")) / MB)

    def native() -> float:
        forget([native_path])
        return readers.sequential(native_path) / MB

    samples = in_turn(cloud.rounds, ours, native, *([rclones] if cloud.rclone else []))
    cloud.report.add(
        Figure(
            f"sequential, {_gib(cloud.size.large_bytes)}, cold",
            "MB/s",
            samples[0],
            [Goal(0.9, "link")],
            link=LINK,
            rclone=statistics.median(samples[2]) if cloud.rclone else None,
            native=statistics.median(samples[1]),
            note=measured.cost,
        )
    )


def _gib(size: int) -> str:
    return f"{size / 2**30:.3g} GiB"


def epochs(cloud: Cloud) -> None:
    """All small files once."""
    paths = [os.path.relpath(path, cloud.small) for path in readers.files_below(str(cloud.small))]
    total = sum((cloud.small / path).stat().st_size for path in paths)
    shuffled = random.Random(11).sample(paths, len(paths))
    random_goals = [Goal(0.7, "link"), Goal(10, "rclone")]
    _epoch(cloud, "random order, 4 readers", shuffled, total, READERS, random_goals)
    _epoch(cloud, "listing order, 4 readers", paths, total, READERS, [Goal(0.9, "link")])
    _epoch(cloud, "listing order, 1 reader", paths, total, 1, [])


def _epoch(cloud: Cloud, name: str, order: list[str], total: int, processes: int, goals: list[Goal]) -> None:
    measured = _Measured(cloud)

    def read(top: Path, count: int | None = None) -> float:
        return readers.in_order([str(top / path) for path in order[:count]], processes)[1] / MB

    def native() -> float:
        forget(str(cloud.small / path) for path in order)
        return read(cloud.small)

    few = cloud.size.rclone_files
    others = [lambda: measured.rclone(cloud.small, lambda top: read(top, few))] if cloud.rclone else []
    samples = in_turn(cloud.rounds, lambda: measured.fsd("small", read, total), native, *others)
    cloud.report.add(
        Figure(
            f"epoch of {len(order):,} small files, {name}, cold",
            "MB/s",
            samples[0],
            goals,
            link=LINK,
            rclone=statistics.median(samples[2]) if cloud.rclone else None,
            native=statistics.median(samples[1]),
            note=measured.cost + (f"; rclone: the first {few:,} files" if cloud.rclone else ""),
        )
    )


def beyond_the_cache(cloud: Cloud) -> None:
    """A random epoch over a set ten times as large as the cache: in any order, and in one that is kind to packs."""
    files = readers.files_below(str(cloud.small))
    paths = [os.path.relpath(path, cloud.small) for path in files]
    total = sum(os.stat(path).st_size for path in files)

    def plain(top: Path) -> float:
        order = random.Random(12).sample(paths, len(paths))
        return readers.in_order([str(top / path) for path in order], READERS)[1] / MB

    def kind(top: Path) -> float:
        order = fsd.shuffled(top, 12, buffer_bytes=total // SHARE_OF_CACHE // 2)
        return readers.in_order([str(path) for path in order], READERS)[1] / MB

    for name, work in (("plain", plain), ("fsd.shuffled", kind)):
        with cloud.fsd_mount("--cache-size", str(total // SHARE_OF_CACHE)) as mount:
            before_s = mount.processor_s()
            with cloud.server.counted() as traffic:
                rate = work(mount.path / "small" / "v1")
            cost = _cost(mount, before_s, traffic[0], total)
        wire = traffic[0].bytes_out / total
        cloud.report.add(
            Figure(f"bytes on the wire per byte read, epoch over 10 × the cache, {name}", "", [wire], note=cost)
        )
        cloud.report.add(
            Figure(f"epoch over 10 × the cache, random order, {name}, 4 readers", "MB/s", [rate], link=LINK)
        )


def random_reads(cloud: Cloud) -> None:
    """Single pages of a large file."""
    size, block = cloud.size.large_bytes, 4096
    rng = random.Random(13)
    places = [rng.randrange(size // block) * block for _ in range(RANDOM_READS)]

    def times(path: Path, places: list[int]) -> list[float]:
        descriptor = os.open(path, os.O_RDONLY)
        os.pread(descriptor, 1, 0)
        taken = []
        for place in places:
            start = time.perf_counter()
            if len(os.pread(descriptor, block, place)) != block:
                raise OSError("short read")
            taken.append(time.perf_counter() - start)
        os.close(descriptor)
        return taken

    with cloud.fsd_mount() as mount:
        path = mount.path / "large" / "v1" / "weights.bin"
        with path.open("rb", buffering=0) as file:
            file.read(1)
        with cloud.server.counted() as traffic:
            taken = times(path, places)
    packs = traffic[0].of("packs")
    fetched = sum(each.bytes_out for each in packs)
    rclone = None
    if cloud.rclone:
        with cloud.rclone_mount(cloud.large) as other:
            rclone = statistics.median(times(other.path / "weights.bin", places[:RCLONE_RANDOM_READS])) * 1000
    add = cloud.report.add
    add(
        Figure(
            "random 4 KiB, cold, 1 reader: latency",
            "ms",
            [second * 1000 for second in taken],
            [Goal(1.5, "link", least=False)],
            link=RTT_S * 1000,
            rclone=rclone,
            note=f"median of {RANDOM_READS}; p99 {sorted(taken)[-3] * 1000:.0f} ms; the link: a round trip",
        )
    )
    others = traffic[0].requests - len(packs)
    note = f"and {others} for the file's recipes, once"
    add(Figure("requests for each", "", [len(packs) / RANDOM_READS], [Goal(1, least=False)], note=note))
    wanted = _chunks_touched(cloud, packs[0].name, places, block)
    note = f"{fetched / RANDOM_READS / 1024:.1f} KiB each, where the chunks have {wanted / RANDOM_READS / 1024:.1f}"
    add(
        Figure(
            "bytes fetched, per byte of the chunks touched", "", [fetched / wanted], [Goal(1, least=False)], note=note
        )
    )


def _chunks_touched(cloud: Cloud, name: str, places: list[int], block: int) -> int:
    """Bytes of the chunks that reads touch in a file that is a pack of its own, as the pack's contents have them."""
    size = cloud.server.size("store", name)
    footer = parse_footer(cloud.server.read("store", name, size - FOOTER_BYTES, size), size, name)
    contents = parse_contents(cloud.server.read("store", name, footer.stored_bytes, size), size, name)
    ends = list(itertools.accumulate(chunk.length for chunk in contents))
    lengths = [chunk.length for chunk in contents]
    touched = 0
    for place in places:
        first = next(number for number, end in enumerate(ends) if end > place)
        last = next(number for number, end in enumerate(ends) if end >= place + block)
        touched += sum(lengths[first : last + 1])
    return touched
