"""Publishing, beside `cp` and hashing the same files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import data
from blake3 import blake3
from program import drop_caches, run
from reading import MB, TINY_FILES, Bench
from report import Figure


def publish(bench: Bench) -> None:
    """The two real-sized datasets and the tiny files, into a new store."""
    shutil.rmtree(bench.store, ignore_errors=True)
    shutil.rmtree(bench.folder / "state", ignore_errors=True)
    run("init", str(bench.store))
    _throughput(bench, "large", data.large_file(bench.folder / "large"), "one file of 2 GiB")
    small = data.small_files(bench.folder / "small")
    _throughput(bench, "small", small, "20,000 files of 20–80 KB")
    again = run("commit", str(small), "small", "-m", "again", "--allow-empty", store=bench.store)
    bench.report.add(Figure("commit again, 20,000 unchanged files", "s", again.seconds))
    _one_percent(bench, small)
    _tiny(bench)


def _throughput(bench: Bench, repository: str, source: Path, name: str) -> None:
    size = sum(file.stat().st_size for file in source.rglob("*") if file.is_file())
    _read_all(source)
    done = run("commit", str(source), repository, "--tag", "v1", "-m", name, store=bench.store)
    copy = bench.folder / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    os.sync()
    start = time.perf_counter()
    subprocess.run(["cp", "-r", str(source), str(copy)], check=True)
    _read_all(source, hashing=True)
    os.sync()
    native = time.perf_counter() - start
    shutil.rmtree(copy)
    bench.report.add(
        Figure(
            f"commit of {name}",
            "MB/s",
            size / done.seconds / MB,
            size / native / MB,
            goal=500,
            note="native: cp, BLAKE3 and sync",
        )
    )


def _read_all(source: Path, *, hashing: bool = False) -> None:
    for file in sorted(source.rglob("*")):
        if file.is_file():
            with file.open("rb", buffering=0) as opened:
                while block := opened.read(4 * data.MIB):
                    if hashing:
                        blake3(block)


def _one_percent(bench: Bench, source: Path) -> None:
    changed = sorted(source.rglob("*.jpg"))[::100]
    originals = {path: path.read_bytes() for path in changed}
    for path in changed:
        path.write_bytes(os.urandom(50_000))
    try:
        done = run("commit", str(source), "small", "--tag", "v2", "-m", "1% changed", store=bench.store)
    finally:
        for path, content in originals.items():
            path.write_bytes(content)
    bench.report.add(Figure("commit with 1% of 20,000 files changed", "s", done.seconds))


def _tiny(bench: Bench) -> None:
    source = data.many_tiny_files(bench.folder / "tiny", TINY_FILES)
    done = run("commit", str(source), "tiny", "--tag", "v1", "-m", "tiny", store=bench.store)
    bench.report.add(Figure(f"commit of {TINY_FILES:,} tiny files", "files/s", TINY_FILES / done.seconds))
    again = run("commit", str(source), "tiny", "-m", "again", "--allow-empty", store=bench.store)
    bench.report.add(
        Figure(f"commit again, {TINY_FILES:,} unchanged files", "files/s", TINY_FILES / again.seconds, goal=100_000)
    )


def dedup(bench: Bench) -> None:
    """What a second version costs in the store."""
    for name, folder, mark in (
        ("200 MB CSV, 1,000 rows inserted, 2% appended", data.csv_versions(bench.folder / "csv"), 24.8),
        ("500 MB float32, 5% of the tensors changed", data.float_versions(bench.folder / "floats"), 24.0),
    ):
        store = bench.folder / "store-dedup"
        shutil.rmtree(store, ignore_errors=True)
        run("init", str(store))
        sizes = []
        for version in ("v1", "v2"):
            run("commit", str(folder / version), "data", "--tag", version, store=store)
            sizes.append(sum(file.stat().st_size for file in store.rglob("*") if file.is_file()))
        added = (sizes[1] - sizes[0]) / MB
        bench.report.add(
            Figure(f"added by the second version: {name}", "MB", added, goal=mark, least=False, note="goal: casync's")
        )
        bench.report.add(Figure(f"first version: {name}", "MB", sizes[0] / MB))
        shutil.rmtree(store)


def million(bench: Bench, count: int = 1_500_000) -> None:
    """1.5 million small files: publisher's memory, and commit again. Takes some minutes and 6 GB of disk."""
    source = data.many_tiny_files(bench.folder / "million", count)
    drop_caches()
    done = run("commit", str(source), "million", "--tag", "v1", store=bench.store)
    bench.report.add(Figure(f"commit of {count:,} small files", "files/s", count / done.seconds))
    peak = done.peak_bytes / data.MIB
    bench.report.add(Figure("its peak memory", "MiB", peak, goal=500, least=False))
    again = run("commit", str(source), "million", "--allow-empty", "--json", store=bench.store)
    read = json.loads(again.output)["read_bytes"]
    bench.report.add(
        Figure("commit of it again", "files/s", count / again.seconds, goal=100_000, note=f"{read} bytes read")
    )
