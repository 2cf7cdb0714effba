"""A store of 147 GB and 1.5 million files that nobody has room for.

Its metadata are real: pages, indexes, a commit and refs, made by `fsd.repo.builder` and kept in the bucket. Its packs
are made up by the server when they are read. A file is the beginning of one block of random bytes, with its own number
at the end: all contents differ and all hashes are true, but only the last 16 bytes have to be hashed for each, since
what comes before is the same for all files of its length. The lengths are 64 between 68 and 128 kB, whose files the
publisher makes one chunk of.
"""

from __future__ import annotations

import random
import struct
import sys
import time
from collections.abc import AsyncGenerator, Iterable, Sequence
from functools import lru_cache
from itertools import accumulate

import trio
from blake3 import blake3

from fsd.clock import now_us
from fsd.format.commit import Commit, encode_commit
from fsd.format.keys import ObjectKind, pack_key
from fsd.format.model import Entry, Kind, Piece, Placement
from fsd.format.pack import PackedChunk, encode_contents
from fsd.limits import DEFAULT_LIMITS
from fsd.repo.builder import Change, build_tree
from fsd.repo.repository import init_store, open_repositories
from fsd.stores.open import open_store

FILES_PER_FOLDER = 1_000
FILES_PER_PACK = 500
"""49 MB: as many as the publisher puts into one."""

_END = struct.Struct("<8sQ")
_LENGTHS = [68_000 + 952 * number for number in range(64)]
_BLOCK = memoryview(random.Random(7).randbytes(max(_LENGTHS)))
_HASHERS = {length: blake3(_BLOCK[: length - _END.size]) for length in _LENGTHS}
_PACK = struct.Struct(">8sQ")
_PACK_MAGIC = blake3(b"a pack of the huge store").digest()[:8]


def file_length(number: int) -> int:
    """Bytes of a file."""
    return _LENGTHS[(number * 2_654_435_761 >> 8) % 64]


def _end(number: int) -> bytes:
    return _END.pack(b"image of", number)


def file_content_id(number: int) -> bytes:
    """The BLAKE3 of a file."""
    hasher = _HASHERS[file_length(number)].copy()
    return hasher.update(_end(number)).digest()


def _pack_id(number: int) -> bytes:
    return _PACK.pack(_PACK_MAGIC, number)[::-1]  # so that they spread over the folders of packs


class HugePack:
    """The bytes of one pack, as the server asks for them (`integration.gcs_server.contents.Content`)."""

    def __init__(self, number: int, files: int) -> None:
        first = number * FILES_PER_PACK
        self._numbers = range(first, min(first + FILES_PER_PACK, files))
        lengths = [file_length(each) for each in self._numbers]
        self._starts = [0, *accumulate(lengths)]
        rows = (
            PackedChunk(file_content_id(each), length, length)
            for each, length in zip(self._numbers, lengths, strict=True)
        )
        self._contents = encode_contents(rows)
        self.size = self._starts[-1] + len(self._contents)

    def read(self, start: int, length: int) -> bytes:
        """Bytes from `start`."""
        end = min(start + length, self.size)
        pieces: list[bytes | memoryview] = []
        for position, number in enumerate(self._numbers):
            first, last = self._starts[position], self._starts[position + 1]
            if last > start and first < end:
                body = last - first - _END.size
                pieces.append(_BLOCK[max(start - first, 0) : min(end - first, body)])
                pieces.append(_end(number)[max(start - first - body, 0) : max(end - first - body, 0)])
        table = self._starts[-1]
        if end > table:
            pieces.append(self._contents[max(start - table, 0) : end - table])
        return b"".join(pieces)

    def discard(self) -> None:
        """Nothing is kept."""


class HugePacks:
    """All packs of the store with so many files (`integration.gcs_server.contents.Generator`)."""

    def __init__(self, prefix: str, files: int) -> None:
        self._files = files
        packs = range(-(-files // FILES_PER_PACK))
        self._numbers = {f"{prefix}/{pack_key(_pack_id(number))}": number for number in packs}
        self._pack = lru_cache(maxsize=256)(lambda number: HugePack(number, files))

    def find(self, bucket: str, name: str) -> HugePack | None:  # noqa: ARG002
        """The pack of that name."""
        number = self._numbers.get(name)
        return None if number is None else self._pack(number)

    def names(self, bucket: str, prefix: str, start: str) -> Iterable[str]:  # noqa: ARG002
        """None: who reads a store knows its packs."""
        return ()


def file_path(number: int) -> str:
    """Where a file is."""
    return f"train/class{number // FILES_PER_FOLDER:05}/image{number:08}.jpg"


async def _entries(files: int) -> AsyncGenerator[Sequence[Change]]:
    folders = [b"class%05d" % number for number in range(-(-files // FILES_PER_FOLDER))]
    yield [Entry(b"", b"train", Kind.DIRECTORY)]
    yield [Entry(b"train", folder, Kind.DIRECTORY) for folder in folders]
    offset = 0
    for number, folder in enumerate(folders):
        batch = []
        for file in range(number * FILES_PER_FOLDER, min((number + 1) * FILES_PER_FOLDER, files)):
            pack, position = divmod(file, FILES_PER_PACK)
            offset = offset if position else 0
            length, content = file_length(file), file_content_id(file)
            placement = Placement(_pack_id(pack), offset, length, offset)
            name = b"image%08d.jpg" % file
            pieces = (Piece(content, length),)
            batch.append(
                Entry(b"train/" + folder, name, Kind.FILE, False, length, content, b"", 0, pieces, (placement,))
            )
            offset += length
        yield batch


async def _make(url: str, files: int) -> None:
    store = open_store(url, DEFAULT_LIMITS)
    try:
        await init_store(store)
        repositories = await open_repositories(store)
        built = await build_tree(repositories.writer, _entries(files))
        commit = Commit("huge", built.id, built.totals, now_us(), message="Made up")
        made = await repositories.writer.write(ObjectKind.COMMIT, encode_commit(commit, built.root))
        await repositories.refs.set_tag("huge", "v1", made)
    finally:
        await store.aclose()


def main() -> None:
    """`cloud_huge.py URL FILES`: make the store's metadata; in a process of its own, for it takes a while."""
    began = time.perf_counter()
    trio.run(_make, sys.argv[1], int(sys.argv[2]))
    print(f"{int(sys.argv[2]):,} files in {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
