"""Adding: a file or a folder of this machine becomes a path of the branch's tree; nothing else of that is needed here.

The way of the bytes is that of publishing a folder (`content`): read, cut, looked for among the known chunks, packed.
Only the entries are put elsewhere, and those that the tree has already are left as they are. A folder is added *to* one
that is there: what is only in the tree stays. A file never takes the place of a folder, nor a folder that of a file.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from contextlib import aclosing, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio

from fsd.errors import ConflictError, NotFoundError, UsageError
from fsd.format.model import Entry, Kind
from fsd.publish.amend import check_path, new_parents, parent_of
from fsd.publish.chunks import known_chunks, learn
from fsd.publish.content import Changes, Content, store_content
from fsd.publish.delta import Batch, Delta
from fsd.publish.guard import forbidden_directories
from fsd.publish.ingest import FolderFiles
from fsd.publish.landing import Landed, Request, land_edit
from fsd.publish.notes import notes_kept_in
from fsd.publish.progress import NoProgress, Progress
from fsd.publish.scan import NoRecorder
from fsd.publish.source import Found, SourceFolder, UnreadableError, shown, sizes_of
from fsd.publish.walk import walk
from fsd.repo.builder import Change, Removal, RemovalBelow
from fsd.repo.differences import is_same
from fsd.repo.lookup import text_of_name
from fsd.repo.repository import Repositories
from fsd.repo.tree import Tree


@dataclass(frozen=True, slots=True)
class Added:
    """What came of it."""

    landed: Landed
    content: Content
    """What was read and stored for it."""


async def add_path(
    repositories: Repositories,
    request: Request,
    path: bytes,
    source: str | bytes,
    *,
    state: Path,
    progress: Progress | None = None,
) -> Added:
    """Commit the branch's tree with the file or folder `source` (a symlink is followed) at `path`; b'' for the top.

    Directories above the path are made; the branch must be there. `state` is as for `publish`. Raises what `publish`
    raises for what cannot be read, and ConflictError for a file where the tree has a folder, or the other way about.
    """
    repositories.check_writable()
    with notes_kept_in(state), _opened(os.fsencode(source)) as added:
        async with repositories.leases.held("add"):
            return await _Adding(repositories, request, path, added, state, progress or NoProgress()).run()


@dataclass(frozen=True, slots=True)
class _Source:
    """A folder, or one file of a folder."""

    folder: SourceFolder
    file: Found | None

    @property
    def is_folder(self) -> bool:
        return self.file is None


@contextmanager
def _opened(source: bytes) -> Generator[_Source]:
    """Look at what is to be added. Raises NotFoundError, UnreadableError, UsageError."""
    source = os.path.realpath(source)
    try:
        status = os.stat(source)
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise NotFoundError(f"no file or folder {shown(source)}") from None
        raise UnreadableError(f"cannot read {shown(source)}: {error.strerror}") from error
    directory, name = os.path.split(source)
    found = Found(b"", name, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_mode)
    if found.is_directory:
        with SourceFolder(source) as folder:
            yield _Source(folder, None)
    elif found.is_file:
        with SourceFolder(directory) as folder:
            yield _Source(folder, found)
    else:
        raise UsageError(f"{shown(source)} is neither a file nor a folder", hint="these are all that fsd keeps")


class _Adding:
    """One call of `add_path`."""

    def __init__(
        self,
        repositories: Repositories,
        request: Request,
        path: bytes,
        source: _Source,
        state: Path,
        progress: Progress,
    ) -> None:
        self._repositories = repositories
        self._request = request
        self._path = path
        self._source = source
        self._state = state
        self._progress = progress
        self._where = f"{request.repository}/{request.branch}"

    async def run(self) -> Added:
        """See `add_path`."""
        self._progress.phase("look")
        parent = await parent_of(self._repositories, self._request)
        tree = await self._repositories.tree(parent)
        head = await self._above(tree)
        with closing(await trio.to_thread.run_sync(self._batches)) as batches:
            async with known_chunks(self._repositories, self._state) as known:
                content = await store_content(
                    self._repositories,
                    FolderFiles(self._source.folder),
                    batches,
                    tree,
                    known,
                    self._progress.phase,
                    self._progress,
                    partial(learn, self._repositories, known, parent, tree, self._size),
                    partial(self._placed, tree, head),
                    in_place=not self._path,
                )
                self._progress.phase("commit")
                landed = await land_edit(self._repositories, self._request, content.built, parent)
                if known.covers(parent):
                    known.note_covered(landed.commit)
        return Added(landed, content)

    # --- where it goes

    async def _above(self, tree: Tree) -> list[Entry]:
        """The directories that are to be made for it. Refuses a path where it cannot be."""
        if not self._path:
            if not self._source.is_folder:
                raise UsageError("a file cannot be the top of the tree", hint="name the path that it is to have")
            return []
        check_path(self._path)
        made = await new_parents(tree, self._path, self._where)
        if self._source.is_folder:
            directory, _, name = self._path.rpartition(b"/")
            own = Entry(directory, name, Kind.DIRECTORY)
            if made or await self._is_new(tree, own):
                made.append(own)
        return made

    async def _placed(self, tree: Tree, head: Sequence[Entry], changes: Changes) -> Changes:
        """What was read, at its place in the tree, without what is there already."""
        async with aclosing(changes):
            yield head
            async for batch in changes:
                placed = [self._at_its_place(change) for change in batch]
                # In a folder that is new everything is.
                yield placed if head else [entry for entry in placed if await self._is_new(tree, entry)]

    def _at_its_place(self, change: Change) -> Entry:
        assert not isinstance(change, Removal | RemovalBelow), "nothing was recorded that could be gone"
        if not self._source.is_folder:
            directory, _, name = self._path.rpartition(b"/")
            return change._replace(directory=directory, name=name)
        if not self._path:
            return change
        directory = self._path + b"/" + change.directory if change.directory else self._path
        return change._replace(directory=directory)

    async def _is_new(self, tree: Tree, entry: Entry) -> bool:
        """Whether the tree has another entry there, or none. Raises ConflictError for one that it cannot replace."""
        found = await tree.find(entry.directory, entry.name)
        if found is None:
            return True
        there = found.page.entry(found.position)
        if (there.kind is Kind.DIRECTORY) != (entry.kind is Kind.DIRECTORY):
            what = "folder" if entry.kind is Kind.DIRECTORY else entry.kind.word
            hint = "remove it first with 'fsd rm'"
            if there.kind is Kind.DIRECTORY and not self._source.is_folder:
                hint = f"to put it in there, write {text_of_name(entry.path)}/NAME"
            raise ConflictError(
                f"{text_of_name(entry.path)} in {self._where} is a "
                f"{'folder' if there.kind is Kind.DIRECTORY else there.kind.word}, not a {what}",
                hint=hint,
            )
        return not is_same(there, entry)

    # --- what is read

    def _batches(self) -> Generator[Batch]:
        """All that is to be read. Raises UsageError for a folder that must not be published."""
        file = self._source.file
        if file is not None:
            return (Batch([change], change.size) for change in (file,))
        folder = self._source.folder
        forbidden = forbidden_directories(folder, self._repositories.store.url, self._state)
        return Delta(walk(folder, forbidden), iter(()), NoRecorder()).batches()

    def _size(self) -> int:
        if self._source.file is not None:
            return self._source.file.size
        with closing(walk(self._source.folder)) as runs:
            return sum(sizes_of(run.statuses) for run in runs)
