"""Whether a store is whole: everything reachable exists, parses, and hashes right.

Three passes, each over what the one before found:

1. A walk over all that the refs reach (`reach`). Each object is read and checked against its name, and what the trees
   say of packs is noted.
2. The packs: a listing tells which are missing or too short; of one that was moved, its note tells whether all that
   trees look for in it was taken over. With `data`, every chunk that a tree names is read and checked, a pack from its
   start to its end, and so are the packs' own contents.
3. Only if something is wrong: the walk again, to say which files of which versions it concerns.

Nothing is written. A store that does not answer ends it: there is no saying then.

Memory: 48 bytes a chunk with `data` (225 MB for 150 GB); without, only of packs that were moved.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import trio

from fsd.errors import CorruptDataError, NotFoundError
from fsd.format.keys import MOVED, PACKS, REFS, REFS_INDEX, ObjectKind, moved_key, pack_key
from fsd.format.model import Entry, PlacedChunk
from fsd.format.pack import decode_chunk
from fsd.format.page import Page
from fsd.format.recipe import Recipe
from fsd.format.refs_index import parse_refs_index
from fsd.maintenance.mark import expired_commits
from fsd.maintenance.placed import PackRows, PlacedRows, Row, runs
from fsd.maintenance.progress import Progress
from fsd.maintenance.reach import Walk
from fsd.repo.objects import ObjectLoader
from fsd.repo.repository import Repositories
from fsd.stores.base import ObjectNotFoundError
from fsd.tasks import gather

PACKS_AT_ONCE = 4
"""Read whole at the same time; each holds one range in memory."""

MAX_FILES_NAMED = 1000
"""Of those that damage concerns; all are counted."""


class Damage(NamedTuple):
    """One thing that is not as it should be."""

    what: str
    """The kind of object: ref, refs (the list of them), commit, index, page, recipe, segment, pack, chunk."""
    id: str
    """In hex; a ref's repository and name."""
    why: str
    way: str
    """What led there: a repository with a commit or file; '' where everything below is named in `Report.files`."""


@dataclass
class Report:
    """What was found. Sizes in bytes."""

    refs: int = 0
    commits: int = 0
    objects: int = 0
    """Read and checked: commits, indexes, pages, recipes and log segments."""
    packs: int = 0
    pack_bytes: int = 0
    chunks: int = 0
    """Whose bytes were checked; 0 without `data`."""
    damages: list[Damage] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    """That cannot be read, or not all of them: repository, commit and path, up to `MAX_FILES_NAMED`."""
    files_concerned: int = 0
    bad_packs: dict[bytes, set[bytes]] = field(default_factory=dict)
    """The packs, as trees name them, that are not as they should be, each with its chunks that were found bad."""

    @property
    def is_whole(self) -> bool:
        """Whether nothing is wrong."""
        return not self.damages


class _Marks(PlacedRows):
    """The first walk's visitor: what is needed of each pack, and what is damaged."""

    def __init__(self, report: Report, progress: Progress, keeps_rows: Callable[[bytes], bool]) -> None:
        super().__init__(keeps_rows)
        self._report = report
        self._progress = progress

    def page(self, page: Page, way: str) -> None:
        """Note its chunks."""
        self._progress.advance(1, 0)
        super().page(page, way)

    def recipe(self, recipe: Recipe, way: str) -> None:
        """Note its chunks."""
        self._progress.advance(1, 0)
        super().recipe(recipe, way)

    def damaged(self, kind: ObjectKind | None, object_id: bytes | None, why: str, way: str) -> None:
        """Report it."""
        what = "ref" if kind is None else kind.name.lower()
        self._report.damages.append(Damage(what, way if object_id is None else object_id.hex(), why, way))


class _Concerned:
    """The last walk's visitor: which files need what is bad."""

    def __init__(self, report: Report, is_bad: Callable[[PlacedChunk], bool]) -> None:
        self._report = report
        self._is_bad = is_bad
        self._seen: set[str] = set()
        """A file may have many recipes."""

    def page(self, page: Page, way: str) -> None:
        """Look at its files."""
        for entry in page.entries():
            if entry.placements and any(map(self._is_bad, entry.chunks())):
                self._name(entry, way)

    def recipe(self, recipe: Recipe, way: str) -> None:
        """Look at its chunks; the way that led to it is the file's."""
        if not recipe.level and any(map(self._is_bad, recipe.chunks(0, len(recipe)))):
            self._add(way)

    def damaged(self, kind: ObjectKind | None, object_id: bytes | None, why: str, way: str) -> None:
        """It was reported by the first walk."""

    def _name(self, entry: Entry, way: str) -> None:
        self._add(f"{way}/{entry.path.decode(errors='surrogateescape')}")

    def _add(self, file: str) -> None:
        if file not in self._seen:
            self._seen.add(file)
            self._report.files_concerned += 1
            if len(self._report.files) < MAX_FILES_NAMED:
                self._report.files.append(file)


async def verify(
    repositories: Repositories,
    progress: Progress,
    *,
    data: bool = False,
    packs: Collection[bytes] | None = None,
    loader: ObjectLoader | None = None,
) -> Report:
    """Check everything that the refs reach; with `data`, the bytes of all chunks as well.

    `packs`: of these only what is said of packs; None for all. `loader` brings stored objects; None for the store
    itself. Raises StoreUnreachableError; what is wrong with the store is in the report.
    """
    return await _Verification(repositories, progress, packs, loader, data=data).run()


class _Verification:
    def __init__(
        self,
        repositories: Repositories,
        progress: Progress,
        only: Collection[bytes] | None,
        loader: ObjectLoader | None,
        *,
        data: bool,
    ) -> None:
        self._repositories = repositories
        self._progress = progress
        self._only = only
        self._loader = loader
        self._data = data
        self._report = Report()
        self._moved: set[str] = set()
        """The keys of the notes that there are."""
        self._marks = _Marks(self._report, progress, self._keeps_rows)
        self._limiter = trio.CapacityLimiter(repositories.limits.publish_threads)
        self._sizes: dict[bytes, int] = {}
        """Of the packs that are there."""

    async def run(self) -> Report:
        """All of it."""
        self._progress.phase("objects")
        self._moved = {info.key async for info in self._repositories.store.list(MOVED)}
        walk = Walk(self._repositories, self._marks, self._loader)
        roots = await walk.roots()
        walk.treeless = await expired_commits(self._repositories) - roots.tips
        await walk.from_roots(roots.commits.items())
        await self._check_refs_index()
        report = self._report
        report.refs, report.objects = roots.refs, len(walk.reached)
        report.commits = len(walk.reached.by_kind[ObjectKind.COMMIT])
        await self._check_packs()
        if report.bad_packs:
            self._progress.phase("files")
            concerned = Walk(self._repositories, _Concerned(report, self._is_bad))
            concerned.treeless = walk.treeless
            await concerned.from_roots(roots.commits.items())
        report.damages.sort()
        report.files.sort()
        return report

    def _is_meant(self, pack: bytes) -> bool:
        return self._only is None or pack in self._only

    def _keeps_rows(self, pack: bytes) -> bool:
        return self._is_meant(pack) and (self._data or moved_key(pack) in self._moved)

    def _is_bad(self, chunk: PlacedChunk) -> bool:
        place = chunk.placement
        if not self._is_meant(place.pack):
            return False
        is_there = place.offset + place.stored <= self._sizes.get(place.pack, 0)
        return not is_there or chunk.id in self._report.bad_packs.get(place.pack, ())

    async def _check_refs_index(self) -> None:
        """Only readers behind a web server need it, and whoever moves a ref next writes it anew."""
        key = REFS + REFS_INDEX
        try:
            parse_refs_index((await self._repositories.store.get(key)).data, key)
        except ObjectNotFoundError:
            pass
        except CorruptDataError as error:
            self._report.damages.append(Damage("refs", key, error.message, ""))

    async def _check_packs(self) -> None:
        self._progress.phase("packs")
        sizes = {info.key: info.size async for info in self._repositories.store.list(PACKS)}
        meant = {pack: rows for pack, rows in self._marks.packs.items() if self._is_meant(pack)}
        for pack, rows in meant.items():
            size = sizes.get(pack_key(pack))
            if size is None:
                size = await self._moved_size(pack, rows, sizes)
            if size is None:
                continue
            self._sizes[pack] = size
            if size < rows.end:
                self._damaged_pack(pack, f"it ends at byte {size:,}, and chunks in it at byte {rows.end:,}")
        self._report.packs, self._report.pack_bytes = len(self._marks.packs), sum(self._sizes.values())
        if self._data:
            self._progress.expect(sum(rows.end for rows in meant.values()))
            await gather(self._check_pack, list(self._sizes), tasks=PACKS_AT_ONCE)

    async def _moved_size(self, pack: bytes, rows: PackRows, sizes: Mapping[str, int]) -> int | None:
        """Bytes of chunks that a repacked pack had; None, and a damage, if it or what it became is missing."""
        try:
            moved = await self._repositories.packs.moved(pack)
        except CorruptDataError as error:
            self._damaged_pack(pack, error.message)
            return None
        if moved is None:
            self._damaged_pack(pack, "it is missing")
            return None
        size = sizes.get(pack_key(moved.target), 0)
        if size < moved.target_end:
            why = f"it has {size:,} bytes, and chunks of {pack.hex()} end at {moved.target_end:,}"
            self._damaged_pack(pack, why, moved.target)
            return None
        for row in rows.by_offset():
            if row.offset + row.stored <= moved.stored_bytes and not moved.holds(row.offset, row.stored):
                self._damaged_chunk(pack, row, f"chunk {row.chunk.hex()} was left behind when its pack was moved")
        return moved.stored_bytes

    def _damaged_pack(self, pack: bytes, why: str, target: bytes | None = None) -> None:
        """`target`: the pack that took it over, where it is this that is not as it should be."""
        self._report.bad_packs.setdefault(pack, set())
        self._report.damages.append(Damage("pack", (target or pack).hex(), why, ""))

    def _damaged_chunk(self, pack: bytes, row: Row, why: str) -> None:
        self._report.bad_packs.setdefault(pack, set()).add(row.chunk)
        self._report.damages.append(Damage("chunk", row.chunk.hex(), f"{why} (pack {pack.hex()} at {row.offset})", ""))

    async def _check_pack(self, pack: bytes) -> None:
        """Its contents, and the chunks that trees name in it."""
        rows = self._marks.packs.pop(pack)
        known_bad = frozenset(self._report.bad_packs.get(pack, ()))
        try:
            if rows.end <= self._sizes[pack]:
                await self._check_contents(pack)
            unknown = [row for row in rows.by_offset() if row.chunk not in known_bad]
            for run in runs(unknown, self._repositories.limits.range_bytes):
                await self._check_run(pack, run)
        except NotFoundError:
            del self._sizes[pack]
            self._damaged_pack(pack, "it went missing meanwhile")

    async def _check_contents(self, pack: bytes) -> None:
        """Readers of files do not need them: the chunks may be right all the same."""
        try:
            await self._repositories.packs.contents(pack)
        except CorruptDataError as error:
            self._damaged_pack(pack, error.message)

    async def _check_run(self, pack: bytes, run: Sequence[Row]) -> None:
        start = run[0].offset
        length = max(row.offset + row.stored for row in run) - start
        body = await self._repositories.packs.read(pack, start, length)
        bad = await trio.to_thread.run_sync(partial(_wrong, body, start, run), limiter=self._limiter)
        self._progress.advance(0, length)
        self._report.chunks += len(run)
        for row, why in bad:
            self._damaged_chunk(pack, row, why)


def _wrong(body: bytes, start: int, run: Sequence[Row]) -> list[tuple[Row, str]]:
    """In a thread. The chunks that are not what their ids promise, with why."""
    view = memoryview(body)
    bad: list[tuple[Row, str]] = []
    for row in run:
        part = view[row.offset - start : row.offset - start + row.stored]
        try:
            if len(part) != row.stored:
                raise CorruptDataError(f"chunk {row.chunk.hex()} is cut off")
            decode_chunk(row.chunk, part, row.length)
        except CorruptDataError as error:
            bad.append((row, error.message))
    return bad
