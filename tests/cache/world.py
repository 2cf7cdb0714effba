"""A store of packs to fetch from, with the truth beside it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from fsd.format.compress import compress_chunk
from fsd.format.keys import pack_key
from fsd.format.model import PlacedChunk, Placement
from fsd.format.pack import PackedChunk, encode_contents
from fsd.ids import content_id
from fsd.limits import KIB, MIB, Limits
from fsd.repo.packs import PackReader
from fsd.stores.memory import MemoryStore
from tests.faulty import FaultyStore

SMALL_LIMITS = replace(
    Limits(),
    cache_bytes=64 * MIB,
    extent_bytes=64 * KIB,
    range_bytes=256 * KIB,
    fetch_bytes=4 * MIB,
    retry_min_s=0.001,
    retry_max_s=0.002,
    read_deadline_s=20.0,
)


class World:
    """Packs in a memory store. `truth` has the plaintext of every chunk; `store` counts and injects faults."""

    def __init__(self, seed: int = 0) -> None:
        self.random = random.Random(seed)
        self.memory = MemoryStore()
        self.store = FaultyStore(self.memory)
        self.source = PackReader(self.store)
        self.truth: dict[bytes, bytes] = {}

    def data(self, size: int, *, compressible: bool = False) -> bytes:
        """Content nobody else has."""
        if compressible:
            return (self.random.randbytes(16) * (size // 16 + 1))[:size]
        return self.random.randbytes(size)

    async def add_pack(self, contents: Sequence[bytes]) -> list[PlacedChunk]:
        """Write a pack with these chunks; returns them with their placements."""
        pack = self.random.randbytes(16)
        body = bytearray()
        table: list[PackedChunk] = []
        placed: list[PlacedChunk] = []
        plain_offset = 0
        for content in contents:
            chunk = content_id(content)
            frame = compress_chunk(content)
            stored = content if frame is None else frame
            table.append(PackedChunk(chunk, len(stored), len(content)))
            placed.append(PlacedChunk(chunk, len(content), Placement(pack, len(body), len(stored), plain_offset)))
            body += stored
            plain_offset += len(content)
            self.truth[chunk] = content
        await self.memory.put_if_absent(pack_key(pack), bytes(body) + encode_contents(table))
        return placed

    async def add_random_pack(self, count: int, size: int) -> list[PlacedChunk]:
        """A pack of `count` chunks of `size` bytes."""
        return await self.add_pack([self.data(size) for _ in range(count)])

    def bytes_of(self, chunks: Sequence[PlacedChunk], start: int = 0, length: int | None = None) -> bytes:
        """What a read of these chunks must give."""
        whole = b"".join(self.truth[chunk.id] for chunk in chunks)
        return whole[start : len(whole) if length is None else start + length]

    def requests(self, pack: bytes | None = None) -> int:
        """Ranges that were asked for."""
        return sum(
            1
            for call in self.store.calls
            if call.operation == "get_range" and (pack is None or call.key == pack_key(pack))
        )


def size_of(chunks: Sequence[PlacedChunk]) -> int:
    """Bytes of all of them."""
    return sum(chunk.length for chunk in chunks)
