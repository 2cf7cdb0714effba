"""Who may send the next request: a bounded number at once, readers before read-ahead. Pure bookkeeping, no I/O.

Rules:

- At most `requests` are in flight, of these at most `ahead_requests` for read-ahead: the rest is kept for readers.
- At most `bytes` are in flight, of which read-ahead may have three quarters. A request larger than the bound goes
  alone.
- A request that has been in flight for long no longer counts against `requests` (see `lend`), up to as many again: some
  stalled packs do not keep readers of others waiting. The bytes keep counting.
- First come, first served, within readers and within read-ahead.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

Key = TypeVar("Key")

AHEAD_SHARE = 0.75
"""Of the bytes in flight, for read-ahead."""


class Slots(Generic[Key]):
    """See the module's docstring. A key stands for one request and is in here at most once."""

    def __init__(self, *, requests: int, ahead_requests: int, size_bytes: int) -> None:
        self._requests = requests
        self._ahead_requests = ahead_requests
        self._bytes = size_bytes
        self._waiting: OrderedDict[Key, int] = OrderedDict()
        self._waiting_ahead: OrderedDict[Key, int] = OrderedDict()
        self._running: dict[Key, tuple[int, bool]] = {}
        self._lent: set[Key] = set()
        self._running_ahead = 0
        self.running_bytes = 0
        self._ahead_bytes = 0

    def __len__(self) -> int:
        """Requests in flight."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Requests that wait for a slot."""
        return len(self._waiting) + len(self._waiting_ahead)

    def add(self, key: Key, size: int, *, ahead: bool) -> None:
        """Queue a request of `size` bytes."""
        (self._waiting_ahead if ahead else self._waiting)[key] = size

    def promote(self, key: Key) -> None:
        """A reader waits for what was queued as read-ahead. No effect once it runs."""
        size = self._waiting_ahead.pop(key, None)
        if size is not None:
            self._waiting[key] = size

    def discard(self, key: Key) -> bool:
        """Take a request out of the queue. False if it is not waiting."""
        return self._waiting.pop(key, None) is not None or self._waiting_ahead.pop(key, None) is not None

    def start_next(self) -> Key | None:
        """The next request that may be sent now; it counts as running from here on."""
        running = len(self._running) - len(self._lent)
        if running >= self._requests:
            return None
        if self._waiting:
            key, size = next(iter(self._waiting.items()))
            if self._running and self.running_bytes + size > self._bytes:
                return None
            del self._waiting[key]
            self._start(key, size, ahead=False)
            return key
        if self._waiting_ahead and self._running_ahead < self._ahead_requests:
            key, size = next(iter(self._waiting_ahead.items()))
            if self._running and (
                self._ahead_bytes + size > AHEAD_SHARE * self._bytes or self.running_bytes + size > self._bytes
            ):
                return None
            del self._waiting_ahead[key]
            self._start(key, size, ahead=True)
            return key
        return None

    def _start(self, key: Key, size: int, *, ahead: bool) -> None:
        self._running[key] = size, ahead
        self.running_bytes += size
        if ahead:
            self._running_ahead += 1
            self._ahead_bytes += size

    def lend(self, key: Key) -> bool:
        """The request has been running for long: let another one run beside it. False if too many do already."""
        if key not in self._running or len(self._lent) >= self._requests:
            return False
        self._lent.add(key)
        return True

    def running(self) -> list[Key]:
        """Requests in flight that count as such."""
        return [key for key in self._running if key not in self._lent]

    def finish(self, key: Key) -> None:
        """A running request has ended."""
        size, ahead = self._running.pop(key)
        self._lent.discard(key)
        self.running_bytes -= size
        if ahead:
            self._running_ahead -= 1
            self._ahead_bytes -= size
