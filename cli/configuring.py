"""`fsd config`: which settings hold, from where, and whether the files that say so are right."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import click

from fsd.config import find_problems, format_size
from fsd.errors import UsageError
from fsd.limits import Limits
from fsd.surroundings import STORE_VARIABLE
from fsd_cli.context import Invocation, pass_invocation
from fsd_cli.output import json_option, print_json, print_table, say
from fsd_cli.text import Column, count, shown

DEFAULT = "default"
"""Where a setting comes from that nobody made."""


class Setting(NamedTuple):
    """One setting as it holds."""

    key: str
    """As in a file; `limits.NAME` for a limit."""
    value: str | int | float | bool | None
    """Sizes in bytes; None where the default depends on the store, or there is none."""
    origin: str
    """A file's path, `FSD_STORE`, `--store` or `default`."""


@click.group()
def config() -> None:
    """Show or check the configuration: /etc/fsd/*.toml and ~/.config/fsd/config.toml, or --config FILE."""


@config.command()
@click.option("--all", "with_defaults", is_flag=True, help="Show also the limits that are as they are by default.")
@json_option
@pass_invocation
def show(invocation: Invocation, with_defaults: bool, as_json: bool) -> None:
    """Show the settings that hold, and where each comes from."""
    settings = list(_settings(invocation))
    if as_json:
        print_json([{"key": key, "value": value, "from": origin} for key, value, origin in settings])
        return
    told = [each for each in settings if with_defaults or each.origin != DEFAULT or not _is_limit(each)]
    columns = [Column("KEY"), Column("VALUE"), Column("FROM")]
    print_table(columns, [(each.key, _readable(each), shown(each.origin)) for each in told])
    if len(told) < len(settings):
        say(f"and {count(len(settings) - len(told), 'limit')} at their defaults; --all shows them")


@config.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=False)
@json_option
@pass_invocation
def check(invocation: Invocation, file: Path | None, as_json: bool) -> None:
    """Say what is wrong in FILE, or in each file that counts. Exit code 2 if anything is."""
    files = [file] if file is not None else invocation.config_files
    found = {path: find_problems(path, home=invocation.home) for path in files}
    wrong = sum(map(len, found.values()))
    if as_json:
        print_json([_described(path, problems) for path, problems in found.items()])
    else:
        for path, problems in found.items():
            for problem in problems:
                say(shown(str(problem)))
            if not problems:
                say(f"{shown(os.fspath(path))}: right")
        if not found:
            say("there is no configuration file: everything is at its default")
    if wrong:
        raise UsageError(f"{count(wrong, 'mistake')} in the configuration")


def _settings(invocation: Invocation) -> Iterator[Setting]:
    configured = invocation.settings
    origins = {key: os.fspath(path) for key, path in configured.origins.items()}
    if invocation.store is not None:
        origins["store"] = "--store"
    elif invocation.environment.get(STORE_VARIABLE):
        origins["store"] = STORE_VARIABLE
    values = {
        "store": invocation.store_url,
        "mountpoint": _text(configured.mountpoint),
        "allow_other": configured.allow_other,
        "cache_dir": _text(configured.cache_dir),
        "cache_size": configured.cache_size,
        "log_format": configured.log_format,
        "log_level": configured.log_level,
        "metrics": _address(configured.metrics),
    }
    for key, value in values.items():
        yield Setting(key, value, origins.get("limits.cache_bytes" if key == "cache_size" else key, DEFAULT))
    for each in fields(Limits):
        if each.name != "cache_bytes":  # which is called cache_size above
            key = f"limits.{each.name}"
            yield Setting(key, getattr(configured.limits, each.name), origins.get(key, DEFAULT))


def _is_limit(setting: Setting) -> bool:
    return setting.key.startswith("limits.")


def _text(path: Path | None) -> str | None:
    return None if path is None else os.fspath(path)


def _address(address: tuple[str, int] | None) -> str | None:
    if address is None:
        return None
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _readable(setting: Setting) -> str:
    value = setting.value
    if value is None:
        return "the store's own, below the user's cache folder" if setting.key == "cache_dir" else "-"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and (setting.key.endswith("_bytes") or setting.key == "cache_size"):
        return format_size(value)
    return shown(value) if isinstance(value, str) else f"{value:g}"


def _described(path: Path, problems: list[UsageError]) -> dict[str, Any]:
    return {
        "file": os.fspath(path),
        "problems": [{"message": problem.message, "hint": problem.hint} for problem in problems],
    }
