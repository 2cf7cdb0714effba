"""Tar archives, plain or compressed, from anything that can be read from its start to its end."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import stat
import tarfile
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

from fsd.errors import CorruptDataError
from fsd.format.compress import FrameError, decompressing
from fsd.importing.archived import Member, MemberContent
from fsd.importing.items import DIRECTORY_MODE, SYMLINK_MODE, Item
from fsd.limits import MIB
from fsd.publish.source import UnsupportedFileError, shown

_BUFFER_BYTES = 1 * MIB
_MAGIC_BYTES = 6

_DAMAGED = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, FrameError)


class _Header(tarfile.TarInfo):
    """A header; where there is none, or half of one, the archive was cut off, which `tarfile` takes for its end."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Header:
        if len(buf) != tarfile.BLOCKSIZE:
            raise tarfile.ReadError("it ends without the mark of its end")
        return super().frombuf(buf, encoding, errors)


_OPTIONS: dict[str, Any] = {
    "mode": "r|",
    "bufsize": _BUFFER_BYTES,
    "tarinfo": _Header,
    "encoding": "utf-8",
    "errors": "surrogateescape",
}


class TarArchive:
    """See `fsd.importing.archived.Archive`. Reads `file` once, and leaves it open."""

    def __init__(self, file: BinaryIO, where: str, size_bytes: int | None = None) -> None:
        """`size_bytes`: of the archive as it lies there, if that is known."""
        self._file = file
        self._where = where
        self.size_bytes = size_bytes

    def members(self) -> Iterator[Member]:
        """See `Archive`."""
        # Not for the collector to close, which would close the file, and complain.
        buffered: Any = io.BufferedReader(cast("io.RawIOBase", self._file), _BUFFER_BYTES)
        try:
            opened: Any = tarfile.open(fileobj=_decompressed(buffered), **_OPTIONS)  # noqa: SIM115
            with opened as archive:
                while (header := archive.next()) is not None:
                    archive.members.clear()  # it would remember all of them
                    yield self._member(archive, header)
        except _DAMAGED as error:
            raise self._damaged(error) from error
        finally:
            buffered.detach()

    def _member(self, archive: tarfile.TarFile, header: tarfile.TarInfo) -> Member:
        path = _bytes_of(header.name)
        if header.isdir():
            return Member(Item(path, DIRECTORY_MODE))
        if header.issym():
            return Member(Item(path, SYMLINK_MODE, target=_bytes_of(header.linkname)))
        if header.islnk():
            return Member(Item(path), None, _bytes_of(header.linkname))
        if not header.isreg():
            raise UnsupportedFileError(
                f"{shown(path)!r} in {self._where} is {_kind(header)}; nothing was imported",
                hint="fsd keeps files, directories and symlinks: make the archive without it",
            )
        file = archive.extractfile(header)
        assert file is not None
        content = MemberContent(file, _DAMAGED, self._damaged)
        return Member(Item(path, stat.S_IFREG | (header.mode & 0o777), header.size), content)

    def _damaged(self, error: Exception) -> CorruptDataError:
        return CorruptDataError(
            f"{self._where} is no whole tar archive: {error}; nothing was imported",
            hint="get it again: what arrived is not sent a second time",
        )


def _decompressed(buffered: Any) -> BinaryIO:
    """A file without its compression, which its first bytes show."""
    magic = buffered.peek(_MAGIC_BYTES)[:_MAGIC_BYTES]
    if magic.startswith(b"\x1f\x8b"):
        return cast("BinaryIO", gzip.GzipFile(fileobj=buffered))
    if magic.startswith(b"BZh"):
        return cast("BinaryIO", bz2.BZ2File(buffered))
    if magic == b"\xfd7zXZ\0":
        return cast("BinaryIO", lzma.LZMAFile(buffered))
    if magic.startswith(b"\x28\xb5\x2f\xfd"):
        return decompressing(buffered)
    return cast("BinaryIO", buffered)


def _bytes_of(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _kind(header: tarfile.TarInfo) -> str:
    return "a fifo" if header.isfifo() else "a device" if header.isdev() else "no file"
