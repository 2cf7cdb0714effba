"""Runs side by side: each a row of named values, of which those are worth a column that differ; filters, and an order.

Names of columns: `run`, `name`, `time`, `state`, `seconds`, `author`, `command`, `git`, `code`, `params.NAME`,
`metrics.NAME`, `pins.LINK`. Where one is asked for, what comes after the first point will do if only one ends so:
`lr` for `params.lr`. Pure functions.
"""

from __future__ import annotations

import operator
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from fsd.errors import NotFoundError, UsageError, near_misses
from fsd.format.run import Scalar
from fsd.repo.runs import Run
from fsd.runs.process import is_alive

FIXED = ("run", "name", "time", "state", "seconds", "author", "command", "git", "code")
"""Columns that every run has, besides its params, metrics and pins."""

PARAMS = "params."
METRICS = "metrics."
PINS = "pins."

Row = Mapping[str, Scalar]
"""A run's values by column. `time` is in microseconds since 1970 UTC; `code` and pins are ids in hex."""


class State(StrEnum):
    """How far a run got."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    KILLED = "killed"
    """Nobody lived to write down its end: whatever it made is not known to be whole."""
    UNKNOWN = "no end"
    """It runs, or was killed: it is on another machine, which alone could tell."""


def state_of(run: Run) -> State:
    """How far a run got, as can be told from here."""
    if run.end is None:
        alive = is_alive(run.start.process)
        return State.UNKNOWN if alive is None else State.RUNNING if alive else State.KILLED
    if run.end.interrupted:
        return State.INTERRUPTED
    return State.DONE if run.end.is_success else State.FAILED


def params_of(run: Run) -> dict[str, Scalar]:
    """All params of a run, those included that the command told of itself."""
    return {**run.start.params, **({} if run.end is None else run.end.params)}


def row_of(run: Run) -> dict[str, Scalar]:
    """A run's values."""
    start, end = run.start, run.end
    row: dict[str, Scalar] = {
        "run": start.name.run,
        "name": start.label,
        "time": start.time_us,
        "state": str(state_of(run)),
        "seconds": None if end is None else max(0, end.time_us - start.time_us) / 1e6,
        "author": start.author,
        "command": shlex.join(start.argv),
        "git": None if start.git is None else str(start.git.get("commit", "")),
        "code": None if start.code is None else start.code.tree.hex(),
    }
    row |= {f"{PARAMS}{name}": value for name, value in params_of(run).items()}
    row |= {f"{METRICS}{name}": value for name, value in ({} if end is None else end.metrics).items()}
    return row | {f"{PINS}{pin.link}": None if pin.commit is None else pin.commit.hex() for pin in start.pins}


# --- columns


def columns_of(rows: Iterable[Row]) -> list[str]:
    """All columns that any of the rows has: the fixed ones, then params, metrics and pins, each by name."""
    found = {name for row in rows for name in row}.difference(FIXED)
    order = (PARAMS, METRICS, PINS)
    return [*FIXED, *(name for prefix in order for name in sorted(found) if name.startswith(prefix))]


def changed_columns(rows: Sequence[Row]) -> list[str]:
    """Those in which the rows differ: having no value is a value as well. Metrics always: they are what it is about."""
    return [
        name
        for name in columns_of(rows)
        if name.startswith(METRICS) or len({_kind_and_value(row.get(name, _ABSENT)) for row in rows}) > 1
    ]


_ABSENT = object()


def _kind_and_value(value: object) -> tuple[object, object]:
    """1, 1.0 and True are equal in Python; a truth value is not a number here."""
    return isinstance(value, bool), value


def find_column(columns: Iterable[str], text: str) -> str:
    """The column that `text` names. Raises NotFoundError, and UsageError if several could be meant."""
    known = list(columns)
    if text in known:
        return text
    found = [name for name in known if name.partition(".")[2] == text]
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(f"{text!r} could be {' or '.join(found)}", hint="write which")
    hint = near_misses(text, [*known, *(name.partition(".")[2] for name in known if "." in name)])
    raise NotFoundError(
        f"no run has a param or metric {text!r}", hint=hint or "'fsd exp list --all' shows all there are"
    )


# --- filters and order


class Condition(NamedTuple):
    """`COLUMN OP VALUE`."""

    column: str
    sign: str
    text: str

    def holds(self, row: Row, column: str) -> bool:
        """Whether it does for a row. Of what has no value nothing holds but that it is not equal."""
        value = row.get(column)
        number = _number(self.text)
        if value is None:
            return self.sign == "!="
        if isinstance(value, bool) or not isinstance(value, int | float) or number is None:
            return self.sign in _EQUALITIES and _SIGNS[self.sign](_as_text(value), self.text)
        return bool(_SIGNS[self.sign](value, number))


_SIGNS: Mapping[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "!=": operator.ne,
    "=": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}
_EQUALITIES = ("=", "!=")
_CONDITION = re.compile(r"\s*(.+?)\s*(<=|>=|!=|==|=|<|>)\s*(.*?)\s*\Z", re.DOTALL)


def parse_condition(text: str) -> Condition:
    """Raises UsageError."""
    match = _CONDITION.match(text)
    if match is None:
        raise UsageError(f"{text!r} is no condition", hint="write NAME=VALUE, NAME!=VALUE, NAME<VALUE and so on")
    condition = Condition(match[1], "=" if match[2] == "==" else match[2], match[3])
    if condition.sign not in _EQUALITIES and _number(condition.text) is None:
        raise UsageError(f"{condition.text!r} is no number", hint=f"'{condition.sign}' compares numbers")
    return condition


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _as_text(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def filtered(rows: Sequence[Row], conditions: Iterable[Condition]) -> list[Row]:
    """The rows for which all conditions hold. Raises as `find_column`."""
    columns = columns_of(rows)
    for condition in conditions if rows else ():
        column = find_column(columns, condition.column)
        rows = [row for row in rows if condition.holds(row, column)]
    return list(rows)


def ordered(rows: Iterable[Row], column: str, *, descending: bool = False) -> list[Row]:
    """By a column's values: numbers before texts, and in either direction what has none last."""

    def key(row: Row) -> tuple[bool, Any]:
        value = row[column]
        return (True, str(value)) if isinstance(value, str) else (False, value)

    listed = list(rows)
    with_value = sorted((row for row in listed if row.get(column) is not None), key=key, reverse=descending)
    return [*with_value, *(row for row in listed if row.get(column) is None)]
