"""How a command starts the daemon of a mount, or becomes it. Imports nothing that a daemon needs."""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path
from typing import NoReturn

from fsd.daemon.settings import MountSettings
from fsd.daemon.start import start


def start_daemon(settings: MountSettings, logs: Path) -> None:
    """Start the daemon and wait until its mount is ready. Its log is in the folder `logs`. Raises StartError."""
    start(
        lambda descriptor: _command(dataclasses.replace(settings, ready_descriptor=descriptor)),
        _log_of(logs, settings.mountpoint),
        timeout_s=settings.limits.ready_timeout_s,
    )


def become_daemon(settings: MountSettings) -> NoReturn:
    """Go on as the daemon."""
    command = _command(settings)
    sys.stdout.flush()
    os.execv(command[0], command)


def absolute_store(store: str) -> str:
    """The daemon runs elsewhere, so a relative path would mean another folder there."""
    return store if "://" in store or not store else os.path.abspath(store)


def _command(settings: MountSettings) -> list[str]:
    # -P: the working directory is nobody's module path.
    return [sys.executable, "-P", "-m", "fsd_cli.serve", settings.to_json()]


def _log_of(logs: Path, mountpoint: Path) -> Path:
    """A log for each mountpoint: `/mnt/data` has `mnt-data.log`."""
    name = str(mountpoint).strip("/").replace("/", "-") or "root"
    return logs / f"{name[-200:]}.log"
