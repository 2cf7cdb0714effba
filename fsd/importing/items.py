"""What a source has: its items, with what is known of each before it is read.

A source says where things are and how to read them; what a tree may hold is decided here, once for all sources. A path
that cannot be kept as it is is an error that names it: nothing is renamed, and nothing left out silently.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from fsd.errors import CorruptDataError
from fsd.format.limits import MAX_NAME_BYTES, MAX_PATH_BYTES, MAX_SYMLINK_BYTES
from fsd.importing.digests import Digest
from fsd.publish.source import UnsupportedFileError, shown

FILE_MODE = stat.S_IFREG | 0o644
PROGRAM_MODE = stat.S_IFREG | 0o755
DIRECTORY_MODE = stat.S_IFDIR | 0o755
SYMLINK_MODE = stat.S_IFLNK | 0o777

REQUESTS = 32
"""Small contents asked for elsewhere at once: each is mostly waiting."""

UNKNOWN_SIZE = -1
"""Of a file whose size only its place can tell: it is asked for before the file is read."""

_KINDS = {stat.S_IFSOCK: "a socket", stat.S_IFIFO: "a fifo", stat.S_IFBLK: "a device", stat.S_IFCHR: "a device"}


class Item(NamedTuple):
    """A file, directory or symlink of a source."""

    path: bytes
    mode: int = FILE_MODE
    """Kind and permissions, as in st_mode."""
    size: int = 0
    """Bytes of a file, or UNKNOWN_SIZE."""
    target: bytes = b""
    """A symlink's."""
    origin: str = ""
    """By what the source finds a file's content."""
    digest: Digest | None = None
    """What the content is to hash to; it is checked when it is read."""
    version: str = ""
    """Without a digest: what changes, with the origin, whenever the content does (an ETag), '' where nothing does."""

    @property
    def is_file(self) -> bool:
        """Whether it has a content."""
        return stat.S_ISREG(self.mode)

    @property
    def is_directory(self) -> bool:
        """Whether it holds others."""
        return stat.S_ISDIR(self.mode)

    @property
    def token(self) -> str:
        """What names the content for good; '' where only reading it would tell."""
        if self.digest is not None:
            return str(self.digest)
        return f"{self.origin}\n{self.size}\n{self.version}" if self.version else ""


class Readable(Protocol):
    """What is read from its start to its end."""

    def read(self, size: int, /) -> bytes:
        """At most so many bytes more; none at the end."""

    def close(self) -> None:
        """Release it."""


class Listing(Protocol):
    """A source that can be listed ahead and read in any order. Everything blocks, and raises FsdError.

    `read`, `sizes` and `open` may be called from many threads at once.
    """

    def items(self) -> Iterator[Item]:
        """All items, in any order. Directories that others lie in may be left out."""

    def sizes(self, items: Sequence[Item]) -> Sequence[int]:
        """The sizes of files that were listed with UNKNOWN_SIZE."""

    def read(self, items: Sequence[Item]) -> Iterator[bytes]:
        """The contents of small files, in their order."""

    def open(self, item: Item) -> Readable:
        """A large file, to be read from its start to its end; the caller closes it."""


def clean_path(path: bytes, where: str) -> bytes:
    """`path` without empty and `.` parts, b'' for the top. `where` names the source, for the error.

    Raises UnsupportedFileError for what leads out of the source, or what no tree can hold.
    """
    named = f"{shown(path)[:300]!r} in {where}"
    if path.startswith(b"/"):
        raise UnsupportedFileError(
            f"{named} is an absolute path; nothing was imported", hint="make the archive anew with relative paths"
        )
    names = [name for name in path.split(b"/") if name not in (b"", b".")]
    if b".." in names:
        raise UnsupportedFileError(
            f"{named} leads out of it with '..'; nothing was imported", hint="make the archive anew without it"
        )
    if b"\0" in path or any(len(name) > MAX_NAME_BYTES for name in names) or len(path) > MAX_PATH_BYTES:
        raise UnsupportedFileError(
            f"{named} cannot be kept: a name has at most {MAX_NAME_BYTES} bytes and no NUL, a path at most "
            f"{MAX_PATH_BYTES} bytes; nothing was imported",
            hint="rename it where it is",
        )
    return b"/".join(names)


def checked(item: Item, where: str) -> Item:
    """The item with its path cleaned. Raises UnsupportedFileError for what no tree can hold."""
    path = clean_path(item.path, where)
    kind = stat.S_IFMT(item.mode)
    if kind not in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
        raise UnsupportedFileError(
            f"{shown(path)!r} in {where} is {_KINDS.get(kind, 'no file')}; nothing was imported",
            hint="fsd keeps files, directories and symlinks: leave the others out",
        )
    if not path and kind != stat.S_IFDIR:
        raise UnsupportedFileError(f"a file without a name in {where}; nothing was imported", hint="leave it out")
    if kind == stat.S_IFLNK and not 0 < len(item.target) <= MAX_SYMLINK_BYTES:
        raise UnsupportedFileError(
            f"the symlink {shown(path)!r} in {where} has a target of {len(item.target)} bytes; nothing was imported",
            hint=f"1 to {MAX_SYMLINK_BYTES} can be kept",
        )
    return item if path == item.path else item._replace(path=path)


def too_short(path: bytes, size: int, got: int) -> CorruptDataError:
    """The error for a content that is not as long as was said."""
    return CorruptDataError(
        f"{shown(path)} was to have {size:,} bytes and has {'more' if got > size else f'{got:,}'}",
        hint="it changed meanwhile, or is damaged: look at it, then import again",
    )
