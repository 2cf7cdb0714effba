"""A version, or a directory of one, as plain files: for programs that write, and for machines that will have no mount.

The tree is walked in its order and cut into batches of small files, and large files one by one. Tasks take them as they
come: read what is missing, check it against the tree's hashes, write it. What is not where a placement says is read
once more, from where the store has it now. Memory is bounded by the tasks and what each holds; order does not matter,
since every directory is made by whoever first needs it.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

import trio

from fsd.checkout.contents import Contents
from fsd.checkout.placed import PlacedContents, PlacingObjects
from fsd.checkout.target import Target, staged
from fsd.errors import ConflictError, FsdError, NotFoundError, UsageError
from fsd.format.model import Entry, Kind
from fsd.ids import Buffer, content_id
from fsd.limits import MIB
from fsd.publish.source import SourceFolder, shown
from fsd.publish.walk import walk
from fsd.repo.tree import TreeView
from fsd.tasks import one_error
from fsd.vfs.pieces import Pieces

TASKS = 8
"""Batches and large files under way at once: a batch waits for the network half of the time."""

BATCH_BYTES = 4 * MIB
BATCH_ENTRIES = 512

LARGE_BYTES = 8 * MIB
"""A file of more is not held in memory whole."""

WINDOW_BYTES = 8 * MIB
"""Of a large file, read at once."""

_WINDOWS = 3
"""Of one large file, under way at once."""

_LARGE_FILES = 2
"""Large files under way at once: with their windows, 48 MiB."""


class Progress(Protocol):
    """Called from trio's thread."""

    def advance(self, size_bytes: int, *, items: int = 0) -> None:
        """So much more is done."""


@dataclass(slots=True)
class CheckedOut:
    """What came of it."""

    files: int = 0
    bytes: int = 0
    """Of all files."""
    files_kept: int = 0
    """Of these, what an earlier try had left there."""
    is_new: bool = True
    """False if the folder was there already, just like that."""


@dataclass(frozen=True, slots=True)
class Version:
    """What to check out."""

    tree: TreeView
    objects: PlacingObjects
    below: bytes = b""
    """A directory of the tree, which becomes the top of the folder."""

    def in_folder(self, entry: Entry) -> Entry:
        """An entry of the tree, as it is in the folder."""
        return entry._replace(directory=entry.directory[len(self.below) + 1 :]) if self.below else entry

    def in_tree(self, entry: Entry) -> Entry:
        """An entry of the folder, as it is in the tree."""
        if not self.below:
            return entry
        return entry._replace(directory=self.below + b"/" + entry.directory if entry.directory else self.below)


async def in_batches(version: Version) -> AsyncGenerator[list[Entry]]:
    """All entries, as they are in the folder, in the order of trees; a large file is a batch of its own."""
    batch: list[Entry] = []
    size = 0
    async for listed in version.tree.list_below(version.below):
        for entry in map(listed.page.entry, listed.positions):
            if entry.kind is Kind.FILE and entry.size > LARGE_BYTES:
                # What comes before it is in the order of trees before it, too.
                if batch:
                    yield batch
                    batch, size = [], 0
                yield [version.in_folder(entry)]
                continue
            batch.append(version.in_folder(entry))
            size += entry.size
            if size >= BATCH_BYTES or len(batch) >= BATCH_ENTRIES:
                yield batch
                batch, size = [], 0
    if batch:
        yield batch


async def check_out(
    version: Version,
    contents: Contents,
    directory: str | bytes,
    *,
    progress: Progress | None = None,
    before_naming: Callable[[bytes], None] | None = None,
) -> CheckedOut:
    """Make `directory`, which must be missing or empty, a copy of the version.

    It is there whole or not at all; after an error or a kill the same call goes on where that one stopped. A folder
    that is just like the version already is left as it is. `before_naming` is called in a thread, with the path of the
    folder before it has its name.

    Raises NotFoundError if `below` is no directory, ConflictError for a folder with something else in it,
    CorruptDataError for a content that is not what the tree says, FsdError for what the disk refuses, and what a store
    raises.
    """
    path = await trio.to_thread.run_sync(os.path.realpath, os.fsencode(directory))
    return await _Checkout(version, contents, progress).run(path, before_naming)


class _Checkout:
    def __init__(self, version: Version, contents: Contents, progress: Progress | None) -> None:
        self._version = version
        self._contents = PlacedContents(contents, version.tree, version.objects)
        self._progress = progress
        self._large = trio.CapacityLimiter(_LARGE_FILES)
        self._done = CheckedOut()

    async def run(self, path: bytes, before_naming: Callable[[bytes], None] | None) -> CheckedOut:
        below = self._version.below
        if below:
            parent, _, name = below.rpartition(b"/")
            found = await self._version.tree.find(parent, name)
            if found is None or found.page.kind(found.position) != Kind.DIRECTORY:
                raise NotFoundError(f"{shown(below)} is no directory of this version")
        if not await trio.to_thread.run_sync(_is_free, path):
            return await self._compare(path)
        name = content_id(self._version.tree.id + below)[:6].hex().encode()
        with staged(path, name) as (target, is_new):
            with one_error():
                async with trio.open_nursery() as nursery:
                    send, receive = trio.open_memory_channel[list[Entry]](1)
                    async with receive:
                        for _ in range(TASKS):
                            nursery.start_soon(self._work, target, is_new, receive.clone())
                    async with send, aclosing(in_batches(self._version)) as batches:
                        async for batch in batches:
                            await send.send(batch)
            if before_naming is not None:
                await trio.to_thread.run_sync(before_naming, target.path)
        return self._done

    async def _work(self, target: Target, is_new: bool, receive: trio.MemoryReceiveChannel[list[Entry]]) -> None:
        async with receive:
            async for batch in receive:
                wanted = batch if is_new else await trio.to_thread.run_sync(target.missing, batch)
                if wanted and wanted[0].kind is Kind.FILE and wanted[0].size > LARGE_BYTES:
                    async with self._large:
                        await self._write_large(target, wanted[0])
                else:
                    await self._write_small(target, wanted)
                self._note(batch, wanted)

    async def _write_small(self, target: Target, wanted: Sequence[Entry]) -> None:
        files = [self._version.in_tree(entry) for entry in wanted if entry.kind is Kind.FILE]
        read = await self._contents.read_small(files) if files else []
        await trio.to_thread.run_sync(target.write, wanted, read)

    async def _write_large(self, target: Target, entry: Entry) -> None:
        file = await trio.to_thread.run_sync(target.begin_large, entry)
        pieces = Pieces(self._version.in_tree(entry), self._version.objects)
        try:
            send, receive = trio.open_memory_channel[_Window](_WINDOWS - 1)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read_windows, self._version.in_tree(entry), pieces, send, nursery)
                async with receive:
                    async for window in receive:
                        await window.is_read.wait()
                        shared = await self._contents.share(pieces, window.start, window.end, file.descriptor)
                        for part in window.parts:
                            await trio.to_thread.run_sync(file.passed if shared else file.write, part)
            await trio.to_thread.run_sync(file.finish)
        finally:
            file.close()

    async def _read_windows(
        self, file: Entry, pieces: Pieces, send: trio.MemorySendChannel[_Window], nursery: trio.Nursery
    ) -> None:
        """Begin to read the windows of a file, a bounded number ahead of who writes them."""
        async with send:
            for start in range(0, file.size, WINDOW_BYTES):
                window = _Window(start, min(start + WINDOW_BYTES, file.size))
                await send.send(window)
                nursery.start_soon(self._read_window, window, file, pieces)

    async def _read_window(self, window: _Window, file: Entry, pieces: Pieces) -> None:
        window.parts = await self._contents.read(file, pieces, window.start, window.end)
        window.is_read.set()

    def _note(self, batch: Sequence[Entry], written: Sequence[Entry]) -> None:
        sizes = [entry.size for entry in batch if entry.kind is Kind.FILE]
        self._done.files += len(sizes)
        self._done.bytes += sum(sizes)
        self._done.files_kept += len(sizes) - sum(entry.kind is Kind.FILE for entry in written)
        if self._progress is not None:
            self._progress.advance(sum(sizes), items=len(sizes))

    async def _compare(self, path: bytes) -> CheckedOut:
        """A folder that has something in it must be just the version."""
        there = 0
        with Target(path) as target:
            async with aclosing(in_batches(self._version)) as batches:
                async for batch in batches:
                    other = await trio.to_thread.run_sync(target.first_difference, batch)
                    if other is not None:
                        raise _in_the_way(path, f"{shown(other.path)} is missing or another")
                    there += len(batch)
                    self._note(batch, ())
        found = await trio.to_thread.run_sync(_count, path)
        if found != there:
            raise _in_the_way(path, f"{found - there:,} more are in it")
        self._done.is_new = False
        return self._done


class _Window:
    """A part of a large file, in its place in the order of parts."""

    def __init__(self, start: int, end: int) -> None:
        self.start = start
        self.end = end
        self.is_read = trio.Event()
        self.parts: Sequence[Buffer] = ()


def _is_free(path: bytes) -> bool:
    """Whether there is nothing at `path`, or an empty folder. Raises UsageError for what is no folder."""
    try:
        return not os.listdir(path)
    except FileNotFoundError:
        return True
    except NotADirectoryError:
        raise UsageError(f"{shown(path)} is not a folder", hint="choose another place") from None
    except OSError as error:
        raise FsdError(f"cannot read {shown(path)}: {error.strerror}") from error


def _count(path: bytes) -> int:
    """Entries of a folder, however deep."""
    with SourceFolder(path) as source:
        return sum(len(run.names) for run in walk(source))


def _in_the_way(path: bytes, what: str) -> ConflictError:
    return ConflictError(
        f"{shown(path)} is not empty, and not that version: {what}", hint="check out into a folder of its own"
    )
