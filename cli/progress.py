"""A progress bar: one line on a terminal, for whatever takes more than a second; nothing anywhere else.

    publish ━━━━━━━━━━━━━━━━━━╸━━━━━━━━━━  61%  1.6 GB of 2.7 GB  312.4 MB/s  4 s left

The bar is redrawn when somebody reports progress and the last drawing is a tenth of a second old; `ticking` redraws it
besides, so that a stalled store shows as a falling rate and not as a frozen screen.
"""

from __future__ import annotations

import math
import shutil
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TextIO

import trio

from fsd.config import format_size
from fsd_cli.text import duration, fit, width

SHOWN_AFTER_S = 1.0
"""What is done by then needs no bar."""
REDRAW_S = 0.1
RATE_WINDOW_S = 5.0
"""The rate is that of the last seconds: a pause shows, and the time left follows a change of the network."""

_LONGEST_GUESS_S = 100 * 3600.0
"""A longer time left says that the work stands still, not when it will be done."""

_CLEAR_LINE = "\r\x1b[K"
_MIN_BAR_CELLS = 10
_MAX_BAR_CELLS = 40


def rate_of(samples: deque[tuple[float, int]]) -> float:
    """Units a second over `samples` of (second, done), oldest first; 0 where that cannot be said yet."""
    if len(samples) < 2 or samples[-1][0] <= samples[0][0]:
        return 0.0
    return (samples[-1][1] - samples[0][1]) / (samples[-1][0] - samples[0][0])


def draw(label: str, done: int, total: int | None, rate: float, *, cells: int, plain: bool = False) -> str:
    """The line that says it all, at most `cells` wide: bytes done, of how many (None: not known yet), a second, left.

    `plain` draws with ASCII only.
    """
    numbers = f"{format_size(done)} of {format_size(total)}" if total is not None else format_size(done)
    numbers += f"  {format_size(round(rate))}/s"
    if total is None:
        return fit(f"{label}  {numbers}", cells)
    share = min(done / total, 1.0) if total else 1.0
    remaining = (total - done) / rate if rate > 0 else math.inf
    left = f"  {duration(remaining)} left" if 0 < remaining < _LONGEST_GUESS_S else ""
    tail = f" {share:4.0%}  {numbers}{left}"
    room = min(cells - width(label) - 1 - width(tail), _MAX_BAR_CELLS)
    if room < _MIN_BAR_CELLS:
        return fit(f"{label} {tail}", cells)
    return f"{label} {_bar(share, room, plain=plain)}{tail}"


def _bar(share: float, cells: int, *, plain: bool) -> str:
    full = int(share * cells)
    if plain:
        return "#" * full + "-" * (cells - full)
    half = full < cells and share * cells - full >= 0.5
    return "\x1b[32m" + "━" * full + ("╸" if half else "") + "\x1b[90m" + "━" * (cells - full - half) + "\x1b[0m"


class ProgressBar:
    """The bar. `advance` and `expect` cost next to nothing; only trio's thread may call them."""

    def __init__(
        self,
        label: str,
        *,
        stream: TextIO | None = None,
        clock: Callable[[], float] = trio.current_time,
        cells: Callable[[], int] = lambda: shutil.get_terminal_size().columns,
    ) -> None:
        self._label = label
        self._stream = sys.stderr if stream is None else stream
        self._enabled = self._stream.isatty()
        self._plain = not (self._stream.encoding or "").lower().startswith("utf")
        self._clock = clock
        self._cells = cells
        self._started = self._drawn_at = clock()
        self._drawn = False
        self._samples: deque[tuple[float, int]] = deque([(self._started, 0)])
        self.done = 0
        self.total: int | None = None

    def expect(self, total: int) -> None:
        """There are `total` bytes to do."""
        self.total = total
        self._redraw_if_due()

    def advance(self, done: int) -> None:
        """`done` bytes more are done."""
        self.done += done
        self._redraw_if_due()

    def relabel(self, label: str) -> None:
        """Another phase of the same work."""
        self._label = label
        self._redraw_if_due()

    def clear(self) -> None:
        """Take the bar off the screen; the next redraw brings it back."""
        if self._drawn:
            self._stream.write(_CLEAR_LINE)
            self._stream.flush()
            self._drawn = False

    @asynccontextmanager
    async def ticking(self) -> AsyncIterator[ProgressBar]:
        """Redraw now and then while the context lasts; the screen is clean when it ends."""
        async with trio.open_nursery() as nursery:
            if self._enabled:
                nursery.start_soon(self._tick)
            try:
                yield self
            finally:
                self.clear()
                nursery.cancel_scope.cancel()

    async def _tick(self) -> None:
        while True:
            await trio.sleep(2 * REDRAW_S)
            self._redraw_if_due()

    def _redraw_if_due(self) -> None:
        if not self._enabled:
            return
        now = self._clock()
        if now - self._started < SHOWN_AFTER_S or now - self._drawn_at < REDRAW_S:
            return
        self._drawn_at, self._drawn = now, True
        self._samples.append((now, self.done))
        while now - self._samples[1][0] >= RATE_WINDOW_S:
            self._samples.popleft()
        cells = self._cells() - 1  # a full last cell makes some terminals wrap
        line = draw(self._label, self.done, self.total, rate_of(self._samples), cells=cells, plain=self._plain)
        self._stream.write(_CLEAR_LINE + line)
        self._stream.flush()
