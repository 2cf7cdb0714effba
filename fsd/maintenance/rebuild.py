"""Putting a pack back together: what the store still has of it, and what donors have.

A chunk goes back with the stored length that placements name, so that no page, and so no commit, changes. How, depends:

    missing, and all of it is to be had       the pack, under its own id
    there, all places filled, and small       the pack, replaced in one write at the version that was looked at
    else                                      a new pack, then the note `moved/<pack>`, then the old pack goes

Killed in between, readers find what they found before: the old pack until it is replaced or gone, and then what the
note names. Whatever bytes the store still has are carried over, sound or not, needed or not: somebody may be about to
name them. Donors are asked only for what a tree names, so nothing that was purged comes back. Only what nobody has is
left behind.
"""

from __future__ import annotations

from array import array
from collections.abc import AsyncGenerator, Callable, Collection, Iterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import trio

from fsd.errors import CorruptDataError
from fsd.format.compress import compress_chunk, compress_to_size
from fsd.format.keys import moved_key, pack_key
from fsd.format.limits import MAX_CHUNK_BYTES, MAX_PACK_BYTES, MAX_PACK_CHUNKS
from fsd.format.moved import LEFT_BEHIND, MovedPack, encode_moved, parse_moved
from fsd.format.pack import CONTENTS_CHUNK_BYTES, FOOTER_BYTES, Contents, decode_chunk, encode_row
from fsd.ids import NO_ID, Buffer, content_id, new_pack_id
from fsd.limits import MIB
from fsd.maintenance.mending import Donor, Mended
from fsd.maintenance.packing import PackWriting, Sink
from fsd.maintenance.placed import Row
from fsd.repo.repository import Repositories
from fsd.stores.base import ObjectExistsError, ObjectNotFoundError, Version, VersionMismatchError

IN_PLACE_BYTES = 128 * MIB
"""A pack up to this size is replaced in one write, for which it is held in memory: every pack of small files is."""

KEPT_BYTES = 64 * MIB
"""Of what donors gave while it was looked for, kept until it is written; beyond, they are asked again."""


class Segment(NamedTuple):
    """A stretch of a pack: a chunk's stored form, or bytes of which nothing is known. Offsets and lengths in bytes."""

    offset: int
    stored: int
    length: int
    chunk: bytes
    """NO_ID where nothing is known."""

    @property
    def end(self) -> int:
        """Where the next one begins."""
        return self.offset + self.stored


class LostPack(NamedTuple):
    """A pack that is not as it should be."""

    pack: bytes
    rows: Sequence[Row]
    """What trees look for in it, by offset."""
    bad: Collection[bytes]
    """Chunks of it that were found damaged; there may be more."""


@dataclass(slots=True)
class _Old:
    """What the store has of a pack."""

    version: Version | None = None
    """Of the pack; None if it is not there."""
    size: int = 0
    note_version: Version | None = None
    note: MovedPack | None = None
    """None also where it is damaged."""
    target_size: int = 0
    contents: Contents | None = None
    """What it holds, or held."""
    is_contents_bad: bool = False
    """The pack is there, and does not say what it holds."""

    def covers(self, segment: Segment) -> bool:
        """Whether the store has bytes for it, sound or not."""
        if self.version is not None:
            return segment.end <= self.size
        if self.note is None or not self.note.holds(segment.offset, segment.stored):
            return False
        pieces = self.note.pieces(segment.offset, segment.stored)
        return all(offset + length <= self.target_size for _, offset, length in pieces)


@dataclass(slots=True)
class _Given:
    """What donors gave."""

    forms: dict[int, bytes] = field(default_factory=dict)
    """Stored forms by the number of the segment, up to `KEPT_BYTES`."""
    kept_bytes: int = 0
    origins: dict[str, None] = field(default_factory=dict)
    """In the order in which they first gave something."""

    def keep(self, number: int, form: bytes) -> None:
        if self.kept_bytes + len(form) <= KEPT_BYTES:
            self.forms[number] = form
            self.kept_bytes += len(form)


class _ChangedError(Exception):
    """Internal: what was there a moment ago is not any more."""


async def mend_pack(
    repositories: Repositories,
    donors: Sequence[Donor],
    lost: LostPack,
    advance: Callable[[int], None],
) -> Mended | None:
    """Put back what can be had of a pack; None where that is nothing.

    The caller holds a lease of these `repositories`. `advance` is told of bytes written. Raises what a store raises,
    ConflictError if the lease has run out.
    """
    old = await _look(repositories, lost.pack)
    segments = _segments(lost.rows, old)
    if not segments or len(segments) > MAX_PACK_CHUNKS or sum(each.length for each in segments) > MAX_PACK_BYTES:
        return None  # trees say of it what is true of no pack
    return await _Mending(repositories, donors, lost, old, segments, advance).run()


async def _look(repositories: Repositories, pack: bytes) -> _Old:
    store = repositories.store
    old = _Old()
    with suppress(ObjectNotFoundError):
        info = await store.stat(pack_key(pack))
        old.version, old.size = info.version, info.size
    with suppress(ObjectNotFoundError):
        fetched = await store.get(moved_key(pack))
        old.note_version = fetched.version
        with suppress(CorruptDataError):
            old.note = parse_moved(fetched.data, moved_key(pack))
            old.contents = old.note.contents
    if old.version is not None:
        try:
            old.contents = await repositories.packs.contents(pack)
        except (CorruptDataError, ObjectNotFoundError):
            old.is_contents_bad = True
    elif old.note is not None:
        with suppress(ObjectNotFoundError):
            old.target_size = (await store.stat(pack_key(old.note.target))).size
    return old


def _segments(rows: Sequence[Row], old: _Old) -> list[Segment]:
    """The whole pack, in order and without gaps, as far as is known."""
    if old.contents is not None:
        segments, at = [], 0
        for chunk in old.contents:
            segments.append(Segment(at, chunk.stored, chunk.length, chunk.id))
            at += chunk.stored
        return segments
    segments, at = [], 0
    for row in rows:
        if row.offset >= at:  # else it contradicts the one before
            segments += [*_unknown(at, row.offset), Segment(*row)]
            at = segments[-1].end
    if at + CONTENTS_CHUNK_BYTES * len(segments) + FOOTER_BYTES != old.size:
        segments += _unknown(at, old.size)
    return segments


def _unknown(start: int, end: int) -> Iterator[Segment]:
    for at in range(start, min(end, MAX_PACK_BYTES), MAX_CHUNK_BYTES):
        size = min(end - at, MAX_CHUNK_BYTES)
        yield Segment(at, size, size, NO_ID)


class _Mending:
    """The mending of one pack."""

    def __init__(
        self,
        repositories: Repositories,
        donors: Sequence[Donor],
        lost: LostPack,
        old: _Old,
        segments: list[Segment],
        advance: Callable[[int], None],
    ) -> None:
        self._repositories = repositories
        self._store = repositories.store
        self._donors = donors
        self._pack = lost.pack
        self._bad = lost.bad
        self._old = old
        self._segments = segments
        self._covered = [old.covers(segment) for segment in segments]
        needed = {(row.offset, row.chunk) for row in lost.rows}
        self._needed = [(segment.offset, segment.chunk) in needed for segment in segments]
        self._advance = advance
        self._given = _Given()
        self._restored: set[int] = set()
        """Segments that are right only thanks to donors."""

    async def run(self) -> Mended | None:
        """See `mend_pack`."""
        old = self._old
        found = await self._search()
        complete = all(covered or number in found for number, covered in enumerate(self._covered))
        if not found and not (old.is_contents_bad and complete):
            return None
        self._restored.clear()
        await self._repositories.leases.take()
        try:
            if old.version is None and old.note_version is None and complete:
                await self._write_back()
            elif old.version is not None and complete and self._segments[-1].end <= IN_PLACE_BYTES:
                await self._replace(old.version)
            else:
                await self._move()
        except (_ChangedError, VersionMismatchError):
            return None  # the next look finds what it is now
        restored = sum(self._segments[number].stored for number in self._restored)
        origins = tuple(self._given.origins)
        return Mended("pack", self._pack.hex(), origins, self._why(), len(self._restored), restored)

    def _why(self) -> str:
        if self._old.version is None:
            return "it was missing" if self._old.note is None else "not all of it was taken over when it was moved"
        return "it was damaged or cut off"

    async def _search(self) -> set[int]:
        """Of what is missing or known to be bad, the segments that donors have."""
        found = set()
        for number, segment in enumerate(self._segments):
            if self._needed[number] and (not self._covered[number] or segment.chunk in self._bad):
                form = await self._ask(number, segment)
                if form is not None:
                    self._given.keep(number, form)
                    found.add(number)
        return found

    async def _ask(self, number: int, segment: Segment) -> bytes | None:
        """The stored form of a segment, from the first donor that has it."""
        kept = self._given.forms.pop(number, None)
        if kept is None and segment.chunk != NO_ID:
            for donor in self._donors:
                plain = await donor.chunk(segment.chunk, segment.length)
                if plain is not None:
                    kept = await trio.to_thread.run_sync(partial(_stored_form, segment, plain))
                if kept is not None:
                    self._given.origins[donor.name] = None
                    break
        if kept is not None:
            self._restored.add(number)
        return kept

    # --- the three ways

    async def _write_back(self) -> None:
        """A new pack under the old id. Raises _ChangedError if somebody else has put one there."""
        try:
            async with self._store.upload(pack_key(self._pack)) as upload:
                await self._write(upload, must_be_whole=True)
                await upload.finish()
        except ObjectExistsError as error:
            raise _ChangedError from error

    async def _replace(self, version: Version) -> None:
        whole = _Whole()
        await self._write(whole, must_be_whole=True)
        self._repositories.leases.check()
        await self._store.compare_and_swap(pack_key(self._pack), whole.data, version)

    async def _move(self) -> None:
        """A new pack, the note, and then the old one goes: only what it was when it was looked at."""
        target = new_pack_id()
        async with self._store.upload(pack_key(target)) as upload:
            offsets = await self._write(upload, must_be_whole=False)
            if not self._restored and not self._old.is_contents_bad:
                raise _ChangedError
            await upload.finish()
        rows = (encode_row(segment.chunk, segment.stored, segment.length) for segment in self._segments)
        note = encode_moved(target, Contents(b"".join(rows)), offsets)
        # Without a lease, a collector may have taken the new pack for garbage.
        self._repositories.leases.check()
        await self._store.compare_and_swap(moved_key(self._pack), note, self._old.note_version)
        if self._old.version is not None:
            await self._store.delete(pack_key(self._pack), self._old.version)

    async def _write(self, sink: Sink, *, must_be_whole: bool) -> array[int]:
        """All segments that can be had, and the contents; returns where each lies.

        Raises _ChangedError if something is missing although it `must_be_whole`.
        """
        writing = PackWriting(sink)
        offsets = array("Q")
        async with aclosing(self._stored_forms()) as forms:
            async for segment, stored in forms:
                if stored is None:
                    if must_be_whole:
                        raise _ChangedError
                    offsets.append(LEFT_BEHIND)
                    continue
                chunk = content_id(stored) if segment.chunk == NO_ID else segment.chunk
                offsets.append(await writing.add(chunk, stored, segment.length))
                self._advance(segment.stored)
        await writing.end()
        return offsets

    async def _stored_forms(self) -> AsyncGenerator[tuple[Segment, Buffer | None]]:
        """Each segment as it is to be stored: as the store has it if that is sound, from a donor, or as it is."""
        for first, end in _stretches(self._segments, self._covered, self._repositories.limits.range_bytes):
            stretch = self._segments[first:end]
            if not self._covered[first]:
                for number, segment in enumerate(stretch, first):
                    yield segment, await self._ask(number, segment) if self._needed[number] else None
                continue
            body = memoryview(await self._read(stretch[0].offset, stretch[-1].end - stretch[0].offset))
            parts = [body[each.offset - stretch[0].offset : each.end - stretch[0].offset] for each in stretch]
            sound = await trio.to_thread.run_sync(partial(_are_sound, stretch, parts))
            for number, (segment, part, is_sound) in enumerate(zip(stretch, parts, sound, strict=True), first):
                yield segment, part if is_sound else await self._doubtful(number, segment, part)

    async def _doubtful(self, number: int, segment: Segment, part: Buffer) -> Buffer:
        """A segment that is damaged, or of which nothing is known: from a donor, or else as the store has it for sure.

        Raises _ChangedError if it reads otherwise the second time: then the network is to blame, and the store may be
        right.
        """
        given = await self._ask(number, segment) if self._needed[number] else None
        if given is None and await self._read(segment.offset, segment.stored) != part:
            raise _ChangedError
        return part if given is None else given

    async def _read(self, start: int, length: int) -> bytes:
        """What the store has. Raises _ChangedError where that has become less."""
        try:
            if self._old.version is None:
                body = await self._repositories.packs.read(self._pack, start, length)
            else:
                body = (await self._store.get_range(pack_key(self._pack), start, length)).data
        except ObjectNotFoundError as error:
            raise _ChangedError from error
        if len(body) != length:
            raise _ChangedError
        return body


class _Whole:
    """A pack in memory."""

    def __init__(self) -> None:
        self.data = bytearray()

    async def write(self, data: Buffer) -> None:
        self.data += data
        await trio.lowlevel.checkpoint()


def _stretches(segments: Sequence[Segment], covered: Sequence[bool], most_bytes: int) -> Iterator[tuple[int, int]]:
    """Numbers (first, end) of neighbours that are read together: covered ones, `most_bytes` at most."""
    first = 0
    for number, segment in enumerate(segments):
        is_more = segment.end - segments[first].offset > most_bytes
        if number > first and (covered[number] != covered[first] or is_more):
            yield first, number
            first = number
    if segments:
        yield first, len(segments)


def _stored_form(segment: Segment, plain: Buffer) -> bytes | None:
    """In a thread. A chunk as its place takes it; None if it is another, or if it cannot be made so short."""
    if len(plain) != segment.length or content_id(plain) != segment.chunk:
        return None
    if segment.stored == segment.length:
        return bytes(plain)
    frame = compress_chunk(plain)
    if frame is not None and len(frame) == segment.stored:
        return frame
    return compress_to_size(plain, segment.stored)


def _are_sound(segments: Sequence[Segment], parts: Sequence[memoryview]) -> list[bool]:
    """In a thread. What is known to be as it should be."""
    return list(map(_is_sound, segments, parts))


def _is_sound(segment: Segment, part: memoryview) -> bool:
    if segment.chunk == NO_ID:
        return False
    try:
        decode_chunk(segment.chunk, part, segment.length)
    except CorruptDataError:
        return False
    return True
