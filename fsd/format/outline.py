"""The outline of a page: which names it has, and of each its kind, size and content. Enough to compare two pages.

It is decoded in a fraction of the time that a whole page takes: what is checked is that it can be taken apart, so that
every name and number is one that stands in it. Whether the format allows them all, `Page` checks, which adds chunks.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate, pairwise
from operator import ge

from fsd.errors import CorruptDataError
from fsd.format.columns import decode_column
from fsd.format.entries import is_directory_path
from fsd.format.keys import ObjectKind
from fsd.format.limits import MAX_NAME_BYTES, MAX_PATH_BYTES
from fsd.format.model import directory_key, entry_key
from fsd.ids import ID_BYTES

MAGIC = ObjectKind.PAGE.value

COUNTS = struct.Struct("<6I")
"""Entries, directories, pieces, and the bytes of all paths, names and targets."""

HEADER_BYTES = len(MAGIC) + COUNTS.size
DIRECTORY_BYTES = 4 + 2
PIECE_BYTES = ID_BYTES + 8

KIND_BITS = 0b11
EXECUTABLE = 0b100
"""Beside the kind, in what `Page.rows` says of an executable file."""

_KINDS_ONLY = bytes(flags & KIND_BITS for flags in range(256))


def lengths_at(directories: int) -> int:
    """Where the names' lengths begin, behind those of so many directories."""
    return HEADER_BYTES + DIRECTORY_BYTES * directories


class Outline:
    """A page's outline. Entries are addressed by position. Safe to share between threads once made."""

    __slots__ = (
        "_contents_at",
        "_directories",
        "_directory_keys",
        "_directory_starts",
        "_flags",
        "_logical",
        "_name_ends",
        "_names_at",
        "_pieces_at",
        "_sizes",
    )

    def __init__(self, logical: bytes) -> None:
        """Decode. Raises CorruptDataError for what cannot be taken apart."""
        if len(logical) < HEADER_BYTES or not logical.startswith(MAGIC):
            raise CorruptDataError("a page is truncated or without its magic")
        counts = COUNTS.unpack_from(logical, len(MAGIC))
        entries, directories, pieces, paths_bytes, names_bytes, targets_bytes = counts
        begin = lengths_at(directories)
        sizes_at = begin + 3 * entries
        self._contents_at = sizes_at + 8 * entries
        paths_at = self._contents_at + ID_BYTES * entries
        self._names_at = paths_at + paths_bytes
        self._pieces_at = self._names_at + names_bytes + targets_bytes
        if len(logical) != self._pieces_at + PIECE_BYTES * pieces or not 0 < directories <= entries:
            raise CorruptDataError("a page does not have the length that its counts say")
        self._logical = logical
        self._flags = logical[begin + entries : begin + 2 * entries]
        self._sizes = decode_column("Q", logical[sizes_at : self._contents_at])
        name_lengths = logical[begin : begin + entries]
        self._name_ends = array("I", accumulate(name_lengths))
        self._decode_directories(directories, paths_at, name_lengths)
        if self._name_ends[-1] != names_bytes or 0 in name_lengths:
            raise CorruptDataError("the names of a page do not add up")
        if 0 in self._flags.translate(_KINDS_ONLY):
            raise CorruptDataError("a page has an entry of impossible kind")

    def _decode_directories(self, number: int, start: int, name_lengths: bytes) -> None:
        at = HEADER_BYTES
        ends = list(accumulate(decode_column("I", self._logical[at : at + 4 * number]), initial=0))
        lengths = decode_column("H", self._logical[at + 4 * number : at + 6 * number])
        path_ends = list(accumulate(lengths, initial=start))
        if ends[-1] != len(self) or path_ends[-1] != self._names_at or any(map(ge, ends, ends[1:])):
            raise CorruptDataError("the directories of a page do not add up")
        self._directory_starts = ends
        self._directories = [self._logical[a:b] for a, b in pairwise(path_ends)]
        self._directory_keys = [directory_key(path) for path in self._directories]
        if b"\0" in self._logical[start : self._names_at] or not all(map(is_directory_path, self._directories)):
            raise CorruptDataError("a page has an impossible directory in it")
        if any(map(ge, self._directory_keys, self._directory_keys[1:])):
            raise CorruptDataError("the directories of a page are out of order")
        if max(lengths) + 1 + MAX_NAME_BYTES > MAX_PATH_BYTES:
            for length, (low, high) in zip(lengths, pairwise(ends), strict=True):
                if length + 1 + max(name_lengths[low:high]) > MAX_PATH_BYTES:
                    raise CorruptDataError("a page has a path that is too long")

    def __len__(self) -> int:
        return len(self._flags)

    @property
    def first_key(self) -> bytes:
        """The least key in it."""
        return entry_key(self._directories[0], self.name(0))

    @property
    def directories(self) -> Sequence[bytes]:
        """The directories that its entries are in, in order."""
        return self._directories

    def name(self, position: int) -> bytes:
        """The name of the entry at `position`."""
        start = self._name_ends[position - 1] if position else 0
        return self._logical[self._names_at + start : self._names_at + self._name_ends[position]]

    def kind(self, position: int) -> int:
        """The kind as a plain number: comparing it with a `Kind` is right, and this is called for every listed name."""
        return self._flags[position] & KIND_BITS

    def executable(self, position: int) -> bool:
        """Whether the file is executable."""
        return bool(self._flags[position] & EXECUTABLE)

    def size(self, position: int) -> int:
        """Bytes of the file, or of the symlink's target."""
        return self._sizes[position]

    def columns(self, start: int, end: int) -> tuple[bytes, ...]:
        """Bytes that are equal only if names, kinds, sizes and contents of a run of entries are. It is not empty."""
        logical, first = self._logical, self._name_ends[start - 1] if start else 0
        begin = lengths_at(len(self._directories))
        sizes_at = begin + 3 * len(self)
        return (
            logical[self._names_at + first : self._names_at + self._name_ends[end - 1]],
            logical[begin + start : begin + end],
            self._flags[start:end],
            logical[sizes_at + 8 * start : sizes_at + 8 * end],
            logical[self._contents_at + ID_BYTES * start : self._contents_at + ID_BYTES * end],
        )

    def content(self, position: int) -> bytes:
        """BLAKE3-256 of the whole content; NO_ID for a directory."""
        at = self._contents_at + ID_BYTES * position
        return self._logical[at : at + ID_BYTES]

    def directory(self, position: int) -> bytes:
        """The path of the directory that the entry is in."""
        return self._directories[bisect_right(self._directory_starts, position) - 1]

    def path(self, position: int) -> bytes:
        """The whole path of the entry."""
        directory = self.directory(position)
        return directory + b"/" + self.name(position) if directory else self.name(position)

    def directory_range(self, directory: bytes) -> tuple[int, int]:
        """The positions of the entries of `directory`, from the first to after the last; an empty range if none."""
        key = directory_key(directory)
        at = bisect_left(self._directory_keys, key)
        if at == len(self._directory_keys) or self._directory_keys[at] != key:
            position = self._directory_starts[at]
            return position, position
        return self._directory_starts[at], self._directory_starts[at + 1]
