"""Contents straight from the store, where no cache is at hand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain

import trio

from fsd.cache.plan import Range, check_placed, coalesce
from fsd.errors import CorruptDataError
from fsd.format.model import Entry, PlacedChunk
from fsd.format.pack import decode_chunk
from fsd.ids import Buffer
from fsd.limits import MIB
from fsd.repo.packs import MisplacedError, PackGoneError
from fsd.repo.repository import Repositories
from fsd.stores.base import ObjectNotFoundError
from fsd.tasks import gather
from fsd.vfs.pieces import Pieces

_REQUESTS = 16
"""Ranges asked for at once, of one call."""

_EDGE_BYTES = MIB
"""A stretch of a file begins and ends within chunks: one as long as a request would need a second one for its end."""


class StoredContents:
    """Straight from the packs: neighbours in one request, every chunk checked against its hash, nothing kept."""

    def __init__(self, repositories: Repositories) -> None:
        self._repositories = repositories

    async def read_small(self, files: Sequence[Entry]) -> list[Buffer]:
        """See `Contents`."""
        chunks_of = [await self._chunks(file) for file in files]
        plain = await self._load(chain.from_iterable(chunks_of))
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
        """The plaintext of chunks, by id. Raises MisplacedError, and what a store raises."""
        plain: dict[bytes, Buffer] = {}

        async def load(wanted: Range) -> None:
            try:
                stored = await self._repositories.packs.read(wanted.pack, wanted.start, wanted.length)
            except ObjectNotFoundError as error:
                raise PackGoneError(wanted.chunks[0], error) from error
            except CorruptDataError as error:
                raise MisplacedError(wanted.chunks[0], error.message) from error
            plain.update(await trio.to_thread.run_sync(_decode, wanted, stored))

        placed = {chunk.id: chunk for chunk in chunks}
        for chunk in placed.values():
            check_placed(chunk)
        limits = self._repositories.limits
        ranges = coalesce(
            placed.values(),
            range_bytes=limits.range_bytes + _EDGE_BYTES,
            gap_bytes=limits.range_gap_bytes,
        )
        await gather(load, ranges, tasks=_REQUESTS)
        return plain


def _decode(wanted: Range, stored: bytes) -> dict[bytes, Buffer]:
    """Raises MisplacedError."""
    view = memoryview(stored)
    plain: dict[bytes, Buffer] = {}
    for chunk in wanted.chunks:
        at = chunk.placement.offset - wanted.start
        part = view[at : at + chunk.placement.stored]
        if len(part) != chunk.placement.stored:
            raise MisplacedError(chunk, f"pack {wanted.pack.hex()} ends within chunk {chunk.id.hex()}")
        try:
            plain[chunk.id] = decode_chunk(chunk.id, part, chunk.length)
        except CorruptDataError as error:
            where = f"(pack {wanted.pack.hex()} at {chunk.placement.offset})"
            raise MisplacedError(chunk, f"{error.message} {where}", hint="see 'fsd verify'") from error
    return plain
