"""The scan index: what a folder looked like when it was last committed, so that the next commit reads what changed.

A file of its own for each (folder, store, repository), in the order of the walk:

    8   magic "fsdscan1"      4  length of the header      header: JSON (folder, store, repository)
    runs:   4 length of the directory's path   4 entries   4 length of the names   directory   names, NUL between
            40 for each entry: size, mtime in ns, ctime in ns, inode, mode
    32  the commit whose tree holds exactly these entries
    32  BLAKE3 of everything before

A status of zeros stands for an entry that is not to be trusted: it equals no real one, so the entry is read next time.

Invariants: an index appears whole or not at all (written aside, synced, renamed), and a missing, corrupt or foreign one
means no more than reading everything. It says nothing about the store: whether the commit is still there is for the
caller to find out. Two publishers of one folder may write at once: either index is right.

A scan that meets nothing new writes nothing, and one that meets the first change late copies what comes before it: an
unchanged tree of 1.5 million files has an index of 90 MB.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import mkstemp
from typing import BinaryIO, NamedTuple, Protocol

from blake3 import blake3

from fsd.format.keys import MAX_REF_NAME_CHARACTERS
from fsd.format.limits import MAX_PATH_BYTES
from fsd.ids import ID_BYTES, content_id
from fsd.limits import MIB
from fsd.publish.source import STATUS

MAGIC = b"fsdscan1"
UNTRUSTED = bytes(STATUS.size)

_LENGTH = struct.Struct("<I")
_RUN = struct.Struct("<III")
_TRAILER_BYTES = 2 * ID_BYTES
_MAX_HEADER_BYTES = 8 * (MAX_PATH_BYTES + MAX_REF_NAME_CHARACTERS)
_BUFFER_BYTES = 1 * MIB


class ScanKey(NamedTuple):
    """What an index is of."""

    folder: bytes
    """Absolute."""
    store: str
    """The store's id."""
    repository: str

    @property
    def file_name(self) -> str:
        """Where it is kept, below the folder of all indexes."""
        return f"{content_id(self.header)[:16].hex()}.scan"

    @property
    def header(self) -> bytes:
        """The header that names it."""
        return json.dumps([os.fsdecode(self.folder), self.store, self.repository]).encode()


class RecordedRun(NamedTuple):
    """A run of entries as they were."""

    directory: bytes
    names: bytes
    """With NUL between them."""
    statuses: bytes
    end: int
    """Where in the index the next run starts."""


class ScanIndex:
    """An index that was found intact. Close it."""

    def __init__(self, file: BinaryIO, commit: bytes, start: int, end: int) -> None:
        self._file = file
        self._start = start
        self.commit = commit
        """The commit whose tree holds exactly the entries recorded."""
        self.end = end
        """Where the runs end."""

    def runs(self) -> Iterator[RecordedRun]:
        """All of them, once at a time."""
        read = self._file.read
        self._file.seek(self._start)
        at = self._start
        while at < self.end:
            directory_bytes, entries, names_bytes = _RUN.unpack(read(_RUN.size))
            at += _RUN.size + directory_bytes + names_bytes + STATUS.size * entries
            yield RecordedRun(read(directory_bytes), read(names_bytes), read(STATUS.size * entries), at)

    def copy_start(self, end: int) -> Iterator[bytes]:
        """Everything before `end`. Does not disturb `runs`."""
        at = 0
        while at < end:
            part = os.pread(self._file.fileno(), min(_BUFFER_BYTES, end - at), at)
            at += len(part)
            yield part

    def close(self) -> None:
        """Idempotent."""
        self._file.close()


def open_scan_index(folder: Path, key: ScanKey) -> ScanIndex | None:
    """The index of `key` in `folder`, or None where there is none to be trusted. Reads all of it once. Blocks."""
    try:
        file = open(folder / key.file_name, "rb", buffering=_BUFFER_BYTES)  # noqa: SIM115 - the index owns it
    except OSError:
        return None
    try:
        index = _check(file, key)
    except OSError:
        index = None
    if index is None:
        file.close()
    return index


def _check(file: BinaryIO, key: ScanKey) -> ScanIndex | None:
    size = os.fstat(file.fileno()).st_size
    prefix = len(MAGIC) + _LENGTH.size
    start = file.read(prefix)
    if len(start) < prefix or not start.startswith(MAGIC):
        return None
    (header_bytes,) = _LENGTH.unpack_from(start, len(MAGIC))
    end = size - _TRAILER_BYTES
    if header_bytes > _MAX_HEADER_BYTES or prefix + header_bytes > end or file.read(header_bytes) != key.header:
        return None
    file.seek(0)
    digest, left = blake3(), size - ID_BYTES
    while left > 0 and (part := file.read(min(_BUFFER_BYTES, left))):
        digest.update(part)
        left -= len(part)
    file.seek(end)
    trailer = file.read(_TRAILER_BYTES)
    if len(trailer) != _TRAILER_BYTES or digest.digest() != trailer[ID_BYTES:]:
        return None
    return ScanIndex(file, trailer[:ID_BYTES], prefix + header_bytes, end)


class Recorder(Protocol):
    """Is told, run after run in the order of the walk, how a scan compares with the index that there was."""

    def keep(self, run: RecordedRun) -> None:
        """The next run is as `run` of the base, all of it."""

    def add(self, directory: bytes, names: bytes, statuses: bytes) -> None:
        """The next run is another than the base's next; names have NUL between them."""

    def drop(self) -> None:
        """The base has a run that this scan does not."""


class NoRecorder:
    """For a folder that is only a part of what is committed: nothing seen in it says what the whole is."""

    def keep(self, run: RecordedRun) -> None:
        """Note nothing."""

    def add(self, directory: bytes, names: bytes, statuses: bytes) -> None:
        """Note nothing."""

    def drop(self) -> None:
        """Note nothing."""


class ScanWriter:
    """Writes the index of the scan under way, in the order of the walk. Ends with `finish` or `discard`. Blocks."""

    def __init__(self, folder: Path, key: ScanKey, base: ScanIndex | None) -> None:
        """`base` is the index that the scan compares with; it must stay open meanwhile."""
        self._folder = folder
        self._key = key
        self._base = base
        self._kept_to: int | None = None
        self._file: BinaryIO | None = None
        self._aside = ""
        self._digest = blake3()

    def keep(self, run: RecordedRun) -> None:
        """The next run is as `run` of the base, all of it."""
        if self._file is None and self._base is not None:
            self._kept_to = run.end
        else:
            self._write_run(run.directory, run.names, run.statuses)

    def add(self, directory: bytes, names: bytes, statuses: bytes) -> None:
        """The next run is another than the base's next; names have NUL between them."""
        self._start()
        self._write_run(directory, names, statuses)

    def drop(self) -> None:
        """The base has a run that this scan does not."""
        self._start()

    @property
    def is_unchanged(self) -> bool:
        """True if the base's index, which is all that there is to say, still stands."""
        return self._file is None and self._base is not None

    def finish(self, commit: bytes) -> None:
        """Make this the index, of the tree of `commit`."""
        if self.is_unchanged and self._base is not None and self._base.commit == commit:
            return
        self._start()
        file = self._file
        assert file is not None
        self._write(commit)
        file.write(self._digest.digest())
        file.flush()
        os.fsync(file.fileno())
        os.replace(self._aside, self._folder / self._key.file_name)
        self._file = None
        file.close()

    def discard(self) -> None:
        """Leave everything as it was. Idempotent, and nothing after `finish`."""
        file, self._file = self._file, None
        if file is not None:
            file.close()
            with suppress(FileNotFoundError):
                os.unlink(self._aside)

    def _start(self) -> None:
        if self._file is not None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        fd, self._aside = mkstemp(dir=self._folder, prefix=".", suffix=".scan")
        self._file = os.fdopen(fd, "wb", buffering=_BUFFER_BYTES)
        if self._base is not None and self._kept_to is not None:
            for part in self._base.copy_start(self._kept_to):
                self._write(part)
            return
        header = self._key.header
        self._write(MAGIC + _LENGTH.pack(len(header)) + header)

    def _write_run(self, directory: bytes, names: bytes, statuses: bytes) -> None:
        head = _RUN.pack(len(directory), len(statuses) // STATUS.size, len(names))
        self._write(b"".join((head, directory, names, statuses)))

    def _write(self, data: bytes) -> None:
        assert self._file is not None
        self._digest.update(data)
        self._file.write(data)
