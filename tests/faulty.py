"""A store with faults: wraps any other one, and does wrong what it is told to, as often as it is told to.

    store = FaultyStore(MemoryStore())
    store.inject("get_range", "packs/*", FlipBit(), times=1)
    store.inject(READS, "pages/*", Fail(StoreUnreachableError("gone")))
    stall = store.inject("get_range", "packs/*", Stall(), times=1)
    ...
    await stall.wait_met()       # somebody is waiting now; no sleep needed
    stall.remove()               # stop doing it; `stall.action.release.set()` also lets go who waits
    store.assert_all_exercised()

A fault that a test injected and never met shows that the test tests nothing: end each with `assert_all_exercised`.
`calls` lists what was asked, in order.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple, TypeVar

import trio

from fsd.ids import Buffer
from fsd.stores.base import Bookmark, Fetched, ObjectInfo, Store, Upload, Version
from fsd.stores.listing import Listing

_T = TypeVar("_T")

Operation = Literal[
    "get",
    "get_range",
    "get_tail",
    "stat",
    "list",
    "put_if_absent",
    "overwrite",
    "compare_and_swap",
    "upload",
    "upload.write",
    "upload.finish",
    "delete",
]
"""`list` is met with the prefix as its key, each time that a listing starts."""

READS: tuple[Operation, ...] = ("get", "get_range", "get_tail")
WRITES: tuple[Operation, ...] = ("put_if_absent", "overwrite", "compare_and_swap", "upload.write", "upload.finish")


@dataclass(frozen=True)
class Fail:
    """Raise `error`; with `late`, after the operation was done: the answer got lost, not the request."""

    error: Exception
    late: bool = False


@dataclass(frozen=True)
class Slow:
    """Take `seconds` longer."""

    seconds: float


@dataclass(frozen=True)
class Stall:
    """Wait until `release` is set: for ever, if nobody does."""

    release: trio.Event = field(default_factory=trio.Event)


@dataclass(frozen=True)
class Truncate:
    """Answer a read without its last `count` bytes, and say nothing of it."""

    count: int = 1


@dataclass(frozen=True)
class FlipBit:
    """Answer a read with one bit changed, in the byte at this share of what was read."""

    at: float = 0.5
    bit: int = 0


@dataclass(frozen=True)
class Lengthen:
    """Answer a read with `count` bytes more than there are."""

    count: int = 1


Action = Fail | Slow | Stall | Truncate | FlipBit | Lengthen
_BODY_ACTIONS = (Truncate, FlipBit, Lengthen)


class Call(NamedTuple):
    """Something that was asked of the store. `length` is -1 where the whole object is meant."""

    operation: Operation
    key: str
    start: int = 0
    length: int = -1


class Fault:
    """An injected fault, and how often it was met."""

    def __init__(self, operations: Sequence[Operation], pattern: str, action: Action, times: float, after: int) -> None:
        self.operations = operations
        self.pattern = pattern
        self.action = action
        self.met = 0
        self._times = times
        self._skip = after
        self._lot = trio.lowlevel.ParkingLot()

    async def wait_met(self, count: int = 1) -> None:
        """Wait until it was met `count` times, counted from the start."""
        while self.met < count:
            await self._lot.park()

    def remove(self) -> None:
        """Meet nothing from now on. What was not met is no longer missed."""
        self._times = self.met

    @property
    def exercised(self) -> bool:
        """True if it was met as often as it was meant to be; at least once, if that is without end."""
        return self.met >= (1 if self._times == math.inf else self._times)

    def meets_nowait(self, operation: Operation, key: str) -> bool:
        """Count this call, and say whether it is hit."""
        if operation not in self.operations or not fnmatch.fnmatchcase(key, self.pattern) or self.met >= self._times:
            return False
        if self._skip:
            self._skip -= 1
            return False
        self.met += 1
        self._lot.unpark_all()
        return True

    def __repr__(self) -> str:
        operations = "|".join(self.operations)
        return f"<{self.action} for {operations} of {self.pattern}, met {self.met} of {self._times} times>"


class FaultyStore:
    """See the module's docstring."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner
        self.calls: list[Call] = []
        self._faults: list[Fault] = []

    def inject(
        self,
        operations: Operation | Sequence[Operation],
        pattern: str,
        action: Action,
        *,
        times: int | None = None,
        after: int = 0,
    ) -> Fault:
        """Do `action` to the next `times` calls (None: to all) whose key matches the shell pattern, once `after` of
        them have passed unharmed. Where several faults fit a call, the first that was injected takes it."""
        chosen: tuple[Operation, ...] = (operations,) if isinstance(operations, str) else tuple(operations)
        if isinstance(action, _BODY_ACTIONS) and not set(chosen) <= set(READS):
            raise ValueError(f"{action} is for what reads: {READS}")
        fault = Fault(chosen, pattern, action, math.inf if times is None else times, after)
        self._faults.append(fault)
        return fault

    def assert_all_exercised(self) -> None:
        """Fail if a fault was not met as often as it was meant to be."""
        missed = [fault for fault in self._faults if not fault.exercised]
        assert not missed, f"faults that were never (fully) exercised: {missed}"

    @property
    def url(self) -> str:
        """The inner store's."""
        return self.inner.url

    async def get(self, key: str) -> Fetched:
        """Met as `get`."""
        fault = await self._before(Call("get", key))
        return _spoil(await self.inner.get(key), fault)

    async def get_range(self, key: str, start: int, length: int) -> Fetched:
        """Met as `get_range`."""
        fault = await self._before(Call("get_range", key, start, length))
        return _spoil(await self.inner.get_range(key, start, length), fault)

    async def get_tail(self, key: str, length: int) -> Fetched:
        """Met as `get_tail`."""
        fault = await self._before(Call("get_tail", key, 0, length))
        return _spoil(await self.inner.get_tail(key, length), fault)

    async def put_if_absent(self, key: str, data: Buffer) -> Version:
        """Met as `put_if_absent`."""
        fault = await self._before(Call("put_if_absent", key))
        return _lose(await self.inner.put_if_absent(key, data), fault)

    async def overwrite(self, key: str, data: Buffer) -> Version:
        """Met as `overwrite`."""
        fault = await self._before(Call("overwrite", key))
        return _lose(await self.inner.overwrite(key, data), fault)

    async def compare_and_swap(self, key: str, data: Buffer, expected: Version | None) -> Version:
        """Met as `compare_and_swap`."""
        fault = await self._before(Call("compare_and_swap", key))
        return _lose(await self.inner.compare_and_swap(key, data, expected), fault)

    @asynccontextmanager
    async def upload(self, key: str, *, bookmark: Bookmark | None = None) -> AsyncIterator[Upload]:
        """Met as `upload`, and then as `upload.write` and `upload.finish`."""
        fault = await self._before(Call("upload", key))
        async with self.inner.upload(key, bookmark=bookmark) as upload:
            yield _FaultyUpload(self, key, upload)
        _lose(None, fault)

    def list(self, prefix: str, *, start_after: str = "") -> Listing:
        """Met as `list`; a late failure comes when all was listed."""
        inner = self.inner.list(prefix, start_after=start_after)
        fault: Fault | None = None
        begun = False

        async def next_batch() -> Sequence[ObjectInfo]:
            nonlocal fault, begun
            if not begun:
                begun = True
                fault = await self._before(Call("list", prefix))
            async for info in inner:
                return (info,)
            return _lose((), fault)

        return Listing(next_batch)

    async def stat(self, key: str) -> ObjectInfo:
        """Met as `stat`."""
        fault = await self._before(Call("stat", key))
        return _lose(await self.inner.stat(key), fault)

    async def delete(self, key: str, expected: Version | None = None) -> None:
        """Met as `delete`."""
        fault = await self._before(Call("delete", key))
        await self.inner.delete(key, expected)
        _lose(None, fault)

    async def aclose(self) -> None:
        """Closes the inner store."""
        await self.inner.aclose()

    async def _before(self, call: Call) -> Fault | None:
        """Meet the call, do what is done before it, and hand back what is done after it."""
        self.calls.append(call)
        fault = next((fault for fault in self._faults if fault.meets_nowait(call.operation, call.key)), None)
        match fault and fault.action:
            case Fail(error, late=False):
                await trio.lowlevel.checkpoint()
                raise error
            case Slow(seconds):
                await trio.sleep(seconds)
            case Stall(release):
                await release.wait()
        return fault


class _FaultyUpload:
    def __init__(self, store: FaultyStore, key: str, inner: Upload) -> None:
        self._store = store
        self._key = key
        self._inner = inner

    async def write(self, data: Buffer) -> None:
        fault = await self._store._before(Call("upload.write", self._key, 0, memoryview(data).nbytes))
        await self._inner.write(data)
        _lose(None, fault)

    async def finish(self) -> Version:
        fault = await self._store._before(Call("upload.finish", self._key))
        return _lose(await self._inner.finish(), fault)


def _lose(answer: _T, fault: Fault | None) -> _T:
    if fault is not None and isinstance(fault.action, Fail):
        raise fault.action.error
    return answer


def _spoil(fetched: Fetched, fault: Fault | None) -> Fetched:
    data = fetched.data
    match fault and fault.action:
        case Truncate(count):
            data = data[: max(0, len(data) - count)]
        case Lengthen(count):
            data += bytes(count)
        case FlipBit(at, bit):
            assert data, "there is no bit to flip"
            spoiled = bytearray(data)
            spoiled[min(int(len(data) * at), len(data) - 1)] ^= 1 << bit
            data = bytes(spoiled)
    return replace(_lose(fetched, fault), data=data)
