"""Contents straight from the store, where no cache is at hand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import trio

from fsd.errors import CorruptDataError
from fsd.format.model import Entry, PlacedChunk
from fsd.format.pack import decode_chunk
from fsd.ids import Buffer
from fsd.repo.repository import Repositories
from fsd.stores.base import ObjectNotFoundError
from fsd.tasks import gather
from fsd.vfs.pieces import Pieces

_REQUESTS = 16
"""Ranges asked for at once, of one call."""


class StoredContents:
    """Straight from the packs: neighbours in one request, every chunk checked against its hash, nothing kept."""

    def __init__(self, repositories: Repositories) -> None:
        self._repositories = repositories

    async def read_small(self, files: Sequence[Entry]) -> list[Buffer]:
        """See `Contents`."""
        wanted: dict[bytes, PlacedChunk] = {}
        chunks_of = [await self._chunks(file) for file in files]
        for chunks in chunks_of:
            wanted.update((chunk.id, chunk) for chunk in chunks)
        plain = await self._load(wanted.values())
        return [b"".join([plain[chunk.id] for chunk in chunks]) for chunks in chunks_of]

    async def read(self, file: Entry, pieces: Pieces, start: int, end: int) -> Sequence[Buffer]:  # noqa: ARG002
        """See `Contents`."""
        run = await pieces.run(start, end)
        plain = await self._load(run.chunks)
        parts: list[Buffer] = []
        skip, left = run.skip, end - start
        for chunk in run.chunks:
            part = memoryview(plain[chunk.id])[skip : skip + left]
            parts.append(part)
            skip, left = 0, left - len(part)
        return parts

    async def share(self, pieces: Pieces, start: int, end: int, target: int) -> bool:  # noqa: ARG002
        """Nobody keeps them."""
        await trio.lowlevel.checkpoint()
        return False

    async def _chunks(self, file: Entry) -> Sequence[PlacedChunk]:
        return (await Pieces(file, self._repositories.objects).run(0, file.size)).chunks if file.size else ()

    async def _load(self, chunks: Iterable[PlacedChunk]) -> dict[bytes, Buffer]:
        """The plaintext of chunks, by id. Stretches of a pack with no large gap are one request each."""
        plain: dict[bytes, Buffer] = {}

        async def load(stretch: Sequence[PlacedChunk]) -> None:
            first, last = stretch[0].placement, stretch[-1].placement
            length = last.offset + last.stored - first.offset
            try:
                stored = await self._repositories.packs.read(first.pack, first.offset, length)
            except ObjectNotFoundError as error:
                raise CorruptDataError(
                    f"pack {first.pack.hex()} is missing from {self._repositories.store.url}", hint="see 'fsd verify'"
                ) from error
            plain.update(await trio.to_thread.run_sync(_decode, stretch, stored))

        limits = self._repositories.limits
        stretches = _stretches(chunks, limits.range_gap_bytes, limits.range_bytes)
        await gather(load, stretches, tasks=_REQUESTS)
        return plain


def _decode(stretch: Sequence[PlacedChunk], stored: bytes) -> dict[bytes, Buffer]:
    """Raises CorruptDataError."""
    start, view = stretch[0].placement.offset, memoryview(stored)
    plain: dict[bytes, Buffer] = {}
    for chunk in stretch:
        at = chunk.placement.offset - start
        part = view[at : at + chunk.placement.stored]
        if len(part) != chunk.placement.stored:
            raise CorruptDataError(f"pack {chunk.placement.pack.hex()} ends within chunk {chunk.id.hex()}")
        plain[chunk.id] = decode_chunk(chunk.id, part, chunk.length)
    return plain


def _stretches(chunks: Iterable[PlacedChunk], gap_bytes: int, most_bytes: int) -> list[list[PlacedChunk]]:
    """Chunks in the order of their packs, those together that one request brings."""
    stretches: list[list[PlacedChunk]] = []
    pack, start, end = b"", 0, 0
    for chunk in sorted(chunks, key=lambda chunk: (chunk.placement.pack, chunk.placement.offset)):
        placement = chunk.placement
        after = placement.offset + placement.stored
        if placement.pack == pack and placement.offset - end <= gap_bytes and after - start <= most_bytes:
            stretches[-1].append(chunk)
        else:
            stretches.append([chunk])
            pack, start = placement.pack, placement.offset
        end = after
    return stretches
