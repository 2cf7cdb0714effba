"""`fsd exp`: look at runs, and compare them."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
from collections.abc import Sequence
from typing import Any

import click

from fsd.errors import UsageError
from fsd.format.run import RunEnd, RunStart, Scalar
from fsd.ids import ID_HEX_DIGITS
from fsd.repo.refs import short
from fsd.repo.repository import Repositories
from fsd.repo.runs import Run
from fsd.runs import table
from fsd.runs.comparing import Difference, compare
from fsd.runs.rows import read_rows
from fsd_cli.completion import complete_repository
from fsd_cli.context import Invocation, pass_invocation
from fsd_cli.opening import run_on_store
from fsd_cli.output import json_option, print_json, print_table, say
from fsd_cli.text import Column, duration, json_time, local_time, shown

_SHOWN_DIGITS = 8
_ID = re.compile(rf"[0-9a-f]{{{ID_HEX_DIGITS}}}")
_ALWAYS = ("run", "name", "time", "state")
_ALWAYS_IN_DATA = ("run", "name", "time", "state", "seconds")
_HEX_COLUMNS = ("code", "git")


@click.group()
def exp() -> None:
    """List, show and compare runs."""


@exp.command("list")
@click.argument("repository", metavar="[REPO]", required=False, default="", shell_complete=complete_repository)
@click.option("-w", "--where", "conditions", metavar="CONDITION", multiple=True, help="Only runs with acc>0.9, …")
@click.option("-s", "--sort", "sort", metavar="NAME", default="time", help="Order by a param, a metric, time, …")
@click.option("-r", "--reverse", is_flag=True, help="The greatest first.")
@click.option("-n", "--number", type=click.IntRange(min=1), help="Show so many at most: the last of the order.")
@click.option("-a", "--all", "show_all", is_flag=True, help="Also what is the same in all of them.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV instead of text.")
@click.option("--md", "as_markdown", is_flag=True, help="Print a table in Markdown instead of text.")
@json_option
@pass_invocation
def list_runs(
    invocation: Invocation,
    repository: str,
    conditions: tuple[str, ...],
    sort: str,
    reverse: bool,
    number: int | None,
    show_all: bool,
    as_csv: bool,
    as_markdown: bool,
    as_json: bool,
) -> None:
    """List runs, with the params in which they differ, and their metrics.

    A condition is NAME, one of = != < <= > >=, and a value; given several times, all of them must hold. A name is that
    of a param or metric, or params.NAME, metrics.NAME, pins.LINK, state, name, author, seconds, …
    """
    if as_csv + as_markdown + as_json > 1:
        raise UsageError("one form at a time", hint="leave out all but one of --json, --csv and --md")
    wanted = [table.parse_condition(text) for text in conditions]

    async def read(repositories: Repositories) -> Sequence[table.Row]:
        return await read_rows(repositories, repository, invocation.state)

    rows = table.ordered(table.filtered(run_on_store(invocation, read), wanted), "time")
    if rows:
        column = table.find_column(table.columns_of(rows), sort)
        rows = table.ordered(rows, column, descending=reverse)
    if number is not None:
        rows = rows[:number] if reverse else rows[-number:]
    always = _ALWAYS_IN_DATA if as_json or as_csv else _ALWAYS
    columns = table.columns_of(rows) if show_all else _with_changed(rows, always)
    if as_json:
        print_json([{name: _json_value(name, row.get(name)) for name in columns} for row in rows])
    elif as_csv:
        _print_csv(columns, rows)
    elif as_markdown:
        _print_markdown(columns, rows)
    else:
        titles = [Column(_title(name), right=_is_number(name)) for name in columns]
        print_table(titles, [[_cell(name, row.get(name)) for name in columns] for row in rows])


@exp.command("show")
@click.argument("run_id", metavar="RUN")
@json_option
@pass_invocation
def show_run(invocation: Invocation, run_id: str, as_json: bool) -> None:
    """Show all that is recorded of a run. RUN is its id, or the first digits of it."""

    async def read(repositories: Repositories) -> Run:
        return await repositories.runs.read(await repositories.runs.find(run_id))

    run = run_on_store(invocation, read)
    if as_json:
        print_json(_run_json(run))
    else:
        _print_run(run)


@exp.command("diff")
@click.argument("old", metavar="RUN")
@click.argument("new", metavar="RUN")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV instead of text.")
@click.option("--md", "as_markdown", is_flag=True, help="Print a table in Markdown instead of text.")
@json_option
@pass_invocation
def diff_runs(invocation: Invocation, old: str, new: str, as_csv: bool, as_markdown: bool, as_json: bool) -> None:
    """Show what differs between two runs: params, code, pins, surroundings, metrics, outputs."""
    if as_csv + as_markdown + as_json > 1:
        raise UsageError("one form at a time", hint="leave out all but one of --json, --csv and --md")

    async def work(repositories: Repositories) -> list[Difference]:
        runs = repositories.runs
        before, after = [await runs.read(await runs.find(each)) for each in (old, new)]
        return await compare(repositories, before, after)

    found = run_on_store(invocation, work)
    rows = [
        {"what": each.what, "name": each.name, "before": each.before, "after": each.after, "delta": each.delta}
        for each in found
    ]
    columns = ("what", "name", "before", "after", "delta")
    if as_json:
        print_json(rows)
    elif as_csv:
        _print_csv(columns, rows)
    elif as_markdown:
        _print_markdown(columns, rows)
    else:
        titles = [Column(_title(name), right=name == "delta") for name in columns]
        print_table(titles, [[_plain(row[name]) for name in columns] for row in rows])


# --- rows


def _with_changed(rows: Sequence[table.Row], always: Sequence[str]) -> list[str]:
    changed = table.changed_columns(rows)
    left_out = {*always, "seconds", "author", *_HEX_COLUMNS}
    return [*always, *(name for name in changed if name not in left_out)]


def _title(column: str) -> str:
    """Of params, metrics and pins their own names: what kind of thing it is their values show well enough."""
    return shown(column.partition(".")[2]) if "." in column else column.upper()


def _is_number(column: str) -> bool:
    return column == "seconds" or column.startswith((table.METRICS, table.PARAMS))


def _cell(column: str, value: Scalar) -> str:
    if value is None:
        return ""
    match column:
        case "time":
            return local_time(int(value))
        case "seconds":
            return duration(float(value))
    if column in ("run", *_HEX_COLUMNS) or column.startswith(table.PINS):
        return str(value)[:_SHOWN_DIGITS]
    return _plain(value)


def _plain(value: Any) -> str:
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


def _json_value(column: str, value: Scalar) -> Scalar:
    return json_time(int(value)) if column == "time" and value is not None else value


def _print_csv(columns: Sequence[str], rows: Sequence[Any]) -> None:
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_csv_value(_json_value(name, row.get(name))) for name in columns] for row in rows)
    say(lines.getvalue().removesuffix("\n"))


def _csv_value(value: Any) -> Any:
    return "" if value is None else value if isinstance(value, str | int | float) else json.dumps(value)


def _print_markdown(columns: Sequence[str], rows: Sequence[Any]) -> None:
    say(_markdown_line([_title(name) for name in columns]))
    say(_markdown_line(["---:" if _is_number(name) or name == "delta" else "---" for name in columns]))
    for row in rows:
        say(_markdown_line([_cell(name, row.get(name)) for name in columns]))


def _markdown_line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


# --- one run


def _run_json(run: Run) -> dict[str, Any]:
    start, end = run.start, run.end
    return {
        "run": start.name.run,
        "repository": start.name.repository,
        "step": start.name.step,
        "name": start.label,
        "author": start.author,
        "state": str(table.state_of(run)),
        "started": json_time(start.time_us),
        "ended": None if end is None else json_time(end.time_us),
        "argv": list(start.argv),
        "directory": start.directory,
        "exit_code": None if end is None else end.code,
        "signal": None if end is None else end.signal,
        "params": table.params_of(run),
        "overrides": list(start.overrides),
        "metrics": {} if end is None else dict(end.metrics),
        "code": None if start.code is None else start.code.commit.hex(),
        "git": start.git,
        "pins": [pin._asdict() | {"commit": pin.commit and pin.commit.hex()} for pin in start.pins],
        "outputs": list(start.outputs),
        "output_commit": None if end is None or end.outputs is None else end.outputs.commit.hex(),
        "files_commit": None if end is None or end.files is None else end.files.commit.hex(),
        "observed": end is not None and not end.inputs.problem,
        "problems": [] if end is None else list(end.problems),
        "environment": start.environment,
    }


def _print_run(run: Run) -> None:
    start, end = run.start, run.end
    where = start.name.repository
    name = f" {shown(start.label)}" if start.label else ""
    say(f"run {start.name.run}{name}, with {where}: {table.state_of(run)}")
    say(f"  command  {shown(shlex.join(start.argv))}")
    if start.directory:
        say(f"  folder   {shown(start.directory)}")
    say(f"  author   {shown(start.author)}")
    say(f"  started  {local_time(start.time_us)}")
    if end is not None:
        say(f"  took     {duration(max(0, end.time_us - start.time_us) / 1e6)}, {_ending(end)}")
        for problem in end.problems:
            say(f"  problem  {shown(problem)}")
    for param, value in sorted(table.params_of(run).items()):
        say(f"  param    {shown(param)} = {_plain(value)}")
    for metric, number in sorted(({} if end is None else end.metrics).items()):
        say(f"  metric   {shown(metric)} = {_plain(number)}")
    _print_trees(start, end)
    for pin in start.pins:
        commit = "not to be had" if pin.commit is None else short(pin.commit)
        say(f"  pin      {shown(pin.link)} -> {pin.repository}/{shown(pin.revision)} ({commit})")


def _print_trees(start: RunStart, end: RunEnd | None) -> None:
    """The commits that hold its files, as other commands take them."""
    where = start.name.repository
    if start.git is not None:
        commit, branch = (str(start.git.get(name, "")) for name in ("commit", "branch"))
        changed = ", with changes" if start.git.get("is_changed") else ""
        say(f"  git      {shown(commit[:12])} {shown(branch)}{changed}")
    for what, tree in (
        ("code", start.code),
        ("outputs", None if end is None else end.outputs),
        ("files", None if end is None else end.files),
    ):
        if tree is not None:
            say(f"  {what:8} {where}/{tree.commit.hex()}")


def _ending(end: RunEnd) -> str:
    if end.signal is not None:
        return f"ended by signal {end.signal}"
    return "could not be started" if end.code is None else f"exit code {end.code}"
