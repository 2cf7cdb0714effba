"""Where the bytes of objects are: in memory, in a folder, or nowhere (made up on demand)."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import Protocol
from uuid import uuid4

READ_AT_ONCE = 1024 * 1024


class Content(Protocol):
    """The bytes of one generation of one object; they never change."""

    @property
    def size(self) -> int:
        """Bytes."""

    def read(self, start: int, length: int) -> bytes | memoryview:
        """Some bytes from `start`, `length` at most; none only at the end."""

    def discard(self) -> None:
        """Nobody will read it any more."""


def read_all(content: Content) -> Iterator[bytes | memoryview]:
    """All bytes, in pieces."""
    position = 0
    while piece := content.read(position, READ_AT_ONCE):
        position += len(piece)
        yield piece


class MemoryContent:
    """Bytes, left in the pieces that they came in."""

    def __init__(self, pieces: Iterable[bytes | memoryview]) -> None:
        self._pieces = [memoryview(piece) for piece in pieces if len(piece)]
        self._ends = list(accumulate(map(len, self._pieces)))
        self.size = self._ends[-1] if self._ends else 0

    def read(self, start: int, length: int) -> memoryview:
        if start >= self.size:
            return memoryview(b"")
        position = bisect_right(self._ends, start)
        piece = self._pieces[position]
        within = start - (self._ends[position] - len(piece))
        return piece[within : within + length]

    def discard(self) -> None:
        pass


class FileContent:
    """A file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.size = os.fstat(self.descriptor).st_size

    def read(self, start: int, length: int) -> bytes:
        return os.pread(self.descriptor, length, start)

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)

    def __del__(self) -> None:
        # Whoever is reading it just now holds it; the descriptor goes with the last of them.
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)


class Draft(Protocol):
    """A content that is still arriving, and kept piece by piece: who writes a large one at its end lets all others
    wait. One that is dropped leaves nothing behind."""

    def write(self, piece: bytes | memoryview) -> None:
        """Append bytes."""

    def truncate(self, size: int) -> Iterator[bytes | memoryview]:
        """Forget what comes behind; gives what is left, in pieces."""

    def finish(self) -> Content:
        """It is complete."""


class Storage(Protocol):
    """Makes contents of what was uploaded."""

    def begin(self) -> Draft:
        """A new one."""

    def store(self, pieces: Iterable[bytes | memoryview]) -> Content:
        """Their concatenation."""


class _MemoryDraft:
    def __init__(self) -> None:
        self._pieces: list[bytes | memoryview] = []

    def write(self, piece: bytes | memoryview) -> None:
        self._pieces.append(piece)

    def truncate(self, size: int) -> Iterator[bytes | memoryview]:
        surplus = sum(map(len, self._pieces)) - size
        while surplus:
            last = self._pieces.pop()
            if len(last) > surplus:
                self._pieces.append(last[:-surplus])
            surplus -= min(len(last), surplus)
        yield from self._pieces

    def finish(self) -> Content:
        return MemoryContent(self._pieces)


class MemoryStorage:
    """Gone with the process."""

    def begin(self) -> Draft:
        return _MemoryDraft()

    def store(self, pieces: Iterable[bytes | memoryview]) -> Content:
        return MemoryContent(pieces)


class _FileDraft:
    """A file without a name, until it is complete."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._size = 0
        self._descriptor = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o644)

    def write(self, piece: bytes | memoryview) -> None:
        left = memoryview(piece)
        while left:
            written = os.pwrite(self._descriptor, left, self._size)
            self._size += written
            left = left[written:]

    def truncate(self, size: int) -> Iterator[bytes | memoryview]:
        os.ftruncate(self._descriptor, size)
        self._size = size
        for start in range(0, size, READ_AT_ONCE):
            yield os.pread(self._descriptor, READ_AT_ONCE, start)

    def finish(self) -> Content:
        name = uuid4().hex
        directory = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            # With a dst_dir_fd this follows the link in /proc, and not without.
            os.link(f"/proc/self/fd/{self._descriptor}", name, dst_dir_fd=directory, follow_symlinks=True)
        finally:
            os.close(directory)
        return FileContent(self._folder / name)

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)


class FolderStorage:
    """A file for each content; which object it belongs to is the journal's business (see `objects`)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def begin(self) -> Draft:
        return _FileDraft(self.folder)

    def store(self, pieces: Iterable[bytes | memoryview]) -> Content:
        draft = self.begin()
        for piece in pieces:
            draft.write(piece)
        return draft.finish()


class Generator(Protocol):
    """Objects that nobody stored: they are there as if they had been uploaded before the server started.

    Only reads and listings see them; what is uploaded under the same name hides one.
    """

    def find(self, bucket: str, name: str) -> Content | None:
        """The object of that name. Asked for every read: quick, and always the same answer."""

    def names(self, bucket: str, prefix: str, start: str) -> Iterable[str]:
        """The names that begin with `prefix` and are not before `start`, in order. May leave out what need not be
        listed."""
