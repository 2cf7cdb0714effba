"""Sweeping: what was condemned is deleted, once its grace is over and no publisher can be unaware of it.

    .sweep     the sweep is made visible: publishers who come from now on do not build on what is listed
    .leases    who was there already is written down, and waited for
    mark       (`fsd.maintenance.mark`) what the refs reach by then
    delete     what is still unreachable, at the version that was condemned: what was written anew stays

Each step can be killed and done again; several collectors may be at it. The grace is for readers, who cannot say that
they are reading.

On a store whose versions name contents (S3), an object that was written anew with equal bytes is known by its time;
what is written in the instant between that look and the deletion is not seen (docs/decisions/0120).
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import trio

from fsd.errors import CorruptDataError, FsdError
from fsd.format.condemned import NOTED_LEASES, SWEEP, Condemnation, Listed, encode_keys, parse_condemnation, parse_keys
from fsd.format.keys import CONDEMNED, LEASES, condemned_key
from fsd.format.lease import parse_lease
from fsd.maintenance.condemn import ORDER
from fsd.maintenance.mark import Reachable
from fsd.repo.repository import Repositories
from fsd.stores.base import (
    ObjectExistsError,
    ObjectInfo,
    ObjectNotFoundError,
    Store,
    VersionMismatchError,
)
from fsd.tasks import gather

_LEASE_POLL_S = 1.0
"""Between two looks whether a publisher is done."""

_LEFT_OVER_US = 86_400_000_000
"""Parts without a head are another collector's that is writing them, or after a day a killed one's."""


@dataclass
class Swept:
    """What a sweep did. Sizes in bytes."""

    deleted_objects: int = 0
    deleted_bytes: int = 0
    spared_objects: int = 0
    """Condemned, and named or written anew meanwhile."""


class Sweep:
    """One collector's. Objects are deleted `grace_s` seconds after they were condemned, or later."""

    def __init__(self, repositories: Repositories, grace_s: float, *, dry_run: bool = False) -> None:
        self._repositories = repositories
        self._store = repositories.store
        self._grace_s = grace_s
        self._dry_run = dry_run
        self.waiting: list[str] = []
        """Condemnations that may not be carried out yet, each with why: a line for people."""

    async def due(self, wait_s: float, *, only: str = "") -> list[str]:
        """The condemnations that may be carried out after a mark that begins now, or `only` that one of them.

        Their grace is over, and so is the work of who was publishing when their sweep began, which is waited for so
        long.
        """
        self.waiting = []
        until = trio.current_time() + wait_s
        now_us = await store_time_us(self._store)
        if not self._dry_run:
            await self._clear_leases(now_us)
        found: list[str] = []
        for name, made_us in await self._condemnations(now_us):
            if only not in ("", name):
                continue
            left_s = self._grace_s - (now_us - made_us) / 1e6
            # (The times of objects may be some milliseconds off.)
            if self._grace_s and left_s > 0:
                self.waiting.append(f"what was condemned as {name[:8]} is kept for {left_s / 3600:,.1f} h more")
                continue
            holder = "" if self._dry_run else await self._held_up(name, until)
            if holder:
                self.waiting.append(f"what was condemned as {name[:8]} waits for {holder}")
            else:
                found.append(name)
        return found

    async def _held_up(self, name: str, until: float) -> str:
        """Begin a sweep; who holds it up, if anybody still does at time `until` of trio's clock."""
        leases = await self._begin(name)
        while True:
            holder = await self._holder(leases)
            if not holder or trio.current_time() >= until:
                return holder
            await trio.sleep(_LEASE_POLL_S)

    async def carry_out(self, name: str, reachable: Reachable) -> Swept:
        """Delete what is listed and not reachable; then the condemnation itself."""
        swept = Swept()
        head = await self._head(name)
        if head is None:
            return swept
        parts = [condemned_key(name, str(number)) for number in range(head.parts)]
        keys: list[Listed] = []
        for part in parts:
            # Another collector may have carried it out by now.
            with suppress(ObjectNotFoundError):
                keys += parse_keys((await self._store.get(part)).data, part)
        for prefix in ORDER:
            chosen = [listed for listed in keys if listed.key.startswith(prefix)]
            await gather(
                partial(self._delete, reachable, swept), chosen, tasks=self._repositories.limits.publish_requests
            )
        if not self._dry_run:
            for key in (condemned_key(name, part) for part in (SWEEP, "", NOTED_LEASES)):
                await self._store.delete(key)
            for key in parts:
                await self._store.delete(key)
        return swept

    async def _delete(self, reachable: Reachable, swept: Swept, listed: Listed) -> None:
        if reachable.has(listed.key):
            swept.spared_objects += 1
            return
        try:
            info = await self._store.stat(listed.key)
            if (info.version, info.modified_us) != (listed.version, listed.modified_us):
                swept.spared_objects += 1
                return
            if not self._dry_run:
                await self._store.delete(listed.key, info.version)
        except ObjectNotFoundError:
            return
        except VersionMismatchError:
            swept.spared_objects += 1
            return
        swept.deleted_objects += 1
        swept.deleted_bytes += info.size

    # --- which

    async def _condemnations(self, now_us: int) -> list[tuple[str, int]]:
        """All that stand, with when they were made, the oldest first. What a killed collector left of others goes."""
        made: dict[str, int] = {}
        beside: list[ObjectInfo] = []
        async for info in self._store.list(CONDEMNED):
            name, dot, _ = info.key.removeprefix(CONDEMNED).partition(".")
            if dot:
                beside.append(info)
            else:
                made[name] = info.modified_us
        for info in beside:
            is_left_over = info.key.removeprefix(CONDEMNED).partition(".")[0] not in made
            if is_left_over and now_us - info.modified_us > _LEFT_OVER_US and not self._dry_run:
                await self._store.delete(info.key)
        return sorted(made.items(), key=lambda item: item[1])

    async def _head(self, name: str) -> Condemnation | None:
        key = condemned_key(name)
        try:
            return parse_condemnation((await self._store.get(key)).data, key)
        except ObjectNotFoundError:
            return None

    async def _begin(self, name: str) -> list[str]:
        """Make the sweep visible; the leases, by key, of those who may not know of it."""
        with suppress(ObjectExistsError):
            await self._store.put_if_absent(condemned_key(name, SWEEP), b"")
        noted = condemned_key(name, NOTED_LEASES)
        try:
            listed = parse_keys((await self._store.get(noted)).data, noted)
        except (ObjectNotFoundError, CorruptDataError):
            listed = [Listed(info.key, info.version, info.modified_us) async for info in self._store.list(LEASES)]
            await self._store.overwrite(noted, encode_keys(listed))
        return [each.key for each in listed]

    async def _clear_leases(self, now_us: int) -> None:
        """Remove those that have run out: whoever held them was killed."""
        async for info in self._store.list(LEASES):
            await self._held_by(info.key, now_us)

    async def _holder(self, leases: list[str]) -> str:
        """Who holds one of the leases, '' if nobody does. One that has run out is removed."""
        now_us = await store_time_us(self._store) if leases else 0
        for key in leases:
            holder = await self._held_by(key, now_us)
            if holder:
                return holder
        return ""

    async def _held_by(self, key: str, now_us: int) -> str:
        try:
            info = await self._store.stat(key)
            data = (await self._store.get(key)).data
        except ObjectNotFoundError:
            return ""
        who, valid_s = "a publisher", self._repositories.limits.lease_s
        try:
            lease = parse_lease(data, key)
            who, valid_s = f"{lease.who} ({lease.purpose})", float(lease.valid_s)
        except CorruptDataError:
            pass  # it still says that somebody was there
        if (now_us - info.modified_us) / 1e6 <= valid_s:
            return who
        try:
            await self._store.delete(key, info.version)
        except VersionMismatchError:
            return who
        return ""


async def store_time_us(store: Store) -> int:
    """The present by the store's own clock, in microseconds since 1970 UTC: the time of an object written now."""
    key = condemned_key("clock", secrets.token_hex(16))
    await store.put_if_absent(key, b"")
    try:
        return (await store.stat(key)).modified_us
    finally:
        with trio.CancelScope(shield=True), suppress(FsdError):
            await store.delete(key)
