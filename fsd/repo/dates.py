"""Dates in revisions: `main@2026-11-17` is the branch as it stood when that day ended.

    main@2026-11-17                 everything of that day is in it
    main@2026-11-17T09:30           everything up to and with that minute
    main@2026-11-17T09:30:15        that second
    main@2026-11-17T09:30+01:00     of a zone; also Z, and after a bare date
    main@yesterday                  the day before this one

Without a zone it is UTC: a path means the same on every machine. A day, minute or second that is not over is refused,
since it would mean something else later on: how a branch stands now is what its name says. Clocks of publishers
that differ by minutes blur by so much what a date means.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from fsd.clock import moment_of, us_of
from fsd.errors import NotFoundError, UsageError

MARK = "@"
"""Between the branch and the date. No ref has it in its name."""

_ZONE = r"Z|[+-]\d\d:\d\d"
_DATE = re.compile(rf"(\d{{4}}-\d\d-\d\d)(?:T(\d\d:\d\d)(:\d\d)?)?({_ZONE})?", re.ASCII)
_YESTERDAY = "yesterday"

DATED = re.compile(rf"[^{MARK}+]+{MARK}[^+]*(?:\+\d\d:\d\d)?", re.ASCII)
"""What a branch with a date can be before a `+SUBSET`: the `+` of a zone belongs to the date."""

_US = timedelta(microseconds=1)


def last_moment_us(text: str, now_us: int) -> int:
    """The last microsecond of the day, minute or second that is written.

    Raises UsageError for what is no date, NotFoundError for what is not over.
    """
    begin, length = _parse(text, now_us)
    begin_us = us_of(begin)
    end_us = begin_us + length // _US
    if end_us > now_us:
        when = "is in the future" if begin_us > now_us else "is not over"
        raise NotFoundError(
            f"{text!r} {when}, so it is not known what it will mean",
            hint="how a branch stands now is what its name alone means",
        )
    return end_us - 1


def _parse(text: str, now_us: int) -> tuple[datetime, timedelta]:
    """When it begins, and how long it is."""
    day_length = timedelta(days=1)
    if text == _YESTERDAY:
        today = moment_of(now_us).replace(hour=0, minute=0, second=0, microsecond=0)
        return today - day_length, day_length
    match = _DATE.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        day, minute, second, zone = match.groups()
        begin = datetime.fromisoformat(f"{day}T{minute or '00:00'}{second or ':00'}{zone or 'Z'}")
        length = timedelta(seconds=1) if second else timedelta(minutes=1) if minute else day_length
        return begin.astimezone(UTC), length
    except (ValueError, OverflowError):
        raise UsageError(
            f"{text!r} is no date",
            hint="write 2026-11-17, 2026-11-17T09:30 or 2026-11-17T09:30:15, in UTC or with a zone as in 09:30+01:00",
        ) from None
