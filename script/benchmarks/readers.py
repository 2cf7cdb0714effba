"""Reading programs, each in processes of its own, so that neither the interpreter's lock nor its memory is shared."""

from __future__ import annotations

import multiprocessing
import os
import random
import time
from collections.abc import Callable, Sequence
from multiprocessing.synchronize import Barrier

MIB = 1024 * 1024

_fork = multiprocessing.get_context("fork")


def in_processes(count: int, work: Callable[[int], int]) -> tuple[float, int]:
    """Run `work(number)` in `count` processes that start together: seconds to the last end, and the summed results."""
    barrier = _fork.Barrier(count + 1)
    results = _fork.SimpleQueue()

    def child(number: int, barrier: Barrier) -> None:
        barrier.wait()
        done = work(number)
        results.put((time.perf_counter(), done))

    processes = [_fork.Process(target=child, args=(number, barrier), daemon=True) for number in range(count)]
    for process in processes:
        process.start()
    barrier.wait()
    start = time.perf_counter()
    answers = [results.get() for _ in processes]
    for process in processes:
        process.join()
    return max(end for end, _ in answers) - start, sum(done for _, done in answers)


def sequential(path: str, block: int = 4 * MIB) -> float:
    """Bytes a second of reading a file from its start to its end."""

    def work(_: int) -> int:
        buffer, done = bytearray(block), 0
        with open(path, "rb", buffering=0) as file:
            while count := file.readinto(buffer):
                done += count
        return done

    seconds, done = in_processes(1, work)
    return done / seconds


def random_reads(path: str, size: int, count: int, seed: int = 5) -> float:
    """Reads a second of `size` bytes at random aligned places."""
    blocks = os.path.getsize(path) // size

    def work(_: int) -> int:
        rng = random.Random(seed)
        descriptor = os.open(path, os.O_RDONLY)
        for _ in range(count):
            if len(os.pread(descriptor, size, rng.randrange(blocks) * size)) != size:
                raise OSError("short read")
        os.close(descriptor)
        return count

    seconds, done = in_processes(1, work)
    return done / seconds


def epoch(paths: Sequence[str], processes: int, seed: int) -> tuple[float, float]:
    """Files and bytes a second of opening, reading and closing each file once, in random order."""
    order = list(paths)
    random.Random(seed).shuffle(order)
    return in_order(order, processes)


def in_order(order: Sequence[str], processes: int) -> tuple[float, float]:
    """Files and bytes a second of reading files as `epoch` does, in turn by some processes."""

    def work(number: int) -> int:
        done = 0
        for path in order[number::processes]:
            descriptor = os.open(path, os.O_RDONLY)
            while data := os.read(descriptor, 128 * 1024):
                done += len(data)
            os.close(descriptor)
        return done

    seconds, done = in_processes(processes, work)
    return len(order) / seconds, done / seconds


def stat_storm(paths: Sequence[str], seed: int = 6) -> float:
    """Stats a second, in random order."""
    order = list(paths)
    random.Random(seed).shuffle(order)

    def work(_: int) -> int:
        for path in order:
            os.stat(path)
        return len(order)

    seconds, done = in_processes(1, work)
    return done / seconds


def listing(root: str) -> float:
    """Entries a second of listing everything below a folder, without asking for attributes."""

    def work(_: int) -> int:
        done, pending = 0, [root]
        while pending:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    done += 1
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
        return done

    seconds, done = in_processes(1, work)
    return done / seconds


def files_below(root: str) -> list[str]:
    """All regular files below a folder, sorted."""
    return sorted(os.path.join(folder, name) for folder, _, names in os.walk(root) for name in names)
