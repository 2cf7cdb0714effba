"""Extended attributes: `user.fsd.*`, all text.

On files what belongs to the content, since two paths share an inode and so could not differ; on version directories
what they show. Nothing on other nodes.
"""

from __future__ import annotations

from collections.abc import Mapping

import trio

from fsd.cache.cache import Cache
from fsd.format.model import Entry
from fsd.limits import MIB
from fsd.vfs.nodes import Version
from fsd.vfs.pieces import Pieces, Recipes

PREFIX = b"user.fsd."

_RUN_BYTES = 64 * MIB
"""Of a large file, how much is looked at between two checkpoints."""

FROM_CONTENT = (b"user.fsd.blake3", b"user.fsd.size")
"""What the entry says."""

FROM_CHUNKS = (b"user.fsd.cached", b"user.fsd.chunks", b"user.fsd.packs")
"""What takes the chunk list: bytes in the cache, chunks, packs that they lie in."""

FILE_NAMES = tuple(sorted(FROM_CONTENT + FROM_CHUNKS))


def content_attributes(entry: Entry) -> dict[bytes, bytes]:
    """Those of `FROM_CONTENT`."""
    return {b"user.fsd.blake3": entry.content.hex().encode(), b"user.fsd.size": b"%d" % entry.size}


async def chunk_attributes(entry: Entry, recipes: Recipes, cache: Cache) -> dict[bytes, bytes]:
    """Those of `FROM_CHUNKS`. Loads all recipes of the file; raises what that raises."""
    chunks = cached = 0
    packs: set[bytes] = set()
    async for run in Pieces(entry, recipes).all_runs(_RUN_BYTES):
        chunks += len(run)
        packs.update(chunk.placement.pack for chunk in run)
        cached += sum(chunk.length for chunk, held in zip(run, cache.contains(run), strict=True) if held)
        await trio.lowlevel.checkpoint()
    return {
        b"user.fsd.cached": b"%d" % cached,
        b"user.fsd.chunks": b"%d" % chunks,
        b"user.fsd.packs": b"%d" % len(packs),
    }


def version_attributes(version: Version) -> Mapping[bytes, bytes]:
    """What a version directory shows. The tag and the subset only where it has them."""
    shown = {"commit": version.commit.hex(), "repository": version.repository}
    if version.subset:
        shown["subset"] = version.subset
    if version.tag:
        shown["tag"] = version.tag
    return {PREFIX + name.encode(): value.encode() for name, value in shown.items()}
