"""A store read to its end: whatever any ref can lead to must be there, parse, and hash to its name.

Uses the repository layer and pack reads, no cache, no mount and nothing that publishes. Reads every pack that is
reached, whole, and holds the plaintext: for stores of tests.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import trio
from blake3 import blake3

from fsd.format.model import Entry, Kind, PlacedChunk
from fsd.format.pack import decode_chunk
from fsd.format.ref import RefKind
from fsd.ids import content_id
from fsd.limits import DEFAULT_LIMITS, MIB
from fsd.repo.repository import Repositories, open_repositories
from fsd.stores.open import open_store
from fsd.vfs.pieces import Pieces


@dataclass
class Verified:
    """What was found to be whole. Ids are in hex."""

    targets: dict[str, str] = field(default_factory=dict)
    """By `REPO/NAME`: the commit that a branch or tag names."""
    history: dict[str, list[str]] = field(default_factory=dict)
    """By `REPO/NAME`: all that the ref ever named, newest first."""
    trees: dict[str, str] = field(default_factory=dict)
    """By commit or subset: the id of its tree, equal for equal folders."""
    files: dict[str, dict[bytes, str]] = field(default_factory=dict)
    """By commit or subset: the BLAKE3 of each file by path."""
    packs: set[str] = field(default_factory=set)


def verify(store: Path | str) -> Verified:
    """Raises AssertionError, or what the layers below raise, for anything that is not as it should be.

    `store`: a folder or a URL.
    """

    async def main() -> Verified:
        opened = open_store(str(store), DEFAULT_LIMITS)
        try:
            verification = _Verification(await open_repositories(opened))
            await verification.run()
        finally:
            await opened.aclose()
        return verification.verified

    return trio.run(main)


class _Verification:
    def __init__(self, repositories: Repositories) -> None:
        self.verified = Verified()
        self._repositories = repositories
        self._chunks: dict[tuple[bytes, int], tuple[bytes, int, bytes, int]] = {}
        """By pack and offset: id, stored length, plaintext, plain offset."""
        self._contents: set[bytes] = set()

    async def run(self) -> None:
        for repository in await self._repositories.refs.repositories():
            refs = await self._repositories.refs.read_all(repository)
            assert refs
            for name, stored in refs.items():
                moves = [move async for move in self._repositories.refs.history(stored.ref)]
                place = f"{repository}/{name}"
                self.verified.history[place] = [move.commit.hex() for move in moves]
                if stored.ref.kind is not RefKind.SUBSET:
                    self.verified.targets[place] = stored.ref.target.hex()
                for move in moves:
                    await self._ancestry(move.commit)
                    if move.source is not None:
                        assert (await self._repositories.commit(move.commit)).source == move.source

    async def _ancestry(self, commit: bytes) -> None:
        waiting = [commit]
        while waiting:
            at = waiting.pop()
            if at.hex() in self.verified.trees:
                continue
            header = await self._repositories.commit(at)
            self.verified.trees[at.hex()] = header.tree.hex()
            await self._tree(at)
            waiting += header.parents
            if header.source is not None:
                waiting.append(header.source)

    async def _tree(self, commit: bytes) -> None:
        tree = await self._repositories.tree(commit)
        directories = {b""}
        entries = files = size = 0
        found: dict[bytes, str] = {}
        async for listed in tree.list_below():
            for entry in listed.page.entries(listed.positions[0], listed.positions[-1] + 1):
                assert entry.directory in directories, entry
                entries += 1
                if entry.kind is Kind.DIRECTORY:
                    directories.add(entry.path)
                elif entry.kind is Kind.SYMLINK:
                    assert content_id(entry.target) == entry.content
                else:
                    files += 1
                    size += entry.size
                    found[entry.path] = entry.content.hex()
                    await self._file(entry)
        assert (entries, files, size) == tree.totals
        self.verified.files[commit.hex()] = found

    async def _file(self, entry: Entry) -> None:
        hashed = blake3()
        total = 0
        async for run in Pieces(entry, self._repositories.objects).all_runs(64 * MIB):
            for chunk in run:
                hashed.update(await self._chunk(chunk))
                total += chunk.length
        assert (hashed.digest(), total) == (entry.content, entry.size), entry.path

    async def _chunk(self, chunk: PlacedChunk) -> bytes:
        place = chunk.placement
        if place.pack.hex() not in self.verified.packs:
            await self._pack(place.pack)
        identity, stored, plain, plain_offset = self._chunks[place.pack, place.offset]
        assert (identity, len(plain)) == (chunk.id, chunk.length)
        assert (stored, plain_offset) == (place.stored, place.plain_offset)
        return plain

    async def _pack(self, pack: bytes) -> None:
        packs = self._repositories.packs
        contents = await packs.contents(pack)
        body = memoryview(await packs.read(pack, 0, sum(row.stored for row in contents)))
        offset = plain_offset = 0
        for row in contents:
            plain = bytes(decode_chunk(row.id, body[offset : offset + row.stored], row.length))
            self._chunks[pack, offset] = row.id, row.stored, plain, plain_offset
            offset += row.stored
            plain_offset += row.length
        self.verified.packs.add(pack.hex())
