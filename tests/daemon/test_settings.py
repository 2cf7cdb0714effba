"""Settings survive the way to the daemon's process."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from fsd.config import ConfigSource
from fsd.daemon.settings import MountSettings
from fsd.limits import DEFAULT_LIMITS


@pytest.mark.parametrize("cache", [None, Path("/var/cache/\udce4 fsd")])
def test_settings_round_trip(cache: Path | None) -> None:
    settings = MountSettings(
        store="file:///a b",
        mountpoint=Path('/mnt/"x"\n'),
        cache=cache,
        cache_home=Path("/home/u/.cache"),
        limits=dataclasses.replace(DEFAULT_LIMITS, cache_bytes=123, read_deadline_s=0.5),
        allow_other=True,
        noexec=True,
        interposed=False,
        log_format="json",
        log_level="debug",
        metrics=("::1", 9469),
        ready_descriptor=7,
        notify_address="@x",
        watchdog_s=1.5,
        config=ConfigSource((Path("/etc/a.toml"),), Path("/home/u"), Path("/etc/fsd"), {"cache_size": "1G"}),
    )
    text = settings.to_json()
    assert "\n" not in text
    assert MountSettings.from_json(text) == settings
