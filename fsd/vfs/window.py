"""Read-ahead policy: which reads of a file follow each other, and how far ahead of them to fetch.

A *run* is a stretch of a file that somebody reads in order. The kernel's own read-ahead makes requests arrive slightly
out of order, and several readers of one file cannot be told apart (there are no open files here, only inodes), so a
file has a few runs and a read belongs to the one whose end it is near.

- A lone read fetches nothing ahead. The second in a row does, and so does a first one at the start of the file, unless
  it is as short as a random access.
- The window doubles while the reader comes close to its end, from `window_min_bytes` to `window_max_bytes`; of one who
  began in the middle of the file, no further than to a share of what they have read. It is
  filled in steps of one request (`range_bytes`), since looking up many chunks at once takes long.
- While nothing was missing, nothing is fetched ahead: reading a file that is cached costs no look at what comes next.
- A reader that jumps away gives its window up. Only a file on which runs have been seen to alternate is taken to have
  several readers; then a run gives up once it has been passed over for a while.

Pure decisions: this knows no chunks, cache or tasks. Offsets and sizes in bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from fsd.limits import Limits

MAX_RUNS = 8
"""Runs of one file told apart: the readers of a data loader, or the threads that fault in a model."""

_BACKWARD_REQUESTS = 4
_FORWARD_REQUESTS = 2
"""By how many of its own sizes a request may come late or early and still belong to its run."""

_SHARE_OF_MIDDLE = 12
"""Who began to read in the middle of a file mostly wants a part of it, such as a tensor of a model: what is fetched
ahead of them is one part in so many of what they have read, and so is what was for nothing when they end."""

_MIN_EAGER_BYTES = 16 * 1024
"""The kernel reads at least this much when a file is read from its start, and one page (4 KiB) for a random access."""


class Span(NamedTuple):
    """The bytes from `start` to before `end`."""

    start: int
    end: int


class Run:
    """Somebody's place in a file, and what was started on his behalf."""

    __slots__ = ("ahead", "end", "last_read", "lookout", "reads", "start", "started", "window")

    def __init__(self, start: int, end: int, number: int) -> None:
        self.start = start
        self.end = end
        """Where the reads so far end."""
        self.reads = 1
        """That made it longer."""
        self.last_read = number
        """The number, among the file's reads, of its last one."""
        self.window = 0
        self.ahead = end
        """Up to where fetching was started."""
        self.started: list[tuple[int, Callable[[], None]]] = []
        """Read-ahead under way: where it ends and how to cancel it."""
        self.lookout: object = None
        """Kept for the caller: whatever makes the next reads of this run cheap."""

    def collapse(self) -> None:
        """Forget the window and cancel what nobody waits for."""
        for _, cancel in self.started:
            cancel()
        self.started.clear()
        self.window = 0
        self.ahead = self.end


class Runs:
    """The runs of one file."""

    __slots__ = ("_alternating", "_limits", "_reads", "_runs")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._runs: list[Run] = []
        """The one used last comes first."""
        self._reads = 0
        self._alternating = False

    def match(self, start: int, end: int) -> Run | None:
        """The run to which a read of the bytes from `start` to before `end` belongs; None if it begins one."""
        size = end - start
        for run in self._runs:
            if run.end - _BACKWARD_REQUESTS * size <= start <= run.end + _FORWARD_REQUESTS * size:
                return run
        return None

    def note(self, start: int, end: int) -> Run:
        """Account for that read; returns its run."""
        self._reads += 1
        runs = self._runs
        run = self.match(start, end)
        if run is None:
            run = Run(start, end, self._reads)
            runs.insert(0, run)
            if len(runs) > MAX_RUNS:
                runs.pop().collapse()
        else:
            # Reading the same bytes again is not reading on.
            run.reads += start < run.start or end > run.end
            run.last_read = self._reads
            run.start = min(run.start, start)
            run.end = max(run.end, end)
            if run is not runs[0]:
                self._alternating = True
                runs.remove(run)
                runs.insert(0, run)
        if len(runs) > 1:
            self._give_up()
        return run

    def _give_up(self) -> None:
        # One reader has left every run but the first. Several come round to each of theirs soon.
        patience = 2 * len(self._runs) if self._alternating else 0
        for run in self._runs[1:]:
            if run.window and self._reads - run.last_read > patience:
                run.collapse()

    def read_ahead(self, run: Run, size: int, *, missed: bool) -> Span | None:
        """What to start fetching for `run` now, in a file of `size` bytes; None for nothing.

        `missed` says that the last read has to wait. The caller fetches the span and adds how to cancel that to
        `run.started`.
        """
        if not (missed or run.window):
            return None
        if run.reads == 1 and (run.start > 0 or run.end - run.start < _MIN_EAGER_BYTES):
            return None
        while run.started and run.started[0][0] <= run.end:
            del run.started[0]
        limits = self._limits
        ahead = max(run.ahead, run.end)
        most = limits.window_max_bytes
        if run.start > 0:
            most = min(most, max(limits.window_min_bytes // 2, (run.end - run.start) // _SHARE_OF_MIDDLE))
        if not run.window:
            run.window = min(limits.window_min_bytes, most)
        elif ahead - run.end <= run.window // 2:
            run.window = min(2 * run.window, most)
        goal = min(run.end + run.window, size)
        step = min(limits.range_bytes, run.window // 2)
        if goal <= ahead or (goal - ahead < step and goal < size):
            return None
        run.ahead = min(goal, ahead + limits.range_bytes)
        return Span(ahead, run.ahead)

    def collapse(self) -> None:
        """Cancel everything: the file is no longer watched."""
        for run in self._runs:
            run.collapse()
