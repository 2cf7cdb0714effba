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


class StoreWork:
    """The progress of what goes over a whole store, as a bar: its phases, objects and bytes."""

    def __init__(self, bar: ProgressBar) -> None:
        self._bar = bar

    def phase(self, name: str) -> None:
        """What is going on from now on."""
        self._bar.relabel(name)

    def expect(self, size_bytes: int) -> None:
        """So much is there to read, besides what was read already."""
        self._bar.expect(self._bar.done.size_bytes + size_bytes)

    def advance(self, objects: int, size_bytes: int = 0) -> None:
        """More is done."""
        self._bar.advance(size_bytes, items=objects)
