"""Reading in many threads, the results in tree order, a bounded number of bytes in between.

One task takes batches from the delta and starts the work on each in a thread; the results stand in a queue of slots, in
the order of the batches, and whoever consumes waits for the first slot. Bytes are admitted by that one task, in order,
so that the batch everybody waits for is never the one without room.

Threads share the interpreter's lock. Files of 20 KB and more are mostly worked on without it (reading, cutting,
hashing, compressing), and threads are worth their number. With tiny ones they take turns: two threads were measured to
be half as fast as one, for the system's time in handing the lock over, unless they wait for a disk or a file server. So
tiny files are read by one thread as long as the processors are busy, and by all when they are not.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from functools import partial

import trio

from fsd.format.chunker import ChunkerParams
from fsd.limits import Limits
from fsd.publish.ahead import PagesAhead
from fsd.publish.delta import Batch
from fsd.publish.ingest import MightHold, Read, ReadFile, Source, Window, form_chunks, read_batch, window_bytes
from fsd.publish.progress import Progress
from fsd.publish.source import Found

CHANGE_BYTES = 1024
"""What a change occupies besides its content."""

TINY_BYTES = 8 * 1024
"""Mean size of the files in a batch below which threads are in each other's way."""

_BUSY = 0.7
"""Processor seconds a second above which whoever reads is not waiting for a disk."""

_MEASURED_S = 0.25

_MAX_SLOTS = 1_000_000
"""Slots are bounded by the bytes admitted for them, empty batches apart."""


class _Slot:
    """A place in the order of results."""

    def __init__(self, admitted: int) -> None:
        self.admitted = admitted
        self.done = trio.Event()
        self.reads: Sequence[Read] = ()


class _TinyFiles:
    """How many threads may read tiny files."""

    def __init__(self, most: int) -> None:
        self.threads = trio.CapacityLimiter(1)
        self._most = most
        self._since_s = time.monotonic()
        self._busy_s = time.process_time()

    def adapt(self) -> None:
        """Look at how busy the process was, now and then."""
        now_s, busy_s = time.monotonic(), time.process_time()
        passed_s = now_s - self._since_s
        if passed_s >= _MEASURED_S:
            share = (busy_s - self._busy_s) / passed_s
            self.threads.total_tokens = 1 if share > _BUSY else self._most
            self._since_s, self._busy_s = now_s, busy_s


class Pipeline:
    """Reads the batches of one delta. `run` is a task of its own; `results` is for one other task."""

    def __init__(
        self,
        source: Source,
        params: ChunkerParams,
        might_hold: MightHold,
        limits: Limits,
        progress: Progress,
        before_reading: Callable[[], Awaitable[None]],
        ahead: PagesAhead | None = None,
    ) -> None:
        """`before_reading` is awaited once, before the first file is read, and never if there is none to read. `ahead`
        is told of all changes."""
        self._source = source
        self._params = params
        self._might_hold = might_hold
        self._progress = progress
        self._before_reading: Callable[[], Awaitable[None]] | None = before_reading
        self._ahead = ahead
        self._threads = trio.CapacityLimiter(limits.publish_threads)
        self._tiny_files = _TinyFiles(limits.publish_threads)
        self._capacity = limits.publish_queue_bytes
        self._admitted = 0
        self._room = trio.Event()
        self._send, self._receive = trio.open_memory_channel[_Slot](_MAX_SLOTS)
        self.files_read = 0
        self.bytes_read = 0

    async def run(self, batches: Iterator[Batch]) -> None:
        """Read all batches."""
        async with self._send, trio.open_nursery() as nursery:
            while (batch := await trio.to_thread.run_sync(next, batches, None)) is not None:
                self._progress.unchanged(batch.unread_entries, batch.unread_bytes)
                if not batch.changes:
                    continue
                if self._ahead is not None:
                    self._ahead.expect(batch.changes)
                if batch.bytes and self._before_reading is not None:
                    await self._before_reading()
                    self._before_reading = None
                first = batch.changes[0]
                if batch.is_alone and batch.bytes > self._params.whole_file and isinstance(first, Found):
                    await self._run_large(first, nursery)
                else:
                    read = partial(read_batch, self._source, batch.changes, self._params, self._might_hold)
                    slot = await self._admit(batch.bytes + CHANGE_BYTES * len(batch.changes))
                    is_tiny = batch.bytes < TINY_BYTES * len(batch.changes)
                    if is_tiny:
                        self._tiny_files.adapt()
                    nursery.start_soon(self._fill, slot, read, self._tiny_files.threads if is_tiny else self._threads)

    async def results(self) -> AsyncGenerator[Sequence[Read]]:
        """What was read, in tree order. Its memory is free for others once the next is asked for."""
        async for slot in self._receive:
            await slot.done.wait()
            yield slot.reads
            slot.reads = ()
            self._admitted -= slot.admitted
            room, self._room = self._room, trio.Event()
            room.set()

    async def _admit(self, size: int) -> _Slot:
        while self._admitted and self._admitted + size > self._capacity:
            await self._room.wait()
        self._admitted += size
        slot = _Slot(size)
        await self._send.send(slot)
        return slot

    async def _run_large(self, found: Found, nursery: trio.Nursery) -> None:
        large = self._source.open_large(found, self._params)
        try:
            content = None
            while content is None:
                slot = await self._admit(min(found.size, window_bytes(self._params)))
                window = await trio.to_thread.run_sync(large.next_window, limiter=self._threads)
                content = window.content
                nursery.start_soon(self._fill, slot, partial(self._form, found, window), self._threads)
        finally:
            large.close()

    def _form(self, found: Found, window: Window) -> list[Read]:
        return [ReadFile(found, form_chunks(window, self._might_hold), window.content)]

    async def _fill(self, slot: _Slot, read: Callable[[], list[Read]], threads: trio.CapacityLimiter) -> None:
        slot.reads = await trio.to_thread.run_sync(read, limiter=threads)
        files = size = 0
        for each in slot.reads:
            if isinstance(each, ReadFile):
                files += each.content is not None
                size += sum(chunk.length for chunk in each.chunks)
        self.files_read += files
        self.bytes_read += size
        self._progress.read(files, size)
        slot.done.set()
