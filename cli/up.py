"""`fsd up`: from a fresh clone to pins that lead somewhere.

Where the mountpoint can be used, that is a mount there. Where not, because `/fsd` takes root to make or holds another
store, a command can be run that sees the store there, in a mount namespace of its own: what Git has is the same.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from fsd.daemon import mounts, namespace
from fsd.errors import ConflictError, CorruptDataError, FsdError, NotFoundError, StoreUnreachableError, UsageError
from fsd.ids import content_id
from fsd.pins import manifest, worktree
from fsd.pins.manifest import DEFAULT_MOUNTPOINT, Manifest
from fsd_cli.context import Invocation, pass_invocation, run_command
from fsd_cli.mounted import answering_mount
from fsd_cli.output import note, say
from fsd_cli.text import count, shown
from fsd_cli.worktrees import Pin, WorkTree

_ELSEWHERE_NO_BETTER = tuple(error.exit_code for error in (NotFoundError, StoreUnreachableError, CorruptDataError))
"""How a mount ends that would fail at every other place too: what is wrong is the store."""


@click.command(context_settings={"allow_interspersed_args": False})
@click.argument("command", metavar="[-- COMMAND [ARGUMENT]...]", nargs=-1, type=click.UNPROCESSED)
@click.option(
    "--mountpoint",
    metavar="PATH",
    help="Agree to the mountpoint that .fsd.toml names, where that is not /fsd.",
)
@pass_invocation
@click.pass_context
def up(context: click.Context, invocation: Invocation, command: tuple[str, ...], mountpoint: str | None) -> None:
    """Mount what the pins of this Git work tree need, and say what is missing.

    .fsd.toml, which came with the work tree, names the store and where it is to be mounted: /fsd, unless it says
    otherwise. With a COMMAND, run that afterwards; where the mountpoint takes rights that you lack, or is taken, the
    command sees the store there, and nobody else does.
    """
    top = worktree.top_of(Path())
    wanted = manifest.load(top)
    tree = WorkTree(top, wanted)
    if not _is_mounted(wanted):
        _check_agreed(wanted, mountpoint)
        try:
            _mount(context, wanted)
        except FsdError as error:
            if error.exit_code in _ELSEWHERE_NO_BETTER:
                raise
            if not command:
                raise _advised(error, wanted) from error
            _show_to_us_alone(context, invocation, wanted)
    pins = tree.pins()
    missing = _missing(tree, pins)
    for pin in missing:
        note(f"{shown(pin.link)} leads to {shown(pin.text)}, which is not there")
    if command:
        _become(command)
    if missing:
        raise NotFoundError(
            f"of {count(len(pins), 'pin')}, {len(missing)} cannot be had from {wanted.store}",
            hint="'fsd status' says what is wrong with them",
        )
    say(f"{wanted.store} is mounted at {wanted.mountpoint}; {count(len(pins), 'pin')}, nothing missing")


def _is_mounted(wanted: Manifest) -> bool:
    """Whether the store is mounted at the mountpoint, as everybody sees it."""
    there = mounts.mount_at(wanted.mountpoint)
    return (
        there is not None
        and there.type == mounts.FILESYSTEM_TYPE
        and wanted.is_store(there.source)
        and not mounts.is_stale(wanted.mountpoint)
    )


def _check_agreed(wanted: Manifest, mountpoint: str | None) -> None:
    """Raise UsageError unless the mountpoint is the common one, or who calls has named it as well.

    A work tree may come from anybody. It must not choose by itself which folder of this machine, such as one where
    programs or keys are looked for, shows what is in its store.
    """
    if wanted.mountpoint == (DEFAULT_MOUNTPOINT if mountpoint is None else os.path.normpath(mountpoint)):
        return
    place = shlex.quote(wanted.mountpoint)
    raise UsageError(
        f"{manifest.FILE_NAME} asks for a mount at {place}",
        hint=f"if that is right, say so: fsd up --mountpoint {place}",
    )


def _mount(context: click.Context, wanted: Manifest) -> None:
    """Mount the store at the mountpoint. Raises ConflictError if another one is there."""
    place = Path(wanted.mountpoint)
    there = mounts.mount_at(place)
    if there is not None and there.type == mounts.FILESYSTEM_TYPE and not mounts.is_stale(place):
        raise ConflictError(f"another store is mounted at {place}: {there.source}")
    try:
        if there is None:
            place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FsdError(f"cannot make {place}: {error.strerror}") from error
    run_command(context, "mount", places=(wanted.store, os.fspath(place)))


def _advised(error: FsdError, wanted: Manifest) -> FsdError:
    """The error of a mount at the common place, with the two ways out."""
    place = shlex.quote(wanted.mountpoint)
    made = f"once, as root: install -d -o {os.geteuid()} {place}"
    if isinstance(error, ConflictError):
        made = f"unmount it: fsd umount {place}"
    advised = FsdError(error.message, hint=f"{made}; or run what needs the pins with: fsd up -- COMMAND")
    advised.exit_code = error.exit_code
    return advised


def _show_to_us_alone(context: click.Context, invocation: Invocation, wanted: Manifest) -> None:
    """Let this process see the store at the mountpoint, from wherever this user can have it mounted."""
    staging = invocation.state / "staging"
    staging.mkdir(parents=True, exist_ok=True)
    mounted = answering_mount(wanted.is_store)
    if mounted is not None:
        source = Path(mounted.mountpoint)
    else:
        source = invocation.state / "mounts" / content_id(wanted.store.encode()).hex()[:16]
        source.mkdir(parents=True, exist_ok=True)
        run_command(context, "mount", places=(wanted.store, os.fspath(source)))
    namespace.show_at(source, Path(wanted.mountpoint), staging)


def _missing(tree: WorkTree, pins: Sequence[Pin]) -> list[Pin]:
    """The pins that lead nowhere. Raises FsdError if the mount does not answer."""
    try:
        return mounts.within(
            mounts.STATUS_TIMEOUT_S + len(pins),
            lambda: [pin for pin in pins if not os.path.exists(tree.top / pin.link)],
        )
    except TimeoutError as error:
        raise FsdError(f"the mount at {tree.mountpoint} does not answer: {error}") from error


def _become(command: Sequence[str]) -> None:
    """Run the command in this process's place: its exit code is ours, and signals are its own."""
    sys.stdout.flush()
    try:
        os.execvp(command[0], list(command))
    except OSError as error:
        raise NotFoundError(f"cannot run {command[0]}: {error.strerror}") from error
