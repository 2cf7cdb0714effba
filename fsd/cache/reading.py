"""From chunks to bytes out of the mirrors: the path that every cached read takes.

Owns nothing. `*_nowait` runs in the event loop's thread and never blocks: a read with RWF_NOWAIT takes only what is
in the page cache. `read` and `read_chunk` do the same in a thread.

Every chunk of an older epoch is checked against its id before its bytes are given to anybody, and its record renewed;
one that fails is dropped, and so is fetched again.
"""

from __future__ import annotations

import errno
import logging
import os
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import NamedTuple

import trio

from fsd.cache.index import Location
from fsd.cache.mirrors import Mirror, Mirrors
from fsd.cache.presence import Presence
from fsd.cache.reports import Reports
from fsd.format.model import PlacedChunk
from fsd.ids import Buffer, content_id

log = logging.getLogger(__name__)

_LOOK_UP_CHUNKS = 32
"""Looked up together: nothing is gained by more, and where the first is absent the others were for nothing."""


_NO_EPOCH = -1
"""Unlike that of any record: whatever was checked before is checked again."""


class _Run(NamedTuple):
    """Bytes that are contiguous in a mirror."""

    mirror: Mirror
    offset: int
    length: int


class _Part(NamedTuple):
    """One chunk's part in a read."""

    chunk: bytes
    location: Location
    mirror: Mirror
    first: int
    """The first wanted byte of the chunk."""
    end: int


class Located:
    """Where the first `length` bytes of a sequence of chunks lie: all present and checked.

    It stays valid until one of its mirrors is punched; then reading through it gives None and it is of no more use.
    Knows the chunks of a large file by their runs: for a file with a mirror of its own that is one.
    """

    __slots__ = ("_generations", "_runs", "_starts", "length")

    def __init__(self, runs: list[_Run]) -> None:
        self._runs = runs
        self._starts: list[int] = []
        self._generations = {run.mirror: run.mirror.generation for run in runs}
        self.length = 0
        for run in runs:
            self._starts.append(self.length)
            self.length += run.length

    def is_valid(self) -> bool:
        """False once anything of its mirrors was evicted."""
        for mirror, generation in self._generations.items():  # noqa: SIM110 - a generator costs more than the loop
            if mirror.generation != generation:
                return False
        return True

    def runs(self, start: int, length: int) -> list[_Run]:
        """The runs of `length` bytes from `start`, all of which must lie within `self.length`."""
        position = bisect_right(self._starts, start) - 1
        found = []
        while length > 0:
            mirror, offset, run_length = self._runs[position]
            skip = start - self._starts[position]
            take = min(length, run_length - skip)
            found.append(_Run(mirror, offset + skip, take))
            start += take
            length -= take
            position += 1
        return found


class MirrorReader:
    """See the module's docstring."""

    def __init__(
        self,
        mirrors: Mirrors,
        presence: Presence,
        inline_hash_bytes: int,
        limiter: trio.CapacityLimiter,
        *,
        in_memory: bool = False,
    ) -> None:
        """`in_memory`: the mirrors are on no disk, so that a read never waits (and the file system knows no NOWAIT)."""
        self._flags = 0 if in_memory else os.RWF_NOWAIT
        self._mirrors = mirrors
        self._presence = presence
        self._inline_hash_bytes = inline_hash_bytes
        self._limiter = limiter
        self._reports = Reports(log)
        self._can_nowait = True
        self.served_bytes = 0
        self.served_reads = 0
        self.located_bytes = 0
        """Of the bytes served, those of runs of reads through large files."""
        self.dropped_chunks = 0
        """Chunks of older epochs whose bytes were not right any more."""

    # --- without waiting

    def read_nowait(self, chunks: Sequence[PlacedChunk], start: int, length: int) -> Buffer | None:
        """`length` bytes from byte `start` of `chunks`, or None where that takes a fetch, the disk or much hashing."""
        parts = self._parts(chunks, start, length)
        if parts is None or not self._check_nowait(parts):
            return None
        return self._served(self._read_runs_nowait(_runs(parts), length))

    def read_chunk_nowait(self, chunk: bytes, length: int, start: int, size: int) -> Buffer | None:
        """`size` bytes from byte `start` of one chunk of `length` bytes, the same way."""
        location = self._presence.find(chunk)
        if location is None or location.length != length:
            return None
        mirror = self._mirrors.get(location.mirror)
        if mirror is None:
            return None
        if location.epoch == self._presence.epoch:
            return self._served(self._read_runs_nowait([_Run(mirror, location.offset + start, size)], size))
        if length > self._inline_hash_bytes:
            return None
        whole = self._read_runs_nowait([_Run(mirror, location.offset, length)], length)
        if whole is None or not self._settle(chunk, location, is_right=content_id(whole) == chunk):
            return None
        return self._served(whole if size == length else memoryview(whole)[start : start + size])

    def locate(self, chunks: Sequence[PlacedChunk]) -> Located:
        """Where as many of the first of `chunks` lie as are present and checked."""
        epoch = self._presence.epoch
        parts: list[_Part] = []
        for chunk in chunks:
            location = self._presence.find(chunk.id)
            if location is None or location.epoch != epoch or location.length != chunk.length:
                break
            mirror = self._mirrors.get(location.mirror)
            if mirror is None:
                break
            parts.append(_Part(chunk.id, location, mirror, 0, chunk.length))
        return Located(_runs(parts))

    def read_located_nowait(self, located: Located, start: int, length: int) -> Buffer | None:
        """Bytes through a `Located`; None if it is no longer valid or they are not in the page cache."""
        if start + length > located.length or not located.is_valid():
            return None
        data = self._served(self._read_runs_nowait(located.runs(start, length), length))
        self.located_bytes += 0 if data is None else length
        return data

    def _parts(self, chunks: Sequence[PlacedChunk], start: int, length: int) -> list[_Part] | None:
        """The parts of the chunks that make up a read; None if one is absent."""
        parts: list[_Part] = []
        end = start + length
        at = 0
        for chunk in chunks:
            chunk_end = at + chunk.length
            if chunk_end > start:
                if at >= end:
                    break
                location = self._presence.find(chunk.id)
                if location is None or location.length != chunk.length:
                    return None
                mirror = self._mirrors.get(location.mirror)
                if mirror is None:
                    self._presence.drop(chunk.id, location)
                    return None
                parts.append(_Part(chunk.id, location, mirror, max(start - at, 0), min(end, chunk_end) - at))
            at = chunk_end
        return parts

    def _check_nowait(self, parts: list[_Part]) -> bool:
        """Check what is of an older epoch, if that is little and in the page cache. False if not."""
        epoch = self._presence.epoch
        claims = [part for part in parts if part.location.epoch != epoch]
        if not claims:
            return True
        if sum(part.location.length for part in claims) > self._inline_hash_bytes:
            return False
        for chunk, location, mirror, _, _ in claims:
            data = self._read_runs_nowait([_Run(mirror, location.offset, location.length)], location.length)
            if data is None or not self._settle(chunk, location, is_right=content_id(data) == chunk):
                return False
        return True

    def _settle(self, chunk: bytes, location: Location, *, is_right: bool) -> bool:
        """Renew or drop the record of a chunk that was checked, unless it was dropped or moved meanwhile."""
        if self._presence.find(chunk) != location:
            return False
        self._judge(chunk, location, is_right=is_right)
        return is_right

    def _judge(self, chunk: bytes, location: Location, *, is_right: bool) -> None:
        if is_right:
            self._presence.confirm(chunk, location)
        else:
            self.dropped_chunks += 1
            what = "chunk %s changed on disk in the cache; such chunks are fetched again"
            self._reports.report(logging.WARNING, "changed", what, chunk.hex())
            self._presence.drop(chunk, location)

    def _read_runs_nowait(self, runs: list[_Run], length: int) -> Buffer | None:
        if not self._can_nowait:
            return None
        buffer = bytearray(length)
        try:
            if len(runs) == 1:
                mirror, offset, _ = runs[0]
                descriptor = mirror.fd if mirror.fd >= 0 else self._mirrors.descriptor(mirror)
                if os.preadv(descriptor, (buffer,), offset, self._flags) != length:
                    return None
            else:
                view = memoryview(buffer)
                at = 0
                for mirror, offset, run_length in runs:
                    descriptor = self._mirrors.descriptor(mirror)
                    if os.preadv(descriptor, (view[at : at + run_length],), offset, self._flags) != run_length:
                        return None
                    at += run_length
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                self._can_nowait = False
            return None
        for mirror, offset, run_length in runs:
            self._mirrors.use(mirror, offset, offset + run_length)
        return buffer

    # --- in a thread

    async def look_ahead(self, chunks: Sequence[PlacedChunk]) -> Located:
        """As `locate`, after having read in a thread what is not in the page cache, and checked what is to be checked.

        What a reader of a large file asks for ahead of its reads: the look-ups are made together, and the hashing is
        done beside the event loop.
        """
        parts: list[_Part] = []
        for step in range(0, len(chunks), _LOOK_UP_CHUNKS):
            some = chunks[step : step + _LOOK_UP_CHUNKS]
            for chunk, location in zip(some, self._presence.find_many([chunk.id for chunk in some]), strict=True):
                mirror = None if location is None else self._mirrors.get(location.mirror)
                if location is None or mirror is None or location.length != chunk.length:
                    break
                parts.append(_Part(chunk.id, location, mirror, 0, chunk.length))
            if len(parts) < step + len(some):
                break
        if not parts:
            return Located([])
        generations = {part.mirror: part.mirror.generation for part in parts}
        outcome = await self._in_thread(parts, _check_runs, self._presence.epoch)
        if outcome is None or any(mirror.generation != before for mirror, before in generations.items()):
            return Located([])  # something was evicted meanwhile: whoever reads finds out what
        for part in outcome.checked:
            self._judge(part.chunk, part.location, is_right=part.chunk not in outcome.wrong)
        if outcome.wrong:
            parts = list(takewhile(lambda part: part.chunk not in outcome.wrong, parts))
        return Located(_runs(parts))

    async def verify(self, chunks: Sequence[PlacedChunk]) -> None:
        """Read and check what is present of `chunks`, whenever it was last checked. What is wrong is dropped."""
        parts: list[_Part] = []
        for chunk, location in zip(chunks, self._presence.find_many([chunk.id for chunk in chunks]), strict=True):
            mirror = None if location is None else self._mirrors.get(location.mirror)
            if location is not None and mirror is not None:
                parts.append(_Part(chunk.id, location, mirror, 0, location.length))
        outcome = await self._in_thread(parts, _check_runs, _NO_EPOCH) if parts else None
        if outcome is None:
            return
        for part in outcome.checked:
            if part.chunk in outcome.wrong or part.location.epoch != self._presence.epoch:
                self._settle(part.chunk, part.location, is_right=part.chunk not in outcome.wrong)

    async def _in_thread(
        self, parts: list[_Part], work: Callable[[list[_Part], int], _Outcome], argument: int
    ) -> _Outcome | None:
        """`work` on parts in a thread, with read marks on their mirrors; None if the disk does not read."""
        marks: list[tuple[Mirror, int]] = []
        try:
            for mirror in {part.mirror for part in parts}:
                self._mirrors.descriptor(mirror)
                marks.append((mirror, mirror.begin_read()))
            return await trio.to_thread.run_sync(work, parts, argument, limiter=self._limiter)
        except OSError as error:
            # The file is gone or the disk failed: what the index says of it is worth nothing.
            self._reports.report(logging.WARNING, "read", "cannot read from the cache: %s", error)
            for part in parts:
                self._presence.drop(part.chunk, part.location)
            return None
        finally:
            for mirror, generation in marks:
                mirror.end_read(generation)

    async def read(self, chunks: Sequence[PlacedChunk], start: int, length: int) -> Buffer | None:
        """As `read_nowait`, waiting for the disk and hashing as much as it takes. None where a chunk is absent."""
        parts = self._parts(chunks, start, length)
        return None if parts is None else await self._read_parts(parts, length)

    async def read_chunk(self, chunk: bytes, length: int, start: int, size: int) -> Buffer | None:
        """As `read_chunk_nowait`, the same way."""
        location = self._presence.find(chunk)
        if location is None or location.length != length:
            return None
        mirror = self._mirrors.get(location.mirror)
        if mirror is None:
            return None
        return await self._read_parts([_Part(chunk, location, mirror, start, start + size)], size)

    async def _read_parts(self, parts: list[_Part], length: int) -> Buffer | None:
        outcome = await self._in_thread(parts, _read_and_check, self._presence.epoch)
        if outcome is None:
            return None
        for part in outcome.checked:
            self._settle(part.chunk, part.location, is_right=part.chunk not in outcome.wrong)
        if len(outcome.buffer) != length:
            return None
        for mirror, offset, run_length in _runs(parts):
            self._mirrors.use(mirror, offset, offset + run_length)
        return self._served(outcome.buffer)

    def _served(self, buffer: Buffer | None) -> Buffer | None:
        if buffer is not None:
            self.served_reads += 1
            self.served_bytes += len(buffer)
        return buffer


def _runs(parts: list[_Part]) -> list[_Run]:
    """Neighbouring parts joined where they are contiguous in one mirror."""
    runs: list[_Run] = []
    last: Mirror | None = None
    start = end = 0
    for _, location, mirror, first, part_end in parts:
        offset = location.offset + first
        if mirror is last and offset == end:
            end = location.offset + part_end
            continue
        if last is not None:
            runs.append(_Run(last, start, end - start))
        last, start, end = mirror, offset, location.offset + part_end
    if last is not None:
        runs.append(_Run(last, start, end - start))
    return runs


class _Outcome(NamedTuple):
    """What came of a thread's work."""

    buffer: bytearray
    """Empty where a chunk was not what it should be."""
    checked: list[_Part]
    wrong: set[bytes]


def _check_runs(parts: list[_Part], epoch: int) -> _Outcome:
    """In a thread. Check what is of an older epoch, a run at a time; have the disk read the rest."""
    wrong: set[bytes] = set()
    checked = [part for part in parts if part.location.epoch != epoch]
    waiting = iter(checked)
    for run in _runs(checked):
        data = memoryview(_read_run(run))
        at = 0
        while at < run.length:
            part = next(waiting)
            if content_id(data[at : at + part.end]) != part.chunk:
                wrong.add(part.chunk)
            at += part.end
    for run in _runs([part for part in parts if part.location.epoch == epoch]):
        os.posix_fadvise(run.mirror.fd, run.offset, run.length, os.POSIX_FADV_WILLNEED)
    return _Outcome(bytearray(), checked, wrong)


def _read_and_check(parts: list[_Part], epoch: int) -> _Outcome:
    """In a thread. The bytes of `parts`, unless one of an older epoch is not what it should be."""
    checked = [part for part in parts if part.location.epoch != epoch]
    wrong = {
        part.chunk
        for part in checked
        if content_id(_read_run(_Run(part.mirror, part.location.offset, part.location.length))) != part.chunk
    }
    buffer = bytearray()
    if not wrong:
        runs = _runs(parts)
        buffer = _read_run(runs[0])
        for run in runs[1:]:
            buffer += _read_run(run)
    return _Outcome(buffer, checked, wrong)


def _read_run(run: _Run) -> bytearray:
    buffer = bytearray(run.length)
    view = memoryview(buffer)
    done = 0
    while done < run.length:
        count = os.preadv(run.mirror.fd, (view[done:],), run.offset + done)
        if count == 0:
            raise OSError(errno.EIO, f"{run.mirror.path} is shorter than recorded")
        done += count
    return buffer
