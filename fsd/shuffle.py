"""A random order of the files below a path that is kind to a cache smaller than they are: `fsd.shuffled`.

A mount fetches small files in runs, since packs hold them in the order of their tree. An order that is random over
everything comes back to each run long after it was evicted, and fetches its files one by one. So the files are cut into
*runs* in the order of the tree, the runs are shuffled, and the files of each are spread at random over a *window* of
`buffer_bytes`: at any moment the files of many runs alternate, and all files of one are read within a window.

Nothing here asks a store or a daemon: the order is made of names and sizes, so it is the same for the same content on
every machine, and placements may move. Plain Python without trio or a mount, for data loaders that import it anywhere.
Everything is kept in a few arrays, which processes that fork go on sharing: there are no objects whose reference counts
would unshare them.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, chain
from pathlib import Path
from random import Random
from typing import Generic, TypeVar, overload

from fsd.limits import DEFAULT_LIMITS, GIB, MIB

BUFFER_BYTES = 8 * GIB
"""The window in a mount where none is given: the same on every machine, so that the order is. A sixth of the cache's
default size, and long enough that the files of 170 runs alternate."""

RUN_BYTES = DEFAULT_LIMITS.pack_bytes
"""The longest run: a longer one would be several packs."""

MIN_RUN_BYTES = 16 * MIB
"""The shortest, however short the window: the bytes that are fetched in vain at the ends of a run would weigh more."""

RUNS_AT_ONCE = 8
"""So many runs are in a window, if that can be."""

OWN_RUN_BYTES = DEFAULT_LIMITS.own_pack_bytes
"""A file from here on has a pack of its own, and so it is a run of its own."""

FENCED_FILES = 16
"""Runs of so many files or more begin with their first and last file. Between two neighbours that it knows, a cache
that widens a miss stays inside of the run (docs/decisions/0051 and 0080)."""

IN_MOUNT_ATTRIBUTE = b"user.fsd.blake3"
"""Every file of a mount has it, and is asked for it without a request to the store."""

PathT = TypeVar("PathT", covariant=True)
"""`str` or `Path`."""


class Shuffled(Sequence[PathT], Generic[PathT]):
    """Paths in the order that `shuffled` made; a slice is another of these, and shares its memory."""

    def __init__(self, root: str, files: Files, order: array[int], make: Callable[[str], PathT]) -> None:
        """`order` are numbers of `files`; `make` turns a path into what is wanted."""
        self.root = root
        """The folder that all paths start with: absolute and without symlinks."""
        self._files = files
        self._order = order
        self._make = make

    def __len__(self) -> int:
        return len(self._order)

    @overload
    def __getitem__(self, at: int) -> PathT: ...
    @overload
    def __getitem__(self, at: slice) -> Shuffled[PathT]: ...
    def __getitem__(self, at: int | slice) -> PathT | Shuffled[PathT]:
        if isinstance(at, slice):
            return Shuffled(self.root, self._files, self._order[at], self._make)
        return self._path(self._order[at])

    def __iter__(self) -> Iterator[PathT]:
        return map(self._path, self._order)

    def __repr__(self) -> str:
        return f"<{len(self)} files of {self.root}, shuffled>"

    def _path(self, number: int) -> PathT:
        return self._make(f"{self.root}/{os.fsdecode(self._files.path(number))}")


class Files:
    """Files below a folder in the order of a tree: those of a directory by name, then those of its directories."""

    def __init__(self) -> None:
        self.sizes = array("Q")
        self._paths = bytearray()
        self._ends = array("Q", [0])

    def add(self, path: bytes, size: int) -> None:
        """Add the file that comes next."""
        self._paths += path
        self._ends.append(len(self._paths))
        self.sizes.append(size)

    def path(self, number: int) -> bytes:
        """Relative to the folder."""
        return bytes(self._paths[self._ends[number] : self._ends[number + 1]])


@overload
def shuffled(
    path: str, seed: int | str, *, buffer_bytes: int | None = None, rank: int = 0, world: int = 1
) -> Shuffled[str]: ...
@overload
def shuffled(
    path: Path, seed: int | str, *, buffer_bytes: int | None = None, rank: int = 0, world: int = 1
) -> Shuffled[Path]: ...
def shuffled(
    path: str | Path, seed: int | str, *, buffer_bytes: int | None = None, rank: int = 0, world: int = 1
) -> Shuffled[str] | Shuffled[Path]:
    """Every file below `path` once, in a random order that suits a cache which does not hold all of them.

    The order follows from the names and sizes below `path`, from `seed` and the other arguments, and from nothing else.
    For another order in each epoch, give each another seed. `path` may be a folder of a mount or any other.

    `buffer_bytes`: the files of one run of the tree are read within about so many bytes of each other. It should be at
    most half of what the cache holds; the more, the better the order is mixed. Where it is at least the size of
    everything, the order is a plain random one. The default is `BUFFER_BYTES` in a mount; elsewhere it is everything.

    `rank` of `world`: only the share of one of several readers that have caches of their own. Together they have all
    files, none twice, and as many each but for one; hardly a run belongs to two of them. Readers that have one cache
    between them do better to take turns: `shuffled(path, seed)[worker::workers]`.

    Returns a sequence of `str` for a `str`, of `Path` for a `Path`, all below `Shuffled.root`: the folder as it was
    found now. What `path` led through a branch stays the same commit if the branch moves meanwhile.

    Raises OSError if a directory cannot be listed, ValueError for a rank or size that cannot be.
    """
    if not 0 <= rank < world:
        raise ValueError(f"rank {rank} of {world}")
    if buffer_bytes is not None and buffer_bytes < 0:
        raise ValueError(f"a buffer of {buffer_bytes} bytes")
    root = os.path.realpath(path)
    files = list_files(root)
    if buffer_bytes is None and _is_in_mount(root, files):
        buffer_bytes = BUFFER_BYTES
    order = shuffle(files.sizes, seed, buffer_bytes=buffer_bytes, rank=rank, world=world)
    return Shuffled(root, files, order, str) if isinstance(path, str) else Shuffled(root, files, order, Path)


def list_files(root: str) -> Files:
    """The files below a folder; symlinks to files are among them, those to folders are not followed."""
    files = Files()
    top = os.fsencode(root)
    left = [b""]
    while left:
        directory = left.pop()
        found: list[tuple[bytes, int]] = []
        below: list[bytes] = []
        with os.scandir(os.path.join(top, directory)) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    below.append(entry.name)
                elif entry.is_file():
                    found.append((entry.name, entry.stat().st_size))
        for name, size in sorted(found):
            files.add(directory + name, size)
        left += [directory + name + b"/" for name in sorted(below, reverse=True)]
    return files


def _is_in_mount(root: str, files: Files) -> bool:
    if not files.sizes:
        return False
    try:
        os.getxattr(os.fsencode(root) + b"/" + files.path(0), IN_MOUNT_ATTRIBUTE)
    except OSError:
        return False
    return True


def shuffle(
    sizes: Sequence[int], seed: int | str, *, buffer_bytes: int | None = None, rank: int = 0, world: int = 1
) -> array[int]:
    """The numbers of files of these sizes, which are in the order of a tree, as `shuffled` orders them.

    The bytes of all files in the order of the shuffled runs are an axis. A file's place on it is drawn from the window
    around the middle of its run, and files are sorted by place. What would lie beyond an end is reflected at it, so
    that half a window is alternating there as well.
    """
    random = Random(seed)
    total = sum(sizes)
    window = total if buffer_bytes is None else min(buffer_bytes, total)
    runs = cut_runs(sizes, max(MIN_RUN_BYTES, min(window // RUNS_AT_ONCE, RUN_BYTES)))
    runs.sort(key=lambda _: random.random())
    share = _take(runs, len(sizes) * rank // world, len(sizes) * (rank + 1) // world)
    if window == total:
        places = array("d", (random.random() for run in share for _ in run))
    else:
        places = _draw_places(share, sizes, window, random)
    numbers = array("I", chain.from_iterable(share))
    by_place = sorted(range(len(numbers)), key=places.__getitem__)
    return array("I", map(numbers.__getitem__, by_place))


def cut_runs(sizes: Sequence[int], run_bytes: int) -> list[array[int]]:
    """The numbers of files, in runs of at most `run_bytes`; a large file is a run, and ends none that it lies in."""
    runs = []
    run, length = array("I"), 0
    for number, size in enumerate(sizes):
        if size >= OWN_RUN_BYTES:
            runs.append(array("I", [number]))
            continue
        if run and length + size > run_bytes:
            runs.append(run)
            run, length = array("I"), 0
        run.append(number)
        length += size
    return [*runs, run] if run else runs


def _take(runs: Sequence[array[int]], start: int, stop: int) -> list[array[int]]:
    """What holds elements `start` to `stop` of all runs, one after the other."""
    begins = accumulate(map(len, runs), initial=0)
    cut = [run[max(0, start - begin) : max(0, stop - begin)] for run, begin in zip(runs, begins, strict=False)]
    return [run for run in cut if run]


def _draw_places(runs: Sequence[Sequence[int]], sizes: Sequence[int], window: int, random: Random) -> array[float]:
    """A place for each element of the runs."""
    lengths = [sum(map(sizes.__getitem__, run)) for run in runs]
    end = sum(lengths)
    places = array("d")
    for run, begin, length in zip(runs, accumulate(lengths, initial=0), lengths, strict=False):
        middle = begin + length / 2
        drawn = [end - abs(end - abs(middle + (random.random() - 0.5) * window)) for _ in run]
        if len(run) >= FENCED_FILES:
            _move_least(drawn, 0, 0)
            _move_least(drawn, 1, len(run) - 1)
        places.extend(drawn)
    return places


def _move_least(drawn: list[float], start: int, to: int) -> None:
    """Exchange the least number from `start` on with the one at `to`."""
    least = min(range(start, len(drawn)), key=drawn.__getitem__)
    drawn[to], drawn[least] = drawn[least], drawn[to]
