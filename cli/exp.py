"""`fsd exp`: look at runs, compare them, and ask what made the difference.

As `fsd` itself, it imports a command's module only when that command runs: `fsd exp list` needs none of what draws,
restores or computes.
"""

from __future__ import annotations

import importlib
from typing import NamedTuple

import click

from fsd_cli.context import with_global_options


class _Listed(NamedTuple):
    """A command as the group knows it without loading it."""

    module: str
    function: str
    help: str


_COMMANDS = {
    "list": _Listed("exp_list", "list_runs", "List runs."),
    "show": _Listed("exp_show", "show_run", "Show all that is recorded of a run."),
    "diff": _Listed("exp_show", "diff_runs", "Show what differs between two runs."),
    "best": _Listed("exp_best", "best_run", "Show the best run by a metric, and what it did differently."),
    "log": _Listed("exp_attribution", "show_steps", "Show how a metric came to be what it is."),
    "explain": _Listed("exp_attribution", "explain_runs", "Divide the difference of two runs between their params."),
    "importance": _Listed("exp_attribution", "rank_params", "Rank the params by what they do to a metric."),
    "lineage": _Listed("exp_lineage", "show_lineage", "Show which run, data and code made a file."),
    "plot": _Listed("exp_plot", "plot_runs", "Draw a metric, what moved it, and how runs learned."),
    "restore": _Listed("exp_restore", "restore_run", "Make a branch of Git that has a run's code, params and pins."),
}


class _LazyGroup(click.Group):
    """Imports a command's module when the command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.commands and cmd_name in _COMMANDS:
            listed = _COMMANDS[cmd_name]
            module = importlib.import_module(f"fsd_cli.{listed.module}")
            self.add_command(with_global_options(getattr(module, listed.function)), cmd_name)
        return super().get_command(ctx, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, listed.help) for name, listed in _COMMANDS.items()])


@click.group(cls=_LazyGroup)
def exp() -> None:
    """List and compare runs; say what made one better; bring one back."""
