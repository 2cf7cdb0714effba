"""`import_snapshot` and `import_history`: what lies elsewhere becomes a commit, or one for each revision.

The order of writes is that of publishing (`fsd.publish.publisher`). Killed at any point, the store is consistent, and
the same call goes on: what was sent is known, contents with a name of their own (`fsd.importing.memo`) are not read
again, and revisions that have become commits are found by what these say of where they come from.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import trio

from fsd.errors import ConflictError, UsageError
from fsd.format.index import Totals
from fsd.format.ref import RefKind
from fsd.importing.archived import Archive, store_archive
from fsd.importing.items import Listing
from fsd.importing.listed import Desk, store_listing
from fsd.importing.memo import Memo
from fsd.importing.revisions import Revision, tag_names
from fsd.importing.summed import SummedProgress
from fsd.publish.chunks import known_chunks
from fsd.publish.content import Content
from fsd.publish.cover import cover
from fsd.publish.landing import Landed, Request, check_request, follow_up, land, write_commit
from fsd.publish.notes import notes_kept_in
from fsd.publish.progress import NoProgress, Progress
from fsd.repo.builder import Built
from fsd.repo.repository import Repositories

METADATA_KEY = "imported"
"""In a commit's metadata: where it comes from."""

_WHEN_IT_MOVED = "somebody else committed meanwhile: import again, and it goes on top of that"


class History(Protocol):
    """A source with revisions. Blocks, and raises FsdError."""

    kind: str
    """What it is, in the metadata of its commits."""
    warnings: list[str]
    """What a person should know; a line each."""

    def revisions(self) -> Sequence[Revision]:
        """What is to be imported, each after those it came from."""

    def listing(self, revision: Revision) -> Listing:
        """What a revision has."""

    def close(self) -> None:
        """End what was started for it."""


@dataclass(frozen=True, slots=True)
class ImportedRevision:
    """What came of one revision."""

    revision: Revision
    commit: bytes
    is_new: bool
    """False if an earlier import had made it."""
    tags: tuple[str, ...]
    totals: Totals
    content: Content | None
    """What was read and stored for it; None if it was there."""


@dataclass(frozen=True, slots=True)
class ImportedHistory:
    """What came of all of them."""

    revisions: tuple[ImportedRevision, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ImportedSnapshot:
    """What came of a source without revisions."""

    landed: Landed
    content: Content


async def import_snapshot(
    repositories: Repositories,
    request: Request,
    source: Listing | Archive,
    where: str,
    *,
    state: Path,
    progress: Progress | None = None,
) -> ImportedSnapshot:
    """Commit what a source has, and nothing else, to a branch. `where` names the source; `state` is as for `publish`.

    Raises as `publish` does, with the errors of the source in the place of a folder's.
    """
    repositories.check_writable()
    async with repositories.leases.held("import"):
        parent = await check_request(repositories, request)
        async with _desk(repositories, parent, state, progress or NoProgress()) as desk:
            if isinstance(source, Archive):
                content = await store_archive(desk, source, where)
            else:
                content = await store_listing(desk, source, where)
            landed = await _land(desk, request, content.built, parent)
    return ImportedSnapshot(landed, content)


async def _land(desk: Desk, request: Request, built: Built, parent: bytes | None) -> Landed:
    """Commit a tree, unless it is what the branch has."""
    desk.progress.phase("commit")
    repositories, commit, is_new = desk.repositories, parent, False
    if parent is None or (await repositories.commit(parent)).tree != built.id:
        is_new = True
        commit = await write_commit(repositories, request, built, () if parent is None else (parent,))
        await land(repositories, request, commit, parent, hint=_WHEN_IT_MOVED)
        if parent is None or desk.known.covers(parent):
            desk.known.note_covered(commit)
    assert commit is not None
    subsets = await follow_up(repositories, request, commit)
    return Landed(commit, is_new, parent, built.id, built.totals, subsets)


async def import_history(
    repositories: Repositories,
    request: Request,
    history: History,
    where: str,
    *,
    state: Path,
    progress: Progress | None = None,
) -> ImportedHistory:
    """Make a commit of each revision, with its author, time, message, ancestry and tags.

    The branch goes along those that the last one on the source's own branch came from; others keep their tags. Of the
    request count repository, branch and metadata, of the others what is set. Raises as `import_snapshot`, and
    ConflictError for a tag that names something else.
    """
    repositories.check_writable()
    progress = progress or NoProgress()
    async with repositories.leases.held("import"):
        parent = await check_request(repositories, replace(request, tag=None))
        progress.phase("look")
        revisions = await trio.to_thread.run_sync(history.revisions)
        if request.tag is not None and len(revisions) != 1:
            raise UsageError(
                f"--tag {request.tag} for {len(revisions)} revisions",
                hint="leave it out: each has its tags from the source",
            )
        async with _desk(repositories, parent, state, SummedProgress(progress)) as desk:
            return await _Importing(desk, request, history, where, parent).run(revisions)


@asynccontextmanager
async def _desk(
    repositories: Repositories, parent: bytes | None, state: Path, progress: Progress
) -> AsyncIterator[Desk]:
    """All that imports work with, open."""
    memo_path = state / "imports" / f"{repositories.marker.id}.sqlite"
    with notes_kept_in(state):
        memo = await trio.to_thread.run_sync(Memo, memo_path)
        with memo:
            async with known_chunks(repositories, state) as known:
                unknown = [] if parent is None or known.covers(parent) else [parent]

                async def before_reading() -> None:
                    while unknown:
                        await cover(repositories, known, unknown.pop())

                yield Desk(repositories, known, memo, state, progress, before_reading)


class _Importing:
    """One call of `import_history`."""

    def __init__(self, desk: Desk, request: Request, history: History, where: str, tip: bytes | None) -> None:
        self._desk = desk
        self._repositories = desk.repositories
        self._request = request
        self._history = history
        self._where = where
        self._tip = tip
        """What the branch names."""
        self._commits: dict[str, bytes] = {}
        """By the source's ids."""
        self._done: list[ImportedRevision] = []
        self._warnings: list[str] = []

    async def run(self, revisions: Sequence[Revision]) -> ImportedHistory:
        """All of them."""
        names = tag_names(revisions, self._request.branch, self._warnings)
        if self._request.tag is not None:
            names = {revisions[0].id: (self._request.tag,)}
        there = await self._imported_before(revisions, names)
        for revision in revisions:
            tags = names.get(revision.id, ())
            commit = there.get(revision.id)
            if commit is None:
                await self._import(revision, tags)
            else:
                self._commits[revision.id] = commit
                totals = (await self._repositories.commit(commit)).totals
                await self._name(revision, commit, tags)
                self._done.append(ImportedRevision(revision, commit, False, tags, totals, None))
        return ImportedHistory(tuple(self._done), (*self._warnings, *self._history.warnings))

    # --- what is there

    async def _imported_before(
        self, revisions: Sequence[Revision], names: Mapping[str, Sequence[str]]
    ) -> dict[str, bytes]:
        """The commits of revisions that were imported by now: by their tags, and along the branch."""
        found: dict[str, bytes] = {}
        refs, repository = self._repositories.refs, self._request.repository
        for revision in revisions:
            for name in names.get(revision.id, ()):
                stored = await refs.read(repository, name)
                if stored is None:
                    continue
                named = stored.ref.target
                if stored.ref.kind is not RefKind.TAG or await self._origin(named) != self._said_of(revision):
                    raise ConflictError(
                        f"{stored.ref.kind} {name!r} of {repository!r} is there, and not from {revision.shown} of "
                        f"{self._where}",
                        hint=f"import into another repository, or delete it first: fsd tag -d {repository} {name}",
                    )
                found[revision.id] = named
        wanted = {revision.id: revision for revision in revisions if revision.id not in found}
        waiting, seen = [] if self._tip is None else [self._tip], set[bytes]()
        while wanted and waiting:
            commit = waiting.pop()
            if commit in seen:
                continue
            seen.add(commit)
            origin = await self._origin(commit)
            if origin is None:
                continue
            met = wanted.get(str(origin.get("revision")))
            if met is not None and origin == self._said_of(met):
                found[met.id] = commit
                del wanted[met.id]
            waiting += (await self._repositories.commit(commit)).parents
        return found

    async def _origin(self, commit: bytes) -> Mapping[str, Any] | None:
        """What a commit says of where it comes from."""
        origin = (await self._repositories.commit(commit)).metadata.get(METADATA_KEY)
        return origin if isinstance(origin, dict) else None

    def _said_of(self, revision: Revision) -> dict[str, Any]:
        return {"from": self._history.kind, "revision": revision.id, **revision.options}

    # --- what is new

    async def _import(self, revision: Revision, tags: Sequence[str]) -> None:
        repositories, request = self._repositories, self._request
        listing = await trio.to_thread.run_sync(self._history.listing, revision)
        content = await store_listing(self._desk, listing, f"{revision.shown} of {self._where}")
        self._desk.progress.phase("commit")
        parents = tuple(self._commits[parent] for parent in revision.parents)
        if not parents and revision.on_branch and self._tip is not None:
            parents = (self._tip,)
        for parent in parents:
            if parent != self._tip:
                await repositories.leases.check_kept(parent)
        made = replace(
            request,
            message=request.message or revision.message,
            author=request.author or revision.author,
            time_us=revision.time_us,
            metadata={**request.metadata, METADATA_KEY: self._said_of(revision)},
        )
        commit = await write_commit(repositories, made, content.built, parents)
        if all(self._desk.known.covers(parent) for parent in parents):
            self._desk.known.note_covered(commit)
        self._commits[revision.id] = commit
        if revision.on_branch:
            if self._tip is not None and self._tip not in parents:
                raise ConflictError(
                    f"{request.repository}/{request.branch} has commits that {revision.shown} of {self._where} does "
                    "not come from",
                    hint="import to another branch: -b BRANCH",
                )
            await land(repositories, made, commit, self._tip, hint=_WHEN_IT_MOVED)
            self._tip = commit
        await self._name(revision, commit, tags)
        self._done.append(ImportedRevision(revision, commit, True, tuple(tags), content.built.totals, content))

    async def _name(self, revision: Revision, commit: bytes, tags: Sequence[str]) -> None:
        """The tags that it lacks, and the subsets that follow the branch."""
        for name in tags:
            if await self._repositories.refs.read(self._request.repository, name) is None:
                await self._repositories.refs.set_tag(self._request.repository, name, commit)
        if revision.on_branch and commit == self._tip:
            await follow_up(self._repositories, replace(self._request, tag=None), commit)
