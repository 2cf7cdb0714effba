"""Pages: runs of a tree's entries, in columns, so that a listing touches only the columns it shows.

Logical part (numbers little-endian; n entries in d directories, p explicit pieces):

    8   magic "fsdpage1"
    24  n, d, p, bytes of paths, bytes of names, bytes of targets      (u32 each)
    4d  entries of each directory          2d  length of each path
    n   name lengths                       n   flags: bits 0-1 kind, bit 2 executable, bits 3-5 level
    n   number of pieces                   8n  sizes
    32n contents                           paths, names, targets, each back to back
    32p ids of explicit pieces             8p  lengths of explicit pieces

A file of level 0 with one piece has it implicitly: its content and size. Placement part, k packs and c chunks (the
pieces of all entries of level 0, in order; both counts u32):

    8   k, c       16k  packs       4c  which pack       8c  offset       4c  stored length       8c  plain offset
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate, pairwise

from fsd.errors import CorruptDataError
from fsd.format.columns import decode_column, encode_column
from fsd.format.keys import ObjectKind, check_entry_name
from fsd.format.limits import (
    MAX_INLINE_PIECES,
    MAX_PATH_BYTES,
    MAX_RECIPE_LEVEL,
    MAX_SYMLINK_BYTES,
)
from fsd.format.model import Entry, Kind, Piece, PlacedChunk, directory_key, entry_key
from fsd.format.placement import PlacementTable, encode_placements
from fsd.ids import ID_BYTES, NO_ID

MAGIC = ObjectKind.PAGE.value

_COUNTS = struct.Struct("<6I")
_KIND_BITS = 0b11
_EXECUTABLE = 0b100
_LEVEL_SHIFT = 3

HEADER_BYTES = len(MAGIC) + _COUNTS.size
_ENTRY_BYTES = 1 + 1 + 1 + 8 + ID_BYTES
_PIECE_BYTES = ID_BYTES + 8
_DIRECTORY_BYTES = 4 + 2


def entry_bytes(entry: Entry) -> int:
    """What `entry` adds to a page's logical part, without its directory."""
    explicit = len(entry.pieces) if _has_explicit_pieces(entry.level, len(entry.pieces)) else 0
    return _ENTRY_BYTES + len(entry.name) + len(entry.target) + _PIECE_BYTES * explicit


def directory_bytes(directory: bytes) -> int:
    """What the first entry of `directory` adds to a page's logical part besides itself."""
    return _DIRECTORY_BYTES + len(directory)


def _has_explicit_pieces(level: int, pieces: int) -> bool:
    return level > 0 or pieces > 1


def encode_page(entries: Sequence[Entry]) -> tuple[bytes, bytes]:
    """The logical and the placement part of a page. `entries` are sorted by key and there is at least one.

    Raises ValueError for an entry that the format does not allow.
    """
    for entry in entries:
        _check_entry(entry)
    if any(first.key >= second.key for first, second in pairwise(entries)):
        raise ValueError("entries of a page are not in strictly ascending order")
    directories: dict[bytes, int] = {}
    for entry in entries:
        directories[entry.directory] = directories.get(entry.directory, 0) + 1
    explicit = [
        piece for entry in entries if _has_explicit_pieces(entry.level, len(entry.pieces)) for piece in entry.pieces
    ]
    paths, names = b"".join(directories), b"".join([entry.name for entry in entries])
    targets = b"".join([entry.target for entry in entries])
    logical = b"".join(
        (
            MAGIC,
            _COUNTS.pack(len(entries), len(directories), len(explicit), len(paths), len(names), len(targets)),
            encode_column("I", directories.values()),
            encode_column("H", map(len, directories)),
            bytes([len(entry.name) for entry in entries]),
            bytes([entry.kind | entry.executable << 2 | entry.level << _LEVEL_SHIFT for entry in entries]),
            bytes([len(entry.pieces) for entry in entries]),
            encode_column("Q", [entry.size for entry in entries]),
            b"".join([entry.content for entry in entries]),
            paths,
            names,
            targets,
            b"".join([piece.id for piece in explicit]),
            encode_column("Q", [piece.length for piece in explicit]),
        )
    )
    return logical, encode_placements([place for entry in entries for place in entry.placements])


def _check_entry(entry: Entry) -> None:
    check_entry_name(entry.name)
    if len(entry.directory) + 1 + len(entry.name) > MAX_PATH_BYTES:
        raise ValueError(f"a path of more than {MAX_PATH_BYTES} bytes: {entry.path[:80]!r}…")
    if entry.kind is not Kind.FILE:
        links = len(entry.target) if entry.kind is Kind.SYMLINK else 0
        plain = entry.kind is Kind.DIRECTORY and entry.content == NO_ID
        if entry.pieces or entry.level or entry.executable or entry.size != links or not (plain or links):
            raise ValueError(f"an impossible {entry.kind.name.lower()}: {entry.path!r}")
    elif entry.target or len(entry.pieces) > MAX_INLINE_PIECES:
        raise ValueError(f"an impossible file: {entry.path!r}")
    if sum(piece.length for piece in entry.pieces) != (entry.size if entry.kind is Kind.FILE else 0):
        raise ValueError(f"the pieces of {entry.path!r} do not add up to its {entry.size} bytes")
    if len(entry.placements) != (len(entry.pieces) if entry.level == 0 else 0):
        raise ValueError(f"not one placement for each chunk of {entry.path!r}")


class Page:
    """A decoded page. Entries are addressed by position; an `Entry` is made only where one is asked for.

    Safe to share between threads once made; every name in it was checked.
    """

    __slots__ = (
        "_chunk_starts",
        "_contents_at",
        "_directories",
        "_directory_keys",
        "_directory_starts",
        "_flags",
        "_logical",
        "_name_ends",
        "_names_at",
        "_piece_counts",
        "_piece_starts",
        "_pieces_at",
        "_placements",
        "_sizes",
        "_target_starts",
        "_targets_at",
    )

    def __init__(self, logical: bytes, placement: bytes) -> None:
        """Decode. Raises CorruptDataError for anything the format does not allow."""
        if len(logical) < HEADER_BYTES:
            raise CorruptDataError("a page is truncated")
        counts = _COUNTS.unpack_from(logical, len(MAGIC))
        entries, directories, pieces, paths_bytes, names_bytes, targets_bytes = counts
        expected = (
            HEADER_BYTES
            + directories * _DIRECTORY_BYTES
            + entries * _ENTRY_BYTES
            + paths_bytes
            + names_bytes
            + targets_bytes
            + pieces * _PIECE_BYTES
        )
        if len(logical) != expected or not 0 < directories <= entries:
            raise CorruptDataError("a page does not have the length that its counts say")
        self._logical = logical
        lengths_at = HEADER_BYTES + _DIRECTORY_BYTES * directories
        self._flags = logical[lengths_at + entries : lengths_at + 2 * entries]
        self._piece_counts = logical[lengths_at + 2 * entries : lengths_at + 3 * entries]
        sizes_at = lengths_at + 3 * entries
        self._sizes = decode_column("Q", logical[sizes_at : sizes_at + 8 * entries])
        self._contents_at = sizes_at + 8 * entries
        paths_at = self._contents_at + ID_BYTES * entries
        self._names_at = paths_at + paths_bytes
        self._targets_at = self._names_at + names_bytes
        self._pieces_at = self._targets_at + targets_bytes
        self._name_ends = array("I", accumulate(logical[lengths_at : lengths_at + entries]))
        self._decode_directories(directories, paths_at, self._names_at)
        self._piece_starts: array[int] | None = None
        self._chunk_starts: array[int] | None = None
        self._target_starts: dict[int, int] = {}
        self._placements = PlacementTable(placement)
        self._check(names_bytes, targets_bytes, pieces)

    def _decode_directories(self, count: int, start: int, end: int) -> None:
        at = HEADER_BYTES
        ends = list(accumulate(decode_column("I", self._logical[at : at + 4 * count])))
        lengths = decode_column("H", self._logical[at + 4 * count : at + 6 * count])
        path_ends = list(accumulate(lengths, initial=start))
        if ends[-1] != len(self) or path_ends[-1] != end or any(a >= b for a, b in pairwise([0, *ends])):
            raise CorruptDataError("the directories of a page do not add up")
        self._directory_starts = [0, *ends]
        self._directories = [self._logical[a:b] for a, b in pairwise(path_ends)]
        self._directory_keys = [directory_key(path) for path in self._directories]

    def _check(self, names_bytes: int, targets_bytes: int, pieces: int) -> None:
        names = self._logical[self._names_at : self._targets_at]
        if self._name_ends[-1] != names_bytes:
            raise CorruptDataError("the names of a page do not add up")
        if b"/" in names or b"\0" in names:
            raise CorruptDataError("a page has a name with '/' or NUL in it")
        if any(a >= b for a, b in pairwise(self._directory_keys)):
            raise CorruptDataError("the directories of a page are out of order")
        for path in self._directories:
            if len(path) > MAX_PATH_BYTES or (path and not all(map(_is_name, path.split(b"/")))):
                raise CorruptDataError("a page has an impossible directory in it")
        for low, high in pairwise(self._directory_starts):
            run = [self.name(position) for position in range(low, high)]
            if not all(map(_is_name, run)) or any(a >= b for a, b in pairwise(run)):
                raise CorruptDataError("a page has names that are impossible or out of order")
        self._check_pieces(targets_bytes, pieces)

    def _check_pieces(self, targets_bytes: int, pieces: int) -> None:
        explicit = chunks = targets = 0
        for position, flags in enumerate(self._flags):
            count, kind, level = self._piece_counts[position], flags & _KIND_BITS, flags >> _LEVEL_SHIFT
            if kind == Kind.FILE:
                if (
                    count > MAX_INLINE_PIECES
                    or level > MAX_RECIPE_LEVEL
                    or (count == 0) != (self._sizes[position] == 0)
                ):
                    raise CorruptDataError("a page has a file with impossible pieces")
                explicit += count if _has_explicit_pieces(level, count) else 0
                chunks += count if level == 0 else 0
            elif kind == 0 or count or flags >> 2:
                raise CorruptDataError("a page has an entry of impossible kind")
            elif kind == Kind.SYMLINK:
                if not 0 < self._sizes[position] <= MAX_SYMLINK_BYTES:
                    raise CorruptDataError("a page has a symlink of impossible length")
                self._target_starts[position] = self._targets_at + targets
                targets += self._sizes[position]
            elif self._sizes[position]:
                raise CorruptDataError("a page has a directory with a size")
        if explicit != pieces or targets != targets_bytes or chunks != len(self._placements):
            raise CorruptDataError("the pieces, targets or placements of a page do not add up")

    def __len__(self) -> int:
        return len(self._flags)

    @property
    def memory_bytes(self) -> int:
        """About what it occupies."""
        return 1024 + len(self._logical) + 14 * len(self) + self._placements.memory_bytes + 160 * len(self._directories)

    @property
    def first_key(self) -> bytes:
        """The least key in it."""
        return entry_key(self._directories[0], self.name(0))

    @property
    def last_key(self) -> bytes:
        """The greatest key in it."""
        return entry_key(self._directories[-1], self.name(len(self) - 1))

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
        return self._flags[position] & _KIND_BITS

    def executable(self, position: int) -> bool:
        """Whether the file is executable."""
        return bool(self._flags[position] & _EXECUTABLE)

    def size(self, position: int) -> int:
        """Bytes of the file, or of the symlink's target."""
        return self._sizes[position]

    def content(self, position: int) -> bytes:
        """BLAKE3-256 of the whole content; NO_ID for a directory."""
        at = self._contents_at + ID_BYTES * position
        return self._logical[at : at + ID_BYTES]

    def target(self, position: int) -> bytes:
        """A symlink's target."""
        at = self._target_starts[position]
        return self._logical[at : at + self._sizes[position]]

    def directory(self, position: int) -> bytes:
        """The path of the directory that the entry is in."""
        return self._directories[bisect_left(self._directory_starts, position + 1) - 1]

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

    def find(self, directory: bytes, name: bytes) -> int | None:
        """The position of an entry, or None."""
        low, high = self.directory_range(directory)
        position = bisect_left(range(low, high), name, key=self.name) + low
        return position if position < high and self.name(position) == name else None

    def entry(self, position: int) -> Entry:
        """The entry at `position` with its pieces and placements."""
        flags, size, content = self._flags[position], self._sizes[position], self.content(position)
        kind, level = Kind(flags & _KIND_BITS), flags >> _LEVEL_SHIFT
        directory, name = self.directory(position), self.name(position)
        if kind is not Kind.FILE:
            target = self.target(position) if kind is Kind.SYMLINK else b""
            return Entry(directory, name, kind, size=size, content=content, target=target)
        pieces = self._pieces(position, level, content, size)
        placements = self._placements.run(self._chunk_start(position), len(pieces)) if level == 0 else ()
        executable = bool(flags & _EXECUTABLE)
        return Entry(directory, name, kind, executable, size, content, b"", level, pieces, placements)

    def single_chunk(self, position: int) -> PlacedChunk | None:
        """The chunk of a file that has just one; None for every other entry."""
        flags = self._flags[position]
        if self._piece_counts[position] != 1 or flags >> _LEVEL_SHIFT:
            return None
        (placement,) = self._placements.run(self._chunk_start(position), 1)
        return PlacedChunk(self.content(position), self._sizes[position], placement)

    def is_single_chunk(self, position: int) -> bool:
        """True for a file of one chunk, which then has its content's id."""
        return self._piece_counts[position] == 1 and not self._flags[position] >> _LEVEL_SHIFT

    def _pieces(self, position: int, level: int, content: bytes, size: int) -> tuple[Piece, ...]:
        count = self._piece_counts[position]
        if not _has_explicit_pieces(level, count):
            return (Piece(content, size),) if count else ()
        if self._piece_starts is None:
            explicit = [
                count if _has_explicit_pieces(flags >> _LEVEL_SHIFT, count) else 0
                for flags, count in zip(self._flags, self._piece_counts, strict=True)
            ]
            self._piece_starts = array("I", accumulate(explicit, initial=0))
        first = self._piece_starts[position]
        ids_at = self._pieces_at + ID_BYTES * first
        lengths_at = self._pieces_at + ID_BYTES * self._piece_starts[-1] + 8 * first
        lengths = decode_column("Q", self._logical[lengths_at : lengths_at + 8 * count])
        ids = [self._logical[at : at + ID_BYTES] for at in range(ids_at, ids_at + ID_BYTES * count, ID_BYTES)]
        pieces = tuple(map(Piece, ids, lengths))
        if sum(lengths) != size:
            raise CorruptDataError("the pieces of a file do not add up to its size")
        return pieces

    def _chunk_start(self, position: int) -> int:
        if self._chunk_starts is None:
            chunks = [
                0 if flags >> _LEVEL_SHIFT else count
                for flags, count in zip(self._flags, self._piece_counts, strict=True)
            ]
            self._chunk_starts = array("I", accumulate(chunks, initial=0))
        return self._chunk_starts[position]


def _is_name(name: bytes) -> bool:
    return name not in (b"", b".", b"..") and b"\0" not in name
