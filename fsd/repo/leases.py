"""Leases: a publisher's word that something is going on, which gc waits for; and what gc is about to delete, which a
publisher must not build upon.

Whoever is going to name objects that are in the store already (whoever publishes, tags, moves a branch or takes
subsets) holds a lease while at it. The order matters, on both sides:

    publisher   writes its lease, *then* looks what is being swept
    collector   makes a sweep visible, *then* looks which leases there are; waits until these are over, *then* marks

So each publisher either knows of a sweep, and does not build on what is listed there, or is waited for, and what it
named is found by the mark. No clock of a machine is compared with that of another: a lease is over when it was removed,
or was not renewed for as long as it says, by the store's own time.

A publisher that could not renew its lease in time (its machine slept) must not move a ref any more: `check` says so.
"""

from __future__ import annotations

import os
import platform
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import trio

from fsd.clock import Clock, boot_time_s
from fsd.errors import ConflictError, FsdError, NotFoundError
from fsd.format.condemned import SWEEP, Condemnation, parse_condemnation
from fsd.format.keys import CONDEMNED, condemned_key, expired_key, lease_key
from fsd.format.lease import Lease, encode_lease
from fsd.limits import Limits
from fsd.stores.base import ObjectNotFoundError, Store
from fsd.tasks import gather

_REMOVE_TIMEOUT_S = 5.0
"""For taking a lease back at the end. One that stays is over by itself."""

_RENEWALS = 8
"""Tries of renewing a lease in the time for which it holds."""


class Sweeping:
    """What is about to be deleted, over all sweeps that have begun."""

    def __init__(self, condemnations: list[Condemnation]) -> None:
        self.is_pending = bool(condemnations)
        """Whether any object that is met may be about to go: then it is written again, by which it stays."""
        self.packs: frozenset[bytes] = frozenset().union(*(each.packs for each in condemnations))
        self.commits: frozenset[bytes] = frozenset().union(*(each.commits for each in condemnations))


NOTHING = Sweeping([])


async def read_sweeping(store: Store, limits: Limits) -> Sweeping:
    """What is being swept now. A listing, and a request for each sweep."""
    names = [
        info.key.removeprefix(CONDEMNED).removesuffix(f".{SWEEP}")
        async for info in store.list(CONDEMNED)
        if info.key.endswith(f".{SWEEP}")
    ]

    async def read(name: str) -> Condemnation | None:
        key = condemned_key(name)
        try:
            return parse_condemnation((await store.get(key)).data, f"{key} in {store.url}")
        except ObjectNotFoundError:
            return None  # it was carried out meanwhile

    found = await gather(read, names, tasks=limits.publish_requests)
    return Sweeping([each for each in found if each is not None])


class Leases:
    """One process's. `sweeping` is what the writers of a store go by while a lease is held."""

    def __init__(
        self, store: Store, clock: Clock, limits: Limits, *, elapsed_s: Callable[[], float] = boot_time_s
    ) -> None:
        """`elapsed_s` tells seconds since whenever, also those while the machine slept."""
        self._store = store
        self._clock = clock
        self._limits = limits
        self._elapsed_s = elapsed_s
        self._holders = 0
        self._left = trio.lowlevel.ParkingLot()
        """Where the first holder waits for the others."""
        self._purpose = ""
        self._nursery: trio.Nursery | None = None
        self._taking = trio.Lock()
        self._key = ""
        """'' until it is taken."""
        self._trusted_until_s = 0.0
        self.sweeping = NOTHING

    @asynccontextmanager
    async def held(self, purpose: str) -> AsyncIterator[None]:
        """Hold a lease from the first `take` on; within another one of the same process it is that one.

        The first to hold it ends when the others have. `purpose` is for people. Taking it is two requests, giving it
        back one, and one more each two minutes.
        """
        if self._nursery is not None:
            self._holders += 1
            try:
                yield
            finally:
                self._holders -= 1
                self._left.unpark_all()
            return
        failure: BaseException | None = None
        key = ""
        self._holders, self._purpose = 1, purpose
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                try:
                    yield
                except BaseException as error:
                    # Raised below: it is the caller's own, and no matter of this nursery's.
                    failure = error
                finally:
                    self._holders -= 1
                    with trio.CancelScope(shield=True):
                        # Other tasks that publish with this lease are owed it until they are done.
                        while self._holders:
                            await self._left.park()
                    key, self._key = self._key, ""
                    self._nursery, self.sweeping = None, NOTHING
                    nursery.cancel_scope.cancel()
        finally:
            if key:
                with trio.move_on_after(_REMOVE_TIMEOUT_S, shield=True), suppress(FsdError):
                    await self._store.delete(key)
        if failure is not None:
            raise failure

    async def take(self) -> None:
        """Before anything is written, and before anything is taken to be there. Nothing happens where none is held.

        Raises what a store raises.
        """
        async with self._taking:
            if self._key or self._nursery is None:
                return
            key = lease_key(secrets.token_hex(16))
            who = f"process {os.getpid()} on {platform.node()}"
            lease = Lease(who, self._purpose, self._clock(), round(self._limits.lease_s))
            self._trusted_until_s = self._trust_s()
            await self._store.put_if_absent(key, encode_lease(lease))
            self._key = key
            self.sweeping = await read_sweeping(self._store, self._limits)
            self._nursery.start_soon(self._renew, key, lease)

    def check(self) -> None:
        """Before a ref is moved. Raises ConflictError if the lease was not renewed in time."""
        if self._key and self._is_lost():
            raise ConflictError(
                f"nothing was heard from {self._store.url} for too long, and what was reused may be gone",
                hint="nothing was lost; try again",
            )

    async def check_kept(self, commit: bytes) -> None:
        """Before an older commit is named by a ref, or built upon. One request. Raises NotFoundError if its files are
        gone, or about to be."""
        await self.take()
        if commit not in self.sweeping.commits:
            try:
                await self._store.stat(expired_key(commit))
            except ObjectNotFoundError:
                return
        raise NotFoundError(
            f"the files of commit {commit.hex()[:12]} were given up for deletion by 'fsd gc'",
            hint="use another commit; 'fsd log' shows which there are",
        )

    def _trust_s(self) -> float:
        """Until when a lease that is written now is certainly held, by whosever clock."""
        return self._elapsed_s() + self._limits.lease_s - self._limits.lease_margin_s

    def _is_lost(self) -> bool:
        return self._elapsed_s() > self._trusted_until_s

    async def _renew(self, key: str, lease: Lease) -> None:
        """Write the lease anew, again and again. Once it was lost it stays lost: somebody may have acted on that."""
        while not self._is_lost():
            await trio.sleep(self._limits.lease_s / _RENEWALS)
            if self._is_lost():
                return
            lease = lease._replace(renewals=lease.renewals + 1)
            trusted_until_s = self._trust_s()
            with suppress(FsdError):  # the store may be back the next time
                await self._store.overwrite(key, encode_lease(lease))
                self._trusted_until_s = trusted_until_s
