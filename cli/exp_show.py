"""`fsd exp show` and `fsd exp diff`: one run in full, and two compared."""

from __future__ import annotations

import shlex

import click

from fsd.format.run import RunEnd, RunStart
from fsd.repo.refs import short
from fsd.repo.repository import Repositories
from fsd.repo.runs import Run
from fsd.runs import table
from fsd.runs.comparing import Difference, compare
from fsd.runs.showing import run_json
from fsd_cli.context import Invocation, pass_invocation
from fsd_cli.exp_completion import complete_run
from fsd_cli.exp_values import check_one_form, form_options, plain, print_rows, title
from fsd_cli.opening import run_on_store
from fsd_cli.output import json_option, print_json, print_table, say
from fsd_cli.text import Column, duration, local_time, shown


@click.command("show")
@click.argument("run_id", metavar="RUN", shell_complete=complete_run)
@json_option
@pass_invocation
def show_run(invocation: Invocation, run_id: str, as_json: bool) -> None:
    """Show all that is recorded of a run. RUN is its id, or the first digits of it."""

    async def read(repositories: Repositories) -> Run:
        return await repositories.runs.read(await repositories.runs.find(run_id))

    run = run_on_store(invocation, read)
    if as_json:
        print_json(run_json(run))
    else:
        _print_run(run)


@click.command("diff")
@click.argument("old", metavar="RUN", shell_complete=complete_run)
@click.argument("new", metavar="RUN", shell_complete=complete_run)
@form_options
@pass_invocation
def diff_runs(invocation: Invocation, old: str, new: str, as_csv: bool, as_markdown: bool, as_json: bool) -> None:
    """Show what differs between two runs: params, code, pins, surroundings, metrics, outputs."""
    check_one_form(as_csv, as_markdown, as_json)

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
    elif as_csv or as_markdown:
        print_rows(columns, rows, as_csv=as_csv, as_markdown=as_markdown)
    else:
        titles = [Column(title(name), right=name == "delta") for name in columns]
        print_table(titles, [[plain(row[name]) for name in columns] for row in rows])


# --- one run


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
        say(f"  param    {shown(param)} = {plain(value)}")
    for metric, number in sorted(({} if end is None else end.metrics).items()):
        say(f"  metric   {shown(metric)} = {plain(number)}")
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
