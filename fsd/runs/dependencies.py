"""What a file or folder outside of the mount holds, as one id: for what a run is told to depend on.

The id covers names, kinds, executable bits, contents and the targets of symlinks; not times, owners or other modes.
Equal trees have equal ids, wherever they lie, and only they do. Nothing is taken for unchanged by its times.

A symlink stands for its text and for what it leads to, since that is what a command reads through it:

    in what is covered already   the place there
    a mount of fsd               nothing more: what is read there is observed
    nowhere                      that
    elsewhere                    all that is there, covered after the rest; told by its turn, not by its place

So the id of a work tree's symlink to a version takes no reading, and that of a folder with a symlink out of it changes
with what lies there.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from blake3 import blake3

from fsd.errors import FsdError, NotFoundError, UsageError
from fsd.format.limits import MAX_PATH_BYTES
from fsd.ids import content_id
from fsd.limits import DEFAULT_LIMITS, MIB
from fsd.publish.guard import is_at_or_below, mountpoints
from fsd.publish.source import STATUS, ChangedError, Found, SourceFolder, UnreadableError, UnsupportedFileError, shown
from fsd.publish.walk import UNSUPPORTED_KINDS, walk

_DOMAIN = b"fsd dependency 1\n"
"""No other hash of the project is of something that begins so."""

_READ_BYTES = 4 * MIB
"""Of a large file at once: enough for several threads to hash."""
_WHOLE_BYTES = 1 * MIB
"""A file this small is read in one piece."""
_BATCH_ENTRIES = 4096
"""Entries in memory at once: 2 MB."""
_TASK_FILES = 64
_TASK_BYTES = 4 * MIB
"""Files that a thread takes at once: fewer where they are large."""

_LENGTHS = struct.Struct("<cII")
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ESTALE, errno.ENXIO)
"""How it shows that something else is by now where a file, folder or symlink was."""
_HINT = "run it again when nobody writes there"


def digest_of(path: Path) -> str:
    """The id of what is at `path` (a file, a folder, a symlink): 64 hex digits. Blocks for as long as reading all of it
    takes; memory is bounded.

    Raises NotFoundError where nothing is; UsageError for a folder in which fsd is mounted; and FsdErrors that name the
    path for what cannot be read, is no file, folder or symlink, or changes meanwhile.
    """
    absolute = os.fsencode(os.path.abspath(path))
    # Who is asked about is the last name, also if that is a symlink; those before it are how one comes there.
    top = os.path.join(os.path.realpath(os.path.dirname(absolute)), os.path.basename(absolute))
    places = _Places(top)
    digest = blake3(_DOMAIN)
    with ThreadPoolExecutor(DEFAULT_LIMITS.publish_threads, "fsd-depend") as pool:
        for place in places:
            with _opened(place) as source:
                for batch in _batches(_entries(source, place, places)):
                    contents = _contents(source, batch, pool)
                    digest.update(b"".join(_record(source, place, each, contents, places) for each in batch))
            digest.update(_LENGTHS.pack(b"e", 0, 0))
    return digest.hexdigest()


class _Places:
    """What is covered: the top, and then what symlinks lead to, in the order in which they were met."""

    def __init__(self, top: bytes) -> None:
        self._numbers = {top: 0}
        self._order = [top]
        self._mounts = list(mountpoints())

    def __iter__(self) -> Iterator[bytes]:
        """All of them, those included that are met on the way."""
        return iter(self._order)

    def check(self, folder: bytes) -> None:
        """Raises UsageError if fsd is mounted in it."""
        for mount in self._mounts:
            if is_at_or_below(mount, folder):
                raise UsageError(
                    f"{shown(mount)} is a mount of fsd, in {shown(folder)}",
                    hint="what is read there is observed; name what lies beside it",
                )

    def of_link(self, link: bytes) -> bytes:
        """What the symlink at an absolute path leads to, as its record has it."""
        try:
            real = os.path.realpath(link, strict=True)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
                return b"nowhere"
            raise _unreadable(f"what {shown(link)} leads to", error) from error
        if any(is_at_or_below(real, mount) for mount in self._mounts):
            return b"mount"
        folder, inside = real, b""
        while folder not in self._numbers:
            above, name = os.path.split(folder)
            if not name:
                self._numbers[real] = len(self._order)
                self._order.append(real)
                folder, inside = real, b""
                break
            folder, inside = above, os.path.join(name, inside) if inside else name
        return b"%d/%s" % (self._numbers[folder], inside)


class _Folder(SourceFolder):
    """A folder that is read to be compared."""

    def changed(self, path: bytes) -> ChangedError:
        """The error that names a path which changed."""
        return ChangedError(f"{self.shown(path)} changed while it was being read", hint=_HINT)

    def too_deep(self, path: bytes) -> FsdError:
        """The error for a path that is too long."""
        return UnsupportedFileError(f"{self.shown(path)[:200]}… is deeper than {MAX_PATH_BYTES} bytes")

    def unsupported(self, named: str) -> FsdError:
        """The error for what is no file, directory or symlink."""
        return UnsupportedFileError(
            f"{named}, whose content cannot be known", hint="depend on files, folders and symlinks only"
        )

    def unreadable(self, path: bytes, error: OSError) -> FsdError:
        """The error that names a path which could not be read."""
        if error.errno in _GONE:
            return self.changed(path)
        return _unreadable(self.shown(path), error)


def _unreadable(what: str, error: OSError) -> UnreadableError:
    hint = "make it readable, or depend on something else" if isinstance(error, PermissionError) else ""
    return UnreadableError(f"cannot read {what}: {error.strerror or error}", hint=hint)


def _opened(place: bytes) -> _Folder:
    """The folder, or for what is none the root, which anybody may open."""
    try:
        is_directory = stat.S_ISDIR(os.lstat(place).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFoundError(f"there is no {shown(place)} to depend on") from None
    except OSError as error:
        raise _unreadable(shown(place), error) from error
    return _Folder(place if is_directory else b"/")


# --- entries


def _entries(source: _Folder, place: bytes, places: _Places) -> Iterator[Found]:
    """What is at a place and below it, the place itself first; a directory is its own only by its kind."""
    if source.directory != place:
        yield _itself(source, place)
        return
    places.check(place)
    yield Found(b"", b"", 0, 0, 0, 0, stat.S_IFDIR)
    for run in walk(source):
        for name, status in zip(run.names, STATUS.iter_unpack(run.statuses), strict=True):
            yield Found(run.directory, name, *status)


def _itself(source: _Folder, place: bytes) -> Found:
    directory, name = os.path.split(place[1:])
    try:
        status = os.lstat(place)
    except OSError as error:
        raise source.unreadable(place[1:], error) from error
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISLNK(status.st_mode):
        if stat.S_ISDIR(status.st_mode):
            raise source.changed(place[1:])
        raise source.unsupported(f"{shown(place)} is {UNSUPPORTED_KINDS.get(stat.S_IFMT(status.st_mode), 'no file')}")
    return Found(directory, name, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_mode)


def _batches(entries: Iterator[Found]) -> Iterator[list[Found]]:
    batch: list[Found] = []
    for entry in entries:
        batch.append(entry)
        if len(batch) == _BATCH_ENTRIES:
            yield batch
            batch = []
    if batch:
        yield batch


def _record(source: _Folder, place: bytes, entry: Found, contents: Iterator[bytes], places: _Places) -> bytes:
    """What the id covers of an entry. No two differ in what counts and have the same."""
    path = entry.path if source.directory == place else b""
    if entry.is_directory:
        return _field(b"d", path, b"")
    if entry.is_file:
        return _field(b"x" if entry.executable else b"f", path, next(contents))
    target = source.read_link(entry)
    led = places.of_link(os.path.join(source.directory, entry.path))
    return _field(b"l", path, target) + _field(b"=", b"", led)


def _field(kind: bytes, path: bytes, value: bytes) -> bytes:
    return _LENGTHS.pack(kind, len(path), len(value)) + path + value


# --- contents


def _contents(source: _Folder, batch: list[Found], pool: ThreadPoolExecutor) -> Iterator[bytes]:
    """The hash of each file among some entries, in their order."""
    for hashes in pool.map(partial(_hash_all, source), list(_tasks(batch))):
        yield from hashes


def _tasks(batch: list[Found]) -> Iterator[list[Found]]:
    task: list[Found] = []
    size = 0
    for entry in batch:
        if not entry.is_file:
            continue
        task.append(entry)
        size += entry.size
        if len(task) == _TASK_FILES or size >= _TASK_BYTES:
            yield task
            task, size = [], 0
    if task:
        yield task


def _hash_all(source: _Folder, files: list[Found]) -> list[bytes]:
    return [_hash(source, file) for file in files]


def _hash(source: _Folder, file: Found) -> bytes:
    if file.size <= _WHOLE_BYTES:
        return content_id(source.read_file(file))
    digest, left = blake3(max_threads=blake3.AUTO), file.size
    descriptor = source.open_file(file)
    try:
        # (Not by mmap: a file that is cut short meanwhile would end us with SIGBUS.)
        while data := os.read(descriptor, _READ_BYTES):
            digest.update(data)
            left -= len(data)
            if left < 0:
                break
        source.check_unchanged(file, os.fstat(descriptor))
    except OSError as error:
        raise source.unreadable(file.path, error) from error
    finally:
        os.close(descriptor)
    if left:
        raise source.changed(file.path)
    return digest.digest()
