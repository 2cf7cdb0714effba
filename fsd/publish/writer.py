"""Writing objects after what they name: packs, then recipes, then pages, then indexes.

Pages and recipes say where chunks lie. Whoever meets a page in the store goes on with its placements, so a page must
not be there before its packs are, or a publisher killed in between would leave a hole for the next one who makes the
same page. But pages are made while packs are being filled. So `DeferredWriter` takes an object at once, seals it (which
makes it small), and writes it when all packs that were begun before are durable, and all objects that it may name.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import trio

from fsd.format.envelope import seal
from fsd.format.keys import ObjectKind
from fsd.repo.leases import Leases
from fsd.repo.objects import ObjectWriter
from fsd.stores.base import Store


class Order:
    """Which of the things begun so far are durable. They are numbered from 1 as they are begun."""

    def __init__(self) -> None:
        self.begun = 0
        self.durable = 0
        """Everything up to this number is durable."""
        self._ahead: set[int] = set()

    def begin(self) -> int:
        """The number of one more."""
        self.begun += 1
        return self.begun

    def note_durable(self, number: int) -> None:
        """That one is durable."""
        self._ahead.add(number)
        while self.durable + 1 in self._ahead:
            self.durable += 1
            self._ahead.remove(self.durable)


class _Waiting(NamedTuple):
    number: int
    after_packs: int
    """Every pack up to this number must be durable,"""
    after_objects: int
    """and every object up to this one."""
    kind: ObjectKind
    object_id: bytes
    stored: bytes


class DeferredWriter(ObjectWriter):
    """An `ObjectWriter` whose objects are durable only once `drain` has returned. For the tasks of one trio loop.

    `run` does the writing, in a nursery of the publisher's.
    """

    def __init__(self, store: Store, packs: Order, leases: Leases | None = None) -> None:
        super().__init__(store, leases)
        self._packs = packs
        self._objects = Order()
        self._last_recipe = 0
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
            after = self._named_by(kind, placement)
            number = self._objects.begin()
            if kind is ObjectKind.RECIPE:
                self._last_recipe = number
            self._waiting.append(_Waiting(number, self._packs.begun, after, kind, object_id, stored))
            self.waiting_bytes += len(stored)
            self.wake()
        return object_id

    def _named_by(self, kind: ObjectKind, placement: bytes) -> int:
        """The last object that one of this kind may name."""
        if kind is ObjectKind.PAGE:
            return self._last_recipe
        if kind is ObjectKind.RECIPE and placement:
            return 0
        return self._objects.begun

    def wake(self) -> None:
        """Something changed that `run` or `drain` may wait for."""
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    async def run(self, tasks: int) -> None:
        """Write what may be written, at most `tasks` objects at once, until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                changed = self._changed
                while self._writing < tasks and self._waiting and self._is_due(self._waiting[0]):
                    self._writing += 1
                    nursery.start_soon(self._write, self._waiting.popleft())
                await changed.wait()

    def _is_due(self, waiting: _Waiting) -> bool:
        return waiting.after_packs <= self._packs.durable and waiting.after_objects <= self._objects.durable

    async def drain(self) -> None:
        """Wait until all objects are durable. All packs must have been ended, or this waits for ever."""
        while self._waiting or self._writing:
            await self._changed.wait()

    async def _write(self, waiting: _Waiting) -> None:
        await self._put(waiting.kind, waiting.object_id, waiting.stored)
        self._objects.note_durable(waiting.number)
        self._writing -= 1
        self.waiting_bytes -= len(waiting.stored)
        self.wake()
