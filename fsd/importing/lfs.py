"""Git LFS repositories: each revision of Git with all of its files, those that LFS keeps for their pointers.

Objects come from LFS's own folder in `.git`, or from the server that the repository's remote or `.lfsconfig` names, and
are checked against their SHA-256. Nothing is checked out, and the program `git lfs` is not needed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

from fsd.errors import CorruptDataError
from fsd.importing.digests import SHA256, Digest
from fsd.importing.git import SUBMODULE, SYMLINK, Blob, GitRepository
from fsd.importing.git_files import blob_of, git_item, is_of_git
from fsd.importing.items import REQUESTS, Item, Readable
from fsd.importing.lfs_server import LfsServer, Link, RemoteObject
from fsd.importing.revisions import Revision
from fsd.publish.source import UnreadableError, shown

_MAX_POINTER_BYTES = 1024
_POINTER = re.compile(rb"version https?://(?:git-lfs\.github\.com|hawser\.github\.com)/spec/v\d+\n")
_OID = re.compile(rb"^oid sha256:([0-9a-f]{64})$", re.MULTILINE)
_SIZE = re.compile(rb"^size (\d{1,19})$", re.MULTILINE)

_REMEMBERED_BLOBS = 1_000_000
"""Small blobs of which it is known whether they are pointers: most are in all revisions."""


class Pointer(NamedTuple):
    """What Git has in the place of a file."""

    oid: str
    """The SHA-256 of the content."""
    size: int


def parse_pointer(data: bytes) -> Pointer | None:
    """The pointer that a blob is; None for any other file."""
    if len(data) >= _MAX_POINTER_BYTES or _POINTER.match(data) is None:
        return None
    oid, size = _OID.search(data), _SIZE.search(data)
    return None if oid is None or size is None else Pointer(oid[1].decode(), int(size[1]))


class LfsHistory:
    """A `fsd.importing.importer.History` of a Git LFS repository. Close it."""

    kind = "lfs"

    def __init__(self, folder: Path, wanted: Sequence[str]) -> None:
        self.git = GitRepository(folder)
        self.reader = self.git.reader()
        self.warnings: list[str] = []
        self.server = LfsServer(folder, self.git)
        self.pool = ThreadPoolExecutor(REQUESTS, "fsd-lfs")
        self._wanted = wanted
        own = os.path.join(self.git.common_directory, self.git.config("lfs.storage") or "lfs")
        self._folders = [os.path.join(folder, "objects") for folder in (own, *self.server.folders)]
        self._pointers: dict[str, Pointer | None] = {}

    def revisions(self) -> Sequence[Revision]:
        """See `History`."""
        return self.git.revisions(self._wanted)

    def listing(self, revision: Revision) -> LfsListing:
        """See `History`."""
        return LfsListing(self, revision)

    def close(self) -> None:
        """End what was started."""
        self.pool.shutdown(cancel_futures=True)
        self.reader.close()

    def pointer(self, blob: Blob) -> Pointer | None:
        """The pointer that a blob is."""
        if blob.size >= _MAX_POINTER_BYTES or blob.mode in (SYMLINK, SUBMODULE):
            return None
        if blob.id not in self._pointers:
            if len(self._pointers) >= _REMEMBERED_BLOBS:
                self._pointers.clear()
            self._pointers[blob.id] = parse_pointer(self.reader.read(blob.id))
        return self._pointers[blob.id]

    @property
    def places(self) -> str:
        """Where objects are looked for here, for a message."""
        return " nor in ".join(self._folders)

    def path_here(self, oid: str) -> str | None:
        """Where an object is, if LFS has fetched it, or the remote is a folder of this machine that has it."""
        paths = [os.path.join(folder, oid[:2], oid[2:4], oid) for folder in self._folders]
        return next(filter(os.path.exists, paths), None)


class LfsListing:
    """A `fsd.importing.items.Listing` of one revision."""

    def __init__(self, history: LfsHistory, revision: Revision) -> None:
        self._history = history
        self._revision = revision

    def items(self) -> Iterator[Item]:
        """See `Listing`."""
        for blob in self._history.git.blobs(self._revision.id):
            item = git_item(blob, self._history.reader, self._history.warnings)
            pointer = self._history.pointer(blob)
            if item is not None and pointer is not None:
                yield item._replace(size=pointer.size, origin="", digest=Digest(SHA256, pointer.oid))
            elif item is not None:
                yield item

    def sizes(self, items: Sequence[Item]) -> Sequence[int]:
        """See `Listing`. Git and pointers say them all."""
        return [item.size for item in items]

    def read(self, items: Sequence[Item]) -> Iterator[bytes]:
        """See `Listing`."""
        links = self._links(items)
        read = partial(self._read, links)
        return self._history.pool.map(read, items) if links else map(read, items)

    def _read(self, links: Mapping[str, Link], item: Item) -> bytes:
        if is_of_git(item):
            return self._history.reader.read(blob_of(item))
        with closing(self._open(links, item)) as file:
            return file.read(item.size + 1)

    def open(self, item: Item) -> Readable:
        """See `Listing`."""
        if is_of_git(item):
            return self._history.git.open_blob(blob_of(item))
        return self._open(self._links([item]), item)

    def _open(self, links: Mapping[str, Link], item: Item) -> Readable:
        assert item.digest is not None
        link = links.get(item.digest.hex)
        if link is not None:
            return RemoteObject(link, shown(item.path), item.size)
        here = self._history.path_here(item.digest.hex)
        assert here is not None, "what is not here has a link"
        try:
            return open(here, "rb", buffering=0)
        except OSError as error:
            raise UnreadableError(
                f"cannot read {here}: {error.strerror or error}", hint="'git lfs fetch' gets it"
            ) from error

    def _links(self, items: Sequence[Item]) -> dict[str, Link]:
        """Where the server has the objects that are not here. Raises CorruptDataError for one that it does not have."""
        elsewhere: dict[str, Item] = {}
        for item in items:
            if not is_of_git(item) and item.digest is not None and self._history.path_here(item.digest.hex) is None:
                elsewhere[item.digest.hex] = item
        if not elsewhere:
            return {}
        links = self._history.server.links({oid: item.size for oid, item in elsewhere.items()})
        for oid, item in elsewhere.items():
            if oid not in links:
                raise CorruptDataError(
                    f"{shown(item.path)} of {self._revision.shown} (SHA-256 {oid}) is neither in "
                    f"{self._history.places} nor on {self._history.server.shown}; nothing of that revision was "
                    "imported",
                    hint="push it from where it is: git lfs push --all origin; or leave the revision out with --rev",
                )
        return links
