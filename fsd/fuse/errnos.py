"""The one table from errors to errno, and what is written to the log about them.

A class stands for its subclasses, unless these have a line of their own. What is not in the table is a bug: it is
logged with its traceback and becomes EIO. Bytes that cannot be had are in the log already: the vfs knows whose.
"""

from __future__ import annotations

import errno
import logging
from typing import NamedTuple

from fsd.errors import (
    ConflictError,
    CorruptDataError,
    FsdError,
    NotFoundError,
    StorePermissionError,
    StoreUnreachableError,
    UnsupportedFormatError,
    UsageError,
)
from fsd.vfs.attributes import (
    NoAttributeError,
    NotDirectoryError,
    NotFileError,
    NotSymlinkError,
    StaleInodeError,
)

log = logging.getLogger(__name__)


class Translation(NamedTuple):
    """What a program sees and what the log shows."""

    errno: int
    level: int
    """A level of `logging`; NOTSET for an answer that is no news."""


TABLE: dict[type[Exception], Translation] = {
    FsdError: Translation(errno.EIO, logging.ERROR),
    UsageError: Translation(errno.EINVAL, logging.NOTSET),
    ConflictError: Translation(errno.EBUSY, logging.WARNING),
    NotFoundError: Translation(errno.ENOENT, logging.NOTSET),
    StoreUnreachableError: Translation(errno.EIO, logging.NOTSET),
    StorePermissionError: Translation(errno.EIO, logging.NOTSET),
    CorruptDataError: Translation(errno.EIO, logging.NOTSET),
    UnsupportedFormatError: Translation(errno.EIO, logging.NOTSET),
    NotDirectoryError: Translation(errno.ENOTDIR, logging.NOTSET),
    NotFileError: Translation(errno.EISDIR, logging.NOTSET),
    NotSymlinkError: Translation(errno.EINVAL, logging.NOTSET),
    NoAttributeError: Translation(errno.ENODATA, logging.NOTSET),
    StaleInodeError: Translation(errno.ESTALE, logging.NOTSET),
}


def errno_of(error: Exception, *, request: str, ino: int) -> int:
    """The errno that answers `request` on inode `ino`; logs what is worth knowing.

    Of a group, the first error that is a bug decides, else the first one.
    """
    leaves = _leaves(error)
    translations = [_translation(leaf) for leaf in leaves]
    for leaf, translation in zip(leaves, translations, strict=True):
        if translation is None:
            log.error("%s of inode %d failed unexpectedly", request, ino, exc_info=leaf)
        elif translation.level:
            log.log(translation.level, "%s of inode %d failed: %s", request, ino, leaf)
    known = [translation for translation in translations if translation is not None]
    return known[0].errno if len(known) == len(leaves) else errno.EIO


def _translation(error: Exception) -> Translation | None:
    for cls in type(error).__mro__:
        if cls in TABLE:
            return TABLE[cls]
    return None


def _leaves(error: Exception) -> list[Exception]:
    if not isinstance(error, ExceptionGroup):
        return [error]
    return [leaf for member in error.exceptions for leaf in _leaves(member)]
