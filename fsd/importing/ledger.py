"""The ledger: what a source has, sorted on disk, since sources have any order and trees have one.

A table in a temporary file: memory holds the pages at hand, however many rows there are. It sees to what no tree can
have: two files at one path, or a file where others have a folder. Directories that nobody listed are entered.

Blocks. For one thread at a time.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkstemp
from typing import NamedTuple

from fsd.format.model import entry_key
from fsd.importing.items import DIRECTORY_MODE
from fsd.limits import MIB
from fsd.publish.source import UnsupportedFileError, shown

_CACHE_BYTES = 16 * MIB
_KNOWN_DIRECTORIES = 65_536
"""Directories that are known to be entered: asked for again at every file, but forgotten now and then."""

_DIRECTORY_AT = "SELECT mode FROM rows WHERE key = ?"


class Row(NamedTuple):
    """An entered path."""

    directory: bytes
    name: bytes
    mode: int
    size: int
    payload: bytes
    """Whatever else there is to remember of it."""

    @property
    def path(self) -> bytes:
        """From the top."""
        return self.directory + b"/" + self.name if self.directory else self.name


class Ledger:
    """A context manager; the file is gone with it, also with a process that is killed. Raises OSError where there is no
    room for it."""

    def __init__(self, folder: Path, where: str, *, replaces: bool = False) -> None:
        """In `folder`. `where` names the source, for errors. `replaces`: a file may be entered again, and the last one
        counts, as in an archive that was added to."""
        folder.mkdir(parents=True, exist_ok=True)
        self._where = where
        fd, path = mkstemp(dir=folder, prefix=".import-")
        os.close(fd)
        try:
            with _as_os_errors():
                self._rows = _new_table(path)
        finally:
            os.unlink(path)  # it stays for as long as it is open
        self._replaces = replaces
        self._directories: set[bytes] = {b""}
        self.entries = 0
        self.size_bytes = 0
        """Of all files, as far as that is known."""

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self._rows.close()

    def add(self, path: bytes, mode: int, size: int, payload: bytes = b"") -> None:
        """Enter a path, and the directories that it lies in. Raises UnsupportedFileError for what cannot be."""
        with _as_os_errors():
            self._add(path, mode, size, payload)

    def _add(self, path: bytes, mode: int, size: int, payload: bytes) -> None:
        directory, _, name = path.rpartition(b"/")
        self._enter_directories(directory)
        if stat.S_ISDIR(mode):
            self._enter_directories(path)
            return
        key = entry_key(directory, name)
        row = (key, path, mode, size, payload)
        if not self._insert(row):
            known = self._rows.execute("SELECT mode, size FROM rows WHERE key = ?", (key,)).fetchone()
            if stat.S_ISDIR(known[0]):
                raise self._both(path)
            if not self._replaces:
                raise UnsupportedFileError(
                    f"{shown(path)!r} is in {self._where} twice; nothing was imported", hint="rename one of them there"
                )
            self._rows.execute("REPLACE INTO rows VALUES (?, ?, ?, ?, ?)", row)
            self.size_bytes -= max(known[1], 0)
        self.size_bytes += max(size, 0)

    def find(self, path: bytes) -> Row | None:
        """What is entered at a path."""
        directory, _, name = path.rpartition(b"/")
        found = self._rows.execute(
            "SELECT mode, size, payload FROM rows WHERE key = ?", (entry_key(directory, name),)
        ).fetchone()
        return None if found is None else Row(directory, name, *found)

    def rows(self) -> Iterator[Row]:
        """All that is entered, in the order of trees."""
        for path, mode, size, payload in self._rows.execute("SELECT path, mode, size, payload FROM rows ORDER BY key"):
            directory, _, name = path.rpartition(b"/")
            yield Row(directory, name, mode, size, payload)

    def _insert(self, row: tuple[bytes, bytes, int, int, bytes]) -> bool:
        is_new = self._rows.execute("INSERT OR IGNORE INTO rows VALUES (?, ?, ?, ?, ?)", row).rowcount == 1
        self.entries += is_new
        return is_new

    def _enter_directories(self, directory: bytes) -> None:
        """A directory and those above it."""
        missing: list[bytes] = []
        while directory not in self._directories:
            missing.append(directory)
            directory = directory.rpartition(b"/")[0]
        if len(self._directories) > _KNOWN_DIRECTORIES:
            self._directories = {b""}
        for path in reversed(missing):
            above, _, name = path.rpartition(b"/")
            key = entry_key(above, name)
            if not self._insert((key, path, DIRECTORY_MODE, 0, b"")):
                (mode,) = self._rows.execute(_DIRECTORY_AT, (key,)).fetchone()
                if not stat.S_ISDIR(mode):
                    raise self._both(path)
            self._directories.add(path)

    def _both(self, path: bytes) -> UnsupportedFileError:
        return UnsupportedFileError(
            f"{shown(path)!r} in {self._where} is a file and a folder; nothing was imported",
            hint="rename one of them there",
        )


def _new_table(path: str) -> sqlite3.Connection:
    rows = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    for pragma in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{_CACHE_BYTES // 1024}"):
        rows.execute(f"PRAGMA {pragma}")
    rows.execute(
        "CREATE TABLE rows (key BLOB PRIMARY KEY, path BLOB, mode INTEGER, size INTEGER, payload BLOB) WITHOUT ROWID"
    )
    rows.execute("BEGIN")
    return rows


@contextmanager
def _as_os_errors() -> Iterator[None]:
    """What goes wrong with the file is the disk's fault."""
    try:
        yield
    except sqlite3.Error as error:
        raise OSError(errno.EIO, f"{error}") from error
