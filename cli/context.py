"""What every command is given: the options of `fsd` itself, and the environment.

No command reads that elsewhere, except for options of its own that click fills in. What follows from both (folders,
configuration, store) is said in `fsd.surroundings`. It imports nothing heavy, since the group and so every start of
`fsd` imports it; what opens a store stands in `opening.py`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from fsd.surroundings import SYSTEM_CONFIG, Surroundings

_PREFIX = "global_"
"""Of the parameters behind the global options, so that a command may have an argument called `store`."""


@dataclass
class Invocation(Surroundings):
    """One call of `fsd`, with what `--store` and `--config` said. Commands get it through `pass_invocation`."""

    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    system_config: Path = field(default_factory=lambda: SYSTEM_CONFIG)
    debug: bool = False


pass_invocation = click.make_pass_decorator(Invocation, ensure=True)


def run_command(context: click.Context, name: str, **arguments: object) -> Any:
    """Run the command `name` of `fsd` within another one, which so needs not import its module; what it returns."""
    group = context.find_root().command
    assert isinstance(group, click.Group)
    command = group.get_command(context, name)
    assert command is not None
    return context.invoke(command, **arguments)


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
