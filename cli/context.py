"""What every command is given: the options of `fsd` itself, and what follows from them.

The only module that reads the environment. It imports nothing heavy, since the group and so every start of `fsd`
imports it; what opens a store stands in `opening.py`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import click

from fsd.config import Config, config_files, default_store_path, load_config

_PREFIX = "global_"
"""Of the parameters behind the global options, so that a command may have an argument called `store`."""

SYSTEM_CONFIG = Path("/etc/fsd")
STORE_VARIABLE = "FSD_STORE"


@dataclass
class Invocation:
    """One call of `fsd`. Commands get it through `pass_invocation`."""

    store: str | None = None
    """`--store`."""
    config: Path | None = None
    """`--config`; None means the usual places."""
    debug: bool = False
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)

    @property
    def home(self) -> Path:
        """The user's home folder."""
        return Path(self.environment.get("HOME") or os.path.expanduser("~"))

    def folder(self, variable: str, below_home: str) -> Path:
        """A folder of the XDG base directory specification: XDG_DATA_HOME and its like, or its place below home."""
        named = self.environment.get(variable, "")
        # The specification: a relative path is to be ignored.
        return Path(named) if named.startswith("/") else self.home / below_home

    @cached_property
    def settings(self) -> Config:
        """What the configuration files say: those at the usual places, or the one that --config names alone."""
        user = self.folder("XDG_CONFIG_HOME", ".config") / "fsd" / "config.toml"
        files = config_files(SYSTEM_CONFIG, user) if self.config is None else [self.config]
        return load_config(files, home=self.home)

    @property
    def default_store(self) -> Path:
        """The folder of the user's own store; it is there once something was published."""
        return default_store_path(self.folder("XDG_DATA_HOME", ".local/share"))

    @property
    def named_store(self) -> str | None:
        """The store that --store, FSD_STORE or the configuration names, in this order."""
        if self.store is not None:
            return self.store
        return self.environment.get(STORE_VARIABLE) or self.settings.store

    @property
    def store_url(self) -> str:
        """The store that is meant: the named one, or else the user's own."""
        named = self.named_store
        return os.fspath(self.default_store) if named is None else named


pass_invocation = click.make_pass_decorator(Invocation, ensure=True)


def run_command(context: click.Context, name: str, **arguments: object) -> None:
    """Run the command `name` of `fsd` within another one, which so needs not import its module."""
    group = context.find_root().command
    assert isinstance(group, click.Group)
    command = group.get_command(context, name)
    assert command is not None
    context.invoke(command, **arguments)


def global_options() -> list[click.Option]:
    """`--store`, `--config` and `--debug`: understood before and after the name of a command."""
    return [
        click.Option(
            ["--store", "global_store"],
            metavar="URL",
            help="The store: a folder or a URL. Default: $FSD_STORE, the configuration, a store of your own.",
            expose_value=False,
            callback=_keep,
        ),
        click.Option(
            ["--config", "global_config"],
            metavar="FILE",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help="Read this configuration instead of /etc/fsd/*.toml and ~/.config/fsd/config.toml.",
            expose_value=False,
            callback=_keep,
        ),
        click.Option(
            ["--debug", "global_debug"],
            is_flag=True,
            default=None,
            help="Show a traceback with an error.",
            expose_value=False,
            callback=_keep,
        ),
    ]


def _keep(context: click.Context, option: click.Parameter, value: object) -> None:
    """Remember the value of a global option; the last one given counts."""
    assert option.name is not None
    if value is not None:
        setattr(context.ensure_object(Invocation), option.name.removeprefix(_PREFIX), value)
