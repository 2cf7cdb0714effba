"""Reads through a mount and compares with the folder that was published, in a process of its own.

    python -m integration.reader MOUNTED SOURCE SEED READS

Makes READS reads of random ranges of random files, or with 0 goes on until an error; says what came of it as JSON on a
line. The first line it prints is "ready".
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
MAX_READ_BYTES = 300_000


def files_below(folder: Path) -> list[Path]:
    """The paths of all files below a folder, relative to it, sorted."""
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def read_range(path: Path, start: int, size: int) -> bytes:
    """A range of a file, unbuffered, so that just that is asked for. Fewer bytes only where the file ends."""
    descriptor = os.open(path, os.O_RDONLY)
    data = b""
    try:
        # What the kernel has of it is forgotten first: else a mount is asked for everything just once.
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        # Before it says EIO of a later page, read(2) gives what it has.
        while part := os.pread(descriptor, size - len(data), start + len(data)):
            data += part
        return data
    finally:
        os.close(descriptor)


def random_ranges(source: Path, seed: int) -> Iterator[tuple[Path, int, int]]:
    """Without end: a file of `source`, a start and a size. Every second one is a whole small file."""
    chosen = random.Random(seed)
    files = [(path, (source / path).stat().st_size) for path in files_below(source)]
    while True:
        path, size = chosen.choice(files)
        if size <= MAX_READ_BYTES and chosen.random() < 0.7:
            yield path, 0, size
        else:
            yield path, chosen.randrange(size + 1), chosen.randrange(1, MAX_READ_BYTES)


def different(mounted: Path, source: Path) -> list[str]:
    """The files of `source` that are not the same below `mounted`, every byte compared."""
    return [str(path) for path in files_below(source) if (mounted / path).read_bytes() != (source / path).read_bytes()]


class Readers:
    """Some readers at once, told apart by their seeds. A context manager: none is left running."""

    def __init__(self, number: int, mounted: Path, source: Path, *, seed: int, reads: int = 0) -> None:
        command = [sys.executable, "-m", "integration.reader", str(mounted), str(source)]
        self._processes = [
            subprocess.Popen(
                [*command, str(seed + each), str(reads)], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
            )
            for each in range(number)
        ]

    def __enter__(self) -> Readers:
        for process in self._processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.communicate()

    def results(self, timeout_s: float = 60.0) -> list[dict[str, Any]]:
        """What each says at its end: `reads`, `wrong` (paths), and of an error its `errno` and `time_s`, when it came
        (by the monotonic clock)."""
        deadline = time.monotonic() + timeout_s
        return [json.loads(each.communicate(timeout=deadline - time.monotonic())[0]) for each in self._processes]


def main(mounted: Path, source: Path, seed: int, reads: int) -> None:
    """See the module."""
    result: dict[str, Any] = {"reads": 0, "wrong": []}
    ranges = random_ranges(source, seed)
    print("ready", flush=True)
    try:
        while not reads or result["reads"] < reads:
            path, start, size = next(ranges)
            if read_range(mounted / path, start, size) != read_range(source / path, start, size):
                result["wrong"].append(f"{path} [{start}:{start + size}]")
            result["reads"] += 1
    except OSError as error:
        result |= {"errno": error.errno, "path": str(error.filename), "time_s": time.monotonic()}
    print(json.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
