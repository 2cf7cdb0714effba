"""`fsd exp restore`: a run's code, params and pins as a branch of Git."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from fsd.format.run import RunStart
from fsd.pins import snapshots, worktree
from fsd.repo.repository import Repositories
from fsd.runs.params import override_of
from fsd.runs.restoring import Restored, restore
from fsd_cli.context import Invocation, pass_invocation
from fsd_cli.exp_completion import complete_run
from fsd_cli.exp_runs import short_id
from fsd_cli.opening import run_on_store
from fsd_cli.output import json_option, note, print_json, say
from fsd_cli.text import shown


@click.command("restore")
@click.argument("run_id", metavar="RUN", shell_complete=complete_run)
@click.option("-n", "--name", "branch", metavar="BRANCH", help="The branch's name. Default: fsd/RUN.")
@click.option("--checkout", "is_checked_out", is_flag=True, help="Switch the work tree to it.")
@json_option
@pass_invocation
def restore_run(invocation: Invocation, run_id: str, branch: str | None, is_checked_out: bool, as_json: bool) -> None:
    """Make a branch of Git that has a run's code, params and pins as they were.

    The branch is made on the commit that the run was recorded on, in the Git repository of this folder; it has what was
    not committed as well. The work tree stays as it is. --checkout switches it to the branch, unless something that is
    not committed would be lost.
    """
    top = worktree.top_of(Path.cwd())

    async def work(repositories: Repositories) -> tuple[RunStart, Restored]:
        start = await repositories.runs.read_start(await repositories.runs.find(run_id))
        return start, await restore(repositories, start, top, branch or f"fsd/{short_id(start.name.run)}")

    if is_checked_out:
        snapshots.check_unchanged(top)
    start, made = run_on_store(invocation, work)
    if is_checked_out:
        snapshots.check_out_branch(top, made.branch)
    command = _repeat(start)
    if as_json:
        print_json(
            {
                "run": made.run,
                "branch": made.branch,
                "commit": made.commit,
                "base": made.base or None,
                "new": made.is_new,
                "checked_out": is_checked_out,
                "pins": [
                    {"link": pin.link, "repository": pin.target.repository, "revision": pin.target.revision}
                    for pin in made.pins
                ],
                "directory": start.directory,
                "command": command,
            }
        )
        return
    _print(made, start, command, is_checked_out=is_checked_out)


def _print(made: Restored, start: RunStart, command: list[str], *, is_checked_out: bool) -> None:
    what = "is made" if made.is_new else "was there already"
    on = f" on {made.base[:12]}" if made.base and not made.is_base else ""
    say(f"branch {shown(made.branch)} {what}: run {made.run}, commit {made.commit[:12]}{on}")
    for pin in made.pins:
        if pin.was:
            note(f"pin {shown(pin.link)} leads to the commit that {shown(pin.was)} was then")
    for name in made.submodules:
        note(f"submodule {shown(name)} is as {made.base[:12]} has it: its own changes are not restored")
    if not is_checked_out:
        say(f"git checkout {shlex.quote(made.branch)}")
    if start.directory:
        say(f"cd {shlex.quote(start.directory)}")
    say(shlex.join(command))


def _repeat(start: RunStart) -> list[str]:
    """The command that makes the run once more."""
    command = ["fsd", "run", "--repo", start.name.repository]
    for name in start.overrides:
        override = override_of(name, start.params.get(name))
        command += ["-S", f"{override.name}={override.text}"]
    below = f"{start.directory}/"
    for output in start.outputs:
        up = "../" * (start.directory.count("/") + 1) if start.directory else ""
        command += ["-o", output.removeprefix(below) if start.directory and output.startswith(below) else up + output]
    return [*command, "--", *start.argv]
