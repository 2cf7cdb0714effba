"""Whether a case went as it must: only errors of the one hierarchy, soon, and in little memory."""

from __future__ import annotations

import random
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from fsd.errors import FsdError

CASE_S = 20.0
"""One case, on a busy machine: the largest lists take 5 s there. Most cases take a tenth of a millisecond."""

MOST_MEMORY_BYTES = 640 * 1024 * 1024
"""By which a process may grow, all its cases together. What takes the most, four million packs in one condemned list,
is read by publishers and gc alone."""

LOOKED_AT_S = 0.005
LOOKED_AT_EVERY = 20
"""Memory is looked at after a case that took so long, and after every so many: nothing else can take much of it."""

MESSAGE_CHARACTERS = 500


class TooSlowError(BaseException):
    """A case that takes too long. Nobody may take it for an error of theirs."""


@dataclass(frozen=True)
class Finding:
    """A case that did not go as it must."""

    kind: str
    seed: str
    what: str


@dataclass
class Tally:
    """What came of cases."""

    cases: int = 0
    refused: int = 0
    """Of these, with an error of the hierarchy."""
    slowest_s: float = 0.0
    slowest: str = ""
    grown_bytes: int = 0
    """How much more memory the process had at most than before the first."""
    findings: list[Finding] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Both together."""
        self.cases += other.cases
        self.refused += other.refused
        if other.slowest_s > self.slowest_s:
            self.slowest_s, self.slowest = other.slowest_s, other.slowest
        self.grown_bytes = max(self.grown_bytes, other.grown_bytes)
        self.findings += other.findings


def forget_peak() -> None:
    """What `peak_bytes` says counts from now on."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_bytes() -> int:
    """The most memory that this process has had, in bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


def _too_slow(_number: int, _frame: FrameType | None) -> None:
    raise TooSlowError


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """TooSlowError comes out of what takes longer. In the main thread of a process."""
    before = signal.signal(signal.SIGALRM, _too_slow)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Judge:
    """Runs cases one after the other, in the main thread."""

    def __init__(self, case_s: float = CASE_S) -> None:
        self.tally = Tally()
        self._case_s = case_s
        self._forget()

    def _forget(self) -> None:
        forget_peak()
        self._before_bytes = peak_bytes()

    def run(self, kind: str, seed: str, make: Callable[[random.Random], Callable[[], object]]) -> None:
        """Make one from `seed` and run it."""
        began_s = time.perf_counter()
        case = make(random.Random(seed))
        if time.perf_counter() - began_s > LOOKED_AT_S:  # what it took to make is not what it takes to read
            self._forget()
        began_s = time.perf_counter()
        tally = self.tally
        try:
            with limited(self._case_s):
                case()
        except FsdError as error:
            tally.refused += 1
            if len(str(error)) > MESSAGE_CHARACTERS:
                self._found(kind, seed, f"a message of {len(str(error))} characters")
        except (Exception, TooSlowError) as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            self._found(kind, seed, f"{error!r:.200} at {last.filename}:{last.lineno}")
        tally.cases += 1
        took_s = time.perf_counter() - began_s
        if took_s > tally.slowest_s:
            tally.slowest_s, tally.slowest = took_s, f"{kind} {seed}"
        if took_s > LOOKED_AT_S or tally.cases % LOOKED_AT_EVERY == 0:
            self._look_at_memory(kind, seed)

    def _look_at_memory(self, kind: str, seed: str) -> None:
        grown_bytes = peak_bytes() - self._before_bytes
        self.tally.grown_bytes = max(self.tally.grown_bytes, grown_bytes)
        if grown_bytes > MOST_MEMORY_BYTES:
            self._found(kind, seed, f"the process has grown by {grown_bytes / 2**20:.0f} MiB, or did so shortly before")
            self._forget()

    def _found(self, kind: str, seed: str, what: str) -> None:
        self.tally.findings.append(Finding(kind, seed, what))
