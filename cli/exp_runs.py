"""What `fsd exp best`, `log`, `explain`, `importance` and `plot` share: the runs they ask, and how a change is said."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from fsd.errors import NotFoundError, UsageError, near_misses
from fsd.format.run import RunName
from fsd.repo.repository import Repositories
from fsd.runs import table
from fsd.runs.attribution.trials import Change, Trial
from fsd.runs.factors import ends_of, trials_of
from fsd.runs.rows import read_named_rows
from fsd_cli.completion import complete_repository
from fsd_cli.context import Invocation
from fsd_cli.exp_completion import complete_metric
from fsd_cli.exp_values import SHOWN_DIGITS, plain
from fsd_cli.opening import run_on_store
from fsd_cli.output import say
from fsd_cli.text import shown

Command = TypeVar("Command", bound=Callable[..., Any])

_MIN, _MAX = "min", "max"

repository_argument = click.argument(
    "repository", metavar="[REPO]", required=False, default="", shell_complete=complete_repository
)
metric_argument = click.argument("metric", metavar="METRIC", shell_complete=complete_metric)
metric_option = click.option(
    "--metric", metavar="METRIC", required=True, help="The metric that is asked about.", shell_complete=complete_metric
)
where_option = click.option(
    "-w", "--where", "conditions", metavar="CONDITION", multiple=True, help="Only runs with lr>0.1, … ('fsd exp list')."
)
seed_option = click.option(
    "--seed",
    "seeds",
    metavar="PARAM",
    multiple=True,
    help="This param changes chance only. Default: params called seed.",
)
across_option = click.option(
    "--across",
    metavar="FACTOR",
    multiple=True,
    help="Compare also runs that differ in code, pins.LINK, pins.LINK.subset, …",
)


def direction_options(command: Command) -> Command:
    """`--min` and `--max`, as `direction`: None where neither is said. `is_less` tells which it is."""
    for name, text in ((_MAX, "More of the metric is better."), (_MIN, "Less is better. Default: told by its name.")):
        command = click.option(f"--{name}", "direction", flag_value=name, default=None, help=text)(command)
    return command


def is_less(direction: str | None) -> bool | None:
    """Whether it was said that less is better; None if nothing was."""
    return None if direction is None else direction == _MIN


@dataclass(frozen=True, slots=True)
class Log:
    """The runs that are asked about."""

    rows: Mapping[RunName, table.Row]
    trials: Sequence[Trial]
    """Those that succeeded, by time."""
    ends: Mapping[str, float]

    @property
    def names(self) -> dict[str, str]:
        """What people call each run, by its id; '' where nobody called it anything."""
        return {name.run: str(row["name"] or "") for name, row in self.rows.items()}

    def find(self, text: str) -> str:
        """The id of the trial that begins with `text`. Raises NotFoundError, UsageError for a run that is no trial."""
        ids = [name.run for name in self.rows]
        found = [each for each in ids if each.startswith(text.lower())] if text else []
        if not found:
            hint = near_misses(text, {each[: len(text)] for each in ids})
            raise NotFoundError(f"there is no run {text!r} among these", hint=hint or "'fsd exp list' shows them")
        if len(found) > 1:
            few = ", ".join(sorted(found)[:3])
            raise NotFoundError(f"{len(found):,} runs begin with {text!r}", hint=f"write more of it: {few}")
        if not any(trial.id == found[0] for trial in self.trials):
            state = next(row["state"] for name, row in self.rows.items() if name.run == found[0])
            raise UsageError(f"run {found[0]} did not succeed: {state}", hint="only runs that did are compared")
        return found[0]


def read_log(
    invocation: Invocation, repository: str = "", conditions: Sequence[str] = (), seeds: Iterable[str] = ()
) -> Log:
    """The runs of a repository (of all, if it is '') for which the conditions hold."""
    wanted = [table.parse_condition(text) for text in conditions]

    async def read(repositories: Repositories) -> dict[RunName, table.Row]:
        return await read_named_rows(repositories, repository, invocation.state)

    rows = run_on_store(invocation, read)
    kept = {row["run"] for row in table.filtered(list(rows.values()), wanted)}
    rows = {name: row for name, row in rows.items() if name.run in kept}
    return Log(rows, trials_of(rows, seeds=frozenset(seeds)), ends_of(rows))


# --- how things are said


def short_id(run: str) -> str:
    """A run's id as people type it."""
    return run[:SHOWN_DIGITS]


def called(run: str, names: Mapping[str, str]) -> str:
    """A run's id, and its name if it has one."""
    return f"{short_id(run)} {shown(names[run])}" if names.get(run) else short_id(run)


def signed(number: float) -> str:
    """A difference: always with its sign."""
    return f"{number:+.6g}"


def change_text(change: Change) -> str:
    """`lr 0.1 → 0.01`."""
    old, new = (
        "the whole" if _is_whole(change, value) else plain(value) or "none" for value in (change.old, change.new)
    )
    return f"{shown(change.param)} {old} → {new}"


def _is_whole(change: Change, value: object) -> bool:
    return change.role == "subset" and not value


def say_notes(notes: Iterable[str]) -> None:
    """Warnings that belong to the numbers."""
    for each in notes:
        say(f"note: {shown(each)}")
