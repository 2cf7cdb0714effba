"""Wall-clock time, in whole microseconds since 1970 UTC: the only unit of time that fsd writes down."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

Clock = Callable[[], int]
"""Returns the present in microseconds since 1970 UTC. Time is a hint: nothing relies on clocks that agree."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def now_us() -> int:
    """The system's clock, in microseconds since 1970 UTC."""
    return time.time_ns() // 1000


def us_of(moment: datetime) -> int:
    """A moment, whose time zone is known, in microseconds since 1970 UTC."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def moment_of(time_us: int) -> datetime:
    """The moment of `time_us`, in UTC. Raises OverflowError for one that is not in the years 1 to 9999."""
    return _EPOCH + timedelta(microseconds=time_us)


def format_time(time_us: int) -> str:
    """`time_us` as local time, to the second, with its offset: '2026-11-17 09:30:00+0100'."""
    return datetime.fromtimestamp(time_us / 1e6, tz=UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S%z")


def boot_time_s() -> float:
    """Seconds since the machine was started, those that it slept through included. For durations."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
