"""A version as the files of a bucket, through fsspec. A bucket has files and nothing else: what it lacks is told."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any
from urllib.parse import urlsplit

import trio

from fsd.checkout.checkout import Progress, Version
from fsd.checkout.contents import Contents
from fsd.errors import ConflictError, UsageError
from fsd.exporting.exported import Exported
from fsd.exporting.ordered import Part, parts_of
from fsd.format.model import Kind
from fsd.importing.asking import asked, asked_once, without_secrets
from fsd.importing.filesystems import open_filesystem
from fsd.importing.items import REQUESTS
from fsd.limits import MIB
from fsd.tasks import one_error

_READ_ONLY = ("http", "https")
_UNDER_WAY_BYTES = 64 * MIB
"""Of files being written."""


async def export_bucket(
    version: Version,
    contents: Contents,
    url: str,
    *,
    options: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Exported:
    """Write all files of the version below `url`, where nothing may be yet.

    Raises ConflictError if something is, UsageError where nobody can write, what reading raises, and FsdError where the
    place does not take it. What was written by then stays.
    """
    if urlsplit(url).scheme in _READ_ONLY:
        raise UsageError(f"{without_secrets(url)} cannot be written to", hint="name a bucket: gs://, s3://, …")
    files, top = await trio.to_thread.run_sync(open_filesystem, url, options)
    writing = _Writing(files, top.rstrip("/"), progress)
    await writing.check_free(without_secrets(url))
    async with parts_of(version, contents) as parts:
        return await writing.run(parts)


class _Writing:
    def __init__(self, files: Any, top: str, progress: Progress | None) -> None:
        self._files = files
        self._top = top
        self._progress = progress
        self._done = Exported()
        self._symlinks = 0
        self._tasks = trio.CapacityLimiter(REQUESTS)
        self._under_way = 0
        self._room = trio.Event()

    async def check_free(self, shown: str) -> None:
        """Raises ConflictError if something is there."""

        def look() -> bool:
            try:
                return bool(self._files.ls(self._top, detail=False))
            except FileNotFoundError:
                return False

        if await trio.to_thread.run_sync(asked, shown, look):
            raise ConflictError(f"there is something at {shown} already", hint="name a prefix of its own")

    async def run(self, parts: AsyncGenerator[Part]) -> Exported:
        """All of it."""
        with one_error():
            async with trio.open_nursery() as nursery, aclosing(parts):
                large: Any = None
                async for part in parts:
                    if part.entry.kind is not Kind.FILE:
                        self._symlinks += part.entry.kind is Kind.SYMLINK
                    elif part.start == 0 and part.is_last:
                        await self._admit(part.entry.size)
                        nursery.start_soon(self._put, part)
                    else:
                        large = await self._go_on(large, part)
        if self._symlinks:
            links = "1 symlink is" if self._symlinks == 1 else f"{self._symlinks:,} symlinks are"
            self._done.warnings.append(f"{links} left out: a bucket has files and nothing else")
        return self._done

    def _path(self, part: Part) -> str:
        return f"{self._top}/{part.entry.path.decode('utf-8', 'surrogateescape')}"

    async def _admit(self, size: int) -> None:
        while self._under_way and self._under_way + size > _UNDER_WAY_BYTES:
            await self._room.wait()
        self._under_way += size

    async def _put(self, part: Part) -> None:
        path, data = self._path(part), b"".join(part.content)
        await trio.to_thread.run_sync(asked, path, lambda: self._files.pipe_file(path, data), limiter=self._tasks)
        self._under_way -= len(data)
        room, self._room = self._room, trio.Event()
        room.set()
        self._done.note(part, self._progress)

    async def _go_on(self, file: Any, part: Part) -> Any:
        """Write more of a large file: what is open for the next part of it, None after the last."""
        path = self._path(part)

        def write() -> Any:
            opened = self._files.open(path, "wb") if part.start == 0 else file
            for piece in part.content:
                opened.write(piece)
            if not part.is_last:
                return opened
            opened.close()
            return None

        # Not again where it failed: nobody knows how much of it is there.
        rest = await trio.to_thread.run_sync(asked_once, path, write)
        self._done.note(part, self._progress)
        return rest
