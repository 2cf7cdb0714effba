"""`mount.fsd`: what mount(8) runs for `mount -t fsd STORE MOUNTPOINT -o …` and for such a line of /etc/fstab.

    mount.fsd STORE MOUNTPOINT [-sfnv] [-t TYPE] [-o OPTION,…]

Ends with the codes of mount(8). Run by root, it mounts for the system: the configuration is that of /etc/fsd alone,
caches are in /var/cache/fsd, logs in /var/log/fsd. Whoever else runs it (`user` in fstab) gets a mount of their own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import click

from fsd.daemon.settings import MountSettings
from fsd.errors import UsageError
from fsd_cli.context import Invocation
from fsd_cli.failures import cause_of, message_of
from fsd_cli.launching import absolute_store, start_daemon
from fsd_cli.mount_options import MountOptions, parse_options
from fsd_cli.text import one_line

USAGE_FAILED = 1
MOUNT_FAILED = 32
"""Of the codes in mount(8)."""

_SYSTEM_FOLDERS = {"XDG_CACHE_HOME": "/var/cache", "XDG_STATE_HOME": "/var/log", "XDG_CONFIG_HOME": "/etc/fsd/none"}
"""Where root's mounts keep what users' have in their homes, whoever calls: at boot there is no home."""


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("store", metavar="STORE")
@click.argument("mountpoint", metavar="MOUNTPOINT", type=Path)
@click.option("-o", "options", metavar="OPTION,...", multiple=True, help="Mount options.")
@click.option("-t", "kind", metavar="TYPE", help="The type that mount(8) was given.")
@click.option("-s", "sloppy", is_flag=True, help="Leave out options that are not known.")
@click.option("-f", "fake", is_flag=True, help="Check everything that is said, and do not mount.")
@click.option("-n", "no_mtab", is_flag=True, help="Understood, and without effect.")
@click.option("-v", "verbose", is_flag=True, help="Say what is mounted.")
def command(
    store: str,
    mountpoint: Path,
    options: tuple[str, ...],
    kind: str | None,
    sloppy: bool,
    fake: bool,
    no_mtab: bool,
    verbose: bool,
) -> None:
    """Mount a store, for mount(8): mount -t fsd STORE MOUNTPOINT -o allow_other,cache_size=100G

    STORE is a folder or a URL, such as gs://bucket/prefix. The options are allow_other, cache_dir=PATH,
    cache_size=SIZE, config=FILE, log_format=FORMAT, log_level=LEVEL, no_interpose, noexec, any limit of the
    configuration by its name, and those of every file system.
    """
    del kind, no_mtab  # mount(8) passes them; neither changes anything
    environment = _environment()
    settings = _settings(environment, store, mountpoint, parse_options(",".join(options), sloppy=sloppy))
    if not fake:
        start_daemon(settings, Path(environment["XDG_STATE_HOME"]) / "fsd")
    if verbose:
        done = "would be" if fake else "is"
        click.echo(f"mount.fsd: {settings.store} {done} mounted at {settings.mountpoint}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `mount.fsd` with these arguments, by default those of the process, and return its exit code."""
    try:
        command.main(
            list(sys.argv[1:] if arguments is None else arguments), prog_name="mount.fsd", standalone_mode=False
        )
    except BaseException as error:
        cause = cause_of(error)
        print(f"mount.fsd: {one_line(message_of(cause))}", file=sys.stderr)
        return USAGE_FAILED if isinstance(cause, UsageError | click.UsageError) else MOUNT_FAILED
    return 0


def _environment() -> Mapping[str, str]:
    if os.geteuid() == 0:
        return {**os.environ, **_SYSTEM_FOLDERS}
    state = Path(os.environ.get("HOME") or os.path.expanduser("~")) / ".local/state"
    return {"XDG_STATE_HOME": os.fspath(state), **os.environ}


def _settings(environment: Mapping[str, str], store: str, mountpoint: Path, options: MountOptions) -> MountSettings:
    invocation = Invocation(environment=environment, config=options.config)
    source = replace(invocation.config_source, options=options.settings)
    configured = source.load()
    return MountSettings(
        store=absolute_store(store),
        mountpoint=Path(os.path.abspath(mountpoint)),
        cache=options.cache_dir or configured.cache_dir,
        cache_home=invocation.cache_home,
        limits=configured.limits,
        allow_other=configured.allow_other if options.allow_other is None else options.allow_other,
        noexec=options.noexec,
        interposed=options.interposed,
        log_format=configured.log_format,
        log_level=configured.log_level,
        metrics=configured.metrics,
        config=source,
    )
