"""What every byte of every version has to be, known from names alone: no store and no copy of the data is asked.

A version is called `v<number>`. From one to the next some files change, so that most contents are shared, and a file of
one version in the place of another's is found. A third of all files is text that compresses to half.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from blake3 import blake3

SMALL_BYTES = 80_000
LARGE_BYTES = 12_000_000
FILES_PER_DIRECTORY = 40
CHANGED_EVERY = 16
"""Of so many files one is another in the next version."""

VERSION_FILE = "VERSION"
"""Says which version it is, for who came by a branch."""

_PIECE_BYTES = 1 << 20


class Shape(NamedTuple):
    """How many files of each kind there are."""

    small: int
    large: int


class File(NamedTuple):
    """The content of one file: a stream of bytes of its own, cut off at `size`."""

    key: bytes
    size: int
    is_text: bool

    def read(self, start: int, length: int) -> bytes:
        """The bytes from `start`, fewer where the file ends."""
        length = max(0, min(length, self.size - start))
        if not self.is_text:
            return blake3(self.key).digest(length, seek=start) if length else b""
        first = start // 2
        digits = blake3(self.key).digest((start + length + 1) // 2 - first, seek=first).hex().encode()
        return digits[start - 2 * first :][:length]

    def pieces(self) -> Iterator[bytes]:
        """All of it."""
        for start in range(0, self.size, _PIECE_BYTES):
            yield self.read(start, _PIECE_BYTES)


def version_name(number: int) -> str:
    """The tag of the version with that number, from 1."""
    return f"v{number}"


def version_number(name: str) -> int | None:
    """Of a tag; None if it is none of ours."""
    return int(name[1:]) if name[:1] == "v" and name[1:].isdecimal() else None


@lru_cache(maxsize=64)
def files_of(repository: str, version: int, shape: Shape) -> Mapping[str, File]:
    """All files of a version but `VERSION_FILE`, by their paths."""
    found = {}
    for number in range(shape.small + shape.large):
        is_small = number < shape.small
        path = f"d{number // FILES_PER_DIRECTORY}/f{number}" if is_small else f"large/l{number}"
        generation = _generation(repository, path, version)
        key = f"{repository}/{path}/{generation}".encode()
        most = SMALL_BYTES if is_small else LARGE_BYTES
        found[path] = File(key, 1 + _dice(key) % most, number % 3 == 0)
    return found


def _generation(repository: str, path: str, version: int) -> int:
    """The version that the file is as old as."""
    for each in range(version, 1, -1):
        if _dice(f"{repository}/{path} in {each}".encode()) % CHANGED_EVERY == 0:
            return each
    return 1


def _dice(seed: bytes) -> int:
    return int.from_bytes(blake3(seed).digest(8), "little")


def write_version(folder: Path, repository: str, version: int, shape: Shape) -> None:
    """Make the folder hold just this version; it held another one, or nothing."""
    before = _held(folder)
    for path, file in files_of(repository, version, shape).items():
        if before and file == files_of(repository, before, shape)[path]:
            continue
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("wb") as written:
            written.writelines(file.pieces())
    (folder / VERSION_FILE).write_text(version_name(version))


def _held(folder: Path) -> int | None:
    try:
        return version_number((folder / VERSION_FILE).read_text())
    except FileNotFoundError:
        return None
