"""The chunks that this machine knows to be in a store, and where: what a publisher need not upload.

`KnownChunks` is the view of one publisher: the files of those before it (`fsd.publish.shelf`), and a journal of its own
that it fills as it goes. The journal serves three ends: the same chunk twice within a commit, the next commit's
dedup, and resuming after a kill, since it notes each pack as soon as that is durable.

It is a hint. A pack named by an earlier publisher may have left the store since, so whoever wants to place a chunk
there first makes sure that the pack is still there: `find` answers with packs that nobody has asked about yet, the
publisher asks the store once a pack and says `mark_present` or `mark_gone`.

A commit is *covered* if all chunks of its tree are in the index. The publisher covers the parent of what it commits by
streaming its pages, unless it is covered already; so what it commits is covered as well.

All calls are quick and none waits, except `open`, `close` and the merging in it, which are for a thread.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from fsd.format.model import Placement
from fsd.ids import ID_BYTES
from fsd.publish.bookmarks import Bookmarks
from fsd.publish.rows import (
    NOTE_COVERED,
    NOTE_GONE,
    NOTE_PACK,
    ROW_BYTES,
    Row,
    Table,
    decode_row,
    encode_note,
    encode_row,
)
from fsd.publish.shelf import Facts, Volume, merging, new_rows_file, open_volumes, remove, write_table

KEPT_ROWS = 32 * 1024 * 1024
"""More than this and the oldest are forgotten: 2.5 GB of disk, for a terabyte of chunks."""

MERGED_VOLUMES = 8
"""With this many files (each costs a probe for every new chunk) the smaller ones are made into one."""

MERGED_ROWS = 1024 * 1024
"""A larger file is left as it is: merging takes 4 µs a row, and whoever commits waits for it."""

BOOKMARKS = "uploads"
"""The folder for them, in the store's own."""

_FLUSH_BYTES = ROW_BYTES * 1024


class _Journal:
    """This publisher's own rows: in memory the last few, and the table over all."""

    def __init__(self, folder: Path) -> None:
        self.path, self._fd = new_rows_file(folder)
        self.table = Table()
        self.facts = Facts()
        self.packs: list[bytes] = []
        """By number, durable or not."""
        self._numbers: dict[bytes, int] = {}
        self._tail = bytearray()
        self._flushed = 0

    def number(self, pack: bytes) -> int:
        """The number that stands for a pack in the rows."""
        number = self._numbers.get(pack)
        if number is None:
            number = self._numbers[pack] = len(self.packs)
            self.packs.append(pack)
        return number

    def add(self, chunk: bytes, length: int, placement: Placement) -> None:
        """Write the row of a chunk."""
        pack, offset, stored, plain_offset = placement
        self.table.add(chunk, self.facts.rows)
        self._append(encode_row(chunk, offset, plain_offset, stored, length, self.number(pack)))

    def note(self, note: int, about: bytes) -> None:
        """Write a note, and hand all to the kernel: a killed process loses nothing of it."""
        number = self.number(about) if note == NOTE_PACK else 0
        self.facts.note(Row(about.ljust(ID_BYTES, b"\0"), 0, 0, note, 0, number))
        self._append(encode_note(note, about, number))
        self.flush()

    def row(self, number: int) -> Row | None:
        """A row, or None if it is damaged."""
        if number < self._flushed:
            return decode_row(os.pread(self._fd, ROW_BYTES, ROW_BYTES * number))
        at = ROW_BYTES * (number - self._flushed)
        return decode_row(bytes(self._tail[at : at + ROW_BYTES]))

    def flush(self) -> None:
        """Write what is in memory only."""
        while self._tail:
            written = os.write(self._fd, self._tail)
            del self._tail[:written]
        self._flushed = self.facts.rows

    def close(self) -> None:
        """Release the file, and with it the lock."""
        os.close(self._fd)

    def _append(self, data: bytes) -> None:
        self._tail += data
        self.facts.rows += 1
        if len(self._tail) >= _FLUSH_BYTES:
            self.flush()


class KnownChunks:
    """See the module's docstring. For one publisher; `might_hold` may be called from any thread."""

    def __init__(self, folder: Path) -> None:
        """`folder` is the store's own. Opens nothing yet."""
        self._folder = folder
        self.bookmarks = Bookmarks(folder / BOOKMARKS)
        """Packs that are not whole yet, and how far they got."""
        self._volumes: list[Volume] = []
        self._journal: _Journal | None = None
        self._present: set[bytes] = set()
        self._unfinished: set[bytes] = set()
        self._gone: set[bytes] = set()

    def open(self) -> None:
        """Read what earlier publishers left. Blocks."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self.bookmarks.open()
        self._volumes = open_volumes(self._folder)[::-1]
        self._journal = _Journal(self._folder)
        for volume in self._volumes:
            self._gone |= volume.facts.gone

    def close(self) -> None:
        """Leave the journal for the next publisher. Blocks; perhaps a while, if all packs that were begun are durable:
        then it is put in order."""
        complete = not self._unfinished
        journal, self._journal = self._journal, None
        if journal is not None:
            journal.flush()
            if journal.facts.rows == 0:
                remove(journal.path)
            elif complete:
                write_table(journal.path, journal.facts, journal.table)
            journal.close()
        for volume in self._volumes:
            volume.close()
        if complete and len(self._volumes) >= MERGED_VOLUMES:
            merge_volumes(self._folder)
        self._volumes = []

    # --- asking

    def might_hold(self, chunk: bytes) -> bool:
        """Quick and nearly always right: whether `find` will find the chunk."""
        journal = self._journal
        return (journal is not None and bool(journal.table.candidates(chunk))) or any(
            volume.table.candidates(chunk) for volume in self._volumes
        )

    def find(self, chunk: bytes, length: int) -> Placement | None:
        """Where the chunk lies, in a pack that is present or that nobody has asked about yet."""
        journal = self._journal
        assert journal is not None
        for number in journal.table.candidates(chunk):
            row = journal.row(number)
            if row is not None and row.id == chunk and row.length == length:
                pack = journal.packs[row.pack]
                if pack not in self._gone:
                    return Placement(pack, row.offset, row.stored, row.plain_offset)
        for volume in self._volumes:
            for number in volume.table.candidates(chunk):
                row = volume.row(number)
                if row is not None and row.id == chunk and row.length == length:
                    known = volume.facts.packs.get(row.pack)
                    if known is not None and known not in self._gone:
                        return Placement(known, row.offset, row.stored, row.plain_offset)
        return None

    def is_present(self, pack: bytes) -> bool:
        """Whether the pack is this publisher's own, or was seen in the store by it."""
        return pack in self._present

    def covers(self, commit: bytes) -> bool:
        """Whether all chunks of a commit's tree are known."""
        return any(commit in volume.facts.commits for volume in self._volumes) or (
            self._journal is not None and commit in self._journal.facts.commits
        )

    # --- telling

    def add(self, chunk: bytes, length: int, placement: Placement) -> None:
        """The chunk lies there. It counts for the next publisher once its pack is noted as durable."""
        assert self._journal is not None
        self._journal.add(chunk, length, placement)

    def begin_pack(self, pack: bytes) -> None:
        """This publisher is writing the pack: its chunks may be placed there at once."""
        # It may have been begun before, and not been finished.
        self._gone.discard(pack)
        self._present.add(pack)
        self._unfinished.add(pack)

    def forget_unfinished(self) -> None:
        """The packs that were begun and are not durable never will be."""
        self._present -= self._unfinished
        self._gone |= self._unfinished
        self._unfinished.clear()

    def note_durable(self, pack: bytes) -> None:
        """The pack is whole and durable."""
        assert self._journal is not None
        self._unfinished.discard(pack)
        self._journal.note(NOTE_PACK, pack)

    def note_covered(self, commit: bytes) -> None:
        """All chunks of the commit's tree are known, in packs noted as durable."""
        assert self._journal is not None
        self._journal.note(NOTE_COVERED, commit)

    def mark_present(self, pack: bytes) -> None:
        """The store has the pack."""
        self._present.add(pack)

    def mark_gone(self, pack: bytes) -> None:
        """The store does not have it: neither this publisher nor a later one will name it."""
        assert self._journal is not None
        self._gone.add(pack)
        self._journal.note(NOTE_GONE, pack)


def merge_volumes(folder: Path) -> None:
    """Make one file of all but the largest few, and forget the oldest if there is too much. Blocks."""
    with merging(folder) as may:
        if not may:
            return
        volumes = open_volumes(folder)
        try:
            volumes = _forget_oldest(volumes)
            by_size = sorted(volumes, key=lambda volume: volume.facts.rows)
            smaller = by_size[: max(0, len(by_size) - MERGED_VOLUMES // 2)]
            chosen = [volume for volume in smaller if volume.facts.rows <= MERGED_ROWS]
            if len(chosen) > 1:
                _merge(folder, [volume for volume in reversed(volumes) if volume in chosen])
        finally:
            for volume in volumes:
                volume.close()


def _forget_oldest(volumes: list[Volume]) -> list[Volume]:
    """Remove the oldest while there are too many rows. No commit is covered then: its chunks may have been there."""
    kept = list(volumes)
    while len(kept) > 1 and sum(volume.facts.rows for volume in kept) > KEPT_ROWS:
        oldest = kept.pop(0)
        remove(oldest.path)
        oldest.close()
    if len(kept) < len(volumes):
        for volume in kept:
            volume.facts.commits.clear()
            write_table(volume.path, volume.facts, volume.table)
    return kept


def _merge(folder: Path, newest_first: Iterable[Volume]) -> None:
    """One file with the rows of all these, each chunk once, without those in packs that are gone."""
    volumes = list(newest_first)
    gone = set().union(*(volume.facts.gone for volume in volumes))
    merged = _Journal(folder)
    try:
        for volume in volumes:
            packs = {number: pack for number, pack in volume.facts.packs.items() if pack not in gone}
            for _, row in volume.scan():
                pack = None if row.is_note else packs.get(row.pack)
                if pack is not None and not _holds(merged, row.id):
                    merged.add(row.id, row.length, Placement(pack, row.offset, row.stored, row.plain_offset))
        for pack in merged.packs:
            merged.note(NOTE_PACK, pack)
        for pack in gone:
            merged.note(NOTE_GONE, pack)
        for commit in set().union(*(volume.facts.commits for volume in volumes)):
            merged.note(NOTE_COVERED, commit)
        merged.flush()
        write_table(merged.path, merged.facts, merged.table)
    except BaseException:
        remove(merged.path)
        raise
    finally:
        merged.close()
    for volume in volumes:
        remove(volume.path)


def _holds(journal: _Journal, chunk: bytes) -> bool:
    rows = map(journal.row, journal.table.candidates(chunk))
    return any(row is not None and row.id == chunk for row in rows)
