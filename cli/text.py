"""How names, counts, times and tables look on a terminal. Pure functions: nothing is printed here.

A name may hold any byte but `/` and NUL. Shown as it is it could move the cursor, end a line early or claim to be
another name, so whatever is not plainly printable is shown quoted and escaped, and so reversibly, as Git does it.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from fsd.clock import moment_of, us_of

ELLIPSIS = "…"

_FIRST_US = us_of(datetime(2, 1, 1, tzinfo=UTC))
_LAST_US = us_of(datetime(9998, 1, 1, tzinfo=UTC))

_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\\": "\\\\", '"': '\\"'}


class Column(NamedTuple):
    """A column of a table."""

    title: str
    right: bool = False
    """Numbers stand at the right."""


_DURATION = re.compile(r"(0)|([0-9]+(?:\.[0-9]+)?)([dhms])")
_UNIT_S = {"d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0}


# --- names


def text_of(name: bytes) -> str:
    """`name` as text; bytes that are not UTF-8 become lone surrogates (surrogateescape), as in `--json`."""
    return name.decode("utf-8", "surrogateescape")


def bytes_of(text: str) -> bytes:
    """An argument of the command line as the bytes that were typed."""
    return os.fsencode(text)


def shown(name: str | bytes) -> str:
    """`name` for people: as it is when every character of it is printable, quoted and escaped otherwise."""
    text = text_of(name) if isinstance(name, bytes) else name
    if text.isprintable() and not text.startswith('"'):
        return text
    return '"' + "".join(_ESCAPES.get(character) or _escaped(character) for character in text) + '"'


def one_line(message: str) -> str:
    """A message with its control characters escaped, so that it stays the one line it is meant to be."""
    return "".join(
        character if character.isprintable() else _ESCAPES.get(character) or _escaped(character)
        for character in message
    )


def _escaped(character: str) -> str:
    if character.isprintable():
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that surrogateescape carried through
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


# --- widths


def width(text: str) -> int:
    """Terminal cells that `text` takes: two for a wide character, none for a combining mark."""
    if text.isascii():
        return len(text)
    return sum(_cells(character) for character in text)


def fit(text: str, cells: int) -> str:
    """`text`, cut to `cells` terminal cells, with an ellipsis where something is missing."""
    if width(text) <= cells:
        return text
    kept, used = [], 1
    for character in text:
        used += _cells(character)
        if used > cells:
            break
        kept.append(character)
    return "".join(kept) + ELLIPSIS if cells > 0 else ""


def pad(text: str, cells: int, *, right: bool = False) -> str:
    """`text` with blanks to `cells` terminal cells; at its left if `right`."""
    blanks = " " * (cells - width(text))
    return blanks + text if right else text + blanks


def _cells(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


# --- numbers


def count(number: int, singular: str, plural: str = "") -> str:
    """'1 file', '1,797 files'."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def duration(seconds: float) -> str:
    """'0.3 s', '42 s', '3 min 05 s', '2 h 14 min'."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def parse_duration(text: str) -> float:
    """Seconds, from a number with d, h, m or s behind it ('90d', '12h'); 0 needs no unit. Raises ValueError."""
    matched = _DURATION.fullmatch(text.strip())
    if matched is None:
        raise ValueError(f"{text!r} is no length of time; write it as 90d, 12h, 30m or 20s")
    zero, number, unit = matched.groups()
    return 0.0 if zero else float(number) * _UNIT_S[unit]


def local_time(time_us: int) -> str:
    """Local time to the second, without its offset: '2026-11-17 09:30:00'."""
    return _moment(time_us).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def date_in_revision(time_us: int) -> str:
    """UTC to the second, as revisions have it: '2026-11-17T08:30:00', for `main@2026-11-17T08:30:00`."""
    return _moment(time_us).replace(tzinfo=None).isoformat(timespec="seconds")


def json_time(time_us: int) -> str:
    """UTC in ISO 8601, always to the microsecond: '2026-11-17T08:30:00.000000Z'."""
    return _moment(time_us).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _moment(time_us: int) -> datetime:
    # A commit's time is whatever its publisher wrote; the years at both ends leave room for any time zone.
    return moment_of(min(max(time_us, _FIRST_US), _LAST_US))


# --- tables


def table(columns: Sequence[Column], rows: Iterable[Sequence[str]], *, cells: int | None = None) -> list[str]:
    """The lines of a table, headings first. The last column is cut where a line would be longer than `cells`.

    Values are shown as they are: names go through `shown` first.
    """
    body = [[column.title for column in columns], *(list(row) for row in rows)]
    widths = [max(width(row[position]) for row in body) for position in range(len(columns))]
    return [_line(columns, widths, row, cells) for row in body]


def _line(columns: Sequence[Column], widths: Sequence[int], row: Sequence[str], cells: int | None) -> str:
    before = [
        pad(value, wide, right=column.right)
        for column, wide, value in zip(columns[:-1], widths[:-1], row[:-1], strict=True)
    ]
    last = pad(row[-1], widths[-1], right=True) if columns[-1].right else row[-1]
    if cells is not None:
        last = fit(last, max(cells - sum(widths[:-1]) - 2 * len(before), 8))
    return "  ".join([*before, last]).rstrip()
