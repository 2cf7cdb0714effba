"""What was read from elsewhere before: from the names that other programs have for contents to what fsd calls them.

An MD5 of DVC's, a SHA-256 of LFS's, a bucket's ETag: once the content has been read, its BLAKE3 and its chunks are
noted here, and whatever has that name again, in another revision or after a kill, need not be read. One file for each
store.

It is a hint. Only logical facts are kept, not where chunks lie: that the index of known chunks says, and whoever
recalls a file makes sure that all of its chunks are there. A wrong or lost memo costs reading.

Blocks. Safe to use from many threads; several importers may share the file.
"""

from __future__ import annotations

import errno
import sqlite3
import struct
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from fsd.format.model import Piece
from fsd.ids import ID_BYTES, Buffer, content_id

_BUSY_TIMEOUT_S = 30.0
_ASKED_AT_ONCE = 500
_PIECE = struct.Struct(f"<{ID_BYTES}sQ")


class Remembered(NamedTuple):
    """A content."""

    size: int
    content: bytes
    """Its BLAKE3."""
    level: int
    pieces: Sequence[Piece]


class Memo:
    """A context manager. Raises OSError where it cannot be kept."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        try:
            self._rows = self._open(path)
        except sqlite3.DatabaseError:  # damaged: it is only a hint
            for suffix in ("", "-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            self._rows = self._open(path)

    @staticmethod
    def _open(path: Path) -> sqlite3.Connection:
        try:
            return Memo._open_table(path)
        except sqlite3.OperationalError as error:  # no right, no room, or somebody holds it
            raise OSError(errno.EIO, f"{error}") from error

    @staticmethod
    def _open_table(path: Path) -> sqlite3.Connection:
        rows = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        # What is written is in the kernel's hands at once, so that a kill loses nothing; it is never a torn file.
        for pragma in ("journal_mode = WAL", "synchronous = NORMAL"):
            rows.execute(f"PRAGMA {pragma}")
        rows.execute(
            "CREATE TABLE IF NOT EXISTS contents"
            " (token BLOB PRIMARY KEY, size INTEGER, content BLOB, level INTEGER, pieces BLOB) WITHOUT ROWID"
        )
        return rows

    def __enter__(self) -> Memo:
        return self

    def __exit__(self, *_: object) -> None:
        self._rows.close()

    def recall(self, tokens: Iterable[str]) -> dict[str, Remembered]:
        """What is known of these contents, by their names; '' stands for none."""
        by_key = {_key(token): token for token in tokens if token}
        keys, found = list(by_key), dict[str, Remembered]()
        with self._lock:
            for start in range(0, len(keys), _ASKED_AT_ONCE):
                some = keys[start : start + _ASKED_AT_ONCE]
                marks = ",".join("?" * len(some))
                with suppress(sqlite3.DatabaseError):
                    for key, size, content, level, pieces in self._rows.execute(
                        f"SELECT token, size, content, level, pieces FROM contents WHERE token IN ({marks})", some
                    ):
                        found[by_key[key]] = Remembered(size, content, level, _decoded(pieces))
        return found

    def note(self, known: Mapping[str, Remembered]) -> None:
        """These contents were read."""
        rows = [
            (_key(token), each.size, each.content, each.level, b"".join(_PIECE.pack(*piece) for piece in each.pieces))
            for token, each in known.items()
        ]
        with self._lock, suppress(sqlite3.DatabaseError):
            self._rows.execute("BEGIN IMMEDIATE")
            self._rows.executemany("REPLACE INTO contents VALUES (?, ?, ?, ?, ?)", rows)
            self._rows.execute("COMMIT")


def _key(token: str) -> bytes:
    """Of any length, and whatever is in it: some are whole URLs."""
    return content_id(token.encode(errors="surrogateescape"))


def _decoded(pieces: Buffer) -> Sequence[Piece]:
    return [Piece(*fields) for fields in _PIECE.iter_unpack(pieces)]
