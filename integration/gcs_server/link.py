"""The network between client and server: a round trip for each request, a bandwidth that all connections share.

Bandwidth is a token bucket for each direction: what is sent waits until the link has had time for it and for all that
was sent before. A burst of `BURST_S` goes through at once, because no timer is more exact than that.
"""

from __future__ import annotations

import trio

BURST_S = 0.005
SLICE_S = 0.002
MIN_SLICE_BYTES = 1024
MAX_SLICE_BYTES = 256 * 1024
OPEN_SLICE_BYTES = 1024 * 1024
"""A body goes out in slices, so that connections take turns; in large ones where there is no limit."""


class _Direction:
    def __init__(self) -> None:
        self._free_s = 0.0

    async def wait_turn(self, count: int, bytes_per_s: float) -> None:
        now_s = trio.current_time()
        self._free_s = max(self._free_s, now_s - BURST_S) + count / bytes_per_s
        if self._free_s > now_s:
            await trio.sleep_until(self._free_s)


class Link:
    """Its figures may be changed at any time."""

    def __init__(self, *, rtt_s: float = 0.0, bytes_per_s: float | None = None) -> None:
        self.rtt_s = rtt_s
        self.bytes_per_s = bytes_per_s
        self._up = _Direction()
        self._down = _Direction()

    def restart(self) -> None:
        """Another event loop counts time from elsewhere."""
        self._up = _Direction()
        self._down = _Direction()

    @property
    def slice_bytes(self) -> int:
        """What goes out at once."""
        if self.bytes_per_s is None:
            return OPEN_SLICE_BYTES
        return min(max(int(self.bytes_per_s * SLICE_S), MIN_SLICE_BYTES), MAX_SLICE_BYTES)

    async def round_trip(self, *, new_connection: bool) -> None:
        """What a request waits for its answer; as long again for the connection it needed."""
        if self.rtt_s:
            await trio.sleep(self.rtt_s * (2 if new_connection else 1))

    async def send(self, count: int) -> None:
        """Wait until `count` bytes have gone out."""
        if self.bytes_per_s is not None:
            await self._down.wait_turn(count, self.bytes_per_s)

    async def receive(self, count: int) -> None:
        """Wait until `count` bytes have come in."""
        if self.bytes_per_s is not None:
            await self._up.wait_turn(count, self.bytes_per_s)
