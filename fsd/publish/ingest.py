"""Reading what is new: from files to chunks, in threads.

Everything here blocks and holds no state between calls but the reader of a large file; nothing here knows of packs or
the store. What may change meanwhile is checked by `SourceFolder`: before the first byte of a file and after the last.

A file up to the store's `whole_file` is one chunk; others are cut by content. A large one is read in windows: each
starts where the last one's final cut was, so that no bytes are copied to join windows (a few are read twice), and the
cut depends on nothing else. The bytes of a window are hashed for the file's own id in file order, by the thread that
read them; its chunks are hashed and compressed by whichever thread is free.

Over a hole of a sparse file all chunks are equal, and so they are known without looking: only the file's own hash
takes its time there.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

from blake3 import blake3

from fsd.files import read_at
from fsd.format.chunker import Chunker, ChunkerParams
from fsd.format.compress import compress_chunk
from fsd.format.model import Entry, Kind, Piece
from fsd.ids import Buffer, content_id
from fsd.limits import MIB
from fsd.publish.source import Found, SourceFolder
from fsd.repo.builder import Removal

WINDOW_BYTES = 4 * MIB
"""Of a large file, read at once; more where chunks are so long that a window would hold few of them."""
_WINDOW_CHUNKS = 16

_MAX_EQUAL_CHUNKS = 1024
"""Over a hole, a window stands for at most this many chunks."""

MightHold = Callable[[bytes], bool]
"""Whether a chunk is probably in the store already: then it is not compressed."""


class Chunk(NamedTuple):
    """A chunk as it was read."""

    id: bytes
    length: int
    """Bytes of plaintext."""
    plain: Buffer
    stored: Buffer | None
    """What a pack would hold; None if the chunk is probably known and so was not compressed."""
    at: int = 0
    """Where it begins in the buffer that `plain` is a view of: neighbours are written as one, without a copy."""


class ReadFile(NamedTuple):
    """A file with all its chunks, or a part of a large file with its next chunks."""

    found: Found
    chunks: Sequence[Chunk]
    content: bytes | None
    """BLAKE3 of the whole file; None in all parts but the last."""


class Recalled(NamedTuple):
    """A file that was read before: its chunks are known, and in packs that are present."""

    found: Found
    level: int
    pieces: Sequence[Piece]
    content: bytes

    @property
    def directory(self) -> bytes:
        """As of what was found."""
        return self.found.directory

    @property
    def name(self) -> bytes:
        """As of what was found."""
        return self.found.name


Read = Entry | Removal | ReadFile | Recalled
"""What reading makes of a change."""

ToRead = Found | Removal | Recalled
"""What is handed out for reading."""


class Windows(Protocol):
    """A large file that is read window by window. For one thread at a time; close it."""

    def next_window(self) -> Window:
        """The next; the last has the file's content. Raises FsdError."""

    def close(self) -> None:
        """Idempotent."""


class Source(Protocol):
    """Where contents come from. Everything blocks, and may be called from many threads at once."""

    def read_files(self, files: Sequence[Found]) -> Iterator[bytes]:
        """The contents of some files, in their order. Raises FsdError."""

    def read_link(self, found: Found) -> bytes:
        """The target of a symlink. Raises FsdError."""

    def open_large(self, found: Found, params: ChunkerParams) -> Windows:
        """A file that is not to be held in memory. Raises FsdError."""


class FolderFiles:
    """The files of a folder of this machine."""

    def __init__(self, folder: SourceFolder) -> None:
        self._folder = folder

    def read_files(self, files: Sequence[Found]) -> Iterator[bytes]:
        """See `Source`. One is read when it is asked for."""
        return map(self._folder.read_file, files)

    def read_link(self, found: Found) -> bytes:
        """See `Source`."""
        return self._folder.read_link(found)

    def open_large(self, found: Found, params: ChunkerParams) -> Windows:
        """See `Source`."""
        return LargeFile(self._folder, found, params)


class _Chunkers(threading.local):
    """A chunker is not for two threads at once."""

    def __init__(self) -> None:
        self._chunkers: dict[ChunkerParams, Chunker] = {}

    def get(self, params: ChunkerParams) -> Chunker:
        """This thread's."""
        chunker = self._chunkers.get(params)
        if chunker is None:
            chunker = self._chunkers[params] = Chunker(params)
        return chunker


_chunkers = _Chunkers()


def form_chunk(plain: Buffer, might_hold: MightHold, chunk_id: bytes | None = None, at: int = 0) -> Chunk:
    """The chunk of some bytes, with its stored form unless it is probably known."""
    identity = content_id(plain) if chunk_id is None else chunk_id
    if might_hold(identity):
        return Chunk(identity, len(plain), plain, None, at)
    return Chunk(identity, len(plain), plain, stored_form(plain), at)


def stored_form(plain: Buffer) -> Buffer:
    """What a pack holds of a chunk."""
    compressed = compress_chunk(plain)
    return plain if compressed is None else compressed


def read_batch(source: Source, changes: Sequence[ToRead], params: ChunkerParams, might_hold: MightHold) -> list[Read]:
    """Read all of a batch. Raises what the source does."""
    contents = source.read_files([change for change in changes if isinstance(change, Found) and change.is_file])
    read: list[Read] = []
    for change in changes:
        if not isinstance(change, Found):
            read.append(change)
        elif change.is_file:
            read.append(read_content(change, next(contents), params, might_hold))
        elif change.is_directory:
            read.append(Entry(change.directory, change.name, Kind.DIRECTORY))
        else:
            target = source.read_link(change)
            content = content_id(target)
            read.append(Entry(change.directory, change.name, Kind.SYMLINK, False, len(target), content, target=target))
    return read


def read_content(found: Found, data: bytes, params: ChunkerParams, might_hold: MightHold) -> ReadFile:
    """A file whose content is at hand, cut."""
    content = content_id(data)
    if not data:
        return ReadFile(found, (), content)
    if len(data) <= params.whole_file:
        return ReadFile(found, (form_chunk(data, might_hold, content),), content)
    view, at, chunks = memoryview(data), 0, []
    for length in cut(params, data, last=True):
        # A file that turns out to be one chunk has its content's id, as all of those have.
        whole = content if length == len(data) else None
        chunks.append(form_chunk(view[at : at + length], might_hold, whole, at))
        at += length
    return ReadFile(found, chunks, content)


def cut(params: ChunkerParams, data: Buffer, *, last: bool) -> Sequence[int]:
    """The lengths of the chunks that `data` begins with; all of it where it is the last of a file."""
    return _chunkers.get(params).cut(data, last=last)


class Window(NamedTuple):
    """A part of a large file, cut, its chunks not yet hashed."""

    data: Buffer
    lengths: Sequence[int]
    equal: bool
    """True over a hole: `data` is one chunk, and there are as many like it as there are lengths."""
    content: bytes | None
    """Of the whole file, in its last window."""


def form_chunks(window: Window, might_hold: MightHold) -> Sequence[Chunk]:
    """The chunks of a window."""
    if window.equal:
        return [form_chunk(window.data, might_hold)] * len(window.lengths)
    view, at, chunks = memoryview(window.data), 0, []
    for length in window.lengths:
        chunks.append(form_chunk(view[at : at + length], might_hold, at=at))
        at += length
    return chunks


def window_bytes(params: ChunkerParams) -> int:
    """The most that a window holds, except over a hole."""
    return max(WINDOW_BYTES, _WINDOW_CHUNKS * params.average)


class LargeFile:
    """Reads one large file, window by window. For one thread at a time; close it."""

    def __init__(self, source: SourceFolder, found: Found, params: ChunkerParams) -> None:
        """Opens nothing yet."""
        self._source = source
        self._found = found
        self._params = params
        self._fd = -1
        self._at = 0
        self._digest = blake3()
        self._knows_holes = True
        self._zeros = memoryview(b"")
        self._window_bytes = window_bytes(params)

    def next_window(self) -> Window:
        """The next; the last has the file's content. Raises UnreadableError and ChangedError."""
        if self._fd < 0:
            self._fd = self._source.open_file(self._found)
        try:
            window = self._over_hole() or self._over_data()
            if window.content is not None:
                self._source.check_unchanged(self._found, os.fstat(self._fd))
        except OSError as error:
            raise self._source.unreadable(self._found.path, error) from error
        return window

    def close(self) -> None:
        """Idempotent."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _over_data(self) -> Window:
        left = self._found.size - self._at
        wanted = min(self._window_bytes, left)
        data = read_at(self._fd, wanted, self._at)
        if len(data) < wanted:
            raise self._source.changed(self._found.path)
        last = wanted == left
        lengths = cut(self._params, data, last=last)
        consumed = sum(lengths)
        self._digest.update(memoryview(data)[:consumed])
        self._at += consumed
        return Window(data, lengths, False, self._digest.digest() if last else None)

    def _over_hole(self) -> Window | None:
        """A window of equal chunks if there is a hole here; the end of a hole is read like data."""
        hole = self._next_data() - self._at
        if hole < 2 * self._window_bytes:
            return None
        if not self._zeros:
            self._zeros = memoryview(bytes(self._window_bytes))
        length = cut(self._params, self._zeros, last=False)[0]
        # What starts with a window of zeros is cut like this one, whatever follows.
        count = min((hole - self._window_bytes) // length, _MAX_EQUAL_CHUNKS)
        left = count * length
        self._at += left
        while left:
            part = min(left, self._window_bytes)
            self._digest.update(self._zeros[:part])
            left -= part
        return Window(self._zeros[:length], [length] * count, True, None)

    def _next_data(self) -> int:
        """Where the next byte is that is no hole, as far as the file system tells."""
        if not self._knows_holes:
            return self._at
        try:
            return os.lseek(self._fd, self._at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return self._found.size
            self._knows_holes = False
            return self._at
