"""Some paths of a folder as a commit that no ref names: a run's code, its outputs, its log.

Everything is read each time: nothing is taken for unchanged by its times, since what a run is compared by must be what
was there. What is in the store already is not sent again.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from fsd.errors import FsdError
from fsd.format.commit import Commit, encode_commit
from fsd.format.keys import ObjectKind
from fsd.format.model import directory_key
from fsd.format.run import StoredTree
from fsd.publish.chunks import known_chunks
from fsd.publish.content import store_content
from fsd.publish.delta import Delta
from fsd.publish.ingest import FolderFiles
from fsd.publish.notes import notes_kept_in
from fsd.publish.progress import NoProgress
from fsd.publish.scan import NoRecorder
from fsd.publish.source import STATUS, SourceFolder, UnsupportedFileError
from fsd.publish.walk import RUN_ENTRIES, Run
from fsd.repo.repository import Repositories

_DIRECTORY_STATUS = STATUS.pack(0, 0, 0, 0, stat.S_IFDIR)


async def store_picked(
    repositories: Repositories, repository: str, folder: Path, paths: Iterable[bytes], *, state: Path
) -> StoredTree:
    """Store what is at `paths`, which count from `folder`, with all that is below those that are directories.

    Paths where nothing is are left out. The commit says nothing but its tree, so that equal files have one. A lease
    must be held until something names it. Raises as `fsd.publish.publisher.publish`.
    """
    with notes_kept_in(state), SourceFolder(os.fspath(folder)) as source:
        async with known_chunks(repositories, state) as known:
            batches = Delta(pick(source, paths), iter(()), NoRecorder()).batches()
            content = await store_content(
                repositories, FolderFiles(source), batches, None, known, lambda _: None, NoProgress(), _nothing
            )
    built = content.built
    header = Commit(repository=repository, tree=built.id, totals=built.totals, time_us=0)
    commit = await repositories.writer.write(ObjectKind.COMMIT, encode_commit(header, built.root))
    return StoredTree(commit, built.id)


async def _nothing() -> None:
    """Before the first file is read there is nothing to learn: the same machine stored most of it before."""


def pick(source: SourceFolder, paths: Iterable[bytes]) -> Iterator[Run]:
    """The entries at `paths`, all below them, and the directories above them, as a walk would find them. Blocks.

    Raises what `SourceFolder` does, and UnsupportedFileError.
    """
    below: dict[bytes, set[bytes]] = {b"": set()}
    for path in paths:
        _add(source, path, below)
    # What was added for a path may turn out to be gone; the tree's order is that of these keys.
    for directory in sorted(below, key=directory_key):
        names = sorted(below[directory])
        for start in range(0, len(names), RUN_ENTRIES):
            run = names[start : start + RUN_ENTRIES]
            yield Run(directory, run, b"".join(_status(source, directory, name) for name in run), 0)


def _add(source: SourceFolder, path: bytes, below: dict[bytes, set[bytes]]) -> None:
    """A path that is there, with all that is above and below it. What lies behind a symlink is not there."""
    parts = path.split(b"/")
    for depth, name in enumerate(parts):
        directory = b"/".join(parts[:depth])
        if directory not in below and not _is_directory(source, directory):
            return
        if not os.path.lexists(source.directory + b"/" + b"/".join(parts[: depth + 1])):
            return
        below.setdefault(directory, set()).add(name)
    waiting = [path]
    while waiting:
        directory = waiting.pop()
        if not _is_directory(source, directory):
            continue
        try:
            names = os.listdir(source.directory + b"/" + directory)
        except OSError as error:
            raise source.unreadable(directory, error) from error
        below.setdefault(directory, set()).update(names)
        waiting += [directory + b"/" + name for name in names]


def _is_directory(source: SourceFolder, path: bytes) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(source.directory + b"/" + path).st_mode)
    except OSError:
        return False


def _status(source: SourceFolder, directory: bytes, name: bytes) -> bytes:
    """The packed status. Raises ChangedError for what has gone meanwhile."""
    path = directory + b"/" + name if directory else name
    try:
        status = os.lstat(source.directory + b"/" + path)
    except OSError as error:
        raise source.unreadable(path, error) from error
    kind = stat.S_IFMT(status.st_mode)
    if kind == stat.S_IFDIR:
        return _DIRECTORY_STATUS
    if kind not in (stat.S_IFREG, stat.S_IFLNK):
        raise _unsupported(source, path)
    return STATUS.pack(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_mode)


def _unsupported(source: SourceFolder, path: bytes) -> FsdError:
    return UnsupportedFileError(
        f"{source.shown(path)} is no file, directory or symlink; nothing was stored",
        hint="fsd keeps nothing else: leave it out",
    )
