"""DVC repositories: each revision of Git, with the files that DVC tracks in it.

`.dvc` files and `dvc.lock` are read from Git; contents come from DVC's cache or a remote and are checked against their
MD5. Nothing is checked out, and DVC itself is not needed. A content that an earlier revision had is not read again.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from fsd.errors import CorruptDataError
from fsd.importing import dvc_files
from fsd.importing.digests import MD5, MD5_TEXT, Digest, check_content
from fsd.importing.dvc_config import DvcConfig
from fsd.importing.dvc_files import Output, Part
from fsd.importing.dvc_objects import DvcObjects, Located, OpenRemote, open_located, read_located
from fsd.importing.git import Blob, BlobReader, GitRepository
from fsd.importing.git_files import blob_of, git_item, is_of_git, paths_of
from fsd.importing.items import FILE_MODE, PROGRAM_MODE, UNKNOWN_SIZE, Item, Readable
from fsd.importing.revisions import Revision
from fsd.publish.source import shown

_FOLDER = b".dvc"
_HEX_DIGITS = 32

_HERE = "here:"
"""What the origin of a content begins with that is a file of this machine: its path follows."""
_THERE = "there:"
"""The same of one that a remote is asked for: the remote's name follows, or nothing for the usual one."""


class DvcHistory:
    """A `fsd.importing.importer.History` of a DVC repository. Close it."""

    kind = "dvc"

    def __init__(
        self, folder: Path, wanted: Sequence[str], open_remote: OpenRemote, *, with_git_files: bool = False
    ) -> None:
        self._git = GitRepository(folder)
        self._wanted = wanted
        self._with_git_files = with_git_files
        self._objects = DvcObjects(DvcConfig(folder / ".dvc"), open_remote)
        self._reader = self._git.reader()
        self.warnings: list[str] = []

    def revisions(self) -> Sequence[Revision]:
        """See `History`."""
        found = self._git.revisions(self._wanted)
        if not self._with_git_files:
            return found
        return [replace(revision, options={"with_git_files": True}) for revision in found]

    def listing(self, revision: Revision) -> DvcListing:
        """See `History`."""
        blobs = list(self._git.blobs(revision.id))
        return DvcListing(self, revision, blobs)

    def close(self) -> None:
        """End what was started."""
        self._objects.close()
        self._reader.close()

    def warn(self, warning: str) -> None:
        """Say it once."""
        if warning not in self.warnings:
            self.warnings.append(warning)

    @property
    def git(self) -> GitRepository:
        """The repository."""
        return self._git

    @property
    def reader(self) -> BlobReader:
        """Of small blobs."""
        return self._reader

    @property
    def objects(self) -> DvcObjects:
        """The contents."""
        return self._objects

    @property
    def with_git_files(self) -> bool:
        """Whether what Git keeps is wanted, too."""
        return self._with_git_files


class DvcListing:
    """A `fsd.importing.items.Listing` of one revision."""

    def __init__(self, history: DvcHistory, revision: Revision, blobs: Sequence[Blob]) -> None:
        self._history = history
        self._revision = revision
        self._blobs = blobs
        self._located: dict[str, Located] = {}
        """Where contents are that a remote was asked for, and that are to be read next."""

    # --- what there is

    def items(self) -> Iterator[Item]:
        """See `Listing`. Raises CorruptDataError for a content that is nowhere to be had."""
        kept_by_git = paths_of(self._blobs)
        if self._history.with_git_files:
            for blob in self._blobs:
                item = git_item(blob, self._history.reader, self._history.warnings)
                if item is not None:
                    yield item
        for output in self._outputs():
            if output.path not in kept_by_git:  # metrics and the like, which DVC hashes and Git keeps
                yield from self._items_of(output)

    def _outputs(self) -> Iterator[Output]:
        by_path = {blob.path: blob for blob in self._blobs}
        read = self._history.reader.read
        for path, blob in by_path.items():
            directory, name = posixpath.split(path)
            if _FOLDER in directory.split(b"/"):
                continue
            if name == dvc_files.LOCK_NAME:
                pipeline = by_path.get(posixpath.join(directory, dvc_files.PIPELINE_NAME))
                described = None if pipeline is None else read(pipeline.id)
                yield from dvc_files.outputs_of_lock(read(blob.id), described, path)
            elif name.endswith(dvc_files.SUFFIX) and name != dvc_files.SUFFIX:
                yield from dvc_files.outputs_of_file(read(blob.id), path)

    def _items_of(self, output: Output) -> Iterator[Item]:
        named, revision = shown(output.path), self._revision.shown
        if output.path.startswith((b"/", b"../")) or b"://" in output.path or output.path == b"..":
            self._history.warn(f"{named} of {revision} lies outside of the repository: it is left out")
        elif not output.is_cached:
            self._history.warn(f"{named} of {revision} is kept neither by DVC nor by Git: it is left out")
        elif output.is_directory:
            for part in output.parts if output.parts is not None else self._parts(output):
                path = posixpath.join(output.path, part.path)
                yield self._item(path, part.md5, output, executable=part.executable)
            yield Item(output.path, 0o040755)
        elif not output.md5:
            self._history.warn(f"{named} of {revision} was never committed to DVC: it is left out")
        else:
            yield self._item(output.path, output.md5, output, executable=output.executable)

    def _parts(self, output: Output) -> list[Part]:
        """The files of a directory, by its manifest."""
        name = f"{output.md5}.dir"
        located = self._find(name, output.remote, legacy=output.is_legacy)
        if located is None:
            raise self._missing(output.path, name, output.remote)
        data = read_located(located)
        check_content(output.path, data, Digest(MD5, output.md5))
        return dvc_files.parts_of_manifest(data, output.path)

    def _item(self, path: bytes, md5: str, output: Output, *, executable: bool) -> Item:
        if len(md5) != _HEX_DIGITS:
            raise CorruptDataError(f"{shown(path)} has {md5!r} for an MD5", hint="look what 'dvc status' says")
        located = self._history.objects.find_here(md5, output.remote, legacy=output.is_legacy)
        return Item(
            path,
            PROGRAM_MODE if executable else FILE_MODE,
            UNKNOWN_SIZE if located is None else located.size,
            origin=f"{_THERE}{output.remote or ''}" if located is None else _HERE + located.path,
            digest=Digest(MD5_TEXT if output.is_legacy else MD5, md5),
        )

    # --- contents

    def sizes(self, items: Sequence[Item]) -> Sequence[int]:
        """See `Listing`. Raises CorruptDataError for a content that is nowhere to be had."""
        located = list(self._history.objects.side_by_side(self._locate, items))
        self._located |= {str(item.digest): each for item, each in zip(items, located, strict=True)}
        return [each.size for each in located]

    def read(self, items: Sequence[Item]) -> Iterator[bytes]:
        """See `Listing`."""
        if any(item.origin.startswith(_THERE) for item in items):
            return self._history.objects.side_by_side(self._read, items)
        return map(self._read, items)

    def _read(self, item: Item) -> bytes:
        if is_of_git(item):
            return self._history.reader.read(blob_of(item))
        return read_located(self._known(item))

    def open(self, item: Item) -> Readable:
        """See `Listing`."""
        if is_of_git(item):
            return self._history.git.open_blob(blob_of(item))
        return open_located(self._known(item))

    def _known(self, item: Item) -> Located:
        if item.origin.startswith(_HERE):
            return Located(item.origin.removeprefix(_HERE), item.size)
        return self._located.pop(str(item.digest), None) or self._locate(item)

    def _locate(self, item: Item) -> Located:
        assert item.digest is not None
        md5, remote = item.digest.hex, item.origin.removeprefix(_THERE) or None
        located = self._find(md5, remote, legacy=item.digest.algorithm == MD5_TEXT)
        if located is None:
            raise self._missing(item.path, md5, remote)
        return located

    def _find(self, name: str, remote: str | None, *, legacy: bool) -> Located | None:
        objects = self._history.objects
        return objects.find_here(name, remote, legacy=legacy) or objects.find_there(name, remote, legacy=legacy)

    def _missing(self, path: bytes, md5: str, remote: str | None) -> CorruptDataError:
        return CorruptDataError(
            f"{shown(path)} of {self._revision.shown} (MD5 {md5}) is neither in "
            f"{self._history.objects.shown(remote)}; nothing of that revision was imported",
            hint="push it from where it is: dvc push --all-tags; or leave the revision out with --rev",
        )
