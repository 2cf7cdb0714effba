"""`fsd daemon`: what is asked of a mount's daemon that is not about one path."""

from __future__ import annotations

import json
from pathlib import Path

import click

from fsd.config import LOG_LEVELS, format_size
from fsd.daemon import mounts
from fsd.daemon.control_client import ask
from fsd.errors import NotFoundError, UsageError
from fsd_cli.output import json_option, print_json, print_table, say, write_bytes
from fsd_cli.text import Column, local_time, shown

_mountpoint = click.argument("mountpoint", type=Path, required=False)


@click.group()
def daemon() -> None:
    """Ask a mount's daemon what is not about one path. MOUNTPOINT may be left out where there is one mount."""


@daemon.command()
@_mountpoint
@json_option
def errors(mountpoint: Path | None, as_json: bool) -> None:
    """Show for what somebody got an error instead of bytes, and why; the last one at the end."""
    found = json.loads(ask(_mount(mountpoint), "/v1/errors"))
    if as_json:
        print_json(found)
        return
    if not found:
        say("no errors")
        return
    columns = [Column("LAST"), Column("TIMES", right=True), Column("WHAT"), Column("WHY")]
    rows = [(local_time(each["last_us"]), str(each["count"]), shown(each["what"]), each["message"]) for each in found]
    print_table(columns, rows)


@daemon.command()
@_mountpoint
@json_option
def files(mountpoint: Path | None, as_json: bool) -> None:
    """Show files that are being read, those of a single chunk left out; the last one at the end."""
    found = json.loads(ask(_mount(mountpoint), "/v1/files"))
    if as_json:
        print_json(found)
    elif found:
        rows = [(format_size(each["bytes"]), shown(each["path"])) for each in found]
        print_table([Column("SIZE", right=True), Column("FILE")], rows)
    else:
        say("no files")


@daemon.command()
@_mountpoint
def refresh(mountpoint: Path | None) -> None:
    """Ask the store now for what is new, rather than within seconds. Exit code 5 if it does not answer."""
    ask(_mount(mountpoint), "/v1/refresh", {})


@daemon.command("log-level")
@click.argument("level", type=click.Choice(LOG_LEVELS), required=False)
@_mountpoint
def log_level(level: str | None, mountpoint: Path | None) -> None:
    """Show what the daemon logs at least, or change it until it ends or is reloaded."""
    answer = ask(_mount(mountpoint), "/v1/log-level", None if level is None else {"level": level})
    say(json.loads(answer)["level"])


@daemon.command()
@_mountpoint
def metrics(mountpoint: Path | None) -> None:
    """Print metrics, as Prometheus reads them."""
    write_bytes(ask(_mount(mountpoint), "/metrics"))


def _mount(mountpoint: Path | None) -> mounts.Mount:
    """The one that is meant."""
    if mountpoint is not None:
        around = mounts.mount_of(mountpoint)
        if around is None:
            raise NotFoundError(f"{mountpoint} is in no mount of fsd")
        return around
    found = [mount for mount in mounts.list_mounts() if mount.type == mounts.FILESYSTEM_TYPE]
    if not found:
        raise NotFoundError("there is no mount of fsd")
    if len(found) > 1:
        places = ", ".join(mount.mountpoint for mount in found)
        raise UsageError("there are several mounts", hint=f"name one of {places}")
    return found[0]
