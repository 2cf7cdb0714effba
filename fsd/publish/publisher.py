"""`publish`: a folder becomes a commit.

The order of writes, from which everything follows: packs, then the recipes and pages that name them
(`fsd.publish.writer`), then the commit, then the branch, by compare-and-swap against the commit that it named when
publishing began. Whoever is killed in between leaves garbage and never a hole, and whoever comes second is told so.

What makes a second commit cheap, in the order in which it applies:

1. the scan index (`scan`, `delta`): what looks as it did is not read, and the tree of the commit that the index belongs
   to is the base of the new one, so that its pages are not read either, wherever nothing changed;
2. the index of known chunks (`known`): what was read is uploaded only if no pack of the store has it. It holds what
   this machine published, also what it did not get to finish, and learns what others did (`cover`).

Both are hints in the state folder. Without them, or with wrong ones, a commit costs more and is the same: equal folders
give equal trees. A base whose pages turn out to be missing or corrupt is given up for reading everything.

The folder that is published is never written to. Nothing here prints; a `Progress` is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import trio

from fsd.errors import CorruptDataError, NotFoundError
from fsd.format.index import Totals
from fsd.publish.chunks import known_chunks
from fsd.publish.content import Content, store_content
from fsd.publish.cover import cover
from fsd.publish.delta import Delta
from fsd.publish.guard import forbidden_directories
from fsd.publish.ingest import FolderFiles
from fsd.publish.known import KnownChunks
from fsd.publish.landing import (
    DEFAULT_BRANCH,
    Landed,
    Request,
    check_request,
    follow_up,
    known_base,
    land,
    land_snapshot,
    write_commit,
)
from fsd.publish.models import METADATA_KEY, ModelFiles
from fsd.publish.notes import notes_kept_in
from fsd.publish.progress import NoProgress, Progress
from fsd.publish.scan import ScanIndex, ScanKey, ScanWriter, open_scan_index
from fsd.publish.source import SourceFolder
from fsd.publish.survey import survey
from fsd.publish.walk import Forbidden, walk
from fsd.repo.repository import Repositories
from fsd.repo.subsets import CreatedSubset
from fsd.repo.tree import Tree

_WHEN_IT_MOVED = (
    "nothing was lost: --merge keeps both changes, where they touch different paths; "
    "committing the folder again as it is would undo the other one"
)


@dataclass(frozen=True, slots=True)
class Published:
    """What came of it."""

    commit: bytes
    """What the branch names now."""
    is_new: bool
    """False if the folder is as the branch has it: then there was nothing to commit."""
    parent: bytes | None
    """What the branch named before."""
    tree: bytes
    totals: Totals
    content: Content
    """What was read and stored for it."""
    snapshot: bytes
    """The commit that has what the folder has: `commit`, unless that has somebody else's changes as well."""
    subsets: tuple[CreatedSubset, ...]
    """Those that follow the branch."""
    seconds: Mapping[str, float]
    """How long each phase took: look, read, store, commit."""
    warnings: tuple[str, ...] = ()
    """What a person should know of files in it; a line each."""

    @property
    def files_unchanged(self) -> int:
        """Files that were not read."""
        return self.content.built.totals.files - self.content.files_read

    @classmethod
    def of(cls, landed: Landed, content: Content) -> Published:
        """The same, of what was landed."""
        return cls(
            landed.commit,
            landed.is_new,
            landed.parent,
            landed.tree,
            landed.totals,
            content,
            landed.own_commit,
            landed.subsets,
            {},
        )


async def publish(
    repositories: Repositories,
    directory: str | bytes,
    request: Request,
    *,
    state: Path,
    progress: Progress | None = None,
) -> Published:
    """Commit a folder to a branch, which is made if it is new, as is the repository.

    `state` is a folder of this user's for the notes that make the next time cheap.

    Raises UsageError, NotFoundError, UnsupportedFileError and UnreadableError for what cannot be published,
    ChangedError for what changed meanwhile, ConflictError if the branch moved or the tag exists, and what a store
    raises; the branch is as it was then. What was uploaded is not uploaded again by the next try.
    """
    repositories.check_writable()
    with notes_kept_in(state), SourceFolder(directory) as source:
        async with repositories.leases.held("commit"):
            return await _Publisher(repositories, source, request, state, progress or NoProgress()).run()


class _Publisher:
    """One call of `publish`."""

    def __init__(
        self, repositories: Repositories, source: SourceFolder, request: Request, state: Path, progress: Progress
    ) -> None:
        self._repositories = repositories
        self._source = source
        self._request = request
        self._state = state
        self._progress = progress
        self._scans = state / "scans"
        self._key = ScanKey(source.directory, repositories.marker.id, request.repository)
        self._known: KnownChunks
        """While `run` is at it."""
        self._parent: bytes | None = None
        self._phases: list[tuple[str, float]] = []

    async def run(self) -> Published:
        """See `publish`."""
        self._begin("look")
        self._parent = await check_request(self._repositories, self._request)
        forbidden = await trio.to_thread.run_sync(
            forbidden_directories, self._source, self._repositories.store.url, self._state
        )
        index = await trio.to_thread.run_sync(open_scan_index, self._scans, self._key)
        try:
            async with known_chunks(self._repositories, self._state) as self._known:
                base = None if index is None else await self._base(index.commit)
                if index is not None and base is not None:
                    try:
                        return await self._publish(forbidden, index, base)
                    except* CorruptDataError:
                        # The tree that the index speaks of is no longer whole: nothing is to be taken from it.
                        pass
                return await self._publish(forbidden, None, None)
        finally:
            if index is not None:
                index.close()

    # --- before

    async def _base(self, commit: bytes) -> Tree | None:
        """The tree of the commit that the folder was last committed as, if it may be built upon."""
        if commit != self._parent:
            # Another branch's, or one that nothing names any more: gc may be at it.
            await self._repositories.leases.take()
            if self._repositories.leases.sweeping.is_pending:
                return None
            with suppress(NotFoundError):
                await self._repositories.leases.check_kept(commit)
                return await self._tree(commit)
            return None
        return await self._tree(commit)

    async def _tree(self, commit: bytes) -> Tree | None:
        """The tree of a commit, None if it cannot be had."""
        try:
            return await self._repositories.tree(commit)
        except CorruptDataError:
            return None

    async def _models_of(self, commit: bytes | None) -> Mapping[str, Any]:
        """What a commit says of its models."""
        if commit is None:
            return {}
        models = (await self._repositories.commit(commit)).metadata.get(METADATA_KEY, {})
        return models if isinstance(models, dict) else {}

    # --- content

    async def _publish(self, forbidden: Forbidden, index: ScanIndex | None, base: Tree | None) -> Published:
        """Publish what differs from `base`, the tree of the commit that `index` belongs to."""
        self._begin("read")
        self._known.forget_unfinished()
        scan = ScanWriter(self._scans, self._key, index)
        recorded = iter(()) if index is None else index.runs()
        walked = walk(self._source, forbidden, clock_ns=lambda: 1000 * self._repositories.clock())
        models = ModelFiles(await self._models_of(None if index is None else index.commit))
        batches = models.watch(Delta(walked, recorded, scan).batches())
        try:
            async with trio.open_nursery() as nursery:
                if base is not None:
                    self._progress.expect(base.totals.entries, base.totals.bytes)
                elif self._progress.wants_total:
                    nursery.start_soon(survey, self._source, self._progress)
                learn = partial(self._learn, None if index is None else index.commit)
                content = await store_content(
                    self._repositories,
                    FolderFiles(self._source),
                    batches,
                    base,
                    self._known,
                    self._begin,
                    self._progress,
                    learn,
                )
                nursery.cancel_scope.cancel()
            described = await trio.to_thread.run_sync(models.describe, self._source, self._request)
            if described:
                metadata = {**self._request.metadata, METADATA_KEY: described}
                self._request = replace(self._request, metadata=metadata)
            published = await self._commit(content, None if index is None else index.commit)
            published = replace(published, warnings=tuple(models.warnings))
            # The commit is made: notes that cannot be kept make the next one slow, and no more.
            with suppress(OSError):
                if index is None or self._known.covers(index.commit):
                    self._known.note_covered(published.snapshot)
                await trio.to_thread.run_sync(scan.finish, published.snapshot)
        finally:
            scan.discard()
        return await self._name(published)

    async def _learn(self, base: bytes | None) -> None:
        """Learn what chunks the trees at hand have; called when the first file is about to be read."""
        commits = [base, self._parent]
        if self._parent is None and self._request.branch != DEFAULT_BRANCH:
            main = await self._repositories.refs.read(self._request.repository, DEFAULT_BRANCH)
            commits.append(None if main is None else main.ref.target)
        wanted = list(dict.fromkeys(commit for commit in commits if commit is not None))
        covered = next((commit for commit in wanted if self._known.covers(commit)), None)
        for commit in wanted:
            if not self._known.covers(commit):
                await cover(self._repositories, self._known, commit, covered)

    # --- after

    async def _commit(self, content: Content, base: bytes | None) -> Published:
        """Write the commit and move the branch to it, unless the branch has that tree already.

        `base` is the commit that the folder was last committed as, as far as this machine knows.
        """
        self._begin("commit")
        request, repositories, built = self._request, self._repositories, content.built
        parent = None if self._parent is None else await self._tree(self._parent)
        is_new = request.allow_empty or parent is None or parent.id != built.id
        if is_new and request.merge and self._parent is not None:
            origin = known_base(request, base)
            if origin != self._parent:
                landed = await land_snapshot(repositories, request, built, origin, self._parent)
                return Published.of(landed, content)
        commit = self._parent
        if is_new or commit is None:
            parents = () if self._parent is None else (self._parent,)
            commit = await write_commit(repositories, request, built, parents)
            await land(repositories, request, commit, self._parent, hint=_WHEN_IT_MOVED)
        return Published(commit, is_new, self._parent, built.id, built.totals, content, commit, (), {})

    async def _name(self, published: Published) -> Published:
        """The tag, and the subsets that follow the branch. The commit stands whatever happens here."""
        subsets = await follow_up(self._repositories, self._request, published.commit)
        self._begin("")
        seconds = {name: end - start for (name, start), (_, end) in pairwise(self._phases)}
        return replace(published, subsets=subsets, seconds=seconds)

    def _begin(self, phase: str) -> None:
        self._phases.append((phase, trio.current_time()))
        if phase:
            self._progress.phase(phase)
