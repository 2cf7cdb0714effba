"""Writing objects after the packs that they name: the first half of the order of writes.

Pages and recipes say where chunks lie. Whoever meets a page in the store goes on with its placements, so a page must
not be there before its packs are, or a publisher killed in between would leave a hole for the next one who makes the
same page. But pages are made while packs are being filled. So `DeferredWriter` takes an object at once, seals it (which
makes it small), and writes it when all packs that were begun before are durable.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import NamedTuple

import trio

from fsd.format.envelope import seal
from fsd.format.keys import ObjectKind, object_key
from fsd.repo.objects import ObjectWriter
from fsd.stores.base import ObjectExistsError, Store


class PackOrder:
    """Which of the packs begun so far are durable. Packs are numbered from 1 as they are begun."""

    def __init__(self) -> None:
        self.begun = 0
        self.durable = 0
        """Every pack up to this number is durable."""
        self._ahead: set[int] = set()

    def begin(self) -> int:
        """The number of one more pack."""
        self.begun += 1
        return self.begun

    def note_durable(self, number: int) -> None:
        """That pack is durable."""
        self._ahead.add(number)
        while self.durable + 1 in self._ahead:
            self.durable += 1
            self._ahead.remove(self.durable)


class _Waiting(NamedTuple):
    after: int
    """Every pack up to this number must be durable."""
    key: str
    stored: bytes


class DeferredWriter(ObjectWriter):
    """An `ObjectWriter` whose objects are durable only once `drain` has returned. For the tasks of one trio loop.

    `run` does the writing, in a nursery of the publisher's.
    """

    def __init__(self, store: Store, packs: PackOrder) -> None:
        super().__init__(store)
        self._target = store
        self._packs = packs
        self._waiting: deque[_Waiting] = deque()
        self._changed = trio.Event()
        self._writing = 0
        self._seen: set[bytes] = set()
        self.waiting_bytes = 0
        """Sealed and not yet written."""

    async def write(self, kind: ObjectKind, logical: bytes, placement: bytes = b"") -> bytes:
        """The id of the object, which will be written."""
        await trio.lowlevel.checkpoint()
        return self.write_soon(kind, logical, placement)

    def write_soon(self, kind: ObjectKind, logical: bytes, placement: bytes = b"") -> bytes:
        """The same, for who cannot wait."""
        object_id, stored = seal(kind, logical, placement)
        if object_id not in self._seen:
            self._seen.add(object_id)
            self._waiting.append(_Waiting(self._packs.begun, object_key(kind, object_id), stored))
            self.waiting_bytes += len(stored)
            self.wake()
        return object_id

    def wake(self) -> None:
        """Something changed that `run` or `drain` may wait for."""
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    async def run(self, tasks: int) -> None:
        """Write what may be written, at most `tasks` objects at once, until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                changed = self._changed
                while self._writing < tasks and self._waiting and self._waiting[0].after <= self._packs.durable:
                    self._writing += 1
                    nursery.start_soon(self._write, self._waiting.popleft())
                await changed.wait()

    async def drain(self) -> None:
        """Wait until all objects are durable. All packs must have been ended, or this waits for ever."""
        while self._waiting or self._writing:
            await self._changed.wait()

    async def _write(self, waiting: _Waiting) -> None:
        with suppress(ObjectExistsError):
            await self._target.put_if_absent(waiting.key, waiting.stored)
        self._writing -= 1
        self.waiting_bytes -= len(waiting.stored)
        self.wake()
