"""What a daemon is told when it starts. Cheap to import: the command that starts one needs it too."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fsd.config import ConfigSource
from fsd.limits import DEFAULT_LIMITS, Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class MountSettings:
    """Everything a mount depends on. Paths are absolute, so that it does not matter where the daemon runs."""

    store: str
    """The store's URL."""
    mountpoint: Path
    cache: Path | None
    """The folder of the cache; None for the store's own below `cache_home`."""
    cache_home: Path
    """Where a user's caches lie."""
    limits: Limits = DEFAULT_LIMITS
    allow_other: bool = False
    noexec: bool = False
    """The kernel runs no programs from the mount."""
    interposed: bool = True
    """Whether the C extension may be used."""
    log_format: str = "auto"
    log_level: str = "info"
    metrics: tuple[str, int] | None = None
    """Where metrics are served besides the control socket."""
    ready_descriptor: int | None = None
    """Inherited; see `lifecycle.ReadyPipe`."""
    notify_address: str = field(default="")
    """The service manager's socket, '' without one."""
    watchdog_s: float | None = None
    """The service manager kills a daemon that gives no sign of life for so long."""
    config: ConfigSource | None = None
    """Where the limits come from, to be read again on SIGHUP."""

    def to_json(self) -> str:
        """One line; `from_json` reads it. It shows in lists of processes: limits at their defaults are left out."""
        values = dataclasses.asdict(self)
        defaults = dataclasses.asdict(DEFAULT_LIMITS)
        values["limits"] = {name: value for name, value in values["limits"].items() if value != defaults[name]}
        return json.dumps(values, default=os.fspath)

    @classmethod
    def from_json(cls, text: str) -> MountSettings:
        """What `to_json` wrote. Raises ValueError, KeyError or TypeError for anything else."""
        values: dict[str, Any] = json.loads(text)
        values["mountpoint"] = Path(values["mountpoint"])
        values["cache"] = Path(values["cache"]) if values["cache"] is not None else None
        values["cache_home"] = Path(values["cache_home"])
        values["limits"] = Limits(**values["limits"])
        values["metrics"] = tuple(values["metrics"]) if values["metrics"] is not None else None
        if values["config"] is not None:
            values["config"] = _config_source(values["config"])
        return cls(**values)


def _config_source(values: dict[str, Any]) -> ConfigSource:
    return ConfigSource(
        files=tuple(map(Path, values["files"])),
        home=Path(values["home"]),
        system=Path(values["system"]) if values["system"] is not None else None,
        options=values["options"],
    )
