"""Committing an edit: the tree that it began from, with what its upper folder has.

Costs what was changed: the upper folder is all that is looked at, and of the tree only the pages around the changes.
"""

from __future__ import annotations

import heapq
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from fsd.errors import ConflictError
from fsd.format.model import Entry, Kind
from fsd.publish.chunks import known_chunks, learn
from fsd.publish.content import Changes, Content, store_content
from fsd.publish.ingest import FolderFiles
from fsd.publish.landing import Landed, Request, check_request, follow_up, land, land_snapshot, write_commit
from fsd.publish.notes import notes_kept_in
from fsd.publish.progress import Progress
from fsd.publish.source import SourceFolder
from fsd.publish.upper import Upper
from fsd.repo.builder import Change, Removal, RemovalBelow
from fsd.repo.differences import is_same
from fsd.repo.refs import short
from fsd.repo.repository import Repositories
from fsd.repo.tree import Tree


@dataclass(frozen=True, slots=True)
class EditedFolder:
    """What is committed."""

    upper: bytes
    """The upper folder."""
    base: bytes
    """The commit that the edit is a view of."""
    last: bytes
    """The commit that has what the edit had when it was last committed; `base` at first."""
    marks_are_files: bool = False
    """See `Upper`."""


@dataclass(frozen=True, slots=True)
class Committed:
    """What came of it."""

    landed: Landed
    content: Content
    snapshot: bytes
    """The commit that has what the edit has now: the `last` of the next one."""


async def commit_edit(
    repositories: Repositories, request: Request, edit: EditedFolder, *, state: Path, progress: Progress
) -> Committed:
    """Commit what an edit has. Raises as `publish`, and ConflictError if the branch has moved on since the edit was
    begun, or last committed, unless `request.merge`: then as `land_snapshot`."""
    repositories.check_writable()
    async with repositories.leases.held("commit an edit"):
        return await _commit_edit(repositories, request, edit, state, progress)


async def _commit_edit(
    repositories: Repositories, request: Request, edit: EditedFolder, state: Path, progress: Progress
) -> Committed:
    tip = await check_request(repositories, request)
    if tip not in (None, edit.last) and not request.merge:
        raise ConflictError(
            f"{request.repository}/{request.branch} has moved on since {short(edit.last)}, which the edit is made from",
            hint="nothing was lost: --merge keeps both changes, -b commits to another branch",
        )
    if edit.base != tip:
        await repositories.leases.check_kept(edit.base)
    tree = await repositories.tree(edit.base)
    with notes_kept_in(state), SourceFolder(edit.upper) as source:
        upper = Upper(source, marks_are_files=edit.marks_are_files)
        async with known_chunks(repositories, state) as known:
            content = await store_content(
                repositories,
                FolderFiles(source),
                upper.batches(),
                tree,
                known,
                progress.phase,
                progress,
                partial(learn, repositories, known, edit.base, tree, upper.size),
                partial(_changes, tree, upper),
            )
            progress.phase("commit")
            landed = await _land(repositories, request, edit, content, tip)
            if known.covers(edit.base):
                known.note_covered(landed.own_commit)
    return Committed(landed, content, landed.own_commit)


async def _land(
    repositories: Repositories, request: Request, edit: EditedFolder, content: Content, tip: bytes | None
) -> Landed:
    built = content.built
    if tip is not None and tip != edit.last:
        landed = await land_snapshot(repositories, request, built, edit.last, tip)
        return replace(landed, subsets=await follow_up(repositories, request, landed.commit))
    commit, is_new = edit.last, request.allow_empty or built.id != (await repositories.tree(edit.last)).id
    if is_new:
        commit = await write_commit(repositories, request, built, (edit.last,))
    await land(repositories, request, commit, tip)
    subsets = await follow_up(repositories, request, commit)
    return Landed(commit, is_new, tip, built.id, built.totals, subsets)


async def _changes(tree: Tree, upper: Upper, changes: Changes) -> Changes:
    """What was read, as changes to the tree: without what is there already, and with the contents of directories that
    are gone, or begun anew, taken away."""
    pending: list[tuple[bytes, RemovalBelow]] = []
    emptied: bytes | None = None
    async with aclosing(changes):
        async for batch in changes:
            made: list[Change] = []
            for change in batch:
                assert not isinstance(change, RemovalBelow)
                while pending and pending[0][0] < change.key:
                    _, below = heapq.heappop(pending)
                    made.append(below)
                    emptied = below.directory + b"/"
                there = None
                if emptied is None or not (change.directory + b"/").startswith(emptied):
                    there = await _entry_at(tree, change.directory, change.name)
                if there is not None and there.kind is Kind.DIRECTORY and _empties(change, there, upper):
                    below = RemovalBelow(there.path)
                    heapq.heappush(pending, (below.key, below))
                if isinstance(change, Removal):
                    made += [change] if there is not None else []
                elif not is_same(there, change):
                    made.append(change)
            yield made
        yield [below for _, below in sorted(pending)]


def _empties(change: Entry | Removal, there: Entry, upper: Upper) -> bool:
    """Whether nothing of the directory `there` is seen any more."""
    return isinstance(change, Removal) or change.kind is not Kind.DIRECTORY or there.path in upper.opaque


async def _entry_at(tree: Tree, directory: bytes, name: bytes) -> Entry | None:
    found = await tree.find(directory, name)
    return None if found is None else found.page.entry(found.position)
