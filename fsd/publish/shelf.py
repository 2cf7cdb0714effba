"""The files of the local chunk index: what past publishers of this machine left for the next one.

Each publisher writes a file of rows of its own, and at its end a table for it; then nobody changes either again. So
publishers never wait for each other, and a reader needs no lock. Below the folder of a store:

    <time>-<random>.rows     rows as `fsd.publish.rows` has them, in the order of writing
    <time>-<random>.table    4 length of the header, header: JSON (rows, packs by number, commits, gone packs),
                             BLAKE3 of it, zeros up to a multiple of 8, slots
    merge.lock               held by who makes one file of several

A rows file without a table is of a publisher that is at work (it holds a lock on it) or that was killed. Of the latter
every row up to the last whole one counts whose pack is noted as durable: that is how a second try resumes.

Everything here is a hint that saves an upload: a file that cannot be read is a file that is not there.
"""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkstemp

from fsd.ids import content_id, parse_id
from fsd.limits import MIB
from fsd.publish.rows import (
    NOTE_COVERED,
    NOTE_GONE,
    NOTE_PACK,
    ROW_BYTES,
    Row,
    Table,
    decode_row,
    decode_rows,
    pack_of_note,
)

ROWS_SUFFIX = ".rows"
TABLE_SUFFIX = ".table"
MERGE_LOCK = "merge.lock"

_LENGTH = struct.Struct("<I")
_MAX_HEADER_BYTES = 64 * MIB
_READ_BYTES = ROW_BYTES * 16 * 1024
_LISTINGS = 5
"""Tries to open what a listing showed while others merge it away."""


@dataclass(slots=True)
class Facts:
    """What the notes of a rows file say."""

    rows: int = 0
    """Whole rows, notes among them."""
    packs: dict[int, bytes] = field(default_factory=dict)
    """By number; only those that are durable."""
    commits: set[bytes] = field(default_factory=set)
    """All of whose chunks are in the index."""
    gone: set[bytes] = field(default_factory=set)
    """Packs that were found missing from the store."""

    def note(self, row: Row) -> None:
        """Take in a note."""
        if row.stored == NOTE_PACK:
            self.packs[row.pack] = pack_of_note(row)
        elif row.stored == NOTE_GONE:
            self.gone.add(pack_of_note(row))
        elif row.stored == NOTE_COVERED:
            self.commits.add(row.id)

    def encode(self) -> bytes:
        """As a table's header has it."""
        packs = {str(number): pack.hex() for number, pack in self.packs.items()}
        body = {
            "rows": self.rows,
            "packs": packs,
            "commits": sorted(commit.hex() for commit in self.commits),
            "gone": sorted(pack.hex() for pack in self.gone),
        }
        return json.dumps(body).encode()

    @classmethod
    def decode(cls, data: bytes) -> Facts:
        """The reverse. Raises ValueError and its like for what it did not write."""
        body = json.loads(data)
        return cls(
            rows=int(body["rows"]),
            packs={int(number): bytes.fromhex(pack) for number, pack in body["packs"].items()},
            commits={parse_id(commit) for commit in body["commits"]},
            gone={bytes.fromhex(pack) for pack in body["gone"]},
        )


class Volume:
    """A rows file with its table, open for reading. Any thread may read it."""

    def __init__(self, path: Path, fd: int, facts: Facts, table: Table, mapping: mmap.mmap | None) -> None:
        self.path = path
        self.facts = facts
        self.table = table
        self._fd = fd
        self._mapping = mapping

    def row(self, number: int) -> Row | None:
        """A row, or None if it is damaged."""
        return decode_row(os.pread(self._fd, ROW_BYTES, ROW_BYTES * number))

    def scan(self) -> Iterator[tuple[int, Row]]:
        """All whole rows with their numbers, notes among them."""
        return _scan(self._fd)

    def close(self) -> None:
        """Release it. Idempotent."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
        if self._mapping is not None:
            if isinstance(self.table.slots, memoryview):
                self.table.slots.release()
            self._mapping.close()
            self._mapping = None


def _scan(fd: int) -> Iterator[tuple[int, Row]]:
    number = 0
    while part := os.pread(fd, _READ_BYTES, ROW_BYTES * number):
        for at, row in enumerate(decode_rows(part), number):
            if row is not None:
                yield at, row
        number += len(part) // ROW_BYTES
        if len(part) < _READ_BYTES:
            return


def open_volumes(folder: Path) -> list[Volume]:
    """All that can be read, the oldest first. Killed publishers' files get the table they lack. Blocks."""
    for _ in range(_LISTINGS):
        volumes: list[Volume] = []
        try:
            for path in _listing(folder):
                volume = _open_volume(path)
                if volume is not None:
                    volumes.append(volume)
        except FileNotFoundError:
            for volume in volumes:
                volume.close()
            continue
        return volumes
    return []


def _listing(folder: Path) -> list[Path]:
    with suppress(FileNotFoundError):
        return sorted(path for path in folder.iterdir() if path.suffix == ROWS_SUFFIX and path.name[0] != ".")
    return []


def _open_volume(path: Path) -> Volume | None:
    """None for one that is another publisher's, or cannot be used. Raises FileNotFoundError if it was merged away."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError:
        return None
    volume = None
    try:
        volume = _with_table(path, fd) or (None if _is_at_work(fd) else _without_table(path, fd))
    finally:
        if volume is None:
            os.close(fd)
    return volume


def _is_at_work(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(fd, fcntl.LOCK_UN)
    return False


def _with_table(path: Path, fd: int) -> Volume | None:
    try:
        with open(path.with_suffix(TABLE_SUFFIX), "rb") as file:
            mapping = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    except (OSError, ValueError):
        return None
    try:
        (length,) = _LENGTH.unpack_from(mapping)
        header = mapping[_LENGTH.size : _LENGTH.size + min(length, _MAX_HEADER_BYTES)]
        end = _LENGTH.size + len(header)
        if content_id(header) != mapping[end : end + 32]:
            raise ValueError("a damaged header")
        slots = memoryview(mapping)[_aligned(end + 32) :].cast("Q")
        if not len(slots) or len(slots) & (len(slots) - 1):
            slots.release()
            raise ValueError("not all slots")
        return Volume(path, fd, Facts.decode(header), Table(slots), mapping)
    except (ValueError, KeyError, TypeError, AttributeError, struct.error):
        mapping.close()
        return None


def _without_table(path: Path, fd: int) -> Volume:
    """A killed publisher's."""
    facts, table = Facts(), Table()
    for number, row in _scan(fd):
        facts.rows = number + 1
        if row.is_note:
            facts.note(row)
        else:
            # Also if its pack was not finished: `Facts.packs` tells, and the note comes after the chunks.
            table.add(row.id, number)
    with suppress(OSError):
        write_table(path, facts, table)
    return Volume(path, fd, facts, table, None)


def write_table(rows: Path, facts: Facts, table: Table) -> None:
    """Write the table of a rows file, whole or not at all. Blocks."""
    header = facts.encode()
    start = _LENGTH.pack(len(header)) + header + content_id(header)
    fd, aside = mkstemp(dir=rows.parent, prefix=".", suffix=TABLE_SUFFIX)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(start.ljust(_aligned(len(start)), b"\0"))
            file.write(memoryview(table.slots).cast("B"))
        os.replace(aside, rows.with_suffix(TABLE_SUFFIX))
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(aside)
        raise


def _aligned(length: int) -> int:
    return -(-length // 8) * 8


def new_rows_file(folder: Path) -> tuple[Path, int]:
    """A rows file and its descriptor, locked for as long as that is open. Blocks."""
    folder.mkdir(parents=True, exist_ok=True)
    fd, aside = mkstemp(dir=folder, prefix=".", suffix=ROWS_SUFFIX)
    fcntl.flock(fd, fcntl.LOCK_EX)
    # Only now may others see it: to them, one without a lock is a dead publisher's.
    path = folder / f"{time.time_ns():020d}-{os.path.basename(aside)[1:]}"
    os.rename(aside, path)
    return path, fd


def remove(path: Path) -> None:
    """Remove a rows file and its table. Blocks."""
    for each in (path, path.with_suffix(TABLE_SUFFIX)):
        with suppress(FileNotFoundError):
            os.unlink(each)


@contextmanager
def merging(folder: Path) -> Iterator[bool]:
    """Yields whether this process may merge now; at most one may at a time."""
    fd = os.open(folder / MERGE_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(fd)
