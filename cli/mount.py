"""`fsd mount`, `fsd umount`, `fsd status`.

Imports nothing that a daemon needs: what serves a mount is a process of its own (`serve.py`), and to start one is to be
quick. In the foreground this process becomes it.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from fsd.clock import now_us
from fsd.config import LOG_FORMATS, LOG_LEVELS, format_size, parse_size
from fsd.daemon import mounts
from fsd.daemon.lifecycle import clear_stale
from fsd.daemon.settings import MountSettings
from fsd.errors import NotFoundError, UsageError
from fsd.pins.worktree import find_top
from fsd_cli.context import Invocation, pass_invocation, run_command
from fsd_cli.launching import absolute_store, become_daemon, start_daemon
from fsd_cli.output import json_option, print_json, print_table, say
from fsd_cli.text import Column, duration, json_time, shown
from fsd_cli.worktrees import pinned_work_tree_at

NOT_ANSWERING = "not answering"


@click.command()
@click.argument("places", metavar="[STORE] [MOUNTPOINT]", nargs=-1)
@click.option("--foreground", is_flag=True, help="Serve the mount from this process, and log to standard error.")
@click.option(
    "--allow-other/--no-allow-other", default=None, help="Let other users read the mount, as the system permits."
)
@click.option(
    "--cache-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep fetched data here. Default: the configuration's, or a folder of the store's own in ~/.cache/fsd.",
)
@click.option("--cache-size", metavar="SIZE", help="What the cache may take on disk, such as 200G.")
@click.option("--log-format", type=click.Choice(LOG_FORMATS), help="How the daemon logs. Default: auto.")
@click.option(
    "--log-level", type=click.Choice(LOG_LEVELS), help="How important what it logs is at least. Default: info."
)
@click.option("--no-interpose", is_flag=True, help="Open files the ordinary way, without the C extension. Slower.")
@pass_invocation
def mount(
    invocation: Invocation,
    places: tuple[str, ...],
    foreground: bool,
    allow_other: bool | None,
    cache_dir: Path | None,
    cache_size: str | None,
    log_format: str | None,
    log_level: str | None,
    no_interpose: bool,
) -> None:
    """Mount a store: every version of every repository becomes a directory below MOUNTPOINT.

    Returns when the mount is ready. STORE is a folder or a URL; without it, the store that --store, FSD_STORE or the
    configuration names. MOUNTPOINT and --allow-other, too, are the configuration's where they are not given.
    """
    if len(places) > 2:
        raise UsageError(f"one store and one mountpoint, not {len(places)} arguments")
    if cache_size is not None:
        parse_size(cache_size)
    said = {"cache_size": cache_size, "log_format": log_format, "log_level": log_level}
    options = {key: value for key, value in said.items() if value is not None}
    source = dataclasses.replace(invocation.config_source, options=options)
    configured = source.load()
    cache = cache_dir or configured.cache_dir
    mountpoint = Path(os.path.abspath(places[-1])) if places else _mountpoint(invocation)
    settings = MountSettings(
        store=absolute_store(places[0] if len(places) == 2 else invocation.store_url),
        mountpoint=mountpoint,
        cache=Path(os.path.abspath(cache)) if cache is not None else None,
        cache_home=invocation.cache_home,
        limits=configured.limits,
        allow_other=configured.allow_other if allow_other is None else allow_other,
        interposed=not no_interpose,
        log_format=configured.log_format,
        log_level=configured.log_level,
        metrics=configured.metrics,
        notify_address=invocation.environment.get("NOTIFY_SOCKET", "") if foreground else "",
        watchdog_s=_watchdog_s(invocation.environment) if foreground else None,
        config=source,
    )
    if foreground:
        become_daemon(settings)
    start_daemon(settings, invocation.state)


@click.command()
@click.argument("mountpoint", type=Path, required=False)  # not click.Path, which asks the mount: its daemon may hang
@click.option("--lazy", is_flag=True, help="Take the mount away even while it is in use; who is there may finish.")
@click.option("--stale", is_flag=True, help="Take away only what a daemon that died has left behind, if anything.")
@pass_invocation
def umount(invocation: Invocation, mountpoint: Path | None, lazy: bool, stale: bool) -> None:
    """Take a mount down, and wait until its daemon has let go of its cache.

    Without MOUNTPOINT, it is the configuration's.
    """
    place = mountpoint or _mountpoint(invocation)
    if stale:
        clear_stale(place)
        return
    mounts.take_down(place, lazy=lazy, timeout_s=invocation.settings.limits.unmount_timeout_s)


@click.command()
@click.argument("path", type=Path, required=False)
@click.option(
    "--mounts", "only_mounts", is_flag=True, help="Show mounts, also for a path in one or where there are pins."
)
@click.option("--verify", is_flag=True, help="Of a path in a mount, read and check all that is in the cache.")
@click.option("--check", is_flag=True, help="Say which pins of a Git work tree will not do, and fail if any will not.")
@json_option
@click.pass_context
def status(
    context: click.Context, path: Path | None, only_mounts: bool, verify: bool, check: bool, as_json: bool
) -> None:
    """Show mounts and their caches: all of them, or the one at PATH.

    If PATH is a version in a mount, or a folder or file of one, show how much of it is in the cache: whether it is
    complete, checked and pinned, so that it can be read with the store out of reach.

    In a Git work tree with pins, or if PATH is in one, show its pins: which commit, its tags, how far their branch has
    moved on, and whether they lead to something on this machine.
    """
    if check or (not only_mounts and _has_pins(path)):
        run_command(context, "pins_status", path=path or Path(), check=check, as_json=as_json)
        return
    found = [mount for mount in mounts.list_mounts() if mount.type == mounts.FILESYSTEM_TYPE]
    if path is not None:
        around = mounts.mount_of(path)
        if around is None:
            raise NotFoundError(f"{path} is in no mount of fsd")
        if not only_mounts and _is_in_version(around, path):
            run_command(context, "coverage", path=path, verify=verify, as_json=as_json)
            return
        found = [around]
    if verify:
        raise UsageError("--verify takes a path in a mount")
    rows = [(mount, _ask(mount)) for mount in found]
    if as_json:
        print_json([_described(mount, answer) for mount, answer in rows])
    elif rows:
        columns = [
            Column("MOUNTPOINT"),
            Column("PID", right=True),
            Column("UP", right=True),
            Column("CACHE", right=True),
            Column("OF", right=True),
            Column("PINNED", right=True),
            Column("FETCHED", right=True),
            Column("STORE"),
        ]
        print_table(columns, [_row(mount, answer) for mount, answer in rows])
    else:
        say("no mounts")


def _has_pins(path: Path | None) -> bool:
    """Whether the pins are meant: of the work tree that we are in, or of the one that is named."""
    if path is None:
        return pinned_work_tree_at(Path()) is not None
    return mounts.mount_of(path) is None and find_top(path) is not None


def _is_in_version(mount: mounts.Mount, path: Path) -> bool:
    """Whether `path`, which is in the mount, leads to a version or into one; else it is the mount that is meant."""
    try:
        real = mounts.within(mounts.STATUS_TIMEOUT_S, lambda: os.path.realpath(path))
    except TimeoutError:
        return False
    names = Path(os.path.relpath(real, mount.mountpoint)).parts
    return len(names) >= 2 and names[0] not in (".fsd", "..")


def _ask(mount: mounts.Mount) -> dict[str, Any] | None:
    try:
        return mounts.status_of(mount, timeout_s=mounts.STATUS_TIMEOUT_S)
    except mounts.NotAnsweringError:
        return None


def _described(mount: mounts.Mount, answer: dict[str, Any] | None) -> dict[str, Any]:
    known = {"mountpoint": mount.mountpoint, "store": mount.source, "answering": answer is not None}
    if answer is None:
        return known
    started = {"started": json_time(answer["started_us"]), "uptime_s": round(_uptime_s(answer), 3)}
    return known | started | {name: value for name, value in answer.items() if name != "started_us"}


def _row(mount: mounts.Mount, answer: dict[str, Any] | None) -> list[str]:
    if answer is None:
        return [shown(mount.mountpoint), NOT_ANSWERING, "", "", "", "", "", shown(mount.source)]
    cache = answer["cache"]
    return [
        shown(mount.mountpoint),
        str(answer["pid"]),
        duration(_uptime_s(answer)),
        format_size(cache["used_bytes"]),
        format_size(cache["limit_bytes"]),
        format_size(cache["pinned_bytes"]),
        format_size(cache["fetched_bytes"]),
        shown(mount.source),
    ]


def _uptime_s(answer: dict[str, Any]) -> float:
    return max(0, now_us() - int(answer["started_us"])) / 1e6


def _watchdog_s(environment: Mapping[str, str]) -> float | None:
    """What the service manager demands of us (sd_watchdog_enabled(3))."""
    microseconds = environment.get("WATCHDOG_USEC", "")
    is_ours = environment.get("WATCHDOG_PID", "") in ("", str(os.getpid()))
    return int(microseconds) / 1e6 if is_ours and microseconds.isdecimal() else None


def _mountpoint(invocation: Invocation) -> Path:
    """The one of the configuration. Raises UsageError."""
    mountpoint = invocation.settings.mountpoint
    if mountpoint is None:
        raise UsageError("missing argument MOUNTPOINT", hint="give one, or set mountpoint in the configuration")
    return mountpoint
