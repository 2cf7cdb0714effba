"""`fsd cat`: a file's content, straight from the store, where no mount is at hand."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

import click
import trio

from fsd.checkout.placed import PlacedContents
from fsd.checkout.stored import StoredContents
from fsd.errors import UsageError
from fsd.format.model import Entry, Kind
from fsd.ids import Buffer
from fsd.repo.repository import Repositories
from fsd.repo.revisions import resolve
from fsd.repo.subsets import open_tree
from fsd.repo.tree import TreeView
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
        async with aclosing(contents_of(repositories, tree, entry)) as contents:
            async for content in contents:
                # Whoever reads may take for ever; Ctrl-C must not.
                await trio.to_thread.run_sync(write_bytes, content, abandon_on_cancel=True)

    run_on_store(invocation, work)


async def contents_of(repositories: Repositories, tree: TreeView, entry: Entry) -> AsyncGenerator[Buffer, None]:
    """The content of a file of the tree, piece by piece."""
    contents = PlacedContents(StoredContents(repositories), tree, repositories.objects)
    pieces, step = Pieces(entry, repositories.objects), repositories.limits.range_bytes
    for start in range(0, entry.size, step):
        for part in await contents.read(entry, pieces, start, min(start + step, entry.size)):
            yield part
