"""What a running mount does for whoever looks after it: signs of life, a line on what it does, its configuration read
again, and an end that waits for readers.

    SIGTERM     unmount as soon as nobody uses the mount, after `stop_wait_s` from under those who do
    SIGINT      at once, and so does a second SIGTERM
    SIGHUP      read the configuration again; what can change without a new mount does

None of it touches the mount itself, which the same thread serves.
"""

from __future__ import annotations

import dataclasses
import logging
import signal
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import trio

from fsd.cache.cache import Cache
from fsd.config import Config, format_size
from fsd.daemon import logs, mounts
from fsd.daemon.notify import Notifier
from fsd.daemon.settings import MountSettings
from fsd.errors import FsdError
from fsd.limits import Limits

log = logging.getLogger(__name__)

_UNMOUNT_INTERVAL_S = 0.1
"""How soon the end of the last use is noticed."""

_SIGNS_PER_PERIOD = 3
"""One late sign of life is no reason to be killed."""

CHANGEABLE = frozenset({"cache_bytes"})
"""The limits that are heeded from the moment they are read again; the others belong to what a mount is made of."""


class Stopper:
    """Ends a mount, once."""

    def __init__(self, mountpoint: Path, limits: Limits, notifier: Notifier, scope: trio.CancelScope) -> None:
        self._mountpoint = mountpoint
        self._wait_s = limits.stop_wait_s
        self._notifier = notifier
        self._scope = scope
        """Of all that serves: cancelled, it takes the mount away with it."""
        self.is_mounted = False
        self._leaving = False

    async def run(self, signals: AsyncIterator[int], nursery: trio.Nursery) -> None:
        """Heed signals to end, for ever."""
        async for number in signals:
            log.info("got %s: unmounting", signal.Signals(number).name)
            self._notifier.stopping()
            if number == signal.SIGTERM and self.is_mounted and not self._leaving:
                self._leaving = True
                nursery.start_soon(self._leave)
            else:
                self._scope.cancel()

    async def _leave(self) -> None:
        """Unmount when nobody uses it any more; serve those who do until then, but not for ever."""
        with trio.move_on_after(self._wait_s):
            await self._unmount_unused()
            # That ends the session, unless the mount goes on in another namespace: a container's, for example.
            await trio.sleep_forever()
        log.warning("%s was still in use after %g s", self._mountpoint, self._wait_s)
        try:
            await trio.to_thread.run_sync(partial(mounts.unmount, self._mountpoint, lazy=True))
        except FsdError as error:
            log.info("%s", error)
        self._scope.cancel()

    async def _unmount_unused(self) -> None:
        told = False
        while True:
            try:
                await trio.to_thread.run_sync(mounts.unmount, self._mountpoint, abandon_on_cancel=True)
            except mounts.MountBusyError:
                if not told:
                    self._notifier.status(f"waiting up to {self._wait_s:g} s for those who use the mount")
                    log.info("%s is in use: waiting up to %g s", self._mountpoint, self._wait_s)
                    told = True
            except FsdError as error:  # somebody else was quicker
                log.info("%s", error)
                return
            else:
                return
            await trio.sleep(_UNMOUNT_INTERVAL_S)


async def give_signs_of_life(notifier: Notifier, period_s: float) -> None:
    """Tell the service manager, from the loop that answers the kernel, that it goes round. For ever."""
    while True:
        notifier.watchdog()
        await trio.sleep(period_s / _SIGNS_PER_PERIOD)


async def tell_status(notifier: Notifier, settings: MountSettings, cache: Cache) -> None:
    """Tell the service manager what the mount does, whenever that changes. For ever."""
    told = describe(settings, cache)  # as `ready` did a moment ago
    while True:
        status = describe(settings, cache)
        if status != told:
            notifier.status(status)
            told = status
        await trio.sleep(settings.limits.status_interval_s)


def describe(settings: MountSettings, cache: Cache) -> str:
    """What the mount does, in a line for people."""
    now = cache.statistics()
    parts = [
        f"{settings.store} at {settings.mountpoint}",
        f"{format_size(now.used_bytes)} of {format_size(now.limit_bytes)} cached",
    ]
    if now.in_flight_requests or now.waiting_requests:
        parts.append(f"fetching {format_size(now.in_flight_bytes)} in {now.in_flight_requests} requests")
    if now.failures:
        parts.append(f"{now.failures} failed")
    return ", ".join(parts)


class Reloader:
    """Reads the configuration again."""

    def __init__(self, settings: MountSettings, cache: Cache, notifier: Notifier) -> None:
        self._settings = settings
        self._cache = cache
        self._notifier = notifier
        self._limits = settings.limits

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
        if "cache_bytes" in changed:
            self._cache.resize(read.limits.cache_bytes)
            log.info("the cache may take %s now", format_size(read.limits.cache_bytes))
        logs.set_level(read.log_level)
        self._limits = dataclasses.replace(self._limits, **{name: new[name] for name in changed & CHANGEABLE})
        later = sorted(changed - CHANGEABLE) + self._others(read)
        if later:
            log.warning("this takes effect when it is mounted again: %s", ", ".join(later))
        elif not changed:
            log.info("the configuration is as it was")

    def _others(self, read: Config) -> list[str]:
        """The keys of a mount that are not what they were."""
        settings = self._settings
        others = {
            "mountpoint": read.mountpoint not in (None, settings.mountpoint),
            "cache_dir": read.cache_dir not in (None, settings.cache),
            "metrics": read.metrics != settings.metrics,
            "log_format": read.log_format != settings.log_format,
        }
        return [name for name, is_changed in others.items() if is_changed]
