"""`fsd top`: what mounts do, looked at again and again."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import click

from fsd.config import format_size
from fsd.daemon import mounts
from fsd_cli.output import is_terminal, print_table, say
from fsd_cli.text import Column, shown

_CLEAR = "\x1b[H\x1b[2J"
_LEAST_INTERVAL_S = 0.1

_COLUMNS = [
    Column("MOUNTPOINT"),
    Column("READS/s", right=True),
    Column("READ/s", right=True),
    Column("FROM STORE/s", right=True),
    Column("WAITING", right=True),
    Column("FETCHING", right=True),
    Column("CACHE", right=True),
    Column("OF", right=True),
    Column("ERRORS", right=True),
    Column("STORE"),
]


class Look(NamedTuple):
    """What the daemon of a mount had done at a moment."""

    seconds: float
    status: Mapping[str, Any] | None
    """None: it did not answer."""


@click.command()
@click.argument("mountpoint", type=Path, required=False)
@click.option(
    "-d", "--interval", type=click.FloatRange(_LEAST_INTERVAL_S), default=2.0, metavar="SECONDS", show_default=True,
    help="How often to look.",
)  # fmt: skip
@click.option("-n", "--count", type=click.IntRange(1), metavar="N", help="Look so often, and end.")
def top(mountpoint: Path | None, interval: float, count: int | None) -> None:
    """Watch what mounts do, all of them or the one at MOUNTPOINT, until Ctrl-C.

    Rates are since the look before; what waits, and is being fetched, is now. READ is what programs got from the
    daemon, which what the kernel had in its own cache is not.
    """
    before: dict[str, Look] = {}
    looked = 0
    while True:
        now = {mount: _look(mount) for mount in _mounts(mountpoint)}
        if is_terminal():
            sys.stdout.write(_CLEAR)
        if now:
            rows = [_row(mount, look, before.get(mount.mountpoint)) for mount, look in now.items()]
            print_table(_COLUMNS, rows)
        else:
            say("no mounts")
        sys.stdout.flush()
        before = {mount.mountpoint: look for mount, look in now.items()}
        looked += 1
        if looked == count:
            return
        time.sleep(interval)


def _mounts(mountpoint: Path | None) -> list[mounts.Mount]:
    if mountpoint is None:
        return [mount for mount in mounts.list_mounts() if mount.type == mounts.FILESYSTEM_TYPE]
    around = mounts.mount_of(mountpoint)
    return [] if around is None else [around]


def _look(mount: mounts.Mount) -> Look:
    try:
        return Look(time.monotonic(), mounts.status_of(mount, timeout_s=mounts.STATUS_TIMEOUT_S))
    except mounts.NotAnsweringError:
        return Look(time.monotonic(), None)


def _row(mount: mounts.Mount, look: Look, before: Look | None) -> list[str]:
    status = look.status
    if status is None:
        return [shown(mount.mountpoint), "not answering", *[""] * 7, shown(mount.source)]
    cache = status["cache"]
    # Another daemon counts from nothing.
    last = before.status if before is not None else None
    if before is None or last is None or last["pid"] != status["pid"]:
        reads, read, fetched = "", "", ""
    else:
        seconds = look.seconds - before.seconds
        # To look costs the daemon a read as well.
        made = status["requests"].get("read", 0) - last["requests"].get("read", 0) - 1
        reads = f"{max(0, made) / seconds:,.0f}"
        # A daemon that an older version started does not tell.
        read = format_size(round((status.get("read_bytes", 0) - last.get("read_bytes", 0)) / seconds))
        fetched = format_size(round((cache["fetched_bytes"] - last["cache"]["fetched_bytes"]) / seconds))
    return [
        shown(mount.mountpoint),
        reads,
        read,
        fetched,
        str(status["waiting_reads"]),
        format_size(cache["in_flight_bytes"]),
        format_size(cache["used_bytes"]),
        format_size(cache["limit_bytes"]),
        str(status["errors"]),
        shown(mount.source),
    ]
