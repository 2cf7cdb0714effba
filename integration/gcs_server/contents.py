"""Where the bytes of objects are: in memory, in a folder, or nowhere (made up on demand)."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol
from uuid import uuid4


class Content(Protocol):
    """The bytes of one generation of one object; they never change."""

    @property
    def size(self) -> int:
        """Bytes."""

    def read(self, start: int, length: int) -> bytes | memoryview:
        """`length` bytes from `start`, all of which are there."""

    def discard(self) -> None:
        """Nobody will read it any more."""


class MemoryContent:
    """Bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    @property
    def size(self) -> int:
        return len(self._data)

    def read(self, start: int, length: int) -> memoryview:
        return memoryview(self._data)[start : start + length]

    def discard(self) -> None:
        pass


class FileContent:
    """A file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.size = os.fstat(self._descriptor).st_size

    def read(self, start: int, length: int) -> bytes:
        return os.pread(self._descriptor, length, start)

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)

    def __del__(self) -> None:
        # Whoever is reading it just now holds it; the descriptor goes with the last of them.
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)


class Storage(Protocol):
    """Makes contents of what was uploaded."""

    def store(self, pieces: Iterable[bytes | bytearray | memoryview]) -> Content:
        """Their concatenation."""


class MemoryStorage:
    """Gone with the process."""

    def store(self, pieces: Iterable[bytes | bytearray | memoryview]) -> Content:
        return MemoryContent(b"".join(pieces))


class FolderStorage:
    """A file for each content; which object it belongs to is the journal's business (see `objects`)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def store(self, pieces: Iterable[bytes | bytearray | memoryview]) -> Content:
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
