"""From a folder's changes to a tree in the store: everything durable but the commit that names it.

Five kinds of tasks run at once: one walks and hands out reading (`Pipeline.run`), one places chunks and builds pages in
tree order (here), some load the base's pages for that (`PagesAhead`), some upload packs (`Packer`), some write the
objects whose packs are durable (`DeferredWriter.run`).
Each is slowed down by those behind it: memory is bounded by `publish_queue_bytes` of what was read and not placed, and
a quarter as many of chunks that wait for their upload.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import trio

from fsd.publish.ahead import PagesAhead
from fsd.publish.delta import Batch
from fsd.publish.ingest import Source
from fsd.publish.known import KnownChunks
from fsd.publish.packer import Packer
from fsd.publish.pipeline import Pipeline
from fsd.publish.placer import Placer
from fsd.publish.progress import Progress
from fsd.publish.writer import DeferredWriter, Order
from fsd.repo.builder import Built, Change, build_tree
from fsd.repo.repository import Repositories
from fsd.repo.tree import Tree

Changes = AsyncGenerator[Sequence[Change]]
"""Batches of changes, in tree order."""


@dataclass(frozen=True, slots=True)
class Content:
    """What was made durable, and what it took."""

    built: Built
    files_read: int
    bytes_read: int
    new_chunks: int
    new_bytes: int
    """Plain bytes of the new chunks."""
    stored_bytes: int
    """What the new chunks take in the store."""
    known_chunks: int
    """Chunks read that were there already, from before or from this commit."""
    known_bytes: int
    packs: int


async def store_content(
    repositories: Repositories,
    source: Source,
    batches: Generator[Batch],
    base: Tree | None,
    known: KnownChunks,
    begin_phase: Callable[[str], None],
    progress: Progress,
    before_reading: Callable[[], Awaitable[None]],
    arrange: Callable[[Changes], Changes] | None = None,
    *,
    in_place: bool = True,
) -> Content:
    """Apply the changes that `batches` hand out, whose contents `source` has, to `base`. Closes `batches`.

    `arrange` makes other changes of them, which are at other paths of the tree if they are not `in_place`.
    """
    store, limits = repositories.store, repositories.limits
    order = Order()
    writer = DeferredWriter(store, order, repositories.leases)
    try:
        # What is arranged elsewhere is not where the base has it.
        refs = [] if base is None or not in_place else await base.pages()
        async with trio.open_nursery() as writing:
            writing.start_soon(writer.run, limits.publish_requests)
            async with trio.open_nursery() as uploading:
                packer = Packer(store, limits, known, order, writer, progress, uploading)
                placer = Placer(repositories, known, packer, writer)
                ahead = None
                if base is not None and in_place:
                    ahead = PagesAhead(base, refs, limits.publish_requests, writing)

                async def prepare() -> None:
                    await repositories.leases.take()
                    await before_reading()

                pipeline = Pipeline(
                    source, repositories.marker.chunker, known.might_hold, limits, progress, prepare, ahead
                )
                uploading.start_soon(pipeline.run, batches)
                changes = _changes(pipeline, placer, ahead)
                built = await build_tree(writer, changes if arrange is None else arrange(changes), base=base)
                begin_phase("store")
                await packer.finish()
            await writer.drain()
            writing.cancel_scope.cancel()
    finally:
        batches.close()
    return Content(
        built,
        pipeline.files_read,
        pipeline.bytes_read,
        placer.new_chunks,
        placer.new_bytes,
        packer.stored_bytes,
        placer.known_chunks,
        placer.known_bytes,
        packer.packs,
    )


async def _changes(pipeline: Pipeline, placer: Placer, ahead: PagesAhead | None) -> Changes:
    async with aclosing(pipeline.results()) as results:
        async for reads in results:
            changes = await placer.place(reads)
            if changes:
                if ahead is not None:
                    ahead.reached(changes[0].key)
                yield changes
