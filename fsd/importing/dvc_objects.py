"""DVC's contents by their MD5: in its cache here, else in a remote. DVC 3 has them in `files/md5`, DVC 2 beside it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from fsd.errors import FsdError, NotFoundError
from fsd.importing.dvc_config import DvcConfig, Remote
from fsd.importing.items import REQUESTS, Item, Readable
from fsd.publish.source import UnreadableError

_T = TypeVar("_T")

OpenRemote = Callable[[Remote], tuple[Any, str]]
"""A reader of a remote's files (`fsd.importing.filesystems.RemoteReader`), and the path of the remote for it."""


@dataclass(frozen=True, slots=True)
class Located:
    """Where a content is."""

    path: str
    size: int
    reader: Any = None
    """None: it is a file of this machine."""


class DvcObjects:
    """Finds contents. Safe to use from many threads."""

    def __init__(self, config: DvcConfig, open_remote: OpenRemote) -> None:
        self._config = config
        self._open_remote = open_remote
        self._lock = threading.Lock()
        self._remotes: dict[str | None, Remote | None] = {}
        self._here: dict[str | None, Sequence[str]] = {}
        self._readers: dict[str, tuple[Any, str]] = {}
        self._pool = ThreadPoolExecutor(REQUESTS, "fsd-dvc")

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(cancel_futures=True)

    def side_by_side(self, action: Callable[[Item], _T], items: Sequence[Item]) -> Iterator[_T]:
        """What `action` gives for each item, in their order; many at once, each of which is mostly waiting."""
        return self._pool.map(action, items)

    def find_here(self, md5: str, remote: str | None, *, legacy: bool) -> Located | None:
        """In the cache, or in a remote that is a folder of this machine."""
        for folder in self._folders(remote):
            for name in names_of(md5, legacy=legacy):
                path = f"{folder}/{name}"
                with suppress(FileNotFoundError, NotADirectoryError):
                    return Located(path, os.stat(path).st_size)
        return None

    def _folders(self, remote: str | None) -> Sequence[str]:
        """Those of this machine that are there: asked for at every file of a revision."""
        folders = self._here.get(remote)
        if folders is None:
            described = self._remote(remote)
            known = [self._config.cache_folder, None if described is None else described.folder]
            folders = self._here[remote] = [str(each) for each in known if each is not None and each.is_dir()]
        return folders

    def find_there(self, md5: str, remote: str | None, *, legacy: bool) -> Located | None:
        """In a remote that is elsewhere. Asks it."""
        described = self._remote(remote)
        if described is None or described.folder is not None:
            return None
        reader, top = self._reader(described)
        for name in names_of(md5, legacy=legacy):
            path = f"{top.rstrip('/')}/{name}"
            with suppress(NotFoundError):
                return Located(path, reader.size(path), reader)
        return None

    def shown(self, remote: str | None) -> str:
        """The places that were looked at, for a message."""
        described = self._remote(remote)
        places = [f"the cache {self._config.cache_folder}"]
        if described is not None:
            places.append(f"the remote {described.name!r} ({described.folder or described.url})")
        return " nor in ".join(places)

    def _remote(self, name: str | None) -> Remote | None:
        with self._lock:
            if name not in self._remotes:
                self._remotes[name] = self._config.remote(name)
            return self._remotes[name]

    def _reader(self, remote: Remote) -> tuple[Any, str]:
        with self._lock:
            if remote.name not in self._readers:
                self._readers[remote.name] = self._open_remote(remote)
            return self._readers[remote.name]


def names_of(md5: str, *, legacy: bool) -> Sequence[str]:
    """Where a content may be, from the top of a cache or remote: first where it should."""
    short = f"{md5[:2]}/{md5[2:]}"
    return (short, f"files/md5/{short}") if legacy else (f"files/md5/{short}", short)


def read_located(located: Located) -> bytes:
    """All of a content."""
    if located.reader is not None:
        data: bytes = located.reader.read_one(located.path)
        return data
    try:
        return Path(located.path).read_bytes()
    except OSError as error:
        raise _unreadable(located, error) from error


def open_located(located: Located) -> Readable:
    """A large content, from its start to its end."""
    if located.reader is not None:
        opened: Readable = located.reader.open(located.path, located.size)
        return opened
    try:
        return open(located.path, "rb", buffering=0)
    except OSError as error:
        raise _unreadable(located, error) from error


def _unreadable(located: Located, error: OSError) -> FsdError:
    return UnreadableError(
        f"cannot read {located.path}: {error.strerror or error}", hint="import again once it is there"
    )
