"""Somebody who reads what is cached, all the time, while things go wrong elsewhere: in a process of its own.

    python -m integration.faults.steady MOUNTED SOURCE RECORDS

Reads random ranges of the files of SOURCE through MOUNTED, out of the daemon rather than the kernel's pages, a hundred
a second, and compares. A read that is late makes the next ones late, and their delay is counted from when they were
due: a daemon that stops for a second is seen by a hundred reads, not by one. Each read appends to RECORDS when it was
due (monotonic seconds), how long it took from then on, and whether its bytes were right. Prints "ready" when all was
read once, and ends with its standard input.
"""

from __future__ import annotations

import os
import random
import select
import struct
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from integration.reader import REPOSITORY, files_below, random_ranges, read_range

INTERVAL_S = 0.01
_RECORD = struct.Struct("<dd?")


@dataclass(frozen=True)
class Latencies:
    """Of the reads that were due in some stretch of time, in seconds."""

    reads: int
    p50_s: float
    p90_s: float
    p99_s: float
    longest_s: float


class Steady:
    """Such a process. A context manager: it is not left running."""

    def __init__(self, mounted: Path, source: Path, records: Path) -> None:
        self._records = records
        self._process = subprocess.Popen(
            [sys.executable, "-m", "integration.faults.steady", str(mounted), str(source), str(records)],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Steady:
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            self._process.communicate()
            raise AssertionError("what is to be cached cannot be read")
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        code = self._process.wait(30)
        assert self._process.stdout is not None
        self._process.stdout.close()
        assert code == 0, "the reader of cached files failed"

    def latencies(self, since_s: float) -> Latencies:
        """Of the reads due since then (monotonic). Raises AssertionError if one failed or gave wrong bytes."""
        assert self._process.poll() is None, "reading what is cached failed"
        records = list(_RECORD.iter_unpack(self._records.read_bytes()))
        assert all(is_right for _, _, is_right in records), "wrong bytes of what is cached"
        took_s = sorted(took for due, took, _ in records if due >= since_s)
        assert took_s, "nothing that is cached was read"
        last = len(took_s) - 1
        p50_s, p90_s, p99_s = (took_s[int(share * last)] for share in (0.5, 0.9, 0.99))
        return Latencies(len(took_s), p50_s, p90_s, p99_s, took_s[last])


def main(mounted: Path, source: Path, records: Path) -> None:
    """See the module."""
    for path in files_below(source):
        assert (mounted / path).read_bytes() == (source / path).read_bytes()
    contents = {path: (source / path).read_bytes() for path in files_below(source)}
    ranges = random_ranges(source, random.randrange(1 << 30))
    descriptor = os.open(records, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    print("ready", flush=True)
    due_s = time.monotonic()
    while not select.select([sys.stdin], [], [], max(0.0, due_s - time.monotonic()))[0]:
        path, start, size = next(ranges)
        found = read_range(mounted / path, start, size)
        took_s = time.monotonic() - due_s
        os.write(descriptor, _RECORD.pack(due_s, took_s, found == contents[path][start : start + size]))
        due_s += INTERVAL_S


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
