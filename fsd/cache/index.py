"""The presence index on disk: which chunk lies where in which mirror. The only user of rocksdict.

Keys and values (numbers in keys are big-endian, so that they sort; in values little-endian):

    c <32 chunk id>              4 mirror, 8 offset, 4 length, 4 epoch
    x <4 mirror> <4 extent>      for each chunk that starts in the extent: 8 offset, 4 length, 32 chunk id
    m <4 mirror>                 16 pack
    u <4 mirror>                 when its extents were last used (fsd.cache.recency)
    v                            4 format version, 4 extent size, 4 epoch, 4 next mirror, 4 clean

Invariants:

- A `c` record and its place in an `x` record are written and removed in one batch. The chunks of a mirror do not
  overlap.
- The *epoch* is the number of this opening. What a record of an older epoch says is a claim: nobody has checked its
  bytes since then. The write-ahead log is replayed in order, so an epoch that was lost took its records with it.
- A mirror's number is never used again. The size of extents stays what it was when the index was begun.
- The index is a cache of a cache: one that does not open, or has another version, is renamed away and begun anew.

The reverse (`x`) has a record an extent, not one a chunk: what is asked of it is always about an extent, and walking
over the tombstones of evicted chunks took RocksDB a millisecond a step.

Everything here blocks; single gets take microseconds and may run in the event loop. `put`, `remove` and
`remove_mirror` read and rewrite `x` records: one of them at a time.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import struct
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
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

from fsd.format.limits import MAX_CHUNK_BYTES

log = logging.getLogger(__name__)

VERSION = 1

BLOCK_CACHE_BYTES = 16 * 1024 * 1024
WRITE_BUFFER_BYTES = 4 * 1024 * 1024
MAX_OPEN_FILES = 64

_LOCATION = struct.Struct("<IQII")
_EXTENT_KEY = struct.Struct(">cII")
_HELD = struct.Struct("<QI32s")
_MIRROR_KEY = struct.Struct(">cI")
_COUNTERS = struct.Struct("<IIIII")
_COUNTERS_KEY = b"v"


class IndexFailedError(Exception):
    """The index on disk could not be read or written. Internal to the cache: it goes on without."""

    @property
    def is_full(self) -> bool:
        """Whether it is for want of room on the disk. RocksDB's errors are nothing but text, which says so."""
        return os.strerror(errno.ENOSPC) in str(self)


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

    offset: int
    length: int
    id: bytes


Extents = dict[tuple[int, int], list[Held]]
"""Decoded `x` records, by mirror and extent: kept by a caller who asks about one neighbourhood again and again."""


class PresenceIndex:
    """An open index. Made by `open`; `close` it."""

    def __init__(
        self, directory: Path, db: Rdict, extent_bytes: int, epoch: int, next_mirror: int, *, was_clean: bool
    ) -> None:
        self.directory = directory
        self.extent_bytes = extent_bytes
        self.epoch = epoch
        self.was_clean = was_clean
        """Whether the last user closed it in order: nothing lies in mirrors that it does not know of."""
        self.is_broken = False
        """Something failed: after a failed write, RocksDB does no other until it is opened anew."""
        self._db = db
        self._get = db.get
        self._next_mirror = next_mirror

    @classmethod
    def open(cls, directory: Path, extent_bytes: int) -> PresenceIndex:
        """The index in `directory`, begun anew if need be, with extents of that size in this case.

        Raises IndexFailedError if not even that works.
        """
        try:
            return cls._open(directory, extent_bytes)
        except IndexFailedError as error:
            log.warning("the cache begins anew: %s", error)
            broken = directory.with_name(directory.name + ".broken")
            shutil.rmtree(broken, ignore_errors=True)
            try:
                directory.rename(broken)
            except FileNotFoundError:
                raise error from None  # there is none that could be in the way
            except OSError as failure:
                raise IndexFailedError(f"cannot replace {directory}: {failure}") from failure
            return cls._open(directory, extent_bytes)

    @classmethod
    def _open(cls, directory: Path, extent_bytes: int) -> PresenceIndex:
        try:
            db = Rdict(str(directory), _options())
        except Exception as error:  # rocksdict raises nothing more precise
            raise IndexFailedError(f"cannot open {directory}: {error}") from error
        try:
            counters = db.get(_COUNTERS_KEY)
            if counters is None:
                version, epoch, next_mirror, clean = VERSION, 0, 1, 1
            else:
                version, extent_bytes, epoch, next_mirror, clean = _COUNTERS.unpack(counters)
            if version != VERSION:
                raise IndexFailedError(f"{directory} has version {version}, not {VERSION}")
            index = cls(directory, db, extent_bytes, (epoch + 1) & 0xFFFFFFFF, next_mirror, was_clean=bool(clean))
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
        self.is_broken = False

    # --- chunks

    def get(self, chunk: bytes) -> Location | None:
        """Where `chunk` lies. About 4 microseconds."""
        try:
            value = self._get(b"c" + chunk)
        except Exception as error:
            raise self._failed(error) from error
        return None if value is None else Location._make(_LOCATION.unpack(value))

    def get_many(self, chunks: Sequence[bytes]) -> list[Location | None]:
        """Where each of `chunks` lies: less than half the time for each that `get` takes."""
        try:
            values: list[bytes | None] = self._db.get([b"c" + chunk for chunk in chunks]) or []
        except Exception as error:
            raise self._failed(error) from error
        return [None if value is None else Location._make(_LOCATION.unpack(value)) for value in values]

    def put(self, records: Iterable[tuple[bytes, Location]]) -> None:
        """Record chunks, all or none."""
        batch = WriteBatch(raw_mode=True)
        added: dict[tuple[int, int], dict[int, Held]] = {}
        for chunk, location in records:
            batch.put(b"c" + chunk, _LOCATION.pack(*location))
            mirror, offset, length, _ = location
            key = mirror, offset // self.extent_bytes
            added.setdefault(key, {})[offset] = Held(offset, length, chunk)
        for (mirror, extent), held in added.items():
            before = {row.offset: row for row in self.extent(mirror, extent)}
            if not held.items() <= before.items():
                self._put_extent(batch, mirror, extent, {**before, **held}.values())
        self._write(batch)

    def forget(self, mirror: int, held: Held) -> None:
        """Forget where a chunk is, if it is there. Its range stays taken until `remove`."""
        batch = WriteBatch(raw_mode=True)
        self._delete_chunk(batch, mirror, held)
        self._write(batch)

    def remove(self, mirror: int, held: Iterable[Held]) -> None:
        """Forget chunks of one mirror, all or none; a chunk that is recorded elsewhere stays so."""
        batch = WriteBatch(raw_mode=True)
        removed: dict[int, set[Held]] = {}
        for row in held:
            self._delete_chunk(batch, mirror, row)
            removed.setdefault(row.offset // self.extent_bytes, set()).add(row)
        for extent, rows in removed.items():
            before = self.extent(mirror, extent)
            left = [row for row in before if row not in rows]
            if len(left) < len(before):
                self._put_extent(batch, mirror, extent, left)
        self._write(batch)

    def _delete_chunk(self, batch: WriteBatch, mirror: int, held: Held) -> None:
        location = self.get(held.id)
        if location is not None and (location.mirror, location.offset) == (mirror, held.offset):
            batch.delete(b"c" + held.id)

    def _put_extent(self, batch: WriteBatch, mirror: int, extent: int, held: Iterable[Held]) -> None:
        value = b"".join(_HELD.pack(*row) for row in sorted(held))
        key = _EXTENT_KEY.pack(b"x", mirror, extent)
        if value:
            batch.put(key, value)
        else:
            batch.delete(key)

    def extent(self, mirror: int, extent: int, known: Extents | None = None) -> list[Held]:
        """The chunks of `mirror` that start in `extent`, by offset."""
        held = None if known is None else known.get((mirror, extent))
        if held is None:
            try:
                value = self._db.get(_EXTENT_KEY.pack(b"x", mirror, extent))
                held = [] if value is None else [Held._make(row) for row in _HELD.iter_unpack(value)]
            except Exception as error:
                raise self._failed(error) from error
            if known is not None:
                known[mirror, extent] = held
        return held

    def last_before(self, mirror: int, offset: int, known: Extents | None = None) -> Held | None:
        """The last chunk of `mirror` that starts before `offset`; None if there is none that may reach there."""
        size = self.extent_bytes
        extent = (offset - 1) // size
        while extent >= 0 and (extent + 1) * size + MAX_CHUNK_BYTES > offset:
            held = self.extent(mirror, extent, known)
            position = bisect_left(held, offset, key=_offset)
            if position:
                return held[position - 1]
            extent -= 1
        return None

    def of_mirror(self, mirror: int) -> list[Held]:
        """All chunks of a mirror."""
        prefix = _MIRROR_KEY.pack(b"x", mirror)
        try:
            return [Held._make(row) for _, value in self._rows(prefix) for row in _HELD.iter_unpack(value)]
        except struct.error as error:
            raise self._failed(error) from error

    # --- mirrors

    def add_mirror(self, pack: bytes) -> int:
        """Number a new mirror."""
        number = self._next_mirror
        self._next_mirror += 1
        batch = WriteBatch(raw_mode=True)
        batch.put(_MIRROR_KEY.pack(b"m", number), pack)
        batch.put(_COUNTERS_KEY, self._counters(clean=False))
        self._write(batch)
        return number

    def remove_mirror(self, number: int) -> None:
        """Forget a mirror and whatever was recorded of it."""
        self.remove(number, self.of_mirror(number))
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
            raise self._failed(error) from error

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
        batch.put(_COUNTERS_KEY, self._counters(clean=clean))
        self._write(batch)

    def _failed(self, error: Exception) -> IndexFailedError:
        self.is_broken = True
        return IndexFailedError(str(error))

    def _counters(self, *, clean: bool) -> bytes:
        return _COUNTERS.pack(VERSION, self.extent_bytes, self.epoch, self._next_mirror, int(clean))

    def _write(self, batch: WriteBatch) -> None:
        try:
            self._db.write(batch)
        except Exception as error:
            raise self._failed(error) from error


def _offset(held: Held) -> int:
    return held.offset


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
