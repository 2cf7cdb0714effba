"""Purging: a path is taken out of every version of a repository, and its bytes out of the store. For erasure.

    rewrite    every version that has it becomes another commit, and every ref names these (`rewrite`); of runs, which
               are never rewritten, a note says what became of the commits that they name
    find       all packs, named or not, that hold a chunk of it which nothing needs any more
    repack     those of them that are needed for other chunks (`repack`)
    condemn    these packs, and the old commits and pages, which name it
    sweep      at once, once no publisher at work can be unaware of it (`sweep`)

No grace is given: mounts that have an old version open lose it. What other paths or repositories have of the same bytes
stays, and is said. What is to go is written down (`purges/`) before any ref is moved: killed anywhere, doing it again
goes on.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection
from contextlib import aclosing, suppress
from dataclasses import dataclass, field

from fsd.errors import ConflictError, CorruptDataError, NotFoundError, UsageError
from fsd.format.fields import as_id, as_text, decode_json, encode_json
from fsd.format.keys import PURGES, ObjectKind, object_key, pack_key
from fsd.format.model import Entry, PlacedChunk
from fsd.format.page import Page
from fsd.format.recipe import Recipe
from fsd.format.sealed import seal_list, unseal_list
from fsd.maintenance.condemn import condemn
from fsd.maintenance.mark import expired_commits, mark, pack_sizes
from fsd.maintenance.progress import Progress
from fsd.maintenance.reach import Walk
from fsd.maintenance.repack import homes, repack
from fsd.maintenance.rewrite import Rewriting
from fsd.maintenance.sweep import Sweep
from fsd.repo.lookup import text_of_name
from fsd.repo.repository import Repositories
from fsd.repo.usage import chunks_of
from fsd.stores.base import ObjectNotFoundError
from fsd.tasks import gather

MAGIC = b"fsdpurg1"
MAX_NOTE_BYTES = 256 * 1024 * 1024
"""Three million chunks: some 200 GB of files at once."""

MAX_PLACES_NAMED = 100
"""Where the same contents are still; all are counted."""


@dataclass
class Purged:
    """What was done. Sizes in bytes."""

    commits: dict[bytes, bytes | None] = field(default_factory=dict)
    """Every version that is no more, with what it became; None: it had expired."""
    refs: int = 0
    """Rewritten."""
    files: int = 0
    """Taken out, counted in each version."""
    chunks: list[PlacedChunk] = field(default_factory=list)
    """Of what was taken out, each once: caches have to let go of them."""
    packs: set[bytes] = field(default_factory=set)
    """That held the bytes, and are gone or about to go."""
    deleted_objects: int = 0
    deleted_bytes: int = 0
    elsewhere: list[str] = field(default_factory=list)
    """Where the same contents still are: repository, version and path, up to `MAX_PLACES_NAMED`."""
    places_elsewhere: int = 0
    waiting: list[str] = field(default_factory=list)
    """Why the bytes are not deleted yet: a line for people."""

    @property
    def is_complete(self) -> bool:
        """Whether the bytes are out of the store."""
        return not self.waiting


async def purge(
    repositories: Repositories, repository: str, paths: Collection[bytes], progress: Progress, *, wait_s: float
) -> Purged:
    """Take `paths` (files, or directories with all below) out of every version. Publishers are waited for so long.

    Raises NotFoundError if no version has any of them, CorruptDataError for a store that is not whole, ConflictError if
    others keep moving refs, and what a store raises.
    """
    repositories.check_writable()
    repositories.marker.check_collectable(repositories.store.url)
    return await _Purge(repositories, repository, paths, progress).run(wait_s)


@dataclass
class _Doomed:
    """What is to be deleted, once nothing needs it any more."""

    keys: set[str]
    """Of what the old versions are made of."""
    chunks: set[bytes]
    contents: set[bytes]
    """Of whole files, by which they are found elsewhere."""

    @classmethod
    def all_of(cls, parts: Collection[_Doomed]) -> _Doomed:
        """All together."""
        return cls(
            set().union(*(part.keys for part in parts)),
            set().union(*(part.chunks for part in parts)),
            set().union(*(part.contents for part in parts)),
        )

    def encode(self) -> bytes:
        """As a note in the store. Raises UsageError for more than one may hold."""
        body = {
            "keys": sorted(self.keys),
            "chunks": sorted(chunk.hex() for chunk in self.chunks),
            "contents": sorted(content.hex() for content in self.contents),
        }
        try:
            return seal_list(MAGIC, encode_json(body), MAX_NOTE_BYTES)
        except ValueError:
            raise UsageError("that is too much at once", hint="purge fewer paths at a time") from None

    @classmethod
    def decode(cls, data: bytes, what: str) -> _Doomed:
        """The reverse. Raises CorruptDataError."""
        try:
            body = decode_json(unseal_list(MAGIC, data, what, MAX_NOTE_BYTES))
            chunks, contents = ({as_id(each, name) for each in body[name]} for name in ("chunks", "contents"))
            return cls({as_text(key, "key") for key in body["keys"]}, chunks, contents)
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptDataError(f"{what} cannot be read: {error}") from error


class _Purge:
    def __init__(
        self, repositories: Repositories, repository: str, paths: Collection[bytes], progress: Progress
    ) -> None:
        self._repositories = repositories
        self._repository = repository
        self._paths = paths
        self._progress = progress
        self._outcome = Purged()
        self._note_key = f"{PURGES}{secrets.token_hex(16)}"

    async def run(self, wait_s: float) -> Purged:
        """See `purge`."""
        outcome = self._outcome
        expired = await expired_commits(self._repositories)
        before = await self._notes()
        async with self._repositories.leases.held("purge"):
            self._progress.phase("rewrite")
            doomed = await self._rewrite(expired)
        doomed = _Doomed.all_of([doomed, *before.values()])
        if not doomed.chunks:
            raise self._nothing_there()
        gone = doomed.chunks - await self._needed_chunks(expired, doomed)
        self._progress.phase("find")
        outcome.packs = await self._packs_with(gone)
        await self._delete(expired, doomed.keys | {pack_key(pack) for pack in outcome.packs}, wait_s)
        if outcome.is_complete:
            for key in (self._note_key, *before):
                await self._repositories.store.delete(key)
        return outcome

    async def _rewrite(self, expired: Collection[bytes]) -> _Doomed:
        """Rewrite the history; what is to go then. That is written down before any ref is moved."""
        tips = (await Walk(self._repositories, _Blind()).roots()).tips
        rewriting = Rewriting(self._repositories, self._repository, self._paths, set(expired) - tips)
        for _ in range(self._repositories.limits.ref_attempts):
            await rewriting.rewrite_versions()
            replaced = {old: new for old, new in rewriting.replaced.items() if old != new}
            removed = {entry.content: entry for _, entry in rewriting.removed}
            doomed = _Doomed(
                await self._old_objects(replaced, expired), await self._chunks(list(removed.values())), set(removed)
            )
            if not removed:
                return doomed
            await self._repositories.store.overwrite(self._note_key, doomed.encode())
            await self._repositories.runs.note_replaced(self._note_key.removeprefix(PURGES), replaced)
            if await rewriting.rewrite_refs():
                self._outcome.commits = replaced
                self._outcome.refs, self._outcome.files = rewriting.refs, len(rewriting.removed)
                return doomed
        raise ConflictError(f"others keep moving refs of {self._repository!r}", hint="nothing was lost; try again")

    async def _notes(self) -> dict[str, _Doomed]:
        """What earlier purges did not get to delete, by the keys of their notes."""
        keys = [info.key async for info in self._repositories.store.list(PURGES)]
        notes = {}
        for key in keys:
            with suppress(ObjectNotFoundError):
                notes[key] = _Doomed.decode((await self._repositories.store.get(key)).data, key)
        return notes

    async def _needed_chunks(self, expired: set[bytes], doomed: _Doomed) -> set[bytes]:
        """Those of the chunks that something goes on needing; and note where the contents still are."""
        self._progress.phase("mark")
        elsewhere = _Elsewhere(doomed)
        walk = Walk(self._repositories, elsewhere)
        roots = await walk.roots()
        walk.treeless = expired - roots.tips
        await walk.from_roots(roots.commits.items())
        self._outcome.elsewhere, self._outcome.places_elsewhere = elsewhere.places, elsewhere.count
        return elsewhere.chunks

    def _nothing_there(self) -> NotFoundError:
        named = ", ".join(text_of_name(path) for path in sorted(self._paths))
        return NotFoundError(
            f"no version of {self._repository!r} has {named}", hint="paths count from a version's top; see 'fsd ls'"
        )

    async def _chunks(self, entries: Collection[Entry]) -> set[bytes]:
        """The ids of the files' chunks; and note these."""
        found: dict[bytes, PlacedChunk] = {}
        for entry in entries:
            async with aclosing(chunks_of(entry, self._repositories.objects)) as chunks:
                async for chunk in chunks:
                    found[chunk.id] = chunk
        self._outcome.chunks = [*found.values()]
        return set(found)

    async def _old_objects(self, commits: Collection[bytes], expired: Collection[bytes]) -> set[str]:
        """The keys of all that the old versions are made of."""
        walk = Walk(self._repositories, _Blind())
        walk.treeless = expired
        await walk.from_roots((commit, "") for commit in commits)
        return {object_key(kind, each) for kind, ids in walk.reached.by_kind.items() for each in ids} | {
            object_key(ObjectKind.COMMIT, commit) for commit in commits
        }

    async def _packs_with(self, chunks: Collection[bytes]) -> set[bytes]:
        """All packs that hold one of these chunks: a request for each pack that there is."""
        packs = await pack_sizes(self._repositories.store)

        async def has_one(pack: bytes) -> bool:
            try:
                contents = await self._repositories.packs.contents(pack)
            except ObjectNotFoundError:
                return False
            self._progress.advance(1)
            return any(chunk.id in chunks for chunk in contents)

        found = await gather(has_one, packs, tasks=self._repositories.limits.fetch_requests)
        return {pack for pack, has in zip(packs, found, strict=True) if has}

    async def _delete(self, expired: Collection[bytes], keys: set[str], wait_s: float) -> None:
        self._progress.phase("repack")
        reachable = await mark(self._repositories, expired)
        sizes = await pack_sizes(self._repositories.store)
        async with self._repositories.leases.held("purge"):
            await self._repositories.leases.take()
            await repack(self._repositories, reachable, homes(reachable, self._outcome.packs), sizes)
        self._progress.phase("delete")
        condemned = await condemn(self._repositories, reachable, only=keys)
        if not condemned.name:
            return
        sweep = Sweep(self._repositories, grace_s=0)
        due = await sweep.due(wait_s, only=condemned.name)
        self._outcome.waiting = sweep.waiting
        for each in due:
            swept = await sweep.carry_out(each, await mark(self._repositories, expired))
            self._outcome.deleted_objects += swept.deleted_objects
            self._outcome.deleted_bytes += swept.deleted_bytes
            if swept.spared_objects:
                self._outcome.waiting.append("a publisher used some of it again meanwhile: purge it once more")


class _Blind:
    """Visitor of a walk that only wants to know what was reached."""

    def page(self, page: Page, way: str) -> None:
        """It is reached."""

    def recipe(self, recipe: Recipe, way: str) -> None:
        """It is reached."""

    def damaged(self, kind: ObjectKind | None, object_id: bytes | None, why: str, way: str) -> None:
        """An old version may have been deleted by an earlier try."""


class _Elsewhere:
    """Visitor of a walk: where contents that were taken out still are, and which of their chunks are needed."""

    def __init__(self, doomed: _Doomed) -> None:
        self._doomed = doomed
        self.chunks: set[bytes] = set()
        self.places: list[str] = []
        self.count = 0

    def page(self, page: Page, way: str) -> None:
        """Look at its files."""
        for entry in page.entries():
            if entry.content in self._doomed.contents:
                self.count += 1
                if len(self.places) < MAX_PLACES_NAMED:
                    self.places.append(f"{way}/{text_of_name(entry.path)}")
            if entry.placements:
                self._note(entry.chunks())

    def recipe(self, recipe: Recipe, way: str) -> None:  # noqa: ARG002 - of which file it is does not matter
        """Look at its chunks."""
        if not recipe.level:
            self._note(recipe.chunks(0, len(recipe)))

    def damaged(self, kind: ObjectKind | None, object_id: bytes | None, why: str, way: str) -> None:
        """The mark that decides what is deleted refuses such a store."""

    def _note(self, chunks: Collection[PlacedChunk]) -> None:
        self.chunks.update(chunk.id for chunk in chunks if chunk.id in self._doomed.chunks)
