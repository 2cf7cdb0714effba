"""What was asked and what was answered."""

from __future__ import annotations

import threading
from collections import Counter
from typing import NamedTuple


class Record(NamedTuple):
    """One request and its answer; `status` 0 where there was none."""

    operation: str
    name: str
    range: str
    status: int
    bytes_out: int
    began_s: float = 0.0
    """When it had arrived, and when it was answered; by a clock that only differences can be taken of."""
    ended_s: float = 0.0


class Counters:
    """Written by the server's thread alone; others may read at any time."""

    def __init__(self, *, keep: int = 100_000) -> None:
        self._keep = keep
        self._changed = threading.Condition()
        self.in_flight = 0
        self.reset()

    def reset(self) -> None:
        """Start again."""
        self.requests: Counter[str] = Counter()
        """By operation."""
        self.statuses: Counter[int] = Counter()
        self.bytes_out: Counter[str] = Counter()
        """Body bytes of answers, by operation."""
        self.bytes_in = 0
        """Body bytes of requests."""
        self.connections = 0
        self.most_in_flight = 0
        self.records: list[Record] = []
        """The first of them, up to a limit."""

    def begin(self) -> None:
        """A request has arrived."""
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)

    def end(self, record: Record) -> None:
        """It was answered, or never will be."""
        self.requests[record.operation] += 1
        self.statuses[record.status] += 1
        self.bytes_out[record.operation] += record.bytes_out
        if len(self.records) < self._keep:
            self.records.append(record)
        with self._changed:
            self.in_flight -= 1
            self._changed.notify_all()

    def wait_idle(self, timeout_s: float = 10.0) -> None:
        """Wait until nothing is in flight: a client has its answer before it is counted. For another thread."""
        with self._changed:
            assert self._changed.wait_for(lambda: not self.in_flight, timeout_s), "requests are still in flight"

    def as_json(self) -> dict[str, object]:
        """All figures."""
        return {
            "requests": dict(self.requests),
            "statuses": {str(status): count for status, count in self.statuses.items()},
            "bytes_out": dict(self.bytes_out),
            "bytes_in": self.bytes_in,
            "connections": self.connections,
            "in_flight": self.in_flight,
            "most_in_flight": self.most_in_flight,
        }
