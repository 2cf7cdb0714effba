"""Where the bytes of a checkout come from: the cache, or a mount whose daemon has the cache (or, without both,
`fsd.checkout.stored`)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from typing import Protocol

import trio

from fsd.cache.cache import Cache
from fsd.errors import CorruptDataError, FsdError
from fsd.files import read_at
from fsd.format.model import Entry, PlacedChunk
from fsd.ids import Buffer
from fsd.publish.source import shown
from fsd.repo.repository import Repositories
from fsd.vfs.pieces import Pieces

_REQUESTS = 16
"""Reads at once of one batch or window."""


class Contents(Protocol):
    """Raises MisplacedError for a chunk that is not where an entry or recipe says, CorruptDataError, and what a store
    raises; FsdError for a mount that does not read."""

    async def read_small(self, files: Sequence[Entry]) -> list[Buffer]:
        """The whole contents of some small files."""

    async def read(self, file: Entry, pieces: Pieces, start: int, end: int) -> Sequence[Buffer]:
        """A large file's bytes from `start` to before `end`, in parts that follow each other."""

    async def share(self, pieces: Pieces, start: int, end: int, target: int) -> bool:
        """Have the file `target` share these bytes, which were just read, with whoever keeps them. False: copy them."""


class CachedContents:
    """Through a cache that this process owns: what was read before is not fetched, and what is fetched is kept."""

    def __init__(self, cache: Cache, repositories: Repositories) -> None:
        self._cache = cache
        self._objects = repositories.objects

    async def read_small(self, files: Sequence[Entry]) -> list[Buffer]:
        """See `Contents`. All of them are asked for together, so that neighbours in a pack are one request."""
        self._cache.start_fetch([chunk for file in files for chunk in await self._chunks(file)])
        contents: list[Buffer] = []
        for file in files:
            if not file.size:
                contents.append(b"")
                continue
            chunks = await self._chunks(file)
            found = self._cache.read_nowait(chunks, 0, file.size)
            contents.append(await self._cache.read(chunks, 0, file.size) if found is None else found)
        return contents

    async def read(self, file: Entry, pieces: Pieces, start: int, end: int) -> Sequence[Buffer]:  # noqa: ARG002
        """See `Contents`."""
        run = await pieces.run(start, end)
        return [await self._cache.read(run.chunks, run.skip, end - start, widen=False)]

    async def share(self, pieces: Pieces, start: int, end: int, target: int) -> bool:
        """See `Contents`."""
        if not self._cache.cloner.can:
            return False
        run = await pieces.run(start, end)
        return await self._cache.cloner.clone(run.chunks, run.skip, end - start, target, start)

    async def _chunks(self, file: Entry) -> Sequence[PlacedChunk]:
        if file.level == 0:
            return file.chunks()
        return (await Pieces(file, self._objects).run(0, file.size)).chunks


class MountedContents:
    """Through a mount, whose daemon checks what it serves and has the only right to the cache."""

    def __init__(self, version: bytes) -> None:
        """`version` is the directory of the version in the mount."""
        self._version = version
        self._threads = trio.CapacityLimiter(_REQUESTS)

    async def read_small(self, files: Sequence[Entry]) -> list[Buffer]:
        """See `Contents`."""
        read = partial(_read_paths, [(self._path(file), file.size) for file in files])
        return await trio.to_thread.run_sync(read, limiter=self._threads, abandon_on_cancel=True)

    async def read(self, file: Entry, pieces: Pieces, start: int, end: int) -> Sequence[Buffer]:  # noqa: ARG002
        """See `Contents`."""
        read = partial(_read_path, self._path(file), start, end - start)
        return [await trio.to_thread.run_sync(read, limiter=self._threads, abandon_on_cancel=True)]

    async def share(self, pieces: Pieces, start: int, end: int, target: int) -> bool:  # noqa: ARG002
        """The cache is the daemon's."""
        await trio.lowlevel.checkpoint()
        return False

    def _path(self, file: Entry) -> bytes:
        return self._version + b"/" + file.path


def _read_paths(paths: Sequence[tuple[bytes, int]]) -> list[Buffer]:
    return [_read_path(path, 0, size) for path, size in paths]


def _read_path(path: bytes, start: int, length: int) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            data = read_at(fd, length, start)
        finally:
            os.close(fd)
    except OSError as error:
        raise FsdError(f"cannot read {shown(path)}: {error.strerror}", hint="see the mount's log") from error
    if len(data) != length:
        raise CorruptDataError(f"{shown(path)} is shorter than it says")
    return data
