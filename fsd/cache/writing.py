"""From a range that was fetched to chunks in mirrors: decompress, check, write.

Owns nothing but the order of these steps. No chunk that failed its check is ever written, and none is written over
another: a range of a mirror is claimed before (see `presence`), and what cannot lie where its placement says goes to
the overflow mirror.

Concurrency: `store` may run for many ranges at once, but never for one chunk twice (the fetcher sees to that). The
work is done in one thread job a range.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Collection
from typing import NamedTuple

import trio

from fsd.cache.eviction import Evictor
from fsd.cache.flushing import Flusher
from fsd.cache.index import Held, IndexFailedError
from fsd.cache.mirrors import BLOCK_BYTES, MAX_MIRROR_BYTES, OVERFLOW_PACK, Mirror, Mirrors
from fsd.cache.plan import Range
from fsd.cache.presence import Presence
from fsd.cache.reports import Reports
from fsd.errors import CorruptDataError
from fsd.format.model import PlacedChunk
from fsd.format.pack import decode_chunk
from fsd.ids import Buffer

log = logging.getLogger(__name__)

BATCH_BYTES = 1024 * 1024
"""Written with one call: bounded for the memory of what was decompressed."""


class Stored(NamedTuple):
    """What became of the chunks of a range."""

    kept: dict[bytes, Buffer]
    """Plaintext of those that were asked to be kept."""
    bad: dict[bytes, CorruptDataError]
    """Those whose bytes are not what their id promises."""
    written_bytes: int


class _Target(NamedTuple):
    chunk: PlacedChunk
    mirror: Mirror | None
    """None: not to be written."""
    offset: int


class MirrorWriter:
    """See the module's docstring."""

    def __init__(
        self,
        mirrors: Mirrors,
        presence: Presence,
        evictor: Evictor,
        flusher: Flusher,
        limiter: trio.CapacityLimiter,
    ) -> None:
        self._mirrors = mirrors
        self._presence = presence
        self._evictor = evictor
        self._reports = Reports(log)
        self._flusher = flusher
        self._limiter = limiter
        self._overflow_end = 0, 0
        """Number of the overflow mirror, and where the next chunk goes in it."""
        self.streamed_bytes = 0
        """Served without being kept: there was no room."""

    async def store(self, fetched: Range, body: Buffer, wanted: Callable[[], Collection[bytes]]) -> Stored:
        """Check and write the chunks of a range whose bytes are `body` (shorter than the range where the pack ended).

        `wanted` is asked, as late as possible, for the ids whose plaintext is to be returned as well. A disk that is
        full or fails is no error here: chunks are then only returned.
        """
        found = self._presence.find_many([chunk.id for chunk in fetched.chunks])
        absent = [chunk for chunk, location in zip(fetched.chunks, found, strict=True) if location is None]
        room = sum(-(-chunk.length // BLOCK_BYTES) * BLOCK_BYTES for chunk in absent) + BLOCK_BYTES
        if not absent or not await self._evictor.reserve(room):
            return await self._in_thread([_Target(chunk, None, 0) for chunk in fetched.chunks], fetched, body, wanted)
        try:
            # A claim that was made is released or added, whoever is cancelled meanwhile.
            with trio.CancelScope(shield=True):
                stored = await self._write(fetched, {chunk.id for chunk in absent}, body, wanted)
        finally:
            self._evictor.release(room)
        await self._flusher.note_written(stored.written_bytes)
        return stored

    async def _write(
        self, fetched: Range, absent: set[bytes], body: Buffer, wanted: Callable[[], Collection[bytes]]
    ) -> Stored:
        held: list[Mirror] = []
        targets: list[_Target] = []
        try:
            try:
                held.append(await self._mirrors.begin_write(fetched.pack, self._limiter))
                targets = await self._claim(fetched, absent, held)
            except (OSError, IndexFailedError) as error:
                self._reports.report(logging.WARNING, "write", "cannot write to the cache: %s", error)
                targets = [_Target(chunk, None, 0) for chunk in fetched.chunks]
            written: set[bytes] = set()
            try:
                stored = await self._in_thread(targets, fetched, body, wanted, written)
            finally:
                self._settle(targets, written, held)
            return stored
        finally:
            for mirror in held:
                mirror.end_write()

    async def _claim(self, fetched: Range, absent: set[bytes], held: list[Mirror]) -> list[_Target]:
        """Decide where each chunk goes. The mirrors that get any are in `held`, with write marks."""
        own = held[0]
        places = {
            chunk.id: Held(chunk.placement.plain_offset, chunk.length, chunk.id)
            for chunk in fetched.chunks
            if chunk.id in absent and chunk.placement.plain_offset + chunk.length <= MAX_MIRROR_BYTES
        }
        granted = dict(zip(places, self._presence.claim(own.number, places.values()), strict=True))
        targets = [
            _Target(chunk, own if granted.get(chunk.id) else None, chunk.placement.plain_offset)
            for chunk in fetched.chunks
        ]
        refused = [n for n, target in enumerate(targets) if target.mirror is None and target.chunk.id in absent]
        if refused:
            try:
                overflow = await self._mirrors.begin_write(OVERFLOW_PACK, self._limiter)
                held.append(overflow)
                for n in refused:
                    targets[n] = self._claim_overflow(targets[n].chunk, overflow)
            except BaseException:
                self._settle(targets, set(), [])
                raise
        return targets

    def _claim_overflow(self, chunk: PlacedChunk, overflow: Mirror) -> _Target:
        """A place at the end of the overflow mirror."""
        number, offset = self._overflow_end
        if number != overflow.number:
            size = os.fstat(self._mirrors.descriptor(overflow)).st_size
            offset = -(-size // BLOCK_BYTES) * BLOCK_BYTES
        self._overflow_end = overflow.number, offset + chunk.length
        place = Held(offset, chunk.length, chunk.id)
        if offset + chunk.length > MAX_MIRROR_BYTES or not all(self._presence.claim(overflow.number, [place])):
            return _Target(chunk, None, 0)
        return _Target(chunk, overflow, offset)

    def _settle(self, targets: list[_Target], written: set[bytes], held: list[Mirror]) -> None:
        """Turn claims into records where bytes were written, and give up the others."""
        used: dict[Mirror, tuple[int, int]] = {}
        """Of each mirror, the stretch without gaps that was looked at last: there may be terabytes between two."""
        for chunk, mirror, offset in targets:
            if mirror is None:
                continue
            if chunk.id in written:
                self._presence.add(mirror.number, chunk.id, offset, chunk.length)
                start, end = used.get(mirror, (offset, offset))
                if end != offset:
                    self._mirrors.use(mirror, start, end)
                    start = offset
                used[mirror] = start, offset + chunk.length
            else:
                self._presence.release(mirror.number, offset)
        for mirror, (start, end) in used.items():
            self._mirrors.use(mirror, start, end)
            mirror.is_dirty = True
        for mirror in held:
            try:
                self._mirrors.update_allocated(mirror)
            except OSError as error:
                self._reports.report(logging.WARNING, "stat", "cannot look at %s: %s", mirror.path, error)

    async def _in_thread(
        self,
        targets: list[_Target],
        fetched: Range,
        body: Buffer,
        wanted: Callable[[], Collection[bytes]],
        written: set[bytes] | None = None,
    ) -> Stored:
        try:
            jobs = [
                (chunk, self._mirrors.descriptor(mirror) if mirror is not None else -1, offset)
                for chunk, mirror, offset in targets
            ]
        except OSError as error:
            self._reports.report(logging.WARNING, "write", "cannot write to the cache: %s", error)
            jobs = [(chunk, -1, 0) for chunk, _, _ in targets]
        done: set[bytes] = set() if written is None else written
        stored, full = await trio.to_thread.run_sync(
            _decode_and_write, jobs, fetched, body, frozenset(wanted()), done, limiter=self._limiter
        )
        if full is not None:
            self._reports.report(logging.WARNING, "write", "cannot write to the cache: %s", full)
            if full.errno in (errno.ENOSPC, errno.EDQUOT):
                # Not waited for: we hold a write mark. Who comes next finds room.
                self._evictor.shrink(2 * fetched.length)
        self.streamed_bytes += sum(len(plain) for chunk, plain in stored.kept.items() if chunk not in done)
        return stored


def _decode_and_write(
    jobs: list[tuple[PlacedChunk, int, int]],
    fetched: Range,
    body: Buffer,
    keep: frozenset[bytes],
    written: set[bytes],
) -> tuple[Stored, OSError | None]:
    """In a thread. `jobs` has a descriptor (-1: none) and an offset for each chunk; `written` gets those written."""
    view = memoryview(body)
    kept: dict[bytes, Buffer] = {}
    bad: dict[bytes, CorruptDataError] = {}
    batch = _Batch(view, written)
    for chunk, descriptor, offset in jobs:
        if descriptor < 0 and chunk.id not in keep:
            continue
        start = chunk.placement.offset - fetched.start
        part = view[start : start + chunk.placement.stored]
        try:
            if len(part) != chunk.placement.stored:
                raise CorruptDataError(f"chunk {chunk.id.hex()} is cut off: its pack ends before it does")
            plain = decode_chunk(chunk.id, part, chunk.length)
        except CorruptDataError as error:
            bad[chunk.id] = error
            continue
        if chunk.id in keep:
            kept[chunk.id] = plain
        if descriptor >= 0:
            batch.add(chunk, plain, descriptor, offset, start)
    batch.write()
    return Stored(kept, bad, batch.written_bytes), batch.failed


class _Batch:
    """Chunks that are contiguous in a mirror, written with one call.

    Each call releases the interpreter's lock and must get it back from the busy event loop, which takes longer than to
    write a chunk. (A call of many buffers, pwritev, is slower than one of their concatenation.)
    """

    def __init__(self, body: memoryview, written: set[bytes]) -> None:
        self._body = body
        self._written = written
        self._ids: list[bytes] = []
        self._buffers: list[Buffer] = []
        self._bytes = 0
        self._descriptor = -1
        self._offset = 0
        self._start = -1
        """Where the chunks lie in the body, if they lie there plain and in one piece; -1 if not."""
        self.written_bytes = 0
        self.failed: OSError | None = None
        """The first error; nothing was written after it."""

    def add(self, chunk: PlacedChunk, plain: Buffer, descriptor: int, offset: int, start: int) -> None:
        """Add a chunk for byte `offset` of a mirror, whose stored form is at `start` of the body."""
        if descriptor != self._descriptor or offset != self._offset + self._bytes or self._bytes >= BATCH_BYTES:
            self.write()
            self._descriptor, self._offset, self._start = descriptor, offset, start
        if chunk.placement.stored != chunk.length or start != self._start + self._bytes:
            self._start = -1
        self._ids.append(chunk.id)
        self._buffers.append(plain)
        self._bytes += len(plain)

    def write(self) -> None:
        """Write what was added."""
        if self.failed is None and self._ids:
            try:
                self._write_all()
            except OSError as error:
                self.failed = error
            else:
                self._written.update(self._ids)
                self.written_bytes += self._bytes
        self._ids, self._buffers, self._bytes = [], [], 0

    def _write_all(self) -> None:
        if self._start >= 0:
            rest = self._body[self._start : self._start + self._bytes]
        else:
            rest = memoryview(self._buffers[0] if len(self._buffers) == 1 else b"".join(self._buffers))
        offset = self._offset
        while rest:  # once, but for a signal or a disk that is about to be full
            count = os.pwrite(self._descriptor, rest, offset)
            rest = rest[count:]
            offset += count
