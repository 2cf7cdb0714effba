"""Zip archives, from anything that can be read at any place: a file, or a URL by ranges."""

from __future__ import annotations

import stat
import zipfile
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from fsd.errors import CorruptDataError
from fsd.format.limits import MAX_SYMLINK_BYTES
from fsd.importing.archived import Member, MemberContent
from fsd.importing.items import DIRECTORY_MODE, FILE_MODE, Item
from fsd.publish.source import UnsupportedFileError, shown

_UNIX = 3
"""What made the archive, of those whose attributes are a file's mode."""
_ENCRYPTED = 0x1

_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError)


class ZipArchive:
    """See `fsd.importing.archived.Archive`. Reads `file`, and leaves it open.

    The directory at its end is held in memory: some 500 bytes a member.
    """

    def __init__(self, file: BinaryIO, where: str) -> None:
        self._where = where
        try:
            self._archive = zipfile.ZipFile(file)
        except _DAMAGED as error:
            raise self._damaged(error) from error
        self.size_bytes = sum(info.file_size for info in self._archive.infolist())

    def members(self) -> Iterator[Member]:
        """See `Archive`; in the order in which they lie there, so that a link is read through once."""
        try:
            for info in sorted(self._archive.infolist(), key=lambda info: info.header_offset):
                yield self._member(info)
        except _DAMAGED as error:
            raise self._damaged(error) from error

    def _member(self, info: zipfile.ZipInfo) -> Member:
        path = info.filename.encode("utf-8", "surrogateescape")
        if info.flag_bits & _ENCRYPTED:
            raise UnsupportedFileError(
                f"{shown(path)!r} in {self._where} is encrypted; nothing was imported", hint="make the archive without"
            )
        if info.is_dir():
            return Member(Item(path, DIRECTORY_MODE))
        mode = info.external_attr >> 16 if info.create_system == _UNIX else 0
        content = MemberContent(self._archive.open(info), _DAMAGED, self._damaged)
        if stat.S_ISLNK(mode):
            if info.file_size > MAX_SYMLINK_BYTES:
                return Member(Item(path, mode, target=b"?" * (MAX_SYMLINK_BYTES + 1)))
            return Member(Item(path, mode, target=content.read()))
        if stat.S_IFMT(mode) in (0, stat.S_IFREG):
            mode = stat.S_IFREG | stat.S_IMODE(mode) if mode else FILE_MODE
        return Member(Item(path, mode, info.file_size), content)

    def _damaged(self, error: Exception) -> CorruptDataError:
        return CorruptDataError(
            f"{self._where} is no whole zip archive: {error}; nothing was imported",
            hint="get it again: what arrived is not sent a second time",
        )
