"""The configuration of a running mount, read again: what can change without a new mount does, and what cannot is named.

SIGHUP      read the configuration again
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import AsyncIterator, Callable, Sequence

import trio

from fsd.cache.cache import Cache
from fsd.config import Config, format_size
from fsd.daemon import logs
from fsd.daemon.notify import Notifier
from fsd.daemon.service import describe
from fsd.daemon.settings import MountSettings
from fsd.errors import FsdError
from fsd.limits import Limits

log = logging.getLogger(__name__)

CHANGEABLE = frozenset(
    {
        "cache_bytes",
        "entry_timeout_s",
        "fetch_ahead_requests",
        "fetch_attempts",
        "fetch_bytes",
        "fetch_requests",
        "fetch_slow_s",
        "range_gap_bytes",
        "read_deadline_s",
        "refs_ttl_s",
        "refs_wait_s",
        "stop_wait_s",
    }
)
"""The limits that are heeded from the moment they are read again. The others belong to what a mount is made of: its
store's client, its threads and tables, what the kernel was told."""

Taker = Callable[[Limits], None]
"""Heeds other limits from now on."""


class Reloader:
    """Reads the configuration again."""

    def __init__(self, settings: MountSettings, cache: Cache, notifier: Notifier, takers: Sequence[Taker]) -> None:
        """`takers`, in this order, are told which limits hold."""
        self._settings = settings
        self._cache = cache
        self._notifier = notifier
        self._takers = takers
        self._limits = settings.limits
        self._log_format = settings.log_format
        self._log_level = settings.log_level

    async def run(self, signals: AsyncIterator[int]) -> None:
        """Do so at each signal, for ever. What is wrong in the files is logged, and then nothing changes."""
        async for _ in signals:
            self._notifier.reloading()
            await self.reload()
            self._notifier.ready(describe(self._settings, self._cache))

    async def reload(self) -> None:
        """Do so now."""
        source = self._settings.config
        if source is None:
            log.info("there is no configuration to read again")
            return
        try:
            self._apply(await trio.to_thread.run_sync(source.load))
        except FsdError as error:
            log.error("the configuration stays as it was: %s", error)

    def _apply(self, read: Config) -> None:
        old, new = dataclasses.asdict(self._limits), dataclasses.asdict(read.limits)
        changed = {name for name in new if new[name] != old[name]}
        now = sorted(changed & CHANGEABLE)
        if now:
            self._limits = dataclasses.replace(self._limits, **{name: new[name] for name in now})
            for take in self._takers:
                take(self._limits)
        told = [f"{name} = {_shown(name, new[name])}" for name in now] + self._log_as(read)
        if told:
            log.info("this holds from now on: %s", ", ".join(told))
        later = sorted(changed - CHANGEABLE) + self._others(read)
        if later:
            log.warning("this takes effect when it is mounted again: %s", ", ".join(later))
        elif not told:
            log.info("the configuration is as it was")

    def _log_as(self, read: Config) -> list[str]:
        """Log as it says from now on; what of that is new. A level that somebody asked for meanwhile ends with this."""
        told = []
        if read.log_format != self._log_format:
            told.append(f"log_format = {read.log_format}")
            form = logs.chosen_form(read.log_format, self._settings.journal_stream)
            logs.set_up(form, read.log_level, timed=self._settings.logs_times)
        logs.set_level(read.log_level)
        if read.log_level != self._log_level:
            told.append(f"log_level = {read.log_level}")
        self._log_format, self._log_level = read.log_format, read.log_level
        return told

    def _others(self, read: Config) -> list[str]:
        """The keys of a mount that are not what they were."""
        settings = self._settings
        others = {
            "store": read.store not in (None, settings.store),
            "mountpoint": read.mountpoint not in (None, settings.mountpoint),
            "allow_other": read.allow_other != settings.allow_other,
            "cache_dir": read.cache_dir not in (None, settings.cache),
            "metrics": read.metrics != settings.metrics,
        }
        return [name for name, is_changed in others.items() if is_changed]


def _shown(name: str, value: float) -> str:
    return format_size(int(value)) if name.endswith("_bytes") else f"{value:g}"
