"""A store, its versions and their files, for any Python program: blocking calls, from any thread.

    with fsd.open_store("gs://bucket/prefix") as store:
        version = store.version("imagenet/v1.2+tiny")
        for info in version.walk("train"):
            data = version.read(info.path)
        with version.open("model.safetensors") as file:
            ...

All of these can be pickled, and used after a fork: a process opens the store anew when it first asks for something. A
version stays what it was when it was resolved, in whichever process.

Raises FsdErrors (`fsd.errors`): NotFoundError, StoreUnreachableError, CorruptDataError and so on.
"""

from __future__ import annotations

import io
import os
import threading
import warnings
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO, Self, TypeVar

from fsd.client.portal import Portal
from fsd.client.reader import OpenFile, OpenVersion, Reader, ReaderSettings
from fsd.errors import FsdWarning, NotFoundError, UsageError
from fsd.format.model import Kind
from fsd.format.page import Page
from fsd.limits import MIB
from fsd.publish.landing import DEFAULT_BRANCH, Request
from fsd.publish.publisher import Published, publish
from fsd.repo.refs import short
from fsd.repo.tree import Listed

_T = TypeVar("_T")

READ_BYTES = 1 * MIB
"""Asked for at once by a file that is read in order: a call into the other thread costs 0.1 ms."""


@dataclass(frozen=True, slots=True)
class EntryInfo:
    """What is known of a path without reading it."""

    path: str
    """From the version's top; bytes that are not UTF-8 as Python's surrogateescape has them."""
    kind: str
    """file, directory or symlink."""
    size: int
    """Bytes; of a symlink its target's length."""
    executable: bool = False
    blake3: str = ""
    """Of a file's content, or a symlink's target, in hex."""
    target: str = ""
    """Of a symlink."""

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]


class Store:
    """An open store. Made by `fsd.open_store`; close it, or use it as a context."""

    def __init__(self, settings: ReaderSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._portal: Portal[Reader] | None = None
        self._is_closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[type[Store], tuple[ReaderSettings]]:
        return Store, (self._settings,)

    def __repr__(self) -> str:
        return f"<store {self.url}>"

    @property
    def url(self) -> str:
        """What the store was opened by."""
        return self._settings.store

    def close(self) -> None:
        """Close it: files and versions of it are of no more use in this process."""
        with self._lock:
            self._is_closed = True
            portal, self._portal = self._portal, None
        if portal is not None:
            portal.close()

    def repositories(self) -> list[str]:
        """Their names, sorted."""
        return self.call(lambda reader: reader.repositories.refs.repositories())

    def refs(self, repository: str) -> dict[str, str]:
        """Branches, tags and subsets by name: what each is."""

        async def read(reader: Reader) -> dict[str, str]:
            refs = await reader.repositories.refs.read_all(repository)
            return {name: str(stored.ref.kind) for name, stored in refs.items()}

        return self.call(read)

    def version(self, name: str) -> Version:
        """The version that `REPO/REV` or `REPO/REV+SUBSET` names now; REPO alone means its branch main."""
        repository, _, revision = name.strip("/").partition("/")
        if "/" in revision:
            raise UsageError(f"{name!r} goes on after the revision", hint="write REPO/REV")
        opened = self.call(lambda reader: reader.version(repository, revision or DEFAULT_BRANCH))
        resolved = opened.resolved
        subset = "" if resolved.subset is None else f"+{resolved.subset.name}"
        return Version(self, repository, resolved.commit.hex() + subset, opened.label)

    def commit(
        self,
        directory: str | os.PathLike[str],
        repository: str,
        *,
        branch: str = DEFAULT_BRANCH,
        message: str = "",
        author: str = "",
        tag: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Version:
        """Publish a folder, as `fsd commit` does; the version that the branch names then.

        Raises ConflictError if the branch was moved meanwhile; nothing is lost then. What `fsd commit` would warn of,
        a model that will not load everywhere, is an FsdWarning.
        """
        request = Request(repository, branch, message, author, tag, metadata or {})

        async def run(reader: Reader) -> Published:
            return await publish(reader.repositories, os.fsencode(directory), request, state=self._settings.state)

        published = self.call(run)
        for told in published.warnings:
            warnings.warn(told, FsdWarning, stacklevel=2)
        return Version(self, repository, published.commit.hex(), f"{repository}/{short(published.commit)}")

    # --- for versions and files

    def call(self, function: Callable[[Reader], Awaitable[_T]]) -> _T:
        """Run `function` where the store is open, which it is then in this process."""
        return self.portal().call(function)

    def portal(self) -> Portal[Reader]:
        """This process's. Opens the store if this is the first call."""
        with self._lock:
            if self._is_closed:
                raise ValueError(f"{self!r} is closed")
            if self._portal is None or not self._portal.is_ours:
                self._portal = Portal(partial(Reader.open, self._settings))
            return self._portal


class Version:
    """All paths of a commit or subset. Paths are relative to its top."""

    def __init__(self, store: Store, repository: str, revision: str, label: str) -> None:
        self._store = store
        self._repository = repository
        self._revision = revision
        self._label = label
        self._opened: tuple[Portal[Reader], OpenVersion] | None = None

    def __reduce__(self) -> tuple[type[Version], tuple[Store, str, str, str]]:
        return Version, (self._store, self._repository, self._revision, self._label)

    def __repr__(self) -> str:
        return f"<{self._label} of {self._store.url}>"

    @property
    def repository(self) -> str:
        """The repository's name."""
        return self._repository

    @property
    def commit(self) -> str:
        """The commit's id in hex; of a subset, that which it was taken from."""
        return self._revision.partition("+")[0]

    @property
    def subset(self) -> str | None:
        """The subset's name."""
        return self._revision.partition("+")[2] or None

    @property
    def name(self) -> str:
        """What names this version for ever: REPO/COMMIT or REPO/COMMIT+SUBSET."""
        return f"{self._repository}/{self._revision}"

    def stat(self, path: str = "", *, follow: bool = True) -> EntryInfo:
        """What is at a path. A symlink counts as what it leads to, unless not to `follow`."""

        async def look(reader: Reader, version: OpenVersion) -> EntryInfo:
            found = await reader.find(version, _encoded(path), follow=follow)
            return EntryInfo("", "directory", 0) if found is None else _info(found.page, found.position)

        return self._call(look)

    def exists(self, path: str) -> bool:
        """Whether there is anything at a path."""
        try:
            self.stat(path)
        except NotFoundError:
            return False
        return True

    def list(self, path: str = "") -> Iterator[EntryInfo]:
        """What is in a directory, by name; read as the iteration goes on."""
        return self._entries(path, below=False)

    def walk(self, path: str = "") -> Iterator[EntryInfo]:
        """Everything below a directory, each directory before what is in it; read as the iteration goes on."""
        return self._entries(path, below=True)

    def read(self, path: str, start: int = 0, length: int | None = None) -> bytes:
        """A file's bytes from `start`, up to `length` of them or to the end."""
        with self._open(path) as file:
            file.seek(start)
            return file.read() if length is None else file.read(length)

    def open(self, path: str) -> BinaryIO:
        """A file to read: seekable, buffered, with read-ahead where it is read in order."""
        return io.BufferedReader(self._open(path), READ_BYTES)

    # --- inside

    def _open(self, path: str) -> _File:
        async def find(reader: Reader, version: OpenVersion) -> OpenFile:
            found = await reader.find(version, _encoded(path))
            if found is None or found.page.kind(found.position) != Kind.FILE:
                raise UsageError(f"{path!r} in {version.label} is a directory", hint="name a file in it")
            return reader.open_file(version, found)

        return _File(self._store, partial(self._call, find), f"{self._label}/{path}")

    def _entries(self, path: str, *, below: bool) -> Iterator[EntryInfo]:
        start = 0
        while True:
            batch = self._call(partial(_listed, path=path, below=below, start=start))
            if batch is None:
                return
            yield from (_info(batch.page, position) for position in batch.positions)
            start = batch.first + batch.positions[-1] + 1

    def _call(self, function: Callable[[Reader, OpenVersion], Awaitable[_T]]) -> _T:
        portal = self._store.portal()

        async def run(reader: Reader) -> _T:
            if self._opened is None or self._opened[0] is not portal:
                opened = await reader.version(self._repository, self._revision)
                self._opened = portal, opened
            return await function(reader, self._opened[1])

        return portal.call(run)


async def _listed(reader: Reader, version: OpenVersion, *, path: str, below: bool, start: int) -> Listed | None:
    """The next entries from ordinal `start`, those of one page; None after the last."""
    directory = b""
    found = await reader.find(version, _encoded(path))
    if found is not None:
        if found.page.kind(found.position) != Kind.DIRECTORY:
            raise UsageError(f"{path!r} in {version.label} is a file", hint="name a directory")
        directory = found.page.path(found.position)
    listing = version.tree.list_below(directory, start) if below else version.tree.list(directory, start)
    return await anext(aiter(listing), None)


class _File(io.RawIOBase):
    """A file; reads what it is asked for and no more."""

    def __init__(self, store: Store, find: Callable[[], OpenFile], name: str) -> None:
        super().__init__()
        self._store = store
        self._find = find
        self.name = name
        self._portal = store.portal()
        self._file = find()
        self._at = 0

    @property
    def size(self) -> int:
        """Bytes."""
        return self._file.size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._file.size}[whence]
        if base + offset < 0:
            raise ValueError(f"a position of {base + offset} bytes")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        self._check_process()
        wanted, file, at = len(buffer), self._file, self._at
        data = self._portal.call(lambda reader: reader.read(file, at, wanted))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        if not self.closed and self._portal.is_ours:
            file, portal = self._file, self._portal

            async def forget(reader: Reader) -> None:
                reader.close_file(file)

            with suppress(ValueError):  # the store may have been closed before
                portal.call(forget)
        super().close()

    def _check_process(self) -> None:
        if self.closed:
            raise ValueError(f"{self.name} is closed")
        if not self._portal.is_ours:
            self._portal = self._store.portal()
            self._file = self._find()


def _info(page: Page, position: int) -> EntryInfo:
    kind = Kind(page.kind(position))
    return EntryInfo(
        page.path(position).decode(errors="surrogateescape"),
        kind.word,
        page.size(position),
        page.executable(position),
        "" if kind is Kind.DIRECTORY else page.content(position).hex(),
        page.target(position).decode(errors="surrogateescape") if kind is Kind.SYMLINK else "",
    )


def _encoded(path: str) -> bytes:
    """A path from the version's top. Raises UsageError for one that leaves it."""
    parts = [part for part in os.fsencode(path).split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        raise UsageError(f"'..' in {path!r}", hint="write the path from the top of the version")
    return b"/".join(parts)
