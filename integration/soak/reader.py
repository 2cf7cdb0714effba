"""Reads versions through a mount until its standard input ends, and compares every byte with what it has to be.

    python -m integration.soak.reader MOUNTPOINT LEDGER RECORDS SEED SMALL LARGE

LEDGER has a line for each version that was published: repository, number, when (monotonic seconds). RECORDS gets a line
of JSON for each thing that went wrong (`Event`), and every second what was done since (`Tally`).
"""

from __future__ import annotations

import errno
import json
import mmap
import os
import random
import select
import signal
import stat
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from integration.reader import read_range
from integration.soak.truth import VERSION_FILE, File, Shape, files_of, version_name, version_number

PAUSE_S = 0.02
"""At most, between two steps: others use the machine, too."""
AFTER_ERROR_S = 0.2
TALLY_S = 1.0
KNOWN_AFTER_S = 10.0
"""What was published has to be listed by then. (5 s are promised; and the machine is busy.)"""

NEWEST = 12
"""Versions of a repository that are read: with each more that there are to choose from, more packs and names would be
in use at once, and all would grow without a leak."""

CHOOSING = "choosing"
"""What a version is, or that there is one: no step yet."""

STEP_BYTES = 1 << 17
MAX_RANGE_BYTES = 300_000
RANGES = 12
PAGE_BYTES = mmap.PAGESIZE
WRONG, RIGHT = 3, 0
"""Exit codes of who reads a mapping."""


@dataclass(frozen=True)
class Event:
    """Something that is not as it should be, for others to judge."""

    kind: str
    """`error`, `wrong` or `missing`."""
    what: str
    began_s: float
    ended_s: float
    number: int = 0
    """errno, of an error."""
    step: str = ""


class WrongError(Exception):
    """A byte, a name or a size that is not what it has to be."""


class Reader:
    """See the module."""

    def __init__(self, mountpoint: Path, ledger: Path, records: Path, seed: int, shape: Shape) -> None:
        self._mountpoint = mountpoint
        self._ledger = ledger
        self._records = records.open("a", buffering=1)
        self._dice = random.Random(seed)
        self._shape = shape
        self._tally: dict[str, int] = {}
        self._told_s = 0.0
        self._steps: list[Callable[[Path, dict[str, File]], None]] = [
            self._sequential,
            self._sequential,
            self._small,
            self._small,
            self._small,
            self._random,
            self._random,
            self._mapped,
            self._listed,
        ]

    def run(self) -> None:
        """Until standard input ends."""
        pause_s = 0.0
        while not select.select([sys.stdin], [], [], pause_s)[0]:
            pause_s = PAUSE_S * self._dice.random() if self._step() else AFTER_ERROR_S
            if time.monotonic() - self._told_s > TALLY_S:
                self._tell_tally()
        self._tell_tally()

    def _step(self) -> bool:
        """Do one thing. False if that failed."""
        step = self._dice.choice(self._steps)
        name = CHOOSING
        began_s = time.monotonic()
        try:
            chosen = self._choose()
            if chosen is not None:
                name = step.__name__.removeprefix("_")
                step(*chosen)
                self._count(name, 1)
            return True
        except OSError as error:
            number = error.errno or 0
            self._tell(Event("error", str(error), began_s, time.monotonic(), number, name))
        except WrongError as error:
            self._tell(Event("wrong", str(error), began_s, time.monotonic(), 0, name))
        return False

    def _choose(self) -> tuple[Path, dict[str, File]] | None:
        """A version that is listed, or where a branch leads. None before there is one."""
        before_s = time.monotonic()
        published: dict[str, set[int]] = {}
        for line in self._ledger.read_text().splitlines():
            repository, number, when_s = line.split()
            if float(when_s) < before_s - KNOWN_AFTER_S:
                published.setdefault(repository, set()).add(int(number))
        if not published:
            return None
        repository = self._dice.choice(sorted(published))
        place = self._mountpoint / repository
        names = os.listdir(place)
        numbers = {number for name in names if (number := version_number(name)) is not None}
        if published[repository] - numbers:
            left = sorted(published[repository] - numbers)
            self._tell(Event("missing", f"{place}: {left} of {len(names)}", before_s, time.monotonic()))
        if not numbers:
            return None
        # The newest more often than others.
        newest = sorted(numbers)[-NEWEST:]
        number = newest[-1] if self._dice.random() < 0.4 else self._dice.choice(newest)
        version = place / version_name(number)
        if self._dice.random() < 0.15:
            version = Path(os.path.realpath(place / "main", strict=True))
            name = (version / VERSION_FILE).read_text()
            number = version_number(name) or 0
            _expect(number > 0, f"{version} calls itself {name!r}")
        os.stat(version)
        return version, dict(files_of(repository, number, self._shape))

    # --- ways to read

    def _sequential(self, version: Path, files: dict[str, File]) -> None:
        """A large file from its beginning, often to its end."""
        path = self._dice.choice([path for path in files if path.startswith("large/")])
        self._read_through(version, path, files[path], share=self._dice.choice([0.3, 1.0]))

    def _small(self, version: Path, files: dict[str, File]) -> None:
        """The files of a directory, in order."""
        directory = os.path.dirname(self._dice.choice([*files]))
        for path in [path for path in files if path.startswith(directory + "/")][: 10 if directory != "large" else 1]:
            self._read_through(version, path, files[path])

    def _read_through(self, version: Path, path: str, file: File, share: float = 1.0) -> None:
        with open(version / path, "rb", buffering=0) as opened:
            if self._dice.random() < 0.7:
                os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            at = 0
            while data := opened.read(STEP_BYTES):
                _compare(version / path, at, data, file.read(at, len(data)))
                at += len(data)
                self._count("bytes", len(data))
                if share < 1.0 and at >= share * file.size:
                    return
        _expect(at == file.size, f"{version / path} ends after {at} of {file.size} bytes")

    def _random(self, version: Path, files: dict[str, File]) -> None:
        """Ranges anywhere."""
        for _ in range(RANGES):
            path = self._dice.choice([*files])
            file = files[path]
            start, size = self._dice.randrange(file.size + 1), self._dice.randrange(1, MAX_RANGE_BYTES)
            data = read_range(version / path, start, size)
            _compare(version / path, start, data, file.read(start, size))
            self._count("bytes", len(data))

    def _mapped(self, version: Path, files: dict[str, File]) -> None:
        """Pages of a mapping. In a process of its own: where they cannot be read it is killed (SIGBUS)."""
        path = self._dice.choice([*files])
        file = files[path]
        starts = [self._dice.randrange(file.size) // PAGE_BYTES * PAGE_BYTES for _ in range(RANGES)]
        child = os.fork()
        if not child:
            code = WRONG + 1
            try:
                code = _read_mapping(version / path, file, starts)
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGBUS:
            raise OSError(errno.EIO, f"SIGBUS at {version / path}")
        code = os.waitstatus_to_exitcode(status)
        if code > WRONG:
            raise OSError(code - WRONG, f"{os.strerror(code - WRONG)}: mapping {version / path}")
        _expect(code == RIGHT, f"{version / path}, mapped, has wrong bytes or ended with {code}: {starts}")
        self._count("bytes", len(starts) * PAGE_BYTES)

    def _listed(self, version: Path, files: dict[str, File]) -> None:
        """All names of a version, and their sizes."""
        found = {}
        for folder, directories, names in os.walk(version, onerror=_raise):
            for name in names:
                path = os.path.join(folder, name)
                about = os.lstat(path)
                _expect(stat.S_ISREG(about.st_mode), f"{path} is no file")
                found[os.path.relpath(path, version)] = about.st_size
            directories.sort()
        found.pop(VERSION_FILE, None)
        wanted = {path: file.size for path, file in files.items()}
        different = sorted(found.items() ^ wanted.items())
        _expect(not different, f"{version} lists, or lacks, {different[:4]}")

    # --- telling

    def _count(self, what: str, number: int) -> None:
        self._tally[what] = self._tally.get(what, 0) + number

    def _tell(self, event: Event) -> None:
        self._records.write(json.dumps(asdict(event)) + "\n")

    def _tell_tally(self) -> None:
        self._told_s = time.monotonic()
        self._records.write(json.dumps({"kind": "tally", **self._tally}) + "\n")
        self._tally.clear()


def _read_mapping(path: Path, file: File, starts: list[int]) -> int:
    try:
        with open(path, "rb") as opened, mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ) as mapping:
            right = all(mapping[at : at + PAGE_BYTES] == file.read(at, PAGE_BYTES) for at in starts)
            return RIGHT if right and len(mapping) == file.size else WRONG
    except OSError as error:
        return WRONG + (error.errno or errno.EIO)


def _raise(error: OSError) -> None:
    raise error


def _compare(path: Path, start: int, found: bytes, wanted: bytes) -> None:
    if found != wanted:
        at = next((at for at, pair in enumerate(zip(found, wanted, strict=False)) if pair[0] != pair[1]), len(found))
        raise WrongError(
            f"{path} has {found[at : at + 8].hex()} at {start + at} where {wanted[at : at + 8].hex()} belongs"
        )


def _expect(is_so: bool, what: str) -> None:
    if not is_so:
        raise WrongError(what)


if __name__ == "__main__":
    where = [Path(each) for each in sys.argv[1:4]]
    seed, small, large = map(int, sys.argv[4:])
    Reader(where[0], where[1], where[2], seed, Shape(small, large)).run()
