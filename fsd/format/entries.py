"""Which entries the format allows, before they are written. What is read is checked by `fsd.format.page` in columns."""

from __future__ import annotations

from collections.abc import Iterable

from fsd.format.keys import check_entry_name
from fsd.format.limits import (
    MAX_CHUNK_BYTES,
    MAX_INLINE_PIECES,
    MAX_NAME_BYTES,
    MAX_PATH_BYTES,
    MAX_RECIPE_LEVEL,
    MAX_SYMLINK_BYTES,
)
from fsd.format.model import Entry, Kind, directory_key
from fsd.format.recipe import are_piece_lengths
from fsd.ids import ID_BYTES, NO_ID, content_id

EMPTY_ID = content_id(b"")
"""The content of an empty file."""

DOTS = frozenset((b".", b".."))


def is_directory_path(path: bytes) -> bool:
    """True if entries may lie in a directory of that path, b'' the top. (NUL in it is not looked for.)"""
    return len(path) <= MAX_PATH_BYTES and (
        not path or all(0 < len(name) <= MAX_NAME_BYTES and name not in DOTS for name in path.split(b"/"))
    )


def check_entries(entries: Iterable[Entry]) -> None:
    """Raises ValueError unless a page may hold these entries in this order."""
    last_key, last_directory, prefix = b"", None, b""
    for entry in entries:
        directory, name, kind, _, size, content, target, level, pieces, placements = entry
        if directory != last_directory:
            if not is_directory_path(directory) or b"\0" in directory:
                raise ValueError(f"an impossible directory: {directory[:80]!r}")
            last_directory, prefix = directory, directory_key(directory) + b"\0\0"
        check_entry_name(name)
        key = prefix + name
        if key <= last_key:
            raise ValueError(f"{entry.path!r} is not in its place in a page")
        last_key = key
        if len(directory) + 1 + len(name) > MAX_PATH_BYTES:
            raise ValueError(f"a path of more than {MAX_PATH_BYTES} bytes: {entry.path[:80]!r}…")
        if len(content) != ID_BYTES:
            raise ValueError(f"{entry.path!r} has a content id of {len(content)} bytes")
        if (
            kind is Kind.FILE
            and level == 0
            and pieces == ((content, size),)
            and len(placements) == 1
            and placements[0].stored <= size <= MAX_CHUNK_BYTES
            and not target
        ):
            continue
        _check_facts(entry)


def _check_facts(entry: Entry) -> None:
    """All but its directory and name, of an entry that is not simply a file of one chunk."""
    _, _, kind, executable, size, content, target, level, pieces, placements = entry
    if kind is Kind.FILE:
        if target or (size == 0 and (pieces or content != EMPTY_ID)):
            raise ValueError(f"an impossible file: {entry.path!r}")
        _check_pieces(entry)
        return
    if executable or level or pieces or placements:
        raise ValueError(f"an impossible {kind.word}: {entry.path!r}")
    if kind is Kind.DIRECTORY:
        if target or size or content != NO_ID:
            raise ValueError(f"an impossible directory: {entry.path!r}")
    elif not 0 < len(target) <= MAX_SYMLINK_BYTES or b"\0" in target:
        raise ValueError(f"a symlink with an impossible target: {entry.path!r}")
    elif size != len(target) or content != content_id(target):
        raise ValueError(f"a symlink whose size or content is not its target's: {entry.path!r}")


def _check_pieces(entry: Entry) -> None:
    pieces, level, size = entry.pieces, entry.level, entry.size
    lengths = [piece.length for piece in pieces]
    if len(pieces) > MAX_INLINE_PIECES or not 0 <= level <= (MAX_RECIPE_LEVEL if pieces else 0):
        raise ValueError(f"{entry.path!r} has {len(pieces)} pieces at level {level}")
    if not are_piece_lengths(lengths, level) or sum(lengths) != size or any(len(p.id) != ID_BYTES for p in pieces):
        raise ValueError(f"the pieces of {entry.path!r} do not make up its {size} bytes")
    if len(pieces) == 1 and level == 0 and pieces[0].id != entry.content:
        raise ValueError(f"the only chunk of {entry.path!r} is not its content")
    if len(entry.placements) != (0 if level else len(pieces)):
        raise ValueError(f"not one placement for each chunk of {entry.path!r}")
    if any(place.stored > piece.length for piece, place in zip(pieces, entry.placements, strict=False)):
        raise ValueError(f"a chunk of {entry.path!r} is longer in its pack than by itself")
