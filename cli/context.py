"""What every command is given: the options of `fsd` itself, and what follows from them.

The only module that reads the environment. It imports nothing heavy, since the group and so every start of `fsd`
imports it; what opens a store stands in `opening.py`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import click

from fsd.limits import DEFAULT_LIMITS, Limits

_PREFIX = "global_"
"""Of the parameters behind the global options, so that a command may have an argument called `store`."""

STORE_VARIABLE = "FSD_STORE"


@dataclass
class Settings:
    store: str | None = None
    limits: Limits = DEFAULT_LIMITS


@dataclass
class Invocation:
    """One call of `fsd`. Commands get it through `pass_invocation`."""

    store: str | None = None
    """`--store`, or FSD_STORE; None leaves it to the configuration."""
    config: Path | None = None
    """`--config`; None means the usual places."""
    debug: bool = False
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)

    def settings(self) -> Settings:
        """What the configuration says."""
        return Settings()

    def default_store(self) -> Path:
        """The folder of a user's own store, which is there once something was published."""
        data = self.environment.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
        return Path(data, "fsd", "store")

    def store_url(self) -> str:
        """The store that is meant: --store, FSD_STORE, the configuration's, the user's own."""
        named = self.store or self.environment.get(STORE_VARIABLE) or self.settings().store
        return named or os.fspath(self.default_store())


pass_invocation = click.make_pass_decorator(Invocation, ensure=True)


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
