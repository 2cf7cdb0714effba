"""From an archive to a tree in the store: read once, in the archive's own order, and sorted when all is read.

No content is on disk or in memory longer than it takes to cut it and send it on: small members are held until a thread
has cut them, large ones are cut as they come. What waits for the end, on disk, are entries: names, hashes, places.
"""

from __future__ import annotations

import io
import marshal
import stat
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import aclosing
from itertools import islice
from typing import IO, NamedTuple, Protocol, runtime_checkable

import trio

from fsd.errors import FsdError
from fsd.format.chunker import ChunkerParams
from fsd.format.model import Entry, Kind, Piece, Placement
from fsd.importing.items import Item, Readable, checked, clean_path, too_short
from fsd.importing.ledger import Ledger, Row
from fsd.importing.listed import Desk
from fsd.importing.reading import StreamedFile, found_of
from fsd.publish.content import Changes, Content, store_content
from fsd.publish.delta import ALONE_BYTES, Batch, batched
from fsd.publish.ingest import Windows
from fsd.publish.source import Found, UnsupportedFileError, shown
from fsd.repo.builder import Removal, RemovalBelow

_ENTRIES_AT_ONCE = 4096


class Member(NamedTuple):
    """Something in an archive."""

    item: Item
    content: Readable | None = None
    """Of a file, to be read before the next member is asked for."""
    same_as: bytes | None = None
    """Of a hard link: the path of the file that it is another name of, which came before."""


class MemberContent(io.RawIOBase):
    """A member's content: what its library says of damage becomes the archive's own error."""

    def __init__(self, file: IO[bytes], damages: tuple[type[Exception], ...], told: Callable[[Exception], FsdError]):
        super().__init__()
        self._file = file
        self._damages = damages
        self._told = told

    def read(self, size: int = -1, /) -> bytes:
        """See `io.RawIOBase`."""
        try:
            return self._file.read(size)
        except self._damages as error:
            raise self._told(error) from error

    def close(self) -> None:
        """See `io.RawIOBase`."""
        self._file.close()
        super().close()


@runtime_checkable
class Archive(Protocol):
    """A source that comes in its own order, once. Blocks; for one thread at a time."""

    @property
    def size_bytes(self) -> int | None:
        """About how much is in it, if that is known."""

    def members(self) -> Iterator[Member]:
        """All of it. Raises FsdError for what is damaged or cannot be kept."""


async def store_archive(desk: Desk, archive: Archive, where: str) -> Content:
    """Make the tree of an archive durable; `where` names it. Raises FsdError."""
    with Ledger(desk.state, where, replaces=True) as ledger:
        if archive.size_bytes is not None and desk.progress.wants_total:
            desk.progress.expect(0, archive.size_bytes)
        desk.progress.phase("read")
        reading = _Reading(archive, ledger, where, desk.repositories.marker.chunker.whole_file)
        return await store_content(
            desk.repositories,
            reading,
            reading.batches(),
            None,
            desk.known,
            desk.progress.phase,
            desk.progress,
            desk.before_reading,
            reading.in_order,
        )


class _Reading:
    """Hands out an archive's members, and puts what comes of them in order: a `fsd.publish.ingest.Source`."""

    def __init__(self, archive: Archive, ledger: Ledger, where: str, whole_file: int) -> None:
        """Files up to `whole_file` bytes are one chunk, and so never streamed."""
        self._archive = archive
        self._ledger = ledger
        self._where = where
        self._whole_file = whole_file
        self._small: dict[int, bytes] = {}
        self._large: tuple[Item, Readable] | None = None
        self._links: dict[int, bytes] = {}
        self._order: deque[Member | None] = deque()
        """What was handed out, as the results will come: None for an entry, a member for a hard link."""

    def batches(self) -> Generator[Batch]:
        """All members, in the archive's order."""
        batch = Batch()
        for number, member in enumerate(self._archive.members()):
            item = checked(member.item, self._where)
            if not item.path:
                continue
            if member.same_as is not None:
                self._order.append(Member(item, None, clean_path(member.same_as, self._where)))
                continue
            self._order.append(None)
            self._take(number, item, member.content)
            batch.unread_entries += not item.is_file
            full, batch = batched(batch, found_of(item, number))
            yield from full
        yield batch

    def _take(self, number: int, item: Item, content: Readable | None) -> None:
        """What is to be at hand when the item is read. The content of a large file is where the archive stands."""
        if not item.is_file:
            self._links[number] = item.target
            return
        assert content is not None
        if item.size >= ALONE_BYTES and item.size > self._whole_file:
            self._large = item, content
            return
        data = content.read(item.size) if item.size else b""
        if len(data) != item.size:
            raise too_short(item.path, item.size, len(data))
        self._small[number] = data

    # --- as a source

    def read_files(self, files: Sequence[Found]) -> Iterator[bytes]:
        """See `Source`."""
        return (self._small.pop(found.inode) for found in files)

    def read_link(self, found: Found) -> bytes:
        """See `Source`."""
        return self._links.pop(found.inode)

    def open_large(self, found: Found, params: ChunkerParams) -> Windows:  # noqa: ARG002
        """See `Source`."""
        assert self._large is not None
        item, content = self._large
        self._large = None
        return StreamedFile(item, lambda: content, params)

    # --- what came of it

    async def in_order(self, changes: Changes) -> Changes:
        """All entries, in the order of trees, once they are there."""
        async with aclosing(changes):
            async for batch in changes:
                entries: list[Entry] = []
                for change in batch:
                    assert not isinstance(change, Removal | RemovalBelow)
                    entries.append(change)
                await trio.to_thread.run_sync(self._enter, entries)
        await trio.to_thread.run_sync(self._enter, ())
        rows = self._ledger.rows()
        while entries := await trio.to_thread.run_sync(
            lambda: [_entry_of(row) for row in islice(rows, _ENTRIES_AT_ONCE)]
        ):
            yield entries

    def _enter(self, entries: Sequence[Entry]) -> None:
        """The next results, and the hard links between and behind them."""
        for entry in entries:
            self._enter_links()
            self._order.popleft()
            mode = _MODES[entry.kind] | (0o100 if entry.executable else 0)
            self._ledger.add(entry.path, mode, entry.size, _payload(entry))
        self._enter_links()

    def _enter_links(self) -> None:
        while self._order and (member := self._order[0]) is not None:
            self._order.popleft()
            assert member.same_as is not None
            found = self._ledger.find(member.same_as)
            if found is None or stat.S_ISDIR(found.mode):
                raise UnsupportedFileError(
                    f"{shown(member.item.path)!r} in {self._where} is a hard link to {shown(member.same_as)!r}, "
                    "which is no file before it; nothing was imported",
                    hint="the archive is incomplete: make it anew",
                )
            self._ledger.add(member.item.path, found.mode, found.size, found.payload)


def _next_entries(rows: Iterator[Row]) -> list[Entry]:
    return [_entry_of(row) for row in islice(rows, _ENTRIES_AT_ONCE)]


_MODES = {Kind.FILE: stat.S_IFREG | 0o644, Kind.DIRECTORY: stat.S_IFDIR | 0o755, Kind.SYMLINK: stat.S_IFLNK | 0o777}


def _payload(entry: Entry) -> bytes:
    pieces = tuple((each.id, each.length) for each in entry.pieces)
    placements = tuple((each.pack, each.offset, each.stored, each.plain_offset) for each in entry.placements)
    return marshal.dumps((entry.content, entry.target, entry.level, pieces, placements))


def _entry_of(row: Row) -> Entry:
    if stat.S_ISDIR(row.mode):
        return Entry(row.directory, row.name, Kind.DIRECTORY)
    content, target, level, pieces, placements = marshal.loads(row.payload)
    is_link = stat.S_ISLNK(row.mode)
    return Entry(
        row.directory,
        row.name,
        Kind.SYMLINK if is_link else Kind.FILE,
        not is_link and bool(row.mode & stat.S_IXUSR),
        row.size,
        content,
        target,
        level,
        tuple(Piece(*piece) for piece in pieces),
        tuple(Placement(*placement) for placement in placements),
    )
