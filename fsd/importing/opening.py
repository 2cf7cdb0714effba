"""From what a user types to a source. The only place that knows which kinds there are."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit

from fsd.errors import NotFoundError, UsageError
from fsd.importing.archived import Archive
from fsd.importing.dvc_config import Remote
from fsd.importing.huggingface import Snapshot, snapshot_folder
from fsd.importing.importer import History
from fsd.importing.items import Listing
from fsd.importing.lfs import LfsHistory
from fsd.importing.tar import TarArchive
from fsd.importing.zip import ZipArchive
from fsd.publish.source import UnreadableError
from fsd.stores.open import local_path

_TAR = re.compile(r"\.(tar|tar\.gz|tgz|tar\.bz2|tbz2|tar\.xz|txz|tar\.zst|tzst)\Z", re.IGNORECASE)
_ZIP = re.compile(r"\.zip\Z", re.IGNORECASE)

KINDS = ("dvc", "lfs", "huggingface", "folder", "tar", "zip")
"""What a source can be said to be, where looking at it would not tell."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be imported, as the user says it."""

    source: str
    kind: str | None = None
    """Of KINDS; None: what it looks like."""
    revisions: Sequence[str] = ()
    """Of a source with a history: none for all tags, or where it stands if there are none."""
    with_git_files: bool = False
    """Of a DVC repository: also what Git keeps."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A source; `close` it."""

    kind: str
    where: str
    """What it is called."""
    snapshot: Listing | Archive | None = None
    history: History | None = None
    """One of both is there."""
    close: Callable[[], None] = lambda: None


def open_source(asked: Asked, stdin: BinaryIO) -> Opened:
    """Look what a source is, and open it. Blocks. Raises UsageError, NotFoundError, and what looking at it raises."""
    if asked.kind not in (None, *KINDS):
        raise UsageError(f"no kind of source called {asked.kind!r}", hint=f"there are {', '.join(KINDS)}")
    if asked.source == "-":
        return _only_snapshot(asked, Opened("tar", "standard input", TarArchive(stdin, "standard input")))
    path = local_path(asked.source)
    if path is None:
        return _only_snapshot(asked, _open_elsewhere(asked))
    if not path.exists():
        raise NotFoundError(f"there is no {path}", hint="name a folder, an archive or a URL")
    return _open_local(asked, path)


def _open_elsewhere(asked: Asked) -> Opened:
    remote = _load("fsd.importing.filesystems")
    where = remote.without_secrets(asked.source)
    kind = asked.kind or _kind_by_name(urlsplit(asked.source).path) or "folder"
    if kind == "folder":
        folder = remote.RemoteFolder(asked.source)
        return Opened(kind, where, folder, close=folder.close)
    if kind not in ("tar", "zip"):
        raise UsageError(f"{where} cannot be read as {kind}", hint="clone or download it, and import the folder")
    filesystem, path = remote.open_filesystem(asked.source)
    reader = remote.RemoteReader(filesystem)
    size = reader.size(path)
    file = reader.open(path, size)
    return _archive(kind, file, where, size)


def _open_local(asked: Asked, path: Path) -> Opened:
    kind = asked.kind or _kind_of(path)
    where = os.fspath(path)
    if kind in ("tar", "zip"):
        try:
            file = open(path, "rb", buffering=0)  # noqa: SIM115 - closed with the source
        except OSError as error:
            raise UnreadableError(f"cannot read {path}: {error.strerror}", hint="name an archive") from error
        return _only_snapshot(asked, _archive(kind, cast("BinaryIO", file), where, os.fstat(file.fileno()).st_size))
    if kind == "huggingface":
        folder = snapshot_folder(path)
        if folder is None:
            raise UsageError(f"{path} is no snapshot of Hugging Face's cache", hint="name …/snapshots/REVISION")
        return _only_snapshot(asked, Opened(kind, os.fspath(folder), Snapshot(folder)))
    if kind == "dvc":
        options = {"with_git_files": asked.with_git_files}
        history = _load("fsd.importing.dvc").DvcHistory(path, asked.revisions, _open_remote, **options)
        return Opened(kind, where, history=history, close=history.close)
    if kind == "lfs":
        if asked.with_git_files:
            raise UsageError("--with-git-files is for DVC", hint="of Git LFS all files are imported anyway")
        lfs = LfsHistory(path, asked.revisions)
        return Opened(kind, where, history=lfs, close=lfs.close)
    raise UsageError(f"{path} is a plain folder", hint=f"publish it with: fsd commit {path} REPO")


def _archive(kind: str, file: BinaryIO, where: str, size: int) -> Opened:
    """An archive of `size` bytes, which owns its file."""
    try:
        archive = ZipArchive(file, where) if kind == "zip" else TarArchive(file, where, size)
    except BaseException:
        file.close()
        raise
    return Opened(kind, where, archive, close=file.close)


def _open_remote(remote: Remote) -> tuple[Any, str]:
    """See `fsd.importing.dvc_objects.OpenRemote`."""
    filesystems = _load("fsd.importing.filesystems")
    filesystem, path = filesystems.open_filesystem(remote.url, remote.options)
    return filesystems.RemoteReader(filesystem), path


def _only_snapshot(asked: Asked, opened: Opened) -> Opened:
    """Refuses what is said of revisions where there are none."""
    if asked.revisions or asked.with_git_files:
        opened.close()
        raise UsageError(f"{opened.where} has no revisions", hint="leave --rev and --with-git-files out")
    return opened


def _kind_by_name(name: str) -> str | None:
    return "tar" if _TAR.search(name) else "zip" if _ZIP.search(name) else None


def _kind_of(path: Path) -> str:
    """What a path of this machine looks like."""
    if not path.is_dir():
        kind = _kind_by_name(path.name)
        if kind is None:
            raise UsageError(f"{path} is no archive by its name", hint="say what it is: --from tar, or --from zip")
        return kind
    if (path / ".dvc").is_dir():
        return "dvc"
    if snapshot_folder(path) is not None:
        return "huggingface"
    if (path / ".git").exists():
        with suppress(OSError):
            if "filter=lfs" in (path / ".gitattributes").read_text(errors="replace"):
                return "lfs"
    return "folder"


def _load(name: str) -> ModuleType:
    """A module whose library not every installation has. Raises UsageError where it is not installed."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if str(error.name).split(".")[0] == "fsd":
            raise
        raise UsageError(
            "importing from there needs a library that is not installed", hint="pip install 'fsd[import]'"
        ) from None
