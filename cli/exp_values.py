"""How `fsd exp` shows rows of values: as a table, as CSV, as Markdown."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from fsd.errors import UsageError
from fsd.format.run import Scalar
from fsd.ids import ID_HEX_DIGITS
from fsd.repo.refs import short
from fsd.runs import table
from fsd_cli.output import json_option, print_table, say
from fsd_cli.text import Column, duration, json_time, local_time, shown

SHOWN_DIGITS = 8
HEX_COLUMNS = ("code", "git")


Command = TypeVar("Command", bound=Callable[..., Any])

_ID = re.compile(rf"[0-9a-f]{{{ID_HEX_DIGITS}}}")


def form_options(command: Command) -> Command:
    """`--csv`, `--md` and `--json`."""
    command = json_option(command)
    command = click.option("--md", "as_markdown", is_flag=True, help="Print a table in Markdown instead of text.")(
        command
    )
    return click.option("--csv", "as_csv", is_flag=True, help="Print CSV instead of text.")(command)


def check_one_form(*forms: bool) -> None:
    """Raises UsageError."""
    if sum(forms) > 1:
        raise UsageError("one form at a time", hint="leave out all but one of --json, --csv and --md")


def title(column: str) -> str:
    """Of params, metrics and pins their own names: what kind of thing it is their values show well enough."""
    if column.startswith(table.SUBSETS):
        return f"{shown(column.removeprefix(table.SUBSETS))} subset"
    return shown(column.partition(".")[2]) if "." in column else column.upper()


def is_number(column: str) -> bool:
    """Whether a column stands at the right."""
    return column in ("seconds", "delta") or column.startswith((table.METRICS, table.PARAMS))


def cell(column: str, value: Scalar) -> str:
    """A value of a column for people."""
    if value is None:
        return ""
    match column:
        case "time":
            return local_time(int(value))
        case "seconds":
            return duration(float(value))
    if column in ("run", *HEX_COLUMNS) or column.startswith(table.PINS):
        return str(value)[:SHOWN_DIGITS]
    return plain(value)


def plain(value: Any) -> str:
    """A value for people, on one line."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) and _ID.fullmatch(value):
        return short(bytes.fromhex(value))
    return shown(value if isinstance(value, str) else json.dumps(value))


def json_value(column: str, value: Scalar) -> Scalar:
    """A value of a column in JSON."""
    return json_time(int(value)) if column == "time" and value is not None else value


def print_csv(columns: Sequence[str], rows: Sequence[Any]) -> None:
    """The rows' columns, a heading first."""
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_csv_value(json_value(name, row.get(name))) for name in columns] for row in rows)
    say(lines.getvalue().removesuffix("\n"))


def print_rows(columns: Sequence[str], rows: Sequence[Any], *, as_csv: bool, as_markdown: bool) -> None:
    """The rows' columns in one of the forms."""
    if as_csv:
        print_csv(columns, rows)
    elif as_markdown:
        print_markdown(columns, rows)
    else:
        titles = [Column(title(name), right=is_number(name)) for name in columns]
        print_table(titles, [[cell(name, row.get(name)) for name in columns] for row in rows])


def _csv_value(value: Any) -> Any:
    return "" if value is None else value if isinstance(value, str | int | float) else json.dumps(value)


def print_markdown(columns: Sequence[str], rows: Sequence[Any]) -> None:
    """The same as a table."""
    say(_markdown_line([title(name) for name in columns]))
    say(_markdown_line(["---:" if is_number(name) else "---" for name in columns]))
    for row in rows:
        say(_markdown_line([cell(name, row.get(name)) for name in columns]))


def _markdown_line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
