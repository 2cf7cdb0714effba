"""From a listing to a tree in the store: listed first, then read in the order of the tree, what is new of it.

Each file is asked for in the memo by its token before it is read: what was read before, for another revision or by an
import that was killed, is placed as it is, if all of its chunks are in the store.
"""

from __future__ import annotations

import marshal
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import trio

from fsd.errors import CorruptDataError
from fsd.format.model import Entry, Kind
from fsd.importing.digests import Digest
from fsd.importing.items import UNKNOWN_SIZE, Item, Listing, checked
from fsd.importing.ledger import Ledger, Row
from fsd.importing.memo import Memo, Remembered
from fsd.importing.reading import ItemFiles, found_of
from fsd.publish.content import Changes, Content, store_content
from fsd.publish.delta import Batch, batched
from fsd.publish.ingest import Recalled, ToRead
from fsd.publish.known import KnownChunks
from fsd.publish.presence import make_sure
from fsd.publish.progress import Progress
from fsd.repo.builder import Removal, RemovalBelow
from fsd.repo.repository import Repositories
from fsd.repo.usage import pieces_of

ASKED_AT_ONCE = 512
"""Items looked up in the memo, and asked for their sizes, at once."""

_CHUNKS_AT_ONCE = 65_536
"""Chunks of a recalled file looked for at once."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What all imports into one store work with."""

    repositories: Repositories
    known: KnownChunks
    memo: Memo
    state: Path
    """Where temporary files go."""
    progress: Progress
    before_reading: Callable[[], Awaitable[None]]
    """Awaited before the first file is read."""


async def store_listing(desk: Desk, listing: Listing, where: str) -> Content:
    """Make the tree of what a source lists durable; `where` names it. Raises FsdError."""
    desk.progress.phase("list")
    with Ledger(desk.state, where) as ledger:
        await trio.to_thread.run_sync(_enter_all, listing, ledger, where)
        if desk.progress.wants_total:
            desk.progress.expect(ledger.entries, ledger.size_bytes)
        desk.progress.phase("read")
        reading = _Reading(desk, listing, ledger)
        return await store_content(
            desk.repositories,
            ItemFiles(listing, reading.under_way),
            reading.batches(),
            None,
            desk.known,
            desk.progress.phase,
            desk.progress,
            desk.before_reading,
            reading.noted,
        )


def _enter_all(listing: Listing, ledger: Ledger, where: str) -> None:
    for item in listing.items():
        item = checked(item, where)
        if item.path:
            digest = None if item.digest is None else tuple(item.digest)
            payload = marshal.dumps((item.target, item.origin, digest, item.version))
            ledger.add(item.path, item.mode, item.size, payload)


def _item_of(row: Row) -> Item:
    if not row.payload:
        return Item(row.path, row.mode)
    target, origin, digest, version = marshal.loads(row.payload)
    return Item(row.path, row.mode, row.size, target, origin, None if digest is None else Digest(*digest), version)


class _Reading:
    """Hands out what is to be read of a ledger, and notes what came of it."""

    def __init__(self, desk: Desk, listing: Listing, ledger: Ledger) -> None:
        self._desk = desk
        self._listing = listing
        self._ledger = ledger
        self.under_way: dict[int, Item] = {}
        """Items to be read, by number."""
        self._order: deque[tuple[int, str]] = deque()
        """Number and token of each change that was handed out, as the results will come; '' for what is not noted."""
        self._number = 0

    def batches(self) -> Generator[Batch]:
        """All of it, in the order of the tree. Blocks; for a thread that trio started."""
        batch, rows = Batch(), self._ledger.rows()
        while items := [_item_of(row) for row in islice(rows, ASKED_AT_ONCE)]:
            recalled = trio.from_thread.run(self._recall, items)
            for item in self._sized(items, recalled):
                change = self._change(item, recalled.get(item.token) if item.is_file else None)
                if not (isinstance(change, Recalled) or item.is_file):
                    batch.unread_entries += 1
                elif isinstance(change, Recalled):
                    batch.unread_entries += 1
                    batch.unread_bytes += item.size
                full, batch = batched(batch, change)
                yield from full
        yield batch

    def _sized(self, items: Sequence[Item], recalled: Mapping[str, Remembered]) -> list[Item]:
        """The items with the sizes that they have in fact."""
        asked = [item for item in items if item.size == UNKNOWN_SIZE and item.token not in recalled]
        sizes = iter(self._listing.sizes(asked) if asked else ())
        sized: list[Item] = []
        for item in items:
            if item.size == UNKNOWN_SIZE:
                known = recalled.get(item.token)
                item = item._replace(size=next(sizes) if known is None else known.size)
            sized.append(item)
        return sized

    def _change(self, item: Item, known: Remembered | None) -> ToRead:
        number, self._number = self._number, self._number + 1
        found = found_of(item, number)
        if known is not None and known.size == item.size:
            self._order.append((number, ""))
            return Recalled(found, known.level, known.pieces, known.content)
        self.under_way[number] = item
        self._order.append((number, item.token if item.is_file else ""))
        return found

    async def noted(self, changes: Changes) -> Changes:
        """The same changes; what was read is in the memo after that."""
        async with aclosing(changes):
            async for batch in changes:
                learnt: dict[str, Remembered] = {}
                for entry in batch:
                    assert not isinstance(entry, Removal | RemovalBelow)
                    number, token = self._order.popleft()
                    self.under_way.pop(number, None)
                    if token and entry.kind is Kind.FILE:
                        learnt[token] = _remembered(entry)
                yield batch
                if learnt:
                    await trio.to_thread.run_sync(self._desk.memo.note, learnt)

    async def _recall(self, items: Sequence[Item]) -> dict[str, Remembered]:
        """By token, what of the items was read before and is whole in the store."""
        tokens = [item.token for item in items if item.is_file]
        remembered = await trio.to_thread.run_sync(self._desk.memo.recall, tokens)
        if remembered:
            await self._desk.before_reading()
        small = [piece for each in remembered.values() if each.level == 0 for piece in each.pieces]
        await make_sure(self._desk.repositories, self._desk.known, small)
        return {token: each for token, each in remembered.items() if await self._is_whole(each)}

    async def _is_whole(self, each: Remembered) -> bool:
        repositories, known = self._desk.repositories, self._desk.known
        if each.level == 0:
            return all(known.find(*piece) is not None for piece in each.pieces)
        some: list[tuple[bytes, int]] = []
        try:
            async with aclosing(pieces_of(each.level, each.pieces, repositories.objects)) as pieces:
                async for piece in pieces:
                    some.append(piece)
                    if len(some) == _CHUNKS_AT_ONCE:
                        await make_sure(repositories, known, some)
                        if any(known.find(*chunk) is None for chunk in some):
                            return False
                        some.clear()
        except CorruptDataError:  # its recipes were never written, or are gone
            return False
        await make_sure(repositories, known, some)
        return all(known.find(*chunk) is not None for chunk in some)


def _remembered(entry: Entry) -> Remembered:
    return Remembered(entry.size, entry.content, entry.level, entry.pieces)
