"""What commands print: lines, tables, JSON and content on standard output, notes on standard error.

JSON is one document a command, keys in the order documented in docs/command-line.md: indented, or where it may be long,
an array that is written as it comes, with an object a line. Names are text there; bytes that are not UTF-8 appear as
lone surrogates (Python's surrogateescape), sizes as bytes, times as UTC in ISO 8601.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import AsyncIterable, Iterable, Mapping, Sequence
from typing import Any

import click

from fsd_cli.text import Column, table

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")


def say(line: str = "") -> None:
    """A line of the command's result."""
    sys.stdout.write(line + "\n")


def note(line: str) -> None:
    """A line that is not part of the result: where something was made, what was skipped."""
    sys.stdout.flush()
    sys.stderr.write(f"fsd: {line}\n")


def write_bytes(data: bytes | bytearray | memoryview) -> None:
    """Content, as it is. Past the stream's buffer: a thread that waits for a reader must hold nobody's lock."""
    sys.stdout.flush()
    view = memoryview(data)
    while view:
        view = view[os.write(sys.stdout.fileno(), view) :]


def is_terminal() -> bool:
    """Whether somebody looks at standard output."""
    return sys.stdout.isatty()


def print_table(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> None:
    """A table, its last column cut to the terminal's width; whole where the output goes elsewhere."""
    cells = shutil.get_terminal_size().columns if is_terminal() else None
    for line in table(columns, rows, cells=cells):
        say(line)


def print_json(document: Any) -> None:
    """One JSON document."""
    say(json.dumps(document, indent=2))


async def print_json_array(items: AsyncIterable[Mapping[str, Any]]) -> None:
    """A JSON array of objects, one a line, written as they come: it may have millions."""
    separator = "["
    async for item in items:
        sys.stdout.write(f"{separator}\n  {json.dumps(item)}")
        separator = ","
    say("[]" if separator == "[" else "\n]")
