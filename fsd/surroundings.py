"""What surrounds a user's process, where it matters to fsd: the folders of the XDG base directory specification, the
configuration files, and the store that is meant where none is named.

Reads no environment: that is handed in, by the command line and by the Python API.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from fsd.config import Config, ConfigSource, config_files, default_store_path

SYSTEM_CONFIG = Path("/etc/fsd")
STORE_VARIABLE = "FSD_STORE"


@dataclass
class Surroundings:
    """See the module. Reading the configuration raises UsageError or FsdError for what is wrong in it."""

    environment: Mapping[str, str]
    store: str | None = None
    """A store that was named outright."""
    config: Path | None = None
    """A configuration file to be read alone; None means the usual places."""
    system_config: Path = field(default=SYSTEM_CONFIG)

    @property
    def home(self) -> Path:
        """The user's home folder."""
        return Path(self.environment.get("HOME") or os.path.expanduser("~"))

    def folder(self, variable: str, below_home: str) -> Path:
        """A folder of the specification: XDG_DATA_HOME and its like, or its place below home."""
        named = self.environment.get(variable, "")
        # The specification: a relative path is to be ignored.
        return Path(named) if named.startswith("/") else self.home / below_home

    @property
    def cache_home(self) -> Path:
        """Where caches are, each below it by its store's id."""
        return self.folder("XDG_CACHE_HOME", ".cache")

    @property
    def state(self) -> Path:
        """Where fsd keeps what is this user's alone: notes on published folders, edits, logs of daemons."""
        return self.folder("XDG_STATE_HOME", ".local/state") / "fsd"

    @property
    def config_files(self) -> list[Path]:
        """The configuration files that count, in the order of increasing weight."""
        if self.config is not None:
            return [self.config]
        return config_files(self.system_config, self.folder("XDG_CONFIG_HOME", ".config") / "fsd" / "config.toml")

    @property
    def config_source(self) -> ConfigSource:
        """From where the configuration is read."""
        # A file that was named is meant as it is, also one that describes a mount of the service.
        system = self.system_config if self.config is None else None
        return ConfigSource(tuple(self.config_files), self.home, system)

    @cached_property
    def settings(self) -> Config:
        """What the configuration files say."""
        return self.config_source.load()

    @property
    def default_store(self) -> Path:
        """The folder of the user's own store; it is there once something was published."""
        return default_store_path(self.folder("XDG_DATA_HOME", ".local/share"))

    @property
    def named_store(self) -> str | None:
        """The store that was named outright, or by FSD_STORE or the configuration, in this order."""
        if self.store is not None:
            return self.store
        return self.environment.get(STORE_VARIABLE) or self.settings.store

    @property
    def store_url(self) -> str:
        """The store that is meant: the named one, or else the user's own."""
        named = self.named_store
        return os.fspath(self.default_store) if named is None else named
