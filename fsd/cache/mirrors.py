"""Mirrors: for each pack a sparse file with the pack's plaintext, as far as it was fetched.

Owns the files below `<cache>/mirrors`, their descriptors, and who is reading and writing them. Does not know what
lies where (that is `presence`), nor what is evicted when (`eviction`).

Concurrency: used from the event loop's thread; files are read, written and punched in worker threads by who holds a
read or write mark. The rules, per mirror:

- A read in the event loop's thread is atomic and needs no mark.
- A read in a thread holds a read mark of the generation in which its locations were looked up.
- Punching sets `is_punching` (no write begins any more), waits until writes have ended, drops records, begins a
  new generation, waits until the reads of older ones have ended, and only then frees the bytes.
- A descriptor is closed only while nobody holds a mark.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Container, Iterable
from contextlib import suppress
from pathlib import Path

import trio

from fsd.cache.index import IndexFailedError, PresenceIndex
from fsd.cache.recency import Recency

BLOCK_BYTES = 4096
"""What file systems allocate at least."""

STAT_BLOCK_BYTES = 512
"""The unit of st_blocks, whatever the file system's own."""

MAX_MIRROR_BYTES = 1 << 42
"""No chunk is kept further out (ext4 ends at 16 TiB): what claims to lie there goes to the overflow mirror."""

OVERFLOW_PACK = bytes(16)
"""Names the mirror of chunks that cannot lie where their placement says. No pack has this id."""


class Mirror:
    """One sparse file. Made by `Mirrors`."""

    __slots__ = (
        "_lot",
        "_readers",
        "allocated_bytes",
        "fd",
        "generation",
        "is_dirty",
        "is_punching",
        "last_tick",
        "number",
        "pack",
        "path",
        "recency",
        "recency_changed",
        "writers",
    )

    def __init__(self, number: int, pack: bytes, path: str, recency: Recency, lot: trio.lowlevel.ParkingLot) -> None:
        self.number = number
        self.pack = pack
        self.path = path
        self.recency = recency
        self.recency_changed = False
        self.is_dirty = False
        """Written to since its data was last made durable."""
        self.fd = -1
        self.last_tick = 0
        self.allocated_bytes = 0
        self.generation = 0
        self.writers = 0
        self.is_punching = False
        self._readers: dict[int, int] = {}
        self._lot = lot

    @property
    def is_idle(self) -> bool:
        """Nobody holds a mark."""
        return not self._readers and not self.writers and not self.is_punching

    def begin_read(self) -> int:
        """A read mark; give the result to `end_read`."""
        self._readers[self.generation] = self._readers.get(self.generation, 0) + 1
        return self.generation

    def end_read(self, generation: int) -> None:
        """Release a read mark."""
        self._readers[generation] -= 1
        if not self._readers[generation]:
            del self._readers[generation]
            self._lot.unpark_all()

    async def begin_write(self) -> None:
        """Wait until nobody punches, and take a write mark."""
        while self.is_punching:
            await self._lot.park()
        self.writers += 1

    def end_write(self) -> None:
        """Release a write mark."""
        self.writers -= 1
        self._lot.unpark_all()

    async def begin_punch(self) -> None:
        """Keep writers out and wait for those inside. One task at a time punches a mirror (the evictor's lock);
        it ends with `end_punch`."""
        self.is_punching = True
        while self.writers:
            await self._lot.park()

    async def wait_readers(self) -> None:
        """Begin a new generation, and wait until nobody reads what was looked up in an older one."""
        self.generation += 1
        while any(generation < self.generation for generation in self._readers):
            await self._lot.park()

    def end_punch(self) -> None:
        """Let writers in again."""
        self.is_punching = False
        self._lot.unpark_all()


class Mirrors:
    """All mirrors of a cache."""

    def __init__(self, directory: Path, index: PresenceIndex, open_mirrors: int) -> None:
        self._directory = directory
        self._index = index
        self._extent_bytes = index.extent_bytes
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._max_open = open_mirrors if soft < 0 else max(8, min(open_mirrors, soft // 2))
        self._by_pack: dict[bytes, Mirror] = {}
        self._by_number: dict[int, Mirror] = {}
        self._open: set[Mirror] = set()
        # One for all mirrors: there may be a hundred thousand of them, and hardly ever does anybody wait.
        self._lot = trio.lowlevel.ParkingLot()
        self._removed: list[int] = []
        """Mirrors that are gone, of which the index has not been told."""
        self.allocated_bytes = 0
        """On disk, over all mirrors."""
        self._files = trio.Lock()
        """Held while a file is created or removed: else a new mirror's file could be the one that is being unlinked."""
        self.tick = 1
        """The clock of last uses: goes forward with every use."""

    # --- opening and closing the whole (in a thread)

    def load(self) -> None:
        """Learn what is on disk. Removes files that the index does not know, and records of files that are gone."""
        self._directory.mkdir(mode=0o700, exist_ok=True)
        unknown = {
            entry.path
            for folder in os.scandir(self._directory)
            if folder.is_dir(follow_symlinks=False)
            for entry in os.scandir(folder)
            if not entry.is_dir(follow_symlinks=False)
        }
        for number, pack, recency in self._index.mirrors():
            twin = self._by_pack.pop(pack, None)
            if twin is not None:
                # It was deleted when the index could not be told. The file is the later one's.
                del self._by_number[twin.number]
                self.allocated_bytes -= twin.allocated_bytes
                self._index.remove_mirror(twin.number)
            mirror = Mirror(number, pack, self._path(pack), Recency.decode(recency), self._lot)
            try:
                blocks = os.stat(mirror.path).st_blocks
            except FileNotFoundError:
                self._index.remove_mirror(number)
                continue
            unknown.discard(mirror.path)
            mirror.allocated_bytes = blocks * STAT_BLOCK_BYTES
            if not self._index.was_clean:
                self._find_unrecorded(mirror)
            self._by_pack[pack] = self._by_number[number] = mirror
            self.allocated_bytes += mirror.allocated_bytes
            self.tick = max(self.tick, 1 + max((tick for tick, _ in mirror.recency), default=0))
        for path in unknown:
            os.unlink(path)

    def _find_unrecorded(self, mirror: Mirror) -> None:
        """Data whose last use was never written down is the first to go."""
        with open(mirror.path, "rb") as file:
            position = 0
            while True:
                try:
                    position = os.lseek(file.fileno(), position, os.SEEK_DATA)
                except OSError:  # ENXIO: no more data
                    return
                extent = position // self._extent_bytes
                if not mirror.recency.last_use(extent):
                    mirror.recency.use(extent, 1)
                position = (extent + 1) * self._extent_bytes

    def close(self) -> None:
        """Close every descriptor."""
        for mirror in self._open:
            os.close(mirror.fd)
            mirror.fd = -1
        self._open.clear()

    # --- one mirror

    @property
    def numbers(self) -> Container[int]:
        """The numbers of the mirrors there are, whenever it is looked at."""
        return self._by_number

    def all(self) -> list[Mirror]:
        """Every mirror there is now."""
        return list(self._by_number.values())

    def get(self, number: int) -> Mirror | None:
        """The mirror with this number."""
        return self._by_number.get(number)

    def of_pack(self, pack: bytes) -> Mirror | None:
        """The mirror of this pack."""
        return self._by_pack.get(pack)

    async def begin_write(self, pack: bytes, limiter: trio.CapacityLimiter) -> Mirror:
        """The mirror of this pack, made if there was none, with a write mark held. Raises OSError."""
        while True:
            mirror = self._by_pack.get(pack) or await self._make(pack, limiter)
            await mirror.begin_write()
            if self._by_pack.get(pack) is mirror:
                return mirror
            mirror.end_write()  # it was removed while we waited

    async def _make(self, pack: bytes, limiter: trio.CapacityLimiter) -> Mirror:
        async with self._files:
            mirror = self._by_pack.get(pack)
            if mirror is None:
                path = self._path(pack)
                await trio.to_thread.run_sync(_touch, path, limiter=limiter)
                mirror = Mirror(self._index.add_mirror(pack), pack, path, Recency(), self._lot)
                self._by_pack[pack] = self._by_number[mirror.number] = mirror
            return mirror

    def descriptor(self, mirror: Mirror) -> int:
        """An open descriptor of the mirror's file. Raises OSError.

        In the event loop's thread: `load` has stat every file, so opening one touches no disk as a rule.
        """
        if mirror.fd < 0:
            if len(self._open) >= self._max_open:
                self._close_some()
            mirror.fd = os.open(mirror.path, os.O_RDWR | os.O_CLOEXEC)
            self._open.add(mirror)
        return mirror.fd

    def use(self, mirror: Mirror, start: int, end: int) -> None:
        """Note that bytes [start, end) of the mirror were used."""
        self.tick = mirror.last_tick = tick = self.tick + 1
        mirror.recency_changed = True
        size = self._extent_bytes
        for extent in range(start // size, (end - 1) // size + 1):
            mirror.recency.use(extent, tick)

    def update_allocated(self, mirror: Mirror) -> int:
        """Look up what the mirror takes on disk; returns by how much that has grown. Raises OSError."""
        allocated = os.fstat(self.descriptor(mirror)).st_blocks * STAT_BLOCK_BYTES
        grown = allocated - mirror.allocated_bytes
        mirror.allocated_bytes = allocated
        self.allocated_bytes += grown
        return grown

    async def remove(self, mirror: Mirror, limiter: trio.CapacityLimiter) -> None:
        """Delete a mirror that holds nothing any more. The caller punches it, so nobody reads or writes."""
        async with self._files:
            del self._by_pack[mirror.pack], self._by_number[mirror.number]
            self._close(mirror)
            await trio.to_thread.run_sync(_unlink, mirror.path, limiter=limiter)
            self.allocated_bytes -= mirror.allocated_bytes
            self._removed.append(mirror.number)
        self.forget_removed()

    def forget_removed(self) -> None:
        """Remove the records of mirrors that are gone, as far as the index can be written."""
        while self._removed:
            try:
                self._index.remove_mirror(self._removed[-1])
            except IndexFailedError:
                return
            self._removed.pop()

    async def sync(self, numbers: Iterable[int], limiter: trio.CapacityLimiter) -> None:
        """Make the data of mirrors durable. Raises OSError."""
        for number in numbers:
            mirror = self._by_number.get(number)
            if mirror is None or not mirror.is_dirty:
                continue
            mirror.is_dirty = False
            # A descriptor of its own, for this can take seconds: no mark that would hold up who punches.
            descriptor = os.dup(self.descriptor(mirror))
            try:
                await trio.to_thread.run_sync(os.fdatasync, descriptor, limiter=limiter)
            except BaseException:
                mirror.is_dirty = True
                raise
            finally:
                os.close(descriptor)

    def changed_recency(self) -> list[tuple[int, bytes]]:
        """(number, recency) of the mirrors that were used since the last call."""
        rows = []
        for mirror in self._by_number.values():
            if mirror.recency_changed:
                mirror.recency_changed = False
                rows.append((mirror.number, mirror.recency.encode()))
        return rows

    def _close_some(self) -> None:
        idle = sorted((mirror for mirror in self._open if mirror.is_idle), key=lambda mirror: mirror.last_tick)
        for mirror in idle[: max(1, len(idle) // 8)]:
            self._close(mirror)

    def _close(self, mirror: Mirror) -> None:
        if mirror.fd >= 0:
            self._open.discard(mirror)
            os.close(mirror.fd)
            mirror.fd = -1

    def _path(self, pack: bytes) -> str:
        name = pack.hex()
        return f"{self._directory}/{name[:2]}/{name}"


def _touch(path: str) -> None:
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


def _unlink(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)
