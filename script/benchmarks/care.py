"""The care of a store: marking, verifying, repacking; and reading from Python without a mount."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

import data
import diffing
import readers
import trio
from blake3 import blake3
from fsspec import filesystem
from program import Mount, drop_caches, run
from reading import MB, Bench
from report import Figure, paired

from fsd.limits import DEFAULT_LIMITS
from fsd.maintenance.expiry import Keep
from fsd.maintenance.gc import Collected, Policy, collect
from fsd.repo.repository import open_repositories
from fsd.stores.open import open_store

ROUNDS = 3
CHUNK_BYTES = 32 * 1024
"""What is hashed at once where chunks are: their average."""

KEPT = 5
"""One file in so many is left of what is repacked."""


def care(bench: Bench) -> None:
    """All of it."""
    _many_entries(bench)
    _data(bench)
    _repack(bench)
    _from_python(bench)


# --- trees


def _many_entries(bench: Bench) -> None:
    """gc and verify of three versions of 1.5 million files. The packs are holes of the right length."""
    store = diffing.huge_store(bench.folder)
    marks = [run("gc", "--dry-run", "--json", store=store) for _ in range(ROUNDS)]
    median = statistics.median(each.seconds for each in marks)
    reached = json.loads(marks[0].output)["reached_objects"]
    name = f"gc --dry-run, {diffing.FILES:,} entries"
    bench.report.add(Figure(name, "s", median, goal=30, least=False, note=f"{reached:,} objects marked"))
    bench.report.add(Figure("its peak memory", "MiB", max(each.peak_bytes for each in marks) / data.MIB))
    objects = [path for part in ("commits", "pages", "recipes") for path in _files(store / part)]

    def verified() -> float:
        drop_caches()
        return run("verify", "--json", store=store).seconds

    def read() -> float:
        drop_caches()
        return _reading(objects)

    ours, theirs = paired(verified, read)
    note = "native: reading the objects' files"
    bench.report.add(Figure(f"verify, {diffing.FILES:,} entries, cold", "s", ours, theirs, note=note))


# --- data


def _store_of_both(bench: Bench) -> Path:
    """2 GiB in one file and 20,000 small files, published."""
    store = bench.folder / "store-care"
    if not (store / ".made").exists():
        shutil.rmtree(store, ignore_errors=True)
        run("init", str(store))
        run("commit", str(data.large_file(bench.folder / "large")), "large", "--tag", "v1", "-m", "1", store=store)
        run("commit", str(data.small_files(bench.folder / "small")), "small", "--tag", "v1", "-m", "1", store=store)
        (store / ".made").touch()
    return store


def _data(bench: Bench) -> None:
    """verify --data beside reading the packs, and beside hashing their bytes."""
    store = _store_of_both(bench)
    packs = list(_files(store / "packs"))
    size = sum(path.stat().st_size for path in packs)

    def verified() -> float:
        return size / run("verify", "--data", "--json", store=store).seconds

    def verified_cold() -> float:
        drop_caches()
        return verified()

    def read_cold() -> float:
        drop_caches()
        return size / _reading(packs)

    ours, theirs = paired(verified_cold, read_cold)
    note = "native: reading the packs"
    bench.report.add(Figure(f"verify --data, {size / 1e9:.1f} GB, cold", "MB/s", ours / MB, theirs / MB, note=note))
    _reading(packs)
    for name, hashed in (("one thread", _hashing), ("and reading them", _hashing_and_reading)):
        ours, theirs = paired(verified, lambda hashed=hashed: size / hashed(packs))
        note = f"native: BLAKE3 of the packs by {CHUNK_BYTES // 1024} KiB, {name}"
        bench.report.add(Figure("verify --data, from the page cache", "MB/s", ours / MB, theirs / MB, note=note))


def _files(folder: Path) -> Iterable[Path]:
    return (Path(top) / name for top, _, names in os.walk(folder) for name in names)


def _reading(paths: Iterable[Path]) -> float:
    """Seconds to read files in order."""
    started = time.perf_counter()
    buffer = bytearray(data.MIB)
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
    return time.perf_counter() - started


def _hashing(paths: Iterable[Path]) -> float:
    """Seconds to hash the bytes of files as chunks, once they are in memory."""
    seconds = 0.0
    for path in paths:
        body = memoryview(path.read_bytes())
        started = time.perf_counter()
        for at in range(0, len(body), CHUNK_BYTES):
            blake3(body[at : at + CHUNK_BYTES]).digest()
        seconds += time.perf_counter() - started
    return seconds


def _hashing_and_reading(paths: Iterable[Path]) -> float:
    started = time.perf_counter()
    _hashing(paths)
    return time.perf_counter() - started


# --- repacking


class _Phases:
    """Progress of a collection: how long each phase took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._began = time.perf_counter()
        self._name = ""

    def phase(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[self._name] = self.seconds.get(self._name, 0.0) + now - self._began
        self._name, self._began = name, now

    def advance(self, objects: int) -> None:
        """Nobody looks."""


async def _collected(place: Path) -> tuple[Collected, float]:
    """What a collection with an expiry did, and the seconds of its repacking."""
    store = open_store(str(place), DEFAULT_LIMITS)
    try:
        phases = _Phases()
        done = await collect(await open_repositories(store), Policy(0, 0, Keep()), phases)
        return done, phases.seconds["repack"]
    finally:
        await store.aclose()


def _repack(bench: Bench) -> None:
    """A fifth of 20,000 small files is left, in packs of which four fifths are dead."""
    made, source = bench.folder / "store-dead", bench.folder / "a-fifth"
    shutil.rmtree(made, ignore_errors=True)
    shutil.rmtree(source, ignore_errors=True)
    small = data.small_files(bench.folder / "small")
    run("init", str(made))
    run("commit", str(small), "small", "-m", "all", store=made)
    shutil.copytree(small, source, copy_function=os.link)
    for number, path in enumerate(sorted(source.rglob("*.jpg"))):
        if number % KEPT:
            path.unlink()
    run("commit", str(source), "small", "-m", "a fifth", store=made)
    copied = 0

    def ours() -> float:
        nonlocal copied
        store = bench.folder / "store-repacked"
        shutil.rmtree(store, ignore_errors=True)
        # Nothing is ever written in place.
        subprocess.run(["cp", "-al", str(made), str(store)], check=True)
        done, seconds = trio.run(_collected, store)
        copied = done.repacked.copied_bytes
        return copied / seconds

    def native() -> float:
        copy = bench.folder / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        os.sync()
        started = time.perf_counter()
        shutil.copytree(source, copy)
        os.sync()
        return copied / (time.perf_counter() - started)

    ratio = paired(ours, native)
    note = f"{copied / MB:,.0f} MB of {KEPT} times as much; native: copying the {20_000 // KEPT:,} files, and sync"
    bench.report.add(Figure("repack", "MB/s", ratio[0] / MB, ratio[1] / MB, note=note))


# --- without a mount


def _from_python(bench: Bench) -> None:
    """fsspec beside a mount, both new over the same full cache."""
    store, cache = _store_of_both(bench), bench.folder / "cache-care"

    def mounted() -> float:
        with Mount(store, bench.folder / "mnt", cache) as mount:
            return readers.sequential(str(mount.path / "large/v1/weights.bin"))

    def in_python() -> float:
        def work(_: int) -> int:
            files = filesystem("fsd", store=str(store), cache=str(cache), skip_instance_cache=True)
            done = 0
            with files.open("large/v1/weights.bin", "rb") as file:
                while part := file.read(4 * data.MIB):
                    done += len(part)
            return done

        seconds, done = readers.in_processes(1, work)
        return done / seconds

    shutil.rmtree(cache, ignore_errors=True)
    mounted()
    ours, theirs = paired(in_python, mounted)
    name = "2 GiB sequential through fsspec, mirror-warm, with opening the store"
    note = "native: through the mount"
    bench.report.add(Figure(name, "MB/s", ours / MB, theirs / MB, goal=0.5, goal_is_ratio=True, note=note))
