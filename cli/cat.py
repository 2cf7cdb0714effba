"""`fsd cat`: a file's content, straight from the store, where no mount is at hand."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import click
import trio

from fsd.errors import CorruptDataError, UsageError
from fsd.format.model import Kind, PlacedChunk
from fsd.format.pack import decode_chunk
from fsd.ids import Buffer
from fsd.repo.repository import Repositories
from fsd.repo.revisions import resolve
from fsd.repo.subsets import open_tree
from fsd.stores.base import ObjectNotFoundError
from fsd.vfs.pieces import Pieces
from fsd_cli.completion import complete_place
from fsd_cli.context import Invocation, pass_invocation
from fsd_cli.opening import run_on_store
from fsd_cli.output import write_bytes
from fsd_cli.paths import find_entry, parse_place
from fsd_cli.text import shown


@click.command()
@click.argument("place", metavar="REPO/REV/PATH", shell_complete=complete_place)
@pass_invocation
def cat(invocation: Invocation, place: str) -> None:
    """Write a file's content to standard output."""
    parsed = parse_place(place)
    if not parsed.path:
        raise UsageError(f"{place!r} names no file", hint="write REPO/REV/PATH")

    async def work(repositories: Repositories) -> None:
        tree = await open_tree(repositories, await resolve(repositories, parsed.repository, parsed.revision))
        found = await find_entry(tree, parsed)
        entry = found.page.entry(found.position)
        if entry.kind is Kind.SYMLINK:
            raise UsageError(f"{shown(parsed.path)} is a symlink to {shown(entry.target)}", hint="name that")
        if entry.kind is Kind.DIRECTORY:
            raise UsageError(f"{shown(parsed.path)} is a directory", hint=f"see 'fsd ls {place}'")
        async with aclosing(_contents(repositories, Pieces(entry, repositories.objects))) as contents:
            async for content in contents:
                # Whoever reads may take for ever; Ctrl-C must not.
                await trio.to_thread.run_sync(write_bytes, content, abandon_on_cancel=True)

    run_on_store(invocation, work)


async def _contents(repositories: Repositories, pieces: Pieces) -> AsyncGenerator[Buffer, None]:
    """The file's content, chunk by chunk."""
    at = 0
    while at < pieces.size:
        chunks, _ = await pieces.run(at, min(at + repositories.limits.range_bytes, pieces.size))
        for pack, start, side_by_side in _stretches(chunks):
            end = side_by_side[-1].placement.offset + side_by_side[-1].placement.stored
            try:
                stored = memoryview(await repositories.packs.read(pack, start, end - start))
            except ObjectNotFoundError as error:
                # Not "not found": the path that led to it does exist.
                raise CorruptDataError(f"pack {pack.hex()} is missing from {repositories.store.url}") from error
            for chunk in side_by_side:
                yield await trio.to_thread.run_sync(_decode, chunk, stored, start)
                # The run's last chunk may reach beyond what was asked for: the next one starts behind it.
                at += chunk.length


def _decode(chunk: PlacedChunk, stored: memoryview, start: int) -> Buffer:
    """The plaintext of a chunk, out of the bytes of its pack from `start` on. Raises CorruptDataError."""
    at = chunk.placement.offset - start
    part = stored[at : at + chunk.placement.stored]
    if len(part) != chunk.placement.stored:
        raise CorruptDataError(f"pack {chunk.placement.pack.hex()} ends within chunk {chunk.id.hex()}")
    return decode_chunk(chunk.id, part, chunk.length)


def _stretches(chunks: Sequence[PlacedChunk]) -> list[tuple[bytes, int, list[PlacedChunk]]]:
    """Pack, first byte and chunks of each stretch of `chunks` without a gap in its pack."""
    stretches: list[tuple[bytes, int, list[PlacedChunk]]] = []
    end = None
    for chunk in chunks:
        placement = chunk.placement
        if (placement.pack, placement.offset) == end:
            stretches[-1][2].append(chunk)
        else:
            stretches.append((placement.pack, placement.offset, [chunk]))
        end = (placement.pack, placement.offset + placement.stored)
    return stretches
