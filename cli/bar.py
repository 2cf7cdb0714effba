"""A progress bar: one line on a terminal, for whatever takes more than a second; nothing anywhere else.

    read ━━━━━━━━━━━━━━━━━━╸━━━━━━━━━━  61%     1.6 GiB of 2.7 GiB   312.4 MiB/s  4 s left

It is redrawn when somebody reports progress and the last drawing is a tenth of a second old. Needs no event loop, so
that commands which only ask a daemon start without one; what runs in one has the bar of `progress`.
"""

from __future__ import annotations

import math
import shutil
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple, TextIO

from fsd.config import format_size
from fsd_cli.text import duration, fit, width

SHOWN_AFTER_S = 1.0
"""What is done by then needs no bar."""
REDRAW_S = 0.1
RATE_WINDOW_S = 5.0
"""The rate is that of the last seconds: a pause shows, and the time left follows a change of the network."""

ITEM_BYTES = 16 * 1024
"""Opening and closing a file takes as long as reading so much, near enough for a guess."""

_LONGEST_GUESS_S = 100 * 3600.0
"""A longer time left says that the work stands still, not when it will be done."""

_CLEAR_LINE = "\r\x1b[K"
_LEFT_CELLS = len("59 min 59 s left")
_MIN_BAR_CELLS = 10
_MAX_BAR_CELLS = 40


class Amount(NamedTuple):
    """How much work: a file costs something however small it is."""

    size_bytes: int = 0
    items: int = 0

    @property
    def weight(self) -> int:
        """In bytes that take as long."""
        return self.size_bytes + ITEM_BYTES * self.items


class Sample(NamedTuple):
    """What was done at a moment."""

    time_s: float
    done: Amount


def rate_of(samples: Sequence[Sample]) -> tuple[float, float]:
    """Bytes and weight a second over `samples`, oldest first; 0 where that cannot be said yet."""
    elapsed_s = samples[-1].time_s - samples[0].time_s if samples else 0.0
    if elapsed_s <= 0:
        return 0.0, 0.0
    first, last = samples[0].done, samples[-1].done
    return (last.size_bytes - first.size_bytes) / elapsed_s, (last.weight - first.weight) / elapsed_s


def draw(
    label: str,
    done: Amount,
    total: Amount | None,
    rate: tuple[float, float] = (0.0, 0.0),
    *,
    cells: int,
    plain: bool = False,
) -> str:
    """The line that says it all, at most `cells` wide. `total` is None while it is not known, `rate` as `rate_of` has
    it; `plain` draws with ASCII only."""
    speed = f"{format_size(round(rate[0]))}/s"
    if total is None:
        return fit(f"{label}  {done.items:,} files  {format_size(done.size_bytes)}  {speed}", cells)
    share = min(done.weight / total.weight, 1.0) if total.weight else 1.0
    remaining_s = (total.weight - done.weight) / rate[1] if rate[1] > 0 else math.inf
    left = f"{duration(remaining_s)} left" if 0 < remaining_s < _LONGEST_GUESS_S else ""
    # Numbers in columns: a bar that changes its length with every drawing is hard to look at.
    tail = f" {share:4.0%}  {format_size(done.size_bytes):>10} of {format_size(total.size_bytes)}  {speed:>12}  {left}"
    room = min(cells - width(label) - 1 - width(tail) - max(_LEFT_CELLS - len(left), 0), _MAX_BAR_CELLS)
    if room < _MIN_BAR_CELLS:
        return fit(f"{label} {tail.rstrip()}", cells)
    return f"{label} {_bar(share, room, plain=plain)}{tail}".rstrip()


def _bar(share: float, cells: int, *, plain: bool) -> str:
    full = int(share * cells)
    if plain:
        return "#" * full + "-" * (cells - full)
    half = full < cells and share * cells - full >= 0.5
    return "\x1b[32m" + "━" * full + ("╸" if half else "") + "\x1b[90m" + "━" * (cells - full - half) + "\x1b[0m"


class Bar:
    """The bar. `advance` and `expect` cost next to nothing; only one thread may call them."""

    def __init__(
        self,
        label: str,
        *,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
        cells: Callable[[], int] = lambda: shutil.get_terminal_size().columns,
    ) -> None:
        self._label = label
        self._stream = sys.stderr if stream is None else stream
        self.enabled = self._stream.isatty()
        """Whether anything is drawn at all."""
        self._plain = not (self._stream.encoding or "").lower().startswith("utf")
        self._clock = clock
        self._cells = cells
        self._started = self._drawn_at = clock()
        self._drawn = False
        self._samples: deque[Sample] = deque([Sample(self._started, Amount())])
        self.done = Amount()
        self.total: Amount | None = None

    def expect(self, size_bytes: int, *, items: int = 0) -> None:
        """So much is there to do, in all."""
        self.total = Amount(size_bytes, items)
        self.redraw_if_due()

    def advance(self, size_bytes: int, *, items: int = 0) -> None:
        """So much more is done."""
        self.done = Amount(self.done.size_bytes + size_bytes, self.done.items + items)
        self.redraw_if_due()

    def relabel(self, label: str) -> None:
        """Another phase of the same work."""
        self._label = label
        self.redraw_if_due()

    def clear(self) -> None:
        """Take the bar off the screen; the next redraw brings it back."""
        if self._drawn:
            self._stream.write(_CLEAR_LINE)
            self._stream.flush()
            self._drawn = False

    def redraw_if_due(self) -> None:
        """Draw it, unless it was just drawn or the work is still young."""
        if not self.enabled:
            return
        now = self._clock()
        if now - self._started < SHOWN_AFTER_S or now - self._drawn_at < REDRAW_S:
            return
        self._drawn_at, self._drawn = now, True
        self._samples.append(Sample(now, self.done))
        while now - self._samples[1].time_s >= RATE_WINDOW_S:
            self._samples.popleft()
        cells = self._cells() - 1  # a full last cell makes some terminals wrap
        line = draw(self._label, self.done, self.total, rate_of(self._samples), cells=cells, plain=self._plain)
        self._stream.write(_CLEAR_LINE + line)
        self._stream.flush()
