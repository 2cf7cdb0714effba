"""A folder as a donor: chunks of a store in plain files, whatever they are called (`fsd.maintenance.mending.Donor`).

The files are cut as a publisher cuts them, so a chunk is found wherever its bytes lie: in the dataset that was
published, in a checkout, or in a file that was renamed or is a later version. Files that cannot be read, and all that
are no files, are passed over; what changes meanwhile is found out, since every chunk is checked when it is given.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping

import trio

from fsd.errors import UsageError
from fsd.files import read_at
from fsd.format.chunker import Chunker, ChunkerParams
from fsd.format.keys import ObjectKind
from fsd.ids import Buffer, content_id
from fsd.publish.ingest import window_bytes
from fsd.publish.source import shown

_Place = tuple[bytes, int]
"""Path and offset in bytes."""


class FolderDonor:
    """See the module. It finds what `look_for` was asked for."""

    def __init__(self, folder: bytes, params: ChunkerParams) -> None:
        """`params`: of the store's publishers. Raises UsageError if `folder` is none."""
        if not os.path.isdir(folder):
            raise UsageError(f"{shown(folder)} is no folder", hint="name a folder with files of the store")
        self._folder = folder
        self._params = params
        self._places: dict[bytes, _Place] = {}
        self.name = shown(folder)
        """See `Donor`."""

    async def look_for(self, chunks: Mapping[bytes, int]) -> None:
        """Read the folder's files until all of `chunks` were seen. See `Donor`."""
        wanted = {chunk: length for chunk, length in chunks.items() if chunk not in self._places}
        search = _Search(self._params, wanted)
        for path, size in await trio.to_thread.run_sync(_files, self._folder):
            if not search.wanted:
                break
            self._places.update(await trio.to_thread.run_sync(search.look_in, path, size))

    async def stored_object(self, kind: ObjectKind, object_id: bytes) -> bytes | None:  # noqa: ARG002
        """Files hold no objects."""
        await trio.lowlevel.checkpoint()
        return None

    async def chunk(self, chunk: bytes, length: int) -> Buffer | None:
        """See `Donor`."""
        place = self._places.get(chunk)
        if place is None:
            return None
        data = await trio.to_thread.run_sync(_read_at, *place, length)
        return data if data is not None and content_id(data) == chunk else None


class _Search:
    """Blocks. `wanted` has what was not found yet: lengths in bytes by chunk."""

    def __init__(self, params: ChunkerParams, wanted: dict[bytes, int]) -> None:
        self.wanted = wanted
        self._params = params
        self._chunker = Chunker(params)
        self._lengths = set(wanted.values())
        """By these, most of what is read need not be hashed."""

    def look_in(self, path: bytes, size: int) -> dict[bytes, _Place]:
        """Where in a file wanted chunks lie. They are wanted no more."""
        found: dict[bytes, _Place] = {}
        if size <= self._params.whole_file:
            data = _read_at(path, 0, size) if size in self._lengths else None
            if data is not None:
                self._note(found, path, 0, data)
            return found
        window = window_bytes(self._params)
        at = 0
        while at < size and self.wanted:
            data = _read_at(path, at, min(window, size - at))
            if data is None:
                break
            view = memoryview(data)
            start = 0
            for length in self._chunker.cut(data, last=at + len(data) >= size):
                if length in self._lengths:
                    self._note(found, path, at + start, view[start : start + length])
                start += length
            at += start
        return found

    def _note(self, found: dict[bytes, _Place], path: bytes, at: int, data: Buffer) -> None:
        chunk = content_id(data)
        if self.wanted.pop(chunk, None) is not None:
            found[chunk] = path, at


def _files(folder: bytes) -> list[tuple[bytes, int]]:
    """The plain files below a folder, with their sizes in bytes. Follows no symlink."""
    found = []
    for directory, subdirectories, names in os.walk(folder):
        subdirectories.sort()
        for name in sorted(names):
            path = os.path.join(directory, name)
            try:
                status = os.lstat(path)
            except OSError:
                continue
            if stat.S_ISREG(status.st_mode) and status.st_size:
                found.append((path, status.st_size))
    return found


def _read_at(path: bytes, start: int, length: int) -> bytes | None:
    """`length` bytes of a file from `start`; None if they cannot be had."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            data = read_at(fd, length, start)
        finally:
            os.close(fd)
    except OSError:
        return None
    return data if len(data) == length else None
