"""The network between client and server: a round trip for each request, a bandwidth that all connections share.

Bandwidth is a clock for each direction that runs ahead with every slice of a body: a slice goes out when the link has
had time for it and for all that was sent before. The clock counts from when a slice *could* have gone, not from when
this process got round to it: a network goes on while a busy machine lets the server wait, so what is late is caught up
with. Nothing is saved up while nobody has anything to send.
"""

from __future__ import annotations

import trio

LATE_S = 0.1
"""How much lateness is caught up with: what is longer is a machine that stood still, and no client's doing."""

SLICE_S = 0.002
MIN_SLICE_BYTES = 1024
MAX_SLICE_BYTES = 256 * 1024
OPEN_SLICE_BYTES = 1024 * 1024
"""A body goes out in slices, so that connections take turns; in large ones where there is no limit."""


class _Direction:
    """`free_s` is when all that was sent so far is through."""

    def __init__(self) -> None:
        self.free_s = 0.0


class Flow:
    """One body on its way in one direction."""

    def __init__(self, link: Link, direction: _Direction, ready_s: float) -> None:
        self._link = link
        self._direction = direction
        self._ready_s = ready_s
        """When its next slice could go: the one before is through, and whoever makes or takes it was not in the way."""

    async def wait_turn(self, count: int) -> None:
        """Wait until the link has carried `count` more bytes."""
        bytes_per_s = self._link.bytes_per_s
        if bytes_per_s is None:
            await trio.lowlevel.checkpoint()
            return
        direction, now_s = self._direction, trio.current_time()
        direction.free_s = max(direction.free_s, self._ready_s, now_s - LATE_S) + count / bytes_per_s
        self._ready_s = direction.free_s
        if direction.free_s > now_s:
            await trio.sleep_until(direction.free_s)
        else:
            await trio.lowlevel.checkpoint()

    def was_held_up(self) -> None:
        """The peer kept us waiting until now: that time is lost for this body."""
        self._ready_s = max(self._ready_s, trio.current_time())


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

    async def round_trip(self, *, new_connection: bool) -> float:
        """Wait as long as a request waits for its answer, and as long again for the connection it needed. Returns when
        the answer can begin to flow."""
        ready_s = trio.current_time()
        if self.rtt_s:
            ready_s += self.rtt_s * (2 if new_connection else 1)
            await trio.sleep_until(ready_s)
        return ready_s

    def down(self, ready_s: float | None = None) -> Flow:
        """The body of an answer that can begin at `ready_s`, by default now."""
        return Flow(self, self._down, trio.current_time() if ready_s is None else ready_s)

    def up(self) -> Flow:
        """The body of a request that begins now."""
        return Flow(self, self._up, trio.current_time())
