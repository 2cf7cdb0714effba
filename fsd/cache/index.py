"""The presence index on disk: which chunk lies where in which mirror. The only user of rocksdict.

Keys and values (numbers in keys are big-endian, so that they sort; in values little-endian):

    c <32 chunk id>               4 mirror, 8 offset, 4 length, 4 epoch
    x <4 mirror> <8 offset>       32 chunk id, 4 length          the reverse, for eviction and overlaps
    m <4 mirror>                  16 pack
    u <4 mirror>                  when its extents were last used (fsd.cache.recency)
    v                             counters: format version, epoch, next mirror, clean

Invariants:

- A `c` record and its `x` record are written and removed in one batch. `x` records of one mirror do not overlap.
- The *epoch* is the number of this opening. What a record of an older epoch says is a claim: nobody has checked its
  bytes since then. The write-ahead log is replayed in order, so an epoch that was lost took its records with it.
- A mirror's number is never used again.
- The index is a cache of a cache: one that does not open, or has another version, is renamed away and begun anew.

Everything here blocks; single gets take microseconds and may run in the event loop.
"""

from __future__ import annotations

import logging
import os
import shutil
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from rocksdict import (
    BlockBasedOptions,
    Cache,
    DBCompressionType,
    Options,
    Rdict,
    WriteBatch,
)

log = logging.getLogger(__name__)

VERSION = 1

BLOCK_CACHE_BYTES = 16 * 1024 * 1024
WRITE_BUFFER_BYTES = 4 * 1024 * 1024
MAX_OPEN_FILES = 64

_LOCATION = struct.Struct("<IQII")
_REVERSE_KEY = struct.Struct(">cIQ")
_REVERSE = struct.Struct("<32sI")
_MIRROR_KEY = struct.Struct(">cI")
_COUNTERS = struct.Struct("<IIII")
_COUNTERS_KEY = b"v"


class IndexFailedError(Exception):
    """The index on disk could not be read or written. Internal to the cache: it goes on without."""


class Location(NamedTuple):
    """Where a chunk lies."""

    mirror: int
    offset: int
    """Bytes from the mirror's start."""
    length: int
    epoch: int
    """In which its bytes were last checked."""


class Held(NamedTuple):
    """A chunk as a mirror's reverse records name it."""

    id: bytes
    offset: int
    length: int


class PresenceIndex:
    """An open index. Made by `open`; `close` it."""

    def __init__(self, directory: Path, db: Rdict, epoch: int, next_mirror: int, *, was_clean: bool) -> None:
        self.directory = directory
        self.epoch = epoch
        self.was_clean = was_clean
        """Whether the last user closed it in order: nothing lies in mirrors that it does not know of."""
        self._db = db
        self._get = db.get
        self._next_mirror = next_mirror

    @classmethod
    def open(cls, directory: Path) -> PresenceIndex:
        """The index in `directory`, begun anew if need be. Raises IndexFailedError if not even that works."""
        try:
            return cls._open(directory)
        except IndexFailedError as error:
            log.warning("the cache begins anew: %s", error)
            broken = directory.with_name(directory.name + ".broken")
            shutil.rmtree(broken, ignore_errors=True)
            try:
                directory.rename(broken)
            except OSError as failure:
                raise IndexFailedError(f"cannot replace {directory}: {failure}") from failure
            return cls._open(directory)

    @classmethod
    def _open(cls, directory: Path) -> PresenceIndex:
        try:
            db = Rdict(str(directory), _options())
        except Exception as error:  # rocksdict raises nothing more precise
            raise IndexFailedError(f"cannot open {directory}: {error}") from error
        try:
            counters = db.get(_COUNTERS_KEY)
            if counters is None:
                version, epoch, next_mirror, clean = VERSION, 0, 1, 1
            else:
                version, epoch, next_mirror, clean = _COUNTERS.unpack(counters)
            if version != VERSION:
                raise IndexFailedError(f"{directory} has version {version}, not {VERSION}")
            index = cls(directory, db, (epoch + 1) & 0xFFFFFFFF, next_mirror, was_clean=bool(clean))
            index._put_counters(clean=False)
        except BaseException as error:
            db.close()
            if isinstance(error, (struct.error, TypeError)):
                raise IndexFailedError(f"{directory} does not hold an index: {error}") from error
            raise
        return index

    def close(self) -> None:
        """Flush and release. Raises IndexFailedError; it is closed all the same."""
        try:
            self._put_counters(clean=True)
        finally:
            self._close()

    def _close(self) -> None:
        try:
            self._db.close()
        except Exception as error:
            raise IndexFailedError(f"cannot close {self.directory}: {error}") from error

    def reopen(self) -> None:
        """Open anew what has stopped working. Nobody else may be in a call. Raises IndexFailedError."""
        try:
            self._close()
        except IndexFailedError as error:
            log.warning("%s", error)
        try:
            self._db = Rdict(str(self.directory), _options())
        except Exception as error:
            raise IndexFailedError(f"cannot open {self.directory}: {error}") from error
        self._get = self._db.get

    # --- chunks

    def get(self, chunk: bytes) -> Location | None:
        """Where `chunk` lies. About 4 microseconds."""
        try:
            value = self._get(b"c" + chunk)
        except Exception as error:
            raise IndexFailedError(str(error)) from error
        return None if value is None else Location._make(_LOCATION.unpack(value))

    def put(self, records: Iterable[tuple[bytes, Location]]) -> None:
        """Record chunks, all or none."""
        batch = WriteBatch(raw_mode=True)
        for chunk, location in records:
            batch.put(b"c" + chunk, _LOCATION.pack(*location))
            batch.put(_REVERSE_KEY.pack(b"x", location.mirror, location.offset), _REVERSE.pack(chunk, location.length))
        self._write(batch)

    def remove(self, mirror: int, held: Iterable[Held]) -> None:
        """Forget chunks of one mirror, all or none; a chunk that is recorded elsewhere stays so."""
        batch = WriteBatch(raw_mode=True)
        for chunk in held:
            location = self.get(chunk.id)
            if location is not None and (location.mirror, location.offset) == (mirror, chunk.offset):
                batch.delete(b"c" + chunk.id)
            batch.delete(_REVERSE_KEY.pack(b"x", mirror, chunk.offset))
        self._write(batch)

    def starting_in(self, mirror: int, start: int, end: int) -> list[Held]:
        """The chunks of `mirror` that start in [start, end), by offset."""
        return list(self._from(_REVERSE_KEY.pack(b"x", mirror, start), mirror, end))

    def last_before(self, mirror: int, offset: int) -> Held | None:
        """The last chunk of `mirror` that starts before `offset`."""
        if offset == 0:
            return None
        try:
            rows = self._db.iter()
            rows.seek_for_prev(_REVERSE_KEY.pack(b"x", mirror, offset - 1))
            return _held(rows.key(), rows.value(), mirror) if rows.valid() else None
        except Exception as error:
            raise IndexFailedError(str(error)) from error

    def _from(self, key: bytes, mirror: int, end: int) -> Iterator[Held]:
        try:
            rows = self._db.iter()
            rows.seek(key)
            while rows.valid():
                held = _held(rows.key(), rows.value(), mirror)
                if held is None or held.offset >= end:
                    return
                yield held
                rows.next()
        except Exception as error:
            raise IndexFailedError(str(error)) from error

    # --- mirrors

    def add_mirror(self, pack: bytes) -> int:
        """Number a new mirror."""
        number = self._next_mirror
        self._next_mirror += 1
        batch = WriteBatch(raw_mode=True)
        batch.put(_MIRROR_KEY.pack(b"m", number), pack)
        batch.put(_COUNTERS_KEY, _COUNTERS.pack(VERSION, self.epoch, self._next_mirror, 0))
        self._write(batch)
        return number

    def remove_mirror(self, number: int) -> None:
        """Forget a mirror and whatever was recorded of it."""
        self.remove(number, self.starting_in(number, 0, 1 << 64))
        batch = WriteBatch(raw_mode=True)
        batch.delete(_MIRROR_KEY.pack(b"m", number))
        batch.delete(_MIRROR_KEY.pack(b"u", number))
        self._write(batch)

    def mirrors(self) -> list[tuple[int, bytes, bytes]]:
        """(number, pack, recency) of each mirror."""
        found = []
        for key, pack in self._rows(b"m"):
            recency = self._db.get(b"u" + key[1:])
            found.append((int.from_bytes(key[1:], "big"), pack, recency or b""))
        return found

    def put_recency(self, rows: Iterable[tuple[int, bytes]]) -> None:
        """Record when the extents of mirrors were last used."""
        batch = WriteBatch(raw_mode=True)
        for number, recency in rows:
            batch.put(_MIRROR_KEY.pack(b"u", number), recency)
        self._write(batch)

    def _rows(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        try:
            rows = self._db.iter()
            rows.seek(prefix)
            while rows.valid():
                key, value = rows.key(), rows.value()
                if not key.startswith(prefix):
                    return
                yield key, value
                rows.next()
        except Exception as error:
            raise IndexFailedError(str(error)) from error

    # --- the whole

    def disk_bytes(self) -> int:
        """What the index takes on disk."""
        total = 0
        with os.scandir(self.directory) as entries:
            for entry in entries:
                try:
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
                except FileNotFoundError:
                    continue  # compacted away meanwhile
        return total

    def _put_counters(self, *, clean: bool) -> None:
        batch = WriteBatch(raw_mode=True)
        batch.put(_COUNTERS_KEY, _COUNTERS.pack(VERSION, self.epoch, self._next_mirror, int(clean)))
        self._write(batch)

    def _write(self, batch: WriteBatch) -> None:
        try:
            self._db.write(batch)
        except Exception as error:
            raise IndexFailedError(str(error)) from error


def _held(key: bytes, value: bytes, mirror: int) -> Held | None:
    if len(key) != _REVERSE_KEY.size or key[:1] != b"x":
        return None
    _, number, offset = _REVERSE_KEY.unpack(key)
    if number != mirror:
        return None
    chunk, length = _REVERSE.unpack(value)
    return Held(chunk, offset, length)


def _options() -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    table = BlockBasedOptions()
    table.set_bloom_filter(10, False)
    table.set_block_cache(Cache(BLOCK_CACHE_BYTES))
    table.set_cache_index_and_filter_blocks(True)
    table.set_pin_l0_filter_and_index_blocks_in_cache(True)
    options.set_block_based_table_factory(table)
    # Keys and values are hashes: there is nothing to compress.
    options.set_compression_type(DBCompressionType.none())
    options.set_write_buffer_size(WRITE_BUFFER_BYTES)
    options.set_max_write_buffer_number(3)
    options.set_max_open_files(MAX_OPEN_FILES)
    options.set_max_background_jobs(2)
    options.set_keep_log_file_num(2)
    options.set_max_log_file_size(1024 * 1024)
    options.set_stats_dump_period_sec(0)
    options.set_max_manifest_file_size(1024 * 1024)
    return options
