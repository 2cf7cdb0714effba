"""Learning what a store has from the trees that are in it.

A machine that publishes onto a branch for the first time knows none of the chunks that are there, and would upload all
of them again. So the pages of the parent are streamed into the index of known chunks, once: after that the commit is
*covered*, and so is every commit that this machine puts upon it. Pages shared with a covered commit are skipped.

It costs 5 µs and some 60 bytes of transfer for each chunk, and memory for a few pages.
"""

from __future__ import annotations

from contextlib import aclosing

from fsd.errors import CorruptDataError
from fsd.format.model import Kind, PlacedChunk
from fsd.format.page import Page
from fsd.publish.known import KnownChunks
from fsd.repo.repository import Repositories
from fsd.repo.tree import PageRef
from fsd.repo.usage import chunks_of
from fsd.tasks import gather


async def cover(repositories: Repositories, known: KnownChunks, commit: bytes, covered: bytes | None = None) -> None:
    """Make all chunks of a commit's tree known. `covered` is a commit that is covered already, to be compared with.

    What cannot be read is left out, and the commit is not covered then: publishing goes on, and may upload too much.
    """
    try:
        tree = await repositories.tree(commit)
        skipped = {ref.child.id for ref in await (await repositories.tree(covered)).pages()} if covered else set()
        pages = [ref for ref in await tree.pages() if ref.child.id not in skipped]
    except CorruptDataError:
        return
    packs: dict[bytes, None] = {}
    unread = 0

    async def learn(ref: PageRef) -> None:
        nonlocal unread
        try:
            await _learn_page(repositories, known, await tree.page(ref), packs)
        except CorruptDataError:
            unread += 1

    await gather(learn, pages, tasks=repositories.limits.listing_read_ahead_pages)
    for pack in packs:
        known.note_durable(pack)
    if not unread:
        known.note_covered(commit)


async def _learn_page(repositories: Repositories, known: KnownChunks, page: Page, packs: dict[bytes, None]) -> None:
    for position in range(len(page)):
        if page.kind(position) != Kind.FILE:
            continue
        single = page.single_chunk(position)
        if single is not None:
            _learn(known, single, packs)
            continue
        async with aclosing(chunks_of(page.entry(position), repositories.objects)) as chunks:
            async for chunk in chunks:
                _learn(known, chunk, packs)


def _learn(known: KnownChunks, chunk: PlacedChunk, packs: dict[bytes, None]) -> None:
    if known.find(chunk.id, chunk.length) is None:
        known.add(*chunk)
        packs[chunk.placement.pack] = None
