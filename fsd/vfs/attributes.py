"""What the vfs answers: attributes, missing names, runs of a listing, and its own errors. Plain values, no behaviour.

Times are nanoseconds since 1970 UTC, sizes bytes, timeouts seconds. Nothing here knows FUSE: `fsd.fuse` translates.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from typing import NamedTuple

from fsd.errors import FsdError

ROOT_INO = 1
"""The kernel's own number for a mount's top directory."""

FILE_MTIME_NS = 1_000_000_000
"""One second after the epoch, as /nix/store has it: at zero some tools believe that there is no time at all."""

FILE_MODE = stat.S_IFREG | 0o444
EXECUTABLE_MODE = stat.S_IFREG | 0o555
DIRECTORY_MODE = stat.S_IFDIR | 0o555
SYMLINK_MODE = stat.S_IFLNK | 0o777
WRITABLE = 0o200
"""By its owner: in views, where an overlay goes by modes."""


class Attributes(NamedTuple):
    """What `stat` shows of a node (with one link, owned by whoever runs the daemon), and for how long it holds."""

    ino: int
    mode: int
    """Type and permissions, as in st_mode."""
    size: int
    mtime_ns: int
    """Shown for every time."""
    entry_timeout_s: float
    """How long the kernel may believe that the name means this node."""
    attr_timeout_s: float
    """How long it may believe the rest."""


class Missing(NamedTuple):
    """The answer to a name that does not exist: not an error, since the kernel may remember it."""

    entry_timeout_s: float


class ListedEntry(NamedTuple):
    """One name of a listing."""

    name: bytes
    ino: int
    mode: int
    size: int
    mtime_ns: int
    next: int
    """Where a listing goes on after this entry; never 0."""


class Listing(NamedTuple):
    """A run of a directory's entries, in order; one without entries ends the directory.

    `entries` is lazy. Each entry that it has yielded counts as a lookup, so whoever finds that the kernel had no room
    for it says so at once (`Vfs.refuse`). It is used up or dropped before anything is awaited.
    """

    entries: Iterator[tuple[bytes, int, int, int, int, int]]
    """Tuples of the fields of `ListedEntry`, plain ones because millions of them are made."""
    timeout_s: float
    """How long names and attributes may be believed."""


class FilesystemTotals(NamedTuple):
    """What `statfs` shows: the versions that are open now."""

    bytes: int
    files: int


class NotDirectoryError(FsdError):
    """A directory was needed and something else is there."""


class NotFileError(FsdError):
    """A file was needed and a directory is there."""


class NotSymlinkError(FsdError):
    """A symlink was needed and something else is there."""


class NoAttributeError(FsdError):
    """The node has no extended attribute of that name."""


class StaleInodeError(FsdError):
    """A number that names nothing, or nothing any more."""
