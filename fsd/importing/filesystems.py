"""Buckets, web folders and single files elsewhere, through fsspec: whatever it has a file system for can be imported.

What they raise is said in fsd's words by `fsd.importing.asking`.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from typing import Any, BinaryIO, cast
from urllib.parse import unquote, urlsplit

import fsspec
from fsspec.core import url_to_fs

from fsd.errors import NotFoundError, UsageError
from fsd.importing.asking import asked, without_secrets
from fsd.importing.items import REQUESTS, UNKNOWN_SIZE, Item
from fsd.limits import MIB
from fsd.publish.source import UnreadableError

for _name in ("aiobotocore", "botocore", "fsspec", "gcsfs", "google", "s3fs"):
    # What they log is what they raise as well, or no matter of the user's; without this Python shows it on a terminal.
    logging.getLogger(_name).addHandler(logging.NullHandler())

BLOCK_BYTES = 8 * MIB
"""Of a large file, asked for at once."""

_VERSIONS = ("ETag", "etag", "generation", "md5Hash", "content_md5")
"""Where file systems put what changes with the content."""


def open_filesystem(url: str, options: Mapping[str, Any] | None = None) -> tuple[Any, str]:
    """The file system for a URL, and the path in it. Raises UsageError where fsspec has none, or lacks a library."""
    shown = without_secrets(url)
    try:
        filesystem, path = url_to_fs(url, use_listings_cache=False, skip_instance_cache=True, **(options or {}))
    except ImportError as error:
        raise UsageError(
            f"{shown} needs a library that is not installed: {error}", hint="pip install 'fsd[import]'"
        ) from error
    except ValueError as error:
        known = ", ".join(sorted(name for name in fsspec.available_protocols() if name in _NAMED))
        raise UsageError(f"cannot open {shown}: {error}", hint=f"there are {known} and others of fsspec") from error
    return filesystem, path


_NAMED = {"abfs", "az", "ftp", "gs", "hf", "http", "https", "s3", "sftp"}


class RemoteFolder:
    """A `fsd.importing.items.Listing` of all that is below a URL."""

    def __init__(self, url: str, options: Mapping[str, Any] | None = None) -> None:
        self.where = without_secrets(url)
        self._files, path = open_filesystem(url, options)
        self._top = path.rstrip("/")
        self._is_web = urlsplit(url).scheme in ("http", "https")
        self._reader = RemoteReader(self._files)

    def items(self) -> Iterator[Item]:
        """See `Listing`. Folders are listed side by side."""
        with ThreadPoolExecutor(REQUESTS, "fsd-list") as pool:
            waiting: set[Future[list[dict[str, Any]]]] = {pool.submit(self._list, self._top)}
            seen = {self._top}
            found = 0
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for listed in done:
                    for info in listed.result():
                        name = str(info["name"]).rstrip("/")
                        if info["type"] == "directory":
                            if name not in seen:
                                seen.add(name)
                                waiting.add(pool.submit(self._list, name))
                            continue
                        found += 1
                        yield self._item(info)
        if not found:
            raise NotFoundError(f"there are no files in {self.where}", hint="look whether it is written right")

    def _list(self, directory: str) -> list[dict[str, Any]]:
        """What is in a directory, without the directory itself; each file with its size."""
        address = directory + "/" if self._is_web else directory
        what = without_secrets(address)
        listed = asked(what, lambda: self._files.ls(address, detail=True))
        inside = [info for info in listed if self._is_inside(str(info["name"]), directory)]
        return [self._sized(info) if info["type"] != "directory" else info for info in inside]

    def _is_inside(self, name: str, directory: str) -> bool:
        """Buckets list the folder itself; web servers link to the one above, and to the same one sorted otherwise."""
        name = name.rstrip("/")
        below = name.removeprefix(directory + "/")
        is_below = below not in ("", name) and "/" not in below
        return is_below and not (self._is_web and set(below) & {"?", "#"})

    def _sized(self, info: dict[str, Any]) -> dict[str, Any]:
        if info.get("size") is not None and not self._is_web:
            return info
        name = str(info["name"])
        more = asked(without_secrets(name), lambda: self._files.info(name))
        if more.get("size") is None:
            raise UnreadableError(
                f"the server does not say how long {without_secrets(name)} is; nothing was imported",
                hint="download it, and import or commit what you have",
            )
        return cast("dict[str, Any]", {**info, **more})

    def _item(self, info: dict[str, Any]) -> Item:
        name = str(info["name"])
        below = name.removeprefix(self._top).lstrip("/")
        path = unquote(below, errors="surrogateescape") if self._is_web else below
        version = next((str(info[key]) for key in _VERSIONS if info.get(key)), "")
        return Item(path.encode("utf-8", "surrogateescape"), size=int(info["size"]), origin=name, version=version)

    def sizes(self, items: Sequence[Item]) -> Sequence[int]:
        """See `Listing`."""
        return self._reader.sizes([item.origin for item in items])

    def read(self, items: Sequence[Item]) -> Iterator[bytes]:
        """See `Listing`."""
        return self._reader.read([item.origin for item in items])

    def open(self, item: Item) -> BinaryIO:
        """See `Listing`."""
        return self._reader.open(item.origin, item.size)

    def close(self) -> None:
        """End the threads."""
        self._reader.close()


class RemoteReader:
    """Reads files of one file system by their paths. Safe to use from many threads."""

    def __init__(self, filesystem: Any) -> None:
        self._files = filesystem
        self._pool = ThreadPoolExecutor(REQUESTS, "fsd-read")

    def close(self) -> None:
        """End the threads, whatever they wait for."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def sizes(self, paths: Sequence[str]) -> list[int]:
        """How long files are. Raises NotFoundError for one that is not there."""
        return list(self._pool.map(self.size, paths))

    def size(self, path: str) -> int:
        """How long a file is. Raises NotFoundError."""
        info = asked(without_secrets(path), lambda: self._files.info(path))
        return UNKNOWN_SIZE if info.get("size") is None else int(info["size"])

    def read(self, paths: Sequence[str]) -> Iterator[bytes]:
        """The contents of small files, in their order, asked for side by side."""
        return self._pool.map(self.read_one, paths)

    def read_one(self, path: str) -> bytes:
        """The content of a small file."""
        return cast("bytes", asked(without_secrets(path), lambda: self._files.cat_file(path)))

    def open(self, path: str, size: int | None = None) -> BinaryIO:
        """A file that is read from anywhere, mostly from its start to its end."""
        return cast("BinaryIO", io.BufferedReader(_Reopened(self._files, path, size), BLOCK_BYTES))


class _Reopened(io.RawIOBase):
    """A file elsewhere; where a connection breaks it goes on at the same place with another one."""

    def __init__(self, filesystem: Any, path: str, size: int | None) -> None:
        super().__init__()
        self._files = filesystem
        self._path = path
        self._what = without_secrets(path)
        self._at = 0
        self._file: Any = None
        self._streams = False
        """Whether it is sent as a whole only."""
        self._size = size if size is not None else int(asked(self._what, lambda: filesystem.info(path))["size"] or 0)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = base + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        length = min(len(buffer), max(self._size - self._at, 0))
        data = asked(self._what, lambda: self._read(length)) if length else b""
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def _read(self, length: int) -> bytes:
        try:
            if self._file is None:
                self._file = self._open()
            if self._file.tell() != self._at:
                self._go_to()
            return cast("bytes", self._file.read(length))
        except ValueError:
            self._drop()
            if self._streams:
                raise
            # A web server that sends whole files only: what it has sent must be passed over.
            self._streams = True
            return self._read(length)
        except Exception:
            self._drop()
            raise

    def _open(self) -> Any:
        if self._streams:
            return self._files.open(self._path, "rb", block_size=0)
        return self._files.open(self._path, "rb", block_size=BLOCK_BYTES, cache_type="readahead")

    def _go_to(self) -> None:
        """Where the next bytes are."""
        if not self._streams:
            self._file.seek(self._at)
            return
        if self._file.tell() > self._at:
            self._drop()
            self._file = self._open()
        while (left := self._at - self._file.tell()) > 0:
            if not self._file.read(min(left, BLOCK_BYTES)):
                raise ConnectionError("the connection broke")

    def _drop(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with suppress(Exception):
                file.close()

    def close(self) -> None:
        self._drop()
        super().close()
