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


class Storage(Protocol):
    """Makes contents of what was uploaded."""

    def store(self, pieces: Iterable[bytes | memoryview]) -> Content:
        """Their concatenation."""


class MemoryStorage:
    """Gone with the process."""

    def store(self, pieces: Iterable[bytes | memoryview]) -> Content:
        return MemoryContent(pieces)


class FolderStorage:
    """A file for each content; which object it belongs to is the journal's business (see `objects`)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def store(self, pieces: Iterable[bytes | memoryview]) -> Content:
        path = self.folder / uuid4().hex
        with path.open("wb") as file:
            file.writelines(pieces)
        return FileContent(path)


class Generator(Protocol):
    """Objects that nobody stored: they are there as if they had been uploaded before the server started.

    Only reads and listings see them; what is uploaded under the same name hides one.
    """

    def find(self, bucket: str, name: str) -> Content | None:
        """The object of that name. Asked for every read: quick, and always the same answer."""

    def names(self, bucket: str, prefix: str, start: str) -> Iterable[str]:
        """The names that begin with `prefix` and are not before `start`, in order. May leave out what need not be
        listed."""
