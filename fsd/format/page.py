"""Pages: runs of a tree's entries, in columns, so that a listing touches only the columns it shows.

A file of level 0 with one piece has it implicitly: its content and size. There is one encoding of any entries, and a
reader refuses every other. `docs/format.md` has the bytes.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import accumulate, chain, compress, count, pairwise
from operator import ge, not_

from fsd.errors import CorruptDataError
from fsd.format.columns import decode_column, encode_column
from fsd.format.entries import DOTS, EMPTY_ID, check_entries
from fsd.format.limits import (
    MAX_CHUNK_BYTES,
    MAX_FILE_BYTES,
    MAX_INLINE_PIECES,
    MAX_LOGICAL_BYTES,
    MAX_RECIPE_LEVEL,
    MAX_SYMLINK_BYTES,
)
from fsd.format.model import Entry, Kind, Piece, PlacedChunk, Placement
from fsd.format.outline import COUNTS, DIRECTORY_BYTES, EXECUTABLE, KIND_BITS, MAGIC, PIECE_BYTES, Outline, lengths_at
from fsd.format.placement import PlacementTable, encode_placements
from fsd.format.recipe import are_piece_lengths
from fsd.ids import ID_BYTES, NO_ID, content_id

_WITHOUT_LEVEL = bytes(flags & 0b111 for flags in range(256))
_LEVEL_SHIFT = 3

_ENTRY_BYTES = 1 + 1 + 1 + 8 + ID_BYTES

_KINDS = (Kind.FILE, Kind.FILE, Kind.DIRECTORY, Kind.SYMLINK)
"""By number; 0 is none, and no page has it."""
_NO_PIECES = bytes([1]) + bytes(255)
"""Translates numbers of pieces: 0 to 1, every other to 0."""

_DECODED_ENTRY_BYTES = 8 + 4 + 1 + 1 + 8
_DECODED_DIRECTORY_BYTES = 130
_DECODED_SYMLINK_BYTES = 80
"""What a page keeps besides its logical part: measured, with CPython's object headers."""


def entry_bytes(entry: Entry) -> int:
    """What `entry` adds to a page's logical part, without its directory."""
    explicit = len(entry.pieces) if _has_explicit_pieces(entry.level, len(entry.pieces)) else 0
    return _ENTRY_BYTES + len(entry.name) + len(entry.target) + PIECE_BYTES * explicit


def directory_bytes(directory: bytes) -> int:
    """What the first entry of `directory` adds to a page's logical part besides itself."""
    return DIRECTORY_BYTES + len(directory)


def _has_explicit_pieces(level: int, pieces: int) -> bool:
    return level > 0 or pieces > 1


def encode_page(entries: Sequence[Entry]) -> tuple[bytes, bytes]:
    """The logical and the placement part of a page. `entries` are sorted by key and there is at least one.

    Raises ValueError for entries that the format does not allow.
    """
    if not entries:
        raise ValueError("a page without entries")
    check_entries(entries)
    directories = Counter(entry.directory for entry in entries)
    _, names, kinds, executables, sizes, contents, targets, levels, all_pieces, placements = zip(*entries, strict=True)
    explicit: list[Piece] = []
    for level, pieces in zip(levels, all_pieces, strict=True):
        if _has_explicit_pieces(level, len(pieces)):
            explicit += pieces
    blobs = [b"".join(parts) for parts in (directories, names, targets)]
    logical = b"".join(
        (
            MAGIC,
            COUNTS.pack(len(entries), len(directories), len(explicit), *map(len, blobs)),
            encode_column("I", directories.values()),
            encode_column("H", map(len, directories)),
            bytes(map(len, names)),
            bytes([k | x << 2 | v << _LEVEL_SHIFT for k, x, v in zip(kinds, executables, levels, strict=True)]),
            bytes(map(len, all_pieces)),
            encode_column("Q", sizes),
            *contents,
            *blobs,
            *[piece.id for piece in explicit],
            encode_column("Q", [piece.length for piece in explicit]),
        )
    )
    if len(logical) > MAX_LOGICAL_BYTES:
        raise ValueError(f"a page of {len(logical)} bytes")
    return logical, encode_placements([*chain.from_iterable(placements)])


class Page(Outline):
    """A decoded page. Entries are addressed by position; an `Entry` is made only where one is asked for.

    Safe to share between threads once made. Everything in it was checked: no other method raises CorruptDataError.
    """

    __slots__ = (
        "_chunk_starts",
        "_id",
        "_memory_bytes",
        "_piece_counts",
        "_piece_lengths",
        "_piece_starts",
        "_placements",
        "_target_starts",
    )

    def __init__(self, logical: bytes, placement: bytes) -> None:
        """Decode. Raises CorruptDataError for anything the format does not allow."""
        super().__init__(logical)
        entries = len(self)
        counts_at = lengths_at(len(self._directories)) + 2 * entries
        pieces = (len(logical) - self._pieces_at) // PIECE_BYTES
        self._id: bytes | None = None
        self._piece_counts = logical[counts_at : counts_at + entries]
        self._piece_lengths = decode_column("Q", logical[self._pieces_at + ID_BYTES * pieces :])
        self._check_names()
        self._target_starts = self._check_symlinks()
        self._placements = PlacementTable(placement, self._check_files())
        self._chunk_starts: array[int] | None = None
        self._piece_starts: array[int] | None = None
        paths_bytes = self._names_at - self._contents_at - ID_BYTES * entries
        self._memory_bytes: int = (
            2048
            + len(logical)
            + _DECODED_ENTRY_BYTES * entries
            + 8 * pieces
            + _DECODED_DIRECTORY_BYTES * len(self._directories)
            + 2 * paths_bytes
            + _DECODED_SYMLINK_BYTES * len(self._target_starts)
            + self._placements.memory_bytes
        )

    def _check_names(self) -> None:
        start, ends = self._names_at, self._name_ends
        joined = self._logical[start : start + ends[-1]]
        if b"/" in joined or b"\0" in joined:
            raise CorruptDataError("a page has a name with '/' or NUL in it")
        names = [joined[a:b] for a, b in pairwise([0, *ends])]
        if not DOTS.isdisjoint(names):
            raise CorruptDataError("a page has a name that is '.' or '..'")
        # Names may only fail to ascend from one directory to the next.
        falls = compress(count(1), map(ge, names, names[1:]))
        if not set(self._directory_starts).issuperset(falls):
            raise CorruptDataError("the names of a page are out of order")

    def _check_symlinks(self) -> dict[int, int]:
        """Where each symlink's target begins, by position."""
        starts: dict[int, int] = {}
        at = self._names_at + self._name_ends[-1]
        if Kind.SYMLINK in set(map(KIND_BITS.__and__, set(self._flags))):
            for position in [number for number, flags in enumerate(self._flags) if flags & KIND_BITS == Kind.SYMLINK]:
                starts[position] = at
                size = self._sizes[position]
                target = self._logical[at : at + size]
                if not 0 < size <= MAX_SYMLINK_BYTES or b"\0" in target or content_id(target) != self.content(position):
                    raise CorruptDataError("a page has a symlink with an impossible target")
                at += size
        if at != self._pieces_at:
            raise CorruptDataError("the targets of a page do not add up")
        return starts

    def _check_files(self) -> Sequence[int]:
        """Check kinds, sizes and pieces; the lengths of all chunks that need a placement."""
        flags, sizes, counts = self._flags, self._sizes, self._piece_counts
        for each in set(flags):
            kind, level = each & KIND_BITS, each >> _LEVEL_SHIFT
            if level > MAX_RECIPE_LEVEL or (kind != Kind.FILE and each != kind):
                raise CorruptDataError("a page has an entry of impossible kind")
        if max(sizes) > MAX_FILE_BYTES or max(counts) > MAX_INLINE_PIECES:
            raise CorruptDataError("a page has a file that is too large")
        without_pieces = bytearray(map(not_, sizes))
        for position in self._target_starts:
            without_pieces[position] = 1
        if without_pieces != counts.translate(_NO_PIECES):
            raise CorruptDataError("a page has an entry with a size and no pieces, or pieces and no size")
        directories = 0
        for position in compress(count(), without_pieces):
            each = flags[position]
            directories += each == Kind.DIRECTORY
            expected = EMPTY_ID if each & KIND_BITS == Kind.FILE else NO_ID
            if each >> _LEVEL_SHIFT or (each != Kind.SYMLINK and self.content(position) != expected):
                raise CorruptDataError("a page has an empty file or a directory with a content")
        if directories != flags.count(Kind.DIRECTORY):
            raise CorruptDataError("a page has a directory with a size")
        return self._check_pieces()

    def _check_pieces(self) -> Sequence[int]:
        sizes, counts = self._sizes, self._piece_counts
        if max(counts) > 1 or max(self._flags) >= 1 << _LEVEL_SHIFT:
            lengths = self._gather_chunk_lengths()
        else:
            lengths = array("Q", compress(sizes, counts))
            if self._piece_lengths:
                raise CorruptDataError("a page has pieces that belong to no file")
        if lengths and max(lengths) > MAX_CHUNK_BYTES:
            raise CorruptDataError("a page has a chunk that is too long")
        return lengths

    def _gather_chunk_lengths(self) -> array[int]:
        lengths = array("Q")
        at = 0
        for size, number, flags in zip(self._sizes, self._piece_counts, self._flags, strict=True):
            level = flags >> _LEVEL_SHIFT
            if _has_explicit_pieces(level, number):
                run = self._piece_lengths[at : at + number]
                at += number
                if len(run) != number or not are_piece_lengths(run, level) or sum(run) != size:
                    raise CorruptDataError("a page has a file whose pieces do not make up its size")
                if level == 0:
                    lengths += run
            elif number:
                lengths.append(size)
        if at != len(self._piece_lengths):
            raise CorruptDataError("a page has pieces that belong to no file")
        return lengths

    @property
    def id(self) -> bytes:
        """Its name: the hash of its logical part, computed when it is first asked for."""
        if self._id is None:
            self._id = content_id(self._logical)
        return self._id

    @property
    def memory_bytes(self) -> int:
        """About what it occupies."""
        return self._memory_bytes

    def rows(self, start: int, end: int) -> Iterator[tuple[bytes, int, int, bytes]]:
        """Name, kind (plus EXECUTABLE for such a file), size and identity of the entries from `start` to before `end`.

        What a listing shows, at a fraction of what it costs to ask for each by itself.
        """
        take, names_at = self._logical.__getitem__, self._names_at
        name_ends = self._name_ends[start:end]
        first = self._name_ends[start - 1] if start else 0
        name_stops = array("I", map(names_at.__add__, name_ends))
        name_starts = chain((names_at + first,), name_stops)
        contents_at, contents_end = self._contents_at + ID_BYTES * start, self._contents_at + ID_BYTES * end
        content_starts = range(contents_at, contents_end, ID_BYTES)
        content_stops = range(contents_at + ID_BYTES, contents_end + ID_BYTES, ID_BYTES)
        identities: Iterator[bytes] = map(take, map(slice, content_starts, content_stops))
        if self._piece_lengths:
            identities = map(self.identity, range(start, end))
        return zip(
            map(take, map(slice, name_starts, name_stops)),
            self._flags[start:end].translate(_WITHOUT_LEVEL),
            self._sizes[start:end],
            identities,
            strict=False,
        )

    def identity(self, position: int) -> bytes:
        """32 bytes that two entries share only if every byte that is served for them is the same.

        For a file of one chunk, an empty one and a symlink that is its content, which is checked against it. For a file
        of several, whose content nobody checks before having read all of it, the chunks count as well: else an entry
        that lies about its content would share its inode, and so the kernel's pages, with the file that it names.
        """
        number, level = self._piece_counts[position], self._flags[position] >> _LEVEL_SHIFT
        content = self.content(position)
        if not _has_explicit_pieces(level, number):
            return content
        first = self._piece_start(position)
        at = self._pieces_at + ID_BYTES * first
        lengths_at = self._pieces_at + ID_BYTES * len(self._piece_lengths) + 8 * first
        ids, lengths = self._logical[at : at + ID_BYTES * number], self._logical[lengths_at : lengths_at + 8 * number]
        return content_id(b"".join((content, bytes((level,)), ids, lengths)))

    def target(self, position: int) -> bytes:
        """A symlink's target."""
        at = self._target_starts[position]
        return self._logical[at : at + self._sizes[position]]

    def find(self, directory: bytes, name: bytes) -> int | None:
        """The position of an entry, or None."""
        low, end = self.directory_range(directory)
        high, start, ends, logical = end, self._names_at, self._name_ends, self._logical
        while low < high:
            middle = (low + high) // 2
            if logical[start + (ends[middle - 1] if middle else 0) : start + ends[middle]] < name:
                low = middle + 1
            else:
                high = middle
        return low if low < end and self.name(low) == name else None

    def entry(self, position: int) -> Entry:
        """The entry at `position` with its pieces and placements."""
        return self._entry(position, self.directory(position))

    def entries(self, start: int = 0, end: int | None = None) -> Iterator[Entry]:
        """The entries at positions from `start` to before `end`, in order: quicker than one by one."""
        last = len(self) if end is None else end
        number = bisect_right(self._directory_starts, start) - 1
        while start < last:
            directory, number = self._directories[number], number + 1
            stop = min(last, self._directory_starts[number])
            for position in range(start, stop):
                yield self._entry(position, directory)
            start = stop

    def _entry(self, position: int, directory: bytes) -> Entry:
        flags, size, content, name = (
            self._flags[position],
            self._sizes[position],
            self.content(position),
            self.name(position),
        )
        kind, level, executable = _KINDS[flags & KIND_BITS], flags >> _LEVEL_SHIFT, bool(flags & EXECUTABLE)
        number = self._piece_counts[position]
        if number == 1 and level == 0:
            pieces: tuple[Piece, ...] = (Piece(content, size),)
            placements: tuple[Placement, ...] = (self._placements.at(self._chunk_start(position)),)
        elif number:
            pieces = self._explicit_pieces(position, number)
            placements = self._placements.run(self._chunk_start(position), number) if level == 0 else ()
        else:
            target = self.target(position) if kind is Kind.SYMLINK else b""
            return Entry(directory, name, kind, executable, size, content, target)
        return Entry(directory, name, kind, executable, size, content, b"", level, pieces, placements)

    def placed(self) -> Iterator[tuple[bytes, Sequence[int], Sequence[int]]]:
        """Each pack that it names, with the offsets and stored lengths of the chunks in it, in bytes."""
        return self._placements.by_pack()

    def single_chunk(self, position: int) -> PlacedChunk | None:
        """The chunk of a file that has just one; None for every other entry."""
        if not self.is_single_chunk(position):
            return None
        placement = self._placements.at(self._chunk_start(position))
        return PlacedChunk(self.content(position), self._sizes[position], placement)

    def is_single_chunk(self, position: int) -> bool:
        """True for a file of one chunk, which then has its content's id."""
        return self._piece_counts[position] == 1 and not self._flags[position] >> _LEVEL_SHIFT

    def recipe_positions(self) -> list[int]:
        """The positions of the files whose pieces are recipes."""
        return [position for position, flags in enumerate(self._flags) if flags >> _LEVEL_SHIFT]

    def _explicit_pieces(self, position: int, number: int) -> tuple[Piece, ...]:
        first = self._piece_start(position)
        at = self._pieces_at + ID_BYTES * first
        ids = [self._logical[at : at + ID_BYTES] for at in range(at, at + ID_BYTES * number, ID_BYTES)]
        return tuple(map(Piece, ids, self._piece_lengths[first : first + number]))

    def _piece_start(self, position: int) -> int:
        if self._piece_starts is None:
            explicit = [
                number if _has_explicit_pieces(flags >> _LEVEL_SHIFT, number) else 0
                for flags, number in zip(self._flags, self._piece_counts, strict=True)
            ]
            self._piece_starts = array("I", accumulate(explicit, initial=0))
        return self._piece_starts[position]

    def _chunk_start(self, position: int) -> int:
        if self._chunk_starts is None:
            # Where there is no recipe, every piece is a chunk.
            chunks: Sequence[int] = self._piece_counts
            if max(self._flags) >> _LEVEL_SHIFT:
                chunks = [0 if flags >> _LEVEL_SHIFT else each for flags, each in zip(self._flags, chunks, strict=True)]
            self._chunk_starts = array("I", accumulate(chunks, initial=0))
        return self._chunk_starts[position]
