"""From chunks that were read to entries: which chunks the store has already, and where the new ones go.

All in tree order and in one task. A chunk is placed where it lies already, in a pack that is certainly there, or else
in a pack of this publisher. New chunks of a large file go into a pack of the file's own once they come to
`own_pack_bytes`; below that, with those of small files: a large file with a small change must not cost a tiny object.
Until that is decided, the chunks behind the first new one wait, in bounded number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import aclosing

from fsd.format.model import Entry, Kind, Piece, Placement
from fsd.ids import Buffer
from fsd.publish.ingest import Chunk, Read, ReadFile, Recalled, stored_form
from fsd.publish.known import KnownChunks
from fsd.publish.packer import Packer
from fsd.publish.presence import make_sure
from fsd.publish.recipes import ChunkList
from fsd.publish.source import Found
from fsd.publish.writer import DeferredWriter
from fsd.repo.builder import Change
from fsd.repo.repository import Repositories
from fsd.repo.usage import pieces_of

MAX_WAITING_CHUNKS = 4096
"""Chunks of a large file that wait for the decision in which pack its new ones go."""

AddToPack = Callable[[bytes, int, Buffer, int], Placement]


class Placer:
    """Places what one publisher reads. For one task."""

    def __init__(self, repositories: Repositories, known: KnownChunks, packer: Packer, writer: DeferredWriter) -> None:
        self._repositories = repositories
        self._known = known
        self._packer = packer
        self._writer = writer
        self._large: _LargeFile | None = None
        self.new_chunks = 0
        self.new_bytes = 0
        """Plain bytes of the new chunks."""
        self.known_chunks = 0
        """Times that a chunk was there already, from before or from this commit."""
        self.known_bytes = 0

    async def place(self, reads: Sequence[Read]) -> list[Change]:
        """The changes to the tree. A large file comes in parts and gives its entry with the last."""
        unsure = (
            (chunk.id, chunk.length)
            for read in reads
            if isinstance(read, ReadFile)
            for chunk in read.chunks
            if chunk.stored is None
        )
        await make_sure(self._repositories, self._known, unsure)
        changes: list[Change] = []
        for read in reads:
            if isinstance(read, Recalled):
                changes.append(await self._place_recalled(read))
            elif not isinstance(read, ReadFile):
                changes.append(read)
            elif read.content is None or self._large is not None or len(read.chunks) > 1:
                self._place_part(read, changes)
            else:
                changes.append(self._place_small(read, read.content))
        await self._packer.relieve()
        return changes

    async def _place_recalled(self, read: Recalled) -> Entry:
        """A file whose chunks are known. Its recipes are written again, as if it had been read."""
        chunks = ChunkList(self._writer)
        async with aclosing(pieces_of(read.level, read.pieces, self._repositories.objects)) as pieces:
            async for piece in pieces:
                placement = self._known.find(*piece)
                assert placement is not None, "who recalls a file has looked for its chunks"
                chunks.add(piece, placement)
                self.known_chunks += 1
                self.known_bytes += piece.length
        return _file_entry(read.found, read.content, *chunks.finish())

    def _place_small(self, read: ReadFile, content: bytes) -> Entry:
        """A file of one chunk or none."""
        found = read.found
        pieces: tuple[Piece, ...] = ()
        placements: tuple[Placement, ...] = ()
        if read.chunks:
            (chunk,) = read.chunks
            pieces = (Piece(content, found.size),)
            placements = (self.find(chunk) or self.add(chunk, self._packer.add_shared),)
        return _file_entry(found, content, 0, pieces, placements)

    def _place_part(self, read: ReadFile, changes: list[Change]) -> None:
        """A file of many chunks, or a part of it."""
        if self._large is None:
            limits = self._repositories.limits
            self._large = _LargeFile(read.found, self, self._packer, self._writer, limits.own_pack_bytes)
        self._large.add(read.chunks)
        if read.content is not None:
            changes.append(self._large.finish(read.content))
            self._large = None

    def find(self, chunk: Chunk) -> Placement | None:
        """Where a chunk lies already."""
        placement = self._known.find(chunk.id, chunk.length)
        if placement is None or not self._known.is_present(placement.pack):
            return None
        self.known_chunks += 1
        self.known_bytes += chunk.length
        return placement

    def add(self, chunk: Chunk, add: AddToPack) -> Placement:
        """Put a new chunk into a pack."""
        stored = stored_form(chunk.plain) if chunk.stored is None else chunk.stored
        self.new_chunks += 1
        self.new_bytes += chunk.length
        return add(chunk.id, chunk.length, stored, chunk.at)


class _LargeFile:
    """A file of many chunks on its way to an entry."""

    def __init__(
        self, found: Found, placer: Placer, packer: Packer, writer: DeferredWriter, own_pack_bytes: int
    ) -> None:
        self._found = found
        self._placer = placer
        self._packer = packer
        self._list = ChunkList(writer)
        self._own_pack_bytes = own_pack_bytes
        self._has_own = False
        self._waiting: list[tuple[Chunk, Placement | None]] = []
        """Chunks from the first on that has no place yet."""
        self._placeless: set[bytes] = set()
        self._placeless_bytes = 0

    def add(self, chunks: Iterable[Chunk]) -> None:
        """The next chunks."""
        for chunk in chunks:
            placement = None if chunk.id in self._placeless else self._placer.find(chunk)
            if placement is None and self._has_own:
                placement = self._placer.add(chunk, self._packer.add_own)
            if placement is not None and not self._waiting:
                self._list.add(Piece(chunk.id, chunk.length), placement)
                continue
            if placement is None and chunk.id not in self._placeless:
                self._placeless.add(chunk.id)
                self._placeless_bytes += chunk.length
            # A chunk that has its place waits only for those before it, without its bytes.
            self._waiting.append((chunk if placement is None else chunk._replace(plain=b"", stored=b""), placement))
            if self._placeless_bytes >= self._own_pack_bytes:
                self._has_own = True
                found = self._found
                self._packer.begin_own(repr((found.path, found.size, found.mtime_ns, found.ctime_ns)).encode())
                self._settle(self._packer.add_own)
            elif len(self._waiting) >= MAX_WAITING_CHUNKS:
                self._settle(self._packer.add_shared)

    def finish(self, content: bytes) -> Entry:
        """The entry of the whole file."""
        found = self._found
        self._settle(self._packer.add_shared)
        if self._has_own:
            self._packer.end_own()
        return _file_entry(found, content, *self._list.finish())

    def _settle(self, add: AddToPack) -> None:
        """Give a place to all that wait."""
        for chunk, placed in self._waiting:
            placement = placed or self._placer.find(chunk) or self._placer.add(chunk, add)
            self._list.add(Piece(chunk.id, chunk.length), placement)
        self._waiting.clear()
        self._placeless.clear()
        self._placeless_bytes = 0


def _file_entry(
    found: Found, content: bytes, level: int, pieces: tuple[Piece, ...], placements: tuple[Placement, ...]
) -> Entry:
    return Entry(
        found.directory, found.name, Kind.FILE, found.executable, found.size, content, b"", level, pieces, placements
    )
