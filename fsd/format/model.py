"""What the format talks about: entries, their pieces, and where chunks lie.

Everything here is a value: immutable, compared by content. *Logical* facts (names, sizes, hashes) are covered by an
object's id; *placements* are hints that may be wrong and never lead to a wrong byte, since each chunk is checked.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from fsd.ids import NO_ID


class Kind(IntEnum):
    """What an entry is. The values are the format's."""

    FILE = 1
    DIRECTORY = 2
    SYMLINK = 3

    @property
    def word(self) -> str:
        """What people and JSON call it: 'file', 'directory', 'symlink'."""
        return self.name.lower()


class Piece(NamedTuple):
    """A run of a file's bytes: a chunk (named by the BLAKE3 of its plaintext), or a recipe for a longer run."""

    id: bytes
    length: int
    """Bytes of the file that the piece stands for."""


class Placement(NamedTuple):
    """Where a chunk lies."""

    pack: bytes
    """16 bytes."""
    offset: int
    """Bytes from the pack's start to the stored form."""
    stored: int
    """Bytes of the stored form: the chunk as it is if this equals its length, else one zstd frame."""
    plain_offset: int
    """Bytes of plaintext that lie before it in the pack."""


class PlacedChunk(NamedTuple):
    """A chunk with its placement: all that is needed to fetch and check it."""

    id: bytes
    length: int
    placement: Placement


class Entry(NamedTuple):
    """A path of a tree.

    A file has pieces; at `level` 0 they are chunks, each with a placement at the same position; at a higher level they
    are recipes and `placements` is empty. A file of one chunk has one piece whose id is its content's. A symlink has
    its target's BLAKE3 as content and its length as size.
    """

    directory: bytes
    """The path of the directory it is in, b'' at the top."""
    name: bytes
    kind: Kind
    executable: bool = False
    size: int = 0
    """Bytes; 0 for a directory."""
    content: bytes = NO_ID
    """BLAKE3-256 of the whole content, NO_ID for a directory."""
    target: bytes = b""
    """A symlink's."""
    level: int = 0
    pieces: tuple[Piece, ...] = ()
    placements: tuple[Placement, ...] = ()

    @property
    def path(self) -> bytes:
        """The whole path from the tree's top."""
        return self.directory + b"/" + self.name if self.directory else self.name

    @property
    def key(self) -> bytes:
        """Its place in the tree's order."""
        return entry_key(self.directory, self.name)

    def chunks(self) -> tuple[PlacedChunk, ...]:
        """The chunks of an entry of level 0, in file order."""
        return tuple(
            PlacedChunk(piece.id, piece.length, placement)
            for piece, placement in zip(self.pieces, self.placements, strict=True)
        )


def directory_key(directory: bytes) -> bytes:
    """The part of an entry's key that its directory gives: the path with NUL for `/`.

    NUL sorts before every byte of a name, so directories come in depth-first order and all that is below a directory
    is one run.
    """
    return directory.replace(b"/", b"\0")


def entry_key(directory: bytes, name: bytes) -> bytes:
    """The bytes by which a tree's entries are sorted: directory, two NULs, name."""
    return directory.replace(b"/", b"\0") + b"\0\0" + name
