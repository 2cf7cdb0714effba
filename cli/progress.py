"""The progress bar of commands that run in trio.

`ticking` redraws it besides, so that a stalled store shows as a falling rate and not as a frozen screen.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Self, TextIO

import trio

from fsd_cli.bar import REDRAW_S, Bar


class ProgressBar(Bar):
    """The bar, by trio's clock. Only trio's thread may call it."""

    def __init__(
        self,
        label: str,
        *,
        stream: TextIO | None = None,
        cells: Callable[[], int] = lambda: shutil.get_terminal_size().columns,
    ) -> None:
        super().__init__(label, stream=stream, clock=trio.current_time, cells=cells)

    @asynccontextmanager
    async def ticking(self) -> AsyncIterator[Self]:
        """Redraw now and then while the context lasts; the screen is clean when it ends."""
        async with trio.open_nursery() as nursery:
            if self.enabled:
                nursery.start_soon(self._tick)
            try:
                yield self
            finally:
                self.clear()
                nursery.cancel_scope.cancel()

    async def _tick(self) -> None:
        while True:
            await trio.sleep(2 * REDRAW_S)
            self.redraw_if_due()
