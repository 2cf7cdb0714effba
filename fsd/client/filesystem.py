"""`fsd://REPO/REV[+SUBSET]/PATH` for fsspec, and so for pandas, pyarrow, Dask, Ray and Hugging Face datasets.

    pandas.read_csv("fsd://birds/v2/labels.csv", storage_options={"store": "gs://bucket/prefix"})

Read-only. Paths are those below a mount. A branch means what it named when the file system was first asked for it,
until `invalidate_cache`: who reads `main/…` goes on reading the commit that they began with.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, NoReturn

from fsspec.spec import AbstractFileSystem

from fsd.client.opening import open_store
from fsd.client.store import EntryInfo, Version
from fsd.errors import FsdError, NotFoundError, UsageError


class FsdFileSystem(AbstractFileSystem):  # type: ignore[misc]
    """See the module. `store`, `cache` and `cache_size` are those of `fsd.open_store`."""

    protocol = "fsd"
    root_marker = ""

    def __init__(
        self,
        store: str | None = None,
        cache: str | None = None,
        cache_size: int | str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._store = open_store(store, cache=cache, cache_size=cache_size)
        self._versions: dict[str, Version] = {}

    # --- what there is

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """What is in a directory, or the file itself."""
        path = self._strip_protocol(path)
        with _as_os_errors(path):
            found = self._ls(path)
        return found if detail else [each["name"] for each in found]

    def _ls(self, path: str) -> list[dict[str, Any]]:
        version, below = self._split(path)
        if version is not None:
            top = path.removesuffix(below).rstrip("/")
            info = version.stat(below)
            if info.kind != "directory":
                return [_described(info, path)]
            return [_described(self._followed(version, each), f"{top}/{each.path}") for each in version.list(below)]
        if not path:
            return [_directory(name) for name in self._store.repositories()]
        kinds = self._store.refs(path)
        if not kinds:
            raise NotFoundError(f"there is no repository {path!r} in {self._store.url}")
        return [_directory(f"{path}/{name}") for name, kind in kinds.items() if kind != "subset"]

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """What is known of a path."""
        path = self._strip_protocol(path)
        with _as_os_errors(path):
            version, below = self._split(path)
            if version is not None:
                return _described(version.stat(below), path)
            if path and not self._store.refs(path):
                raise NotFoundError(f"there is no repository {path!r} in {self._store.url}")
            return _directory(path)

    def ukey(self, path: str) -> str:
        """The BLAKE3 of a file's content; of a directory the version's name and its path."""
        info = self.info(path)
        return info.get("blake3") or f"{info['name']}"

    def invalidate_cache(self, path: str | None = None) -> None:
        """Let branches mean what they name now."""
        self._versions.clear()
        super().invalidate_cache(path)

    # --- files

    def _open(self, path: str, mode: str = "rb", **_: Any) -> BinaryIO:
        """`block_size` and `cache_options` mean nothing here: the cache is fsd's own."""
        if mode != "rb":
            _refuse(path)
        with _as_os_errors(path):
            return self._file_version(path).open(self._split(path)[1])

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        """A file's bytes from `start` to before `end`; negative ones count from the end."""
        path = self._strip_protocol(path)
        with _as_os_errors(path):
            version, below = self._file_version(path), self._split(path)[1]
            size = version.stat(below).size
            first, stop, _step = slice(start, end).indices(size)
            return version.read(below, first, max(0, stop - first))

    # --- inside

    def _split(self, path: str) -> tuple[Version | None, str]:
        """The version that a path is in, and the path in it."""
        repository, _, rest = path.partition("/")
        revision, _, below = rest.partition("/")
        if not revision:
            return None, ""
        name = f"{repository}/{revision}"
        version = self._versions.get(name)
        if version is None:
            version = self._versions[name] = self._store.version(name)
        return version, below

    def _file_version(self, path: str) -> Version:
        version, below = self._split(path)
        if version is None or version.stat(below).kind == "directory":
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        return version

    def _followed(self, version: Version, info: EntryInfo) -> EntryInfo:
        """What a symlink leads to, by the symlink's name; itself where that is nothing."""
        if info.kind != "symlink":
            return info
        try:
            target = version.stat(info.path)
        except NotFoundError:
            return info
        return EntryInfo(info.path, target.kind, target.size, target.executable, target.blake3)

    def mkdir(self, path: str, create_parents: bool = True, **_: Any) -> None:  # noqa: ARG002
        _refuse(path)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:  # noqa: ARG002
        _refuse(path)

    def _rm(self, path: str) -> None:
        _refuse(path)

    def rm(self, path: Any, recursive: bool = False, maxdepth: int | None = None) -> None:  # noqa: ARG002
        _refuse(str(path))

    def rmdir(self, path: str) -> None:
        _refuse(path)

    def cp_file(self, path1: str, path2: str, **_: Any) -> None:  # noqa: ARG002
        _refuse(path2)


def _refuse(path: str) -> NoReturn:
    raise OSError(errno.EROFS, "versions are read-only", path)


@contextmanager
def _as_os_errors(path: str) -> Iterator[None]:
    """fsd's errors as the ones that programs expect of files."""
    try:
        yield
    except NotFoundError as error:
        raise FileNotFoundError(errno.ENOENT, str(error), path) from error
    except UsageError as error:
        raise OSError(errno.EINVAL, str(error), path) from error
    except FsdError as error:
        raise OSError(errno.EIO, str(error), path) from error


def _directory(name: str) -> dict[str, Any]:
    return {"name": name, "type": "directory", "size": 0}


def _described(info: EntryInfo, name: str) -> dict[str, Any]:
    if info.kind == "directory":
        return _directory(name)
    described = {"name": name, "size": info.size, "blake3": info.blake3, "executable": info.executable}
    if info.kind == "symlink":
        return {**described, "type": "link", "destination": info.target}
    return {**described, "type": "file"}
