"""The command `fsd`: its list of commands, loaded one at a time, and how it ends.

`fsd --version` and `fsd mount` must start in a tenth of a second, so nothing heavy is imported here, and a command's
module only when that command runs: help and completion read the list below, never the modules.
"""

from __future__ import annotations

import importlib
import io
import keyword
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple

import click
from click.shell_completion import CompletionItem

from fsd.errors import near_misses
from fsd_cli.context import Invocation, global_options
from fsd_cli.failures import exit_code_of, report

COMPLETION_VARIABLE = "_FSD_COMPLETE"


class Listed(NamedTuple):
    """A command as the group knows it without loading it."""

    module: str
    """The module of this package that has a click command of the command's name."""
    help: str


COMMANDS: dict[str, dict[str, Listed]] = {
    "Publish": {
        "init": Listed("store", "Make a store."),
        "commit": Listed("publish", "Publish a folder as a new commit."),
        "import": Listed("importing", "Commit what lies elsewhere: a bucket, an archive, DVC, Git LFS, …"),
        "edit": Listed("edit", "Change a version in place, without a copy of it."),
        "add": Listed("changing", "Commit one more file or folder."),
        "rm": Listed("changing", "Commit the tree without some of its files and folders."),
        "mv": Listed("changing", "Commit the tree with a file or folder at another path."),
        "tag": Listed("refs", "Name a revision for good; list or delete tags."),
        "branch": Listed("refs", "List, make, move or delete branches."),
        "subset": Listed("subset", "Name a part of a revision."),
    },
    "Look": {
        "ls": Listed("listing", "List repositories, revisions, or what is in one."),
        "log": Listed("log", "Show how a revision came about."),
        "diff": Listed("diff", "Show what changed from one revision to another."),
        "du": Listed("du", "Show how much versions, or paths in them, take."),
        "checkout": Listed("checkout", "Copy a version to a folder as plain files."),
        "export": Listed("exporting", "Copy a version to a folder, an archive or a bucket."),
        "cat": Listed("cat", "Write a file's content to standard output."),
        "show": Listed("show", "Show a version, a path, or what is in a model file."),
    },
    "Mount": {
        "mount": Listed("mount", "Mount a store: every version becomes a directory."),
        "umount": Listed("mount", "Take a mount down."),
        "status": Listed("mount", "Show mounts, what of a path is cached, or a work tree's pins."),
        "prefetch": Listed("prefetch", "Fetch a version, folder or file into the cache of its mount."),
        "evict": Listed("prefetch", "Let the cache go of a version, folder or file."),
        "top": Listed("top", "Watch what mounts do."),
        "daemon": Listed("daemon", "Ask a mount's daemon: errors, open files, metrics."),
    },
    "Care": {
        "verify": Listed("verify", "Check that a store is whole, and put back what is not."),
        "config": Listed("configuring", "Show or check the configuration."),
        "gc": Listed("gc", "Delete what nothing needs any more."),
        "delete": Listed("delete", "Delete a tag, branch or subset, or a whole repository."),
        "purge": Listed("purge", "Take a file out of every version, for good."),
    },
    "Run": {
        "run": Listed("run", "Run a command, and record what it used and what came of it."),
        "exp": Listed("exp", "List, show and compare runs."),
    },
    "Pin": {
        "pin": Listed("pin", "Pin a version of the data beside the code that uses it."),
        "unpin": Listed("pin", "Replace a pin by real files."),
        "up": Listed("up", "Mount what the pins of a Git work tree need."),
    },
}

HELPERS = {
    "pins_status": Listed("pins", "Show or check pins."),
    "examine_pins": Listed("examining", "Ask the store about pins."),
    "coverage": Listed("prefetch", "Show how much of a path is in the cache."),
}
"""What other commands run, so that they themselves need not import it. Not listed."""


def _find(name: str) -> Listed | None:
    return next((commands[name] for commands in (*COMMANDS.values(), HELPERS) if name in commands), None)


def attribute_of(name: str) -> str:
    """What a command is called in its module: as it is, but for a word that Python keeps for itself (`import_`)."""
    return f"{name}_" if keyword.iskeyword(name) else name


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return [name for commands in COMMANDS.values() for name in commands]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.commands:
            listed = _find(cmd_name)
            if listed is None:
                return None
            module = importlib.import_module(f"fsd_cli.{listed.module}")
            self.add_command(_with_global_options(getattr(module, attribute_of(cmd_name))), cmd_name)
        return super().get_command(ctx, cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if not ctx.resilient_parsing and not args[0].startswith("-") and args[0] not in self.list_commands(ctx):
            hint = near_misses(args[0], self.list_commands(ctx)) or "'fsd --help' lists what there is"
            raise click.UsageError(f"no command {args[0]!r}; {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        for section, commands in COMMANDS.items():
            with formatter.section(section):
                formatter.write_dl([(name, listed.help) for name, listed in commands.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        commands = [
            CompletionItem(name, help=listed.help)
            for section in COMMANDS.values()
            for name, listed in section.items()
            if name.startswith(incomplete)
        ]
        return commands + click.Command.shell_complete(self, ctx, incomplete)


def _with_global_options(command: click.Command) -> click.Command:
    """`command`, or each command of a group, understanding the options of `fsd` itself as well."""
    if isinstance(command, click.Group):
        for subcommand in command.commands.values():
            _with_global_options(subcommand)
        return command
    own = {name for parameter in command.params for name in parameter.opts}
    command.params.extend(option for option in global_options() if own.isdisjoint(option.opts))
    return command


@click.group(
    cls=LazyGroup,
    params=list(global_options()),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="fsd", message="fsd %(version)s")
def group() -> None:
    """Every version of every dataset and model is a directory.

    A directory never changes under you; what can move is a symlink.

    \b
    Exit codes: 0 done, 1 failed, 2 usage, 3 conflict, 4 not found,
                5 store unreachable, 6 corrupt data.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `fsd` with these arguments, by default those of the process, and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        # A name that the terminal's encoding lacks is shown escaped rather than being an error.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if COMPLETION_VARIABLE in os.environ:
        group.main(prog_name="fsd", complete_var=COMPLETION_VARIABLE)
    invocation = Invocation()
    try:
        given = list(sys.argv[1:] if arguments is None else arguments)
        with group.make_context("fsd", given, obj=invocation) as context:
            group.invoke(context)
        sys.stdout.flush()
    except BaseException as error:
        report(error, debug=invocation.debug)
        return exit_code_of(error)
    return 0
