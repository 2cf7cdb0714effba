"""`fsd exp best`: the best run, and what it did differently."""

from __future__ import annotations

import click

from fsd.runs.attribution.reports import as_json as report_json
from fsd.runs.best import Best, Compared, best_of
from fsd_cli.context import Invocation, pass_invocation
from fsd_cli.exp_runs import (
    Log,
    across_option,
    called,
    change_text,
    direction_options,
    is_less,
    metric_argument,
    read_log,
    repository_argument,
    say_notes,
    short_id,
    signed,
    where_option,
)
from fsd_cli.exp_values import plain
from fsd_cli.output import json_option, print_json, say
from fsd_cli.text import count, shown


@click.command("best")
@metric_argument
@repository_argument
@direction_options
@where_option
@across_option
@json_option
@pass_invocation
def best_run(
    invocation: Invocation,
    metric: str,
    repository: str,
    direction: str | None,
    conditions: tuple[str, ...],
    across: tuple[str, ...],
    as_json: bool,
) -> None:
    """Show the best run by a metric, and what it did differently.

    It is compared with the second best, and with the one that it was most likely derived from: of those that had ended
    before, the latest of those that differ from it in least. Only runs that succeeded count, and by default only those
    on the whole of the data: --across pins.LINK.subset compares all.

    Less is better of a metric whose name has loss, error, rmse and the like in it, more of any other: --min and --max
    say it.
    """
    log = read_log(invocation, repository, conditions)
    best = best_of(log.trials, log.ends, metric, minimize=is_less(direction), across=frozenset(across))
    if as_json:
        print_json(report_json(best))
    else:
        _print(best, log)


def _print(best: Best, log: Log) -> None:
    names = log.names
    better = "less" if best.minimized else "more"
    told = f"by its name; --{'max' if best.minimized else 'min'} turns it round" if best.by_name else "as you say"
    say(f"the best of {count(best.n, 'run')} by {shown(best.metric)}: {better} is better ({told})")
    say(f"run {called(best.id, names)}: {shown(best.metric)} = {plain(best.value)}")
    second = best.second
    is_same = second is not None and best.parent is not None and second.id == best.parent.id
    if second is not None:
        _print_compared(
            "the second best, and what it was derived from" if is_same else "the second best", second, names
        )
    if best.parent is not None and not is_same:
        _print_compared("what it was derived from", best.parent, names)
    say_notes(best.notes)
    say(f"fsd exp restore {short_id(best.id)} brings its code, params and pins back")


def _print_compared(what: str, other: Compared, names: dict[str, str]) -> None:
    say(f"  {signed(other.diff)} to {called(other.id, names)} ({plain(other.value)}), {what}:")
    for change in other.changes:
        say(f"    {change_text(change)}")
    if not other.changes:
        say("    nothing differs")
