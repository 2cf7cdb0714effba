"""`fsd exp`: look at runs, compare them, and ask what made the difference."""

from __future__ import annotations

import click

from fsd_cli.exp_attribution import explain_runs, rank_params, show_steps
from fsd_cli.exp_best import best_run
from fsd_cli.exp_lineage import show_lineage
from fsd_cli.exp_list import list_runs
from fsd_cli.exp_plot import plot_runs
from fsd_cli.exp_restore import restore_run
from fsd_cli.exp_show import diff_runs, show_run


@click.group()
def exp() -> None:
    """List, show and compare runs; say what made one better; bring one back."""


for command in (
    list_runs,
    show_run,
    diff_runs,
    best_run,
    show_steps,
    explain_runs,
    rank_params,
    show_lineage,
    restore_run,
    plot_runs,
):
    exp.add_command(command)
