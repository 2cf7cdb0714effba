"""`fsd exp list`."""

from __future__ import annotations

from collections.abc import Sequence

import click

from fsd.repo.repository import Repositories
from fsd.runs import table
from fsd.runs.rows import read_rows
from fsd_cli.completion import complete_repository
from fsd_cli.context import Invocation, pass_invocation
from fsd_cli.exp_values import HEX_COLUMNS, check_one_form, form_options, json_value, print_rows
from fsd_cli.opening import run_on_store
from fsd_cli.output import print_json

_ALWAYS = ("run", "name", "time", "state")
_ALWAYS_IN_DATA = ("run", "name", "time", "state", "seconds")


@click.command("list")
@click.argument("repository", metavar="[REPO]", required=False, default="", shell_complete=complete_repository)
@click.option("-w", "--where", "conditions", metavar="CONDITION", multiple=True, help="Only runs with acc>0.9, …")
@click.option("-s", "--sort", "sort", metavar="NAME", default="time", help="Order by a param, a metric, time, …")
@click.option("-r", "--reverse", is_flag=True, help="The greatest first.")
@click.option("-n", "--number", type=click.IntRange(min=1), help="Show so many at most: the last of the order.")
@click.option("-a", "--all", "show_all", is_flag=True, help="Also what is the same in all of them.")
@form_options
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
    check_one_form(as_csv, as_markdown, as_json)
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
        print_json([{name: json_value(name, row.get(name)) for name in columns} for row in rows])
    else:
        print_rows(columns, rows, as_csv=as_csv, as_markdown=as_markdown)


def _with_changed(rows: Sequence[table.Row], always: Sequence[str]) -> list[str]:
    changed = table.changed_columns(rows)
    left_out = {*always, "seconds", "author", *HEX_COLUMNS}
    return [*always, *(name for name in changed if name not in left_out)]
