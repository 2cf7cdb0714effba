"""The delta: a folder compared with what it was when it was last committed, as changes in tree order.

Two sequences in the same order are merged, the walk of now and the recorded runs, with memory for a run of each. Where
a run is byte for byte what was recorded, its entries cost nothing more; only in runs that differ is each one compared.

An entry is *unchanged* if its size, mtime, ctime, inode and mode are all equal. What makes that safe is that an entry
is recorded only if it was old enough when it was looked at: a file written to twice within one tick of the clock has
the same times both times, and if it was read in between, the second content would never be seen. So an entry younger
than a tick is recorded as untrusted and read again next time (Git's "racily clean" rule). One hole is left, as in every
program that goes by times: a writer through mmap(2) may change a file without moving its times until the kernel writes
the pages back.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field

from fsd.format.model import directory_key
from fsd.publish.ingest import ToRead
from fsd.publish.scan import UNTRUSTED, RecordedRun, Recorder
from fsd.publish.source import STATUS, Found, sizes_of
from fsd.publish.walk import Run
from fsd.repo.builder import Removal

FINE_TICK_NS = 200_000_000
"""Linux moves the times of files in steps of 1 to 10 ms; the rest is for file servers whose clock is a bit behind."""

COARSE_TICK_NS = 2_500_000_000
"""For times in whole seconds: file systems that keep no more (ext3, HFS+: 1 s; FAT: 2 s)."""

_SECOND_NS = 1_000_000_000

BATCH_BYTES = 4 * 1024 * 1024
BATCH_CHANGES = 1024
"""A batch is what a thread works on at once: the hop to it (0.1 ms) is then little beside the work."""

BATCH_ENTRIES = 16 * 1024
BATCH_RUNS = 256
"""Entries and runs compared (50 ms) before something is said, also where nothing changed."""

ALONE_BYTES = 2 * 1024 * 1024
"""A file this large is a batch of its own, read in pieces."""


def is_young(mtime_ns: int, ctime_ns: int, seen_ns: int) -> bool:
    """True if an entry with these times, looked at when the clock said `seen_ns`, may yet change without showing it."""
    latest = max(mtime_ns, ctime_ns)
    tick = FINE_TICK_NS if ctime_ns % _SECOND_NS else COARSE_TICK_NS
    return latest >= seen_ns - tick


@dataclass(slots=True)
class Batch:
    """Changes in tree order, some of which want reading."""

    changes: list[ToRead] = field(default_factory=list)
    bytes: int = 0
    """Of the files in it."""
    unread_entries: int = 0
    """Entries looked at for it that are no files to be read."""
    unread_bytes: int = 0
    """Of the unchanged files among them."""

    @property
    def is_alone(self) -> bool:
        """True if it is one large file."""
        return self.bytes >= ALONE_BYTES and len(self.changes) == 1


def batched(batch: Batch, change: ToRead) -> tuple[list[Batch], Batch]:
    """The batches that are full with a change more, and the one to go on with."""
    size = change.size if isinstance(change, Found) and change.is_file else 0
    if size >= ALONE_BYTES:
        return [batch, Batch([change], size)], Batch()
    batch.changes.append(change)
    batch.bytes += size
    is_full = batch.bytes >= BATCH_BYTES or len(batch.changes) >= BATCH_CHANGES
    return ([batch], Batch()) if is_full else ([], batch)


class Delta:
    """The changes of one scan. Blocks; for one thread at a time."""

    def __init__(self, walked: Iterator[Run], recorded: Iterator[RecordedRun], recorder: Recorder) -> None:
        self._walked = walked
        self._recorded = _Cursor(recorded, recorder)
        self._recorder = recorder

    def batches(self) -> Generator[Batch]:
        """All changes, in batches that may be empty."""
        batch, runs = Batch(), 0
        for run, changes in self._runs():
            runs += 1
            to_read = [change.size for change in changes if isinstance(change, Found) and change.is_file]
            if run is not None:
                batch.unread_entries += len(run.names) - len(to_read)
                batch.unread_bytes += sizes_of(run.statuses) - sum(to_read)
            for change in changes:
                full, batch = batched(batch, change)
                yield from full
                if len(full) == 1:
                    runs = 0
            if runs >= BATCH_RUNS or batch.unread_entries >= BATCH_ENTRIES:
                yield batch
                batch, runs = Batch(), 0
        yield batch

    def _runs(self) -> Iterator[tuple[Run | None, list[Found | Removal]]]:
        """Each run walked, with the changes that it shows; in the end None with what comes after all of them."""
        for run in self._walked:
            changes: list[Found | Removal] = []
            self._recorded.remove_before(directory_key(run.directory), changes)
            if not self._recorded.take_equal(run):
                self._compare(run, changes)
            yield run, changes
        changes = []
        self._recorded.remove_before(None, changes)
        yield None, changes

    def _compare(self, run: Run, changes: list[Found | Removal]) -> None:
        """Entry by entry; and record what of the run may be trusted."""
        recorded: list[bytes] = []
        statuses, seen_ns = run.statuses, run.seen_ns
        for position, name in enumerate(run.names):
            status = statuses[STATUS.size * position : STATUS.size * (position + 1)]
            if self._recorded.take(run.directory, name, changes) != status:
                found = Found(run.directory, name, *STATUS.unpack(status))
                changes.append(found)
                if is_young(found.mtime_ns, found.ctime_ns, seen_ns):
                    status = UNTRUSTED
            recorded.append(status)
        self._recorder.add(run.directory, b"\0".join(run.names), b"".join(recorded))


class _Cursor:
    """A place in the recorded entries."""

    def __init__(self, runs: Iterator[RecordedRun], recorder: Recorder) -> None:
        self._runs = runs
        self._recorder = recorder
        self._run: RecordedRun | None = None
        self._key = b""
        self._names: list[bytes] | None = None
        self._at = 0
        self._next_run()

    def _next_run(self) -> None:
        self._run = next(self._runs, None)
        self._names, self._at = None, 0
        if self._run is not None:
            self._key = directory_key(self._run.directory)

    def remove_before(self, key: bytes | None, changes: list[Found | Removal]) -> None:
        """All entries of directories before the one with that key (None: all that are left) are gone."""
        while self._run is not None and (key is None or self._key < key):
            self._recorder.drop()
            self._remove_names(None, changes)
            self._next_run()

    def take_equal(self, run: Run) -> bool:
        """Whether the recorded run here is just as `run`; it is then passed."""
        if self._names is not None and self._at == len(self._names):
            self._next_run()
        recorded = self._run
        if (
            recorded is None
            or self._at
            or recorded.statuses != run.statuses
            or recorded.directory != run.directory
            or recorded.names != b"\0".join(run.names)
        ):
            return False
        self._recorder.keep(recorded)
        self._next_run()
        return True

    def take(self, directory: bytes, name: bytes, changes: list[Found | Removal]) -> bytes:
        """The recorded status of an entry, b'' if there is none; entries of the directory before it are gone."""
        while self._run is not None and self._run.directory == directory:
            self._remove_names(name, changes)
            assert self._names is not None
            if self._at == len(self._names):
                self._next_run()
                continue
            if self._names[self._at] != name:
                return b""
            status = self._run.statuses[STATUS.size * self._at : STATUS.size * (self._at + 1)]
            self._at += 1
            return status
        return b""

    def _remove_names(self, before: bytes | None, changes: list[Found | Removal]) -> None:
        """Entries of the run that come before a name (None: all that are left) are gone."""
        run = self._run
        assert run is not None
        if self._names is None:
            self._names = run.names.split(b"\0")
        while self._at < len(self._names) and (before is None or self._names[self._at] < before):
            changes.append(Removal(run.directory, self._names[self._at]))
            self._at += 1
