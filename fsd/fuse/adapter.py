"""Handlers of the kernel's requests: translate ids, attributes and errors, and ask the vfs. Nothing is decided here.

A file handle is the inode's number, with or without an `open`, so a read means the same either way. Every exception of
the vfs leaves a handler as an errno (`errnos.py`): anything else would end pyfuse3's loop, and the mount with it.
"""

# ruff: noqa: ARG002 - the signatures are pyfuse3's

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Sequence
from typing import NoReturn, Protocol

import pyfuse3

from fsd.fuse import errnos, interpose
from fsd.ids import Buffer
from fsd.vfs.attributes import Attributes, FilesystemTotals, Listing, Missing

log = logging.getLogger(__name__)

NAME_MAX = 255
"""Bytes of a name, as the format has it and statfs shows it."""

_BLOCK_BYTES = 4096
_SECTOR_BYTES = 512


class FileSystem(Protocol):
    """What the adapter needs of `fsd.vfs.vfs.Vfs`. Methods may raise what `errnos.TABLE` knows."""

    async def lookup(self, parent: int, name: bytes) -> Attributes | Missing:
        """The node of that name, counted as one lookup more, or that there is none."""

    async def getattr(self, ino: int) -> Attributes:
        """A node that the kernel knows."""

    async def readlink(self, ino: int) -> bytes:
        """A symlink's target."""

    def lists_for_ever(self, ino: int) -> bool:
        """True if the directory's listing can never change, so that the kernel may keep it."""

    async def list(self, ino: int, start: int) -> Listing:
        """Entries after the cookie `start` (0: all), as many as are cheap; none at the end."""

    def refuse(self, ino: int) -> None:
        """Undo the lookup of the entry that a listing yielded last: the kernel had no room for it."""

    def read_nowait(self, ino: int, offset: int, size: int) -> Buffer | None:
        """The bytes if they are at hand, None if that takes waiting."""

    async def read(self, ino: int, offset: int, size: int) -> Buffer:
        """`size` bytes from `offset`, fewer only where the file ends."""

    def forget(self, ino: int, lookups: int) -> None:
        """The kernel gives back lookups."""

    async def getxattr(self, ino: int, name: bytes) -> bytes:
        """The value of an extended attribute."""

    async def listxattr(self, ino: int) -> Sequence[bytes]:
        """The names of all extended attributes."""

    def statfs(self) -> FilesystemTotals:
        """What there is in all."""


class Operations(pyfuse3.Operations):
    """The handlers. They run in one task each, all in pyfuse3's thread: nothing in them may block."""

    def __init__(self, filesystem: FileSystem) -> None:
        super().__init__()
        self._filesystem = filesystem
        self._uid = os.getuid()
        self._gid = os.getgid()
        self._no_open: bool | None = None  # unknown until the kernel has said what it can
        self._cache_listings = False

    # --- names and attributes

    async def lookup(
        self, parent_inode: pyfuse3.InodeT, name: pyfuse3.FileNameT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        try:
            found = await self._filesystem.lookup(parent_inode, name)
        except Exception as error:
            _fail("lookup", parent_inode, error)
        if isinstance(found, Missing):
            return _missing(found)
        return self._entry(found)

    async def getattr(self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        try:
            return self._entry(await self._filesystem.getattr(inode))
        except Exception as error:
            _fail("getattr", inode, error)

    async def readlink(self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext) -> pyfuse3.FileNameT:
        try:
            return await self._filesystem.readlink(inode)
        except Exception as error:
            _fail("readlink", inode, error)

    async def forget(self, inode_list: Sequence[tuple[pyfuse3.InodeT, int]]) -> None:
        # The kernel expects no answer, and pyfuse3 no exception.
        try:
            for ino, lookups in inode_list:
                self._filesystem.forget(ino, lookups)
        except Exception:
            log.exception("forget failed")

    async def access(self, inode: pyfuse3.InodeT, mode: pyfuse3.ModeT, ctx: pyfuse3.RequestContext) -> bool:
        return True  # never asked: the kernel checks modes itself (default_permissions)

    # --- files

    async def open(self, inode: pyfuse3.InodeT, flags: pyfuse3.FlagT, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        if flags & os.O_ACCMODE != os.O_RDONLY:
            raise pyfuse3.FUSEError(errno.EROFS)
        if self._opens_for_nothing():
            raise pyfuse3.FUSEError(errno.ENOSYS)  # "never ask again": from now on READ comes without an open
        return pyfuse3.FileInfo(fh=inode, keep_cache=True)

    async def read(self, fh: pyfuse3.FileHandleT, off: int, size: int) -> bytes:
        try:
            data = self._filesystem.read_nowait(fh, off, size)
            if data is None:
                data = await self._filesystem.read(fh, off, size)
        except Exception as error:
            _fail("read", fh, error)
        return data  # type: ignore[return-value]  # any contiguous buffer will do, and is not copied

    async def release(self, fh: pyfuse3.FileHandleT) -> None:
        pass

    async def flush(self, fh: pyfuse3.FileHandleT) -> None:
        raise pyfuse3.FUSEError(errno.ENOSYS)  # never ask again

    async def fsync(self, fh: pyfuse3.FileHandleT, datasync: bool) -> None:
        raise pyfuse3.FUSEError(errno.ENOSYS)  # never ask again; the caller sees success

    async def fsyncdir(self, fh: pyfuse3.FileHandleT, datasync: bool) -> None:
        raise pyfuse3.FUSEError(errno.ENOSYS)

    # --- directories

    async def opendir(self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext) -> pyfuse3.FileHandleT:
        self._opens_for_nothing()
        try:
            if self._cache_listings and self._filesystem.lists_for_ever(inode):
                return inode | interpose.CACHE_LISTING
        except Exception as error:
            _fail("opendir", inode, error)
        return inode

    async def readdir(self, fh: pyfuse3.FileHandleT, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        try:
            await self._list(fh, start_id, token)
        except Exception as error:
            _fail("readdir", fh, error)

    async def releasedir(self, fh: pyfuse3.FileHandleT) -> None:
        pass

    async def _list(self, ino: int, start: int, token: pyfuse3.ReaddirToken) -> None:
        """Fill the kernel's buffer. One `EntryAttributes` serves all entries, as pyfuse3 copies it."""
        entry = self._blank_entry()
        reply = pyfuse3.readdir_reply
        shown_mtime_ns = None
        while True:
            listing = await self._filesystem.list(ino, start)
            entry.entry_timeout = entry.attr_timeout = listing.timeout_s
            before = start
            for name, child, mode, size, mtime_ns, start in listing.entries:
                entry.st_ino = child
                entry.st_mode = mode
                entry.st_size = size
                entry.st_blocks = -(-size // _SECTOR_BYTES)
                if mtime_ns != shown_mtime_ns:
                    entry.st_atime_ns = entry.st_mtime_ns = entry.st_ctime_ns = shown_mtime_ns = mtime_ns
                if not reply(token, name, entry, start):
                    self._filesystem.refuse(child)
                    return
            if start == before:
                return

    # --- the rest

    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        try:
            totals = self._filesystem.statfs()
        except Exception as error:
            _fail("statfs", pyfuse3.ROOT_INODE, error)
        data = pyfuse3.StatvfsData()
        data.f_bsize = data.f_frsize = _BLOCK_BYTES
        data.f_blocks = -(-totals.bytes // _BLOCK_BYTES)
        data.f_files = totals.files
        data.f_namemax = NAME_MAX
        return data

    async def getxattr(self, inode: pyfuse3.InodeT, name: pyfuse3.XAttrNameT, ctx: pyfuse3.RequestContext) -> bytes:
        try:
            return await self._filesystem.getxattr(inode, name)
        except Exception as error:
            _fail("getxattr", inode, error)

    async def listxattr(self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext) -> Sequence[pyfuse3.XAttrNameT]:
        try:
            return await self._filesystem.listxattr(inode)
        except Exception as error:
            _fail("listxattr", inode, error)

    # Writing needs no handlers: the mount is `ro`, so the kernel answers EROFS before it would ask.

    def _opens_for_nothing(self) -> bool:
        """Whether the kernel may do without opens. Asked at the first open only: by then the kernel has said hello."""
        if self._no_open is None:
            state = interpose.state()
            self._no_open = interpose.State.NO_OPEN in state
            self._cache_listings = interpose.State.SESSION in state
        return self._no_open

    def _blank_entry(self) -> pyfuse3.EntryAttributes:
        """One link, so that tar and rsync do not take files of one content for hard links; ours to own."""
        entry = pyfuse3.EntryAttributes()
        entry.st_uid = self._uid
        entry.st_gid = self._gid
        return entry

    def _entry(self, attributes: Attributes) -> pyfuse3.EntryAttributes:
        entry = self._blank_entry()
        entry.st_ino = attributes.ino
        entry.st_mode = attributes.mode
        entry.st_size = attributes.size
        entry.st_blocks = -(-attributes.size // _SECTOR_BYTES)
        entry.st_atime_ns = entry.st_mtime_ns = entry.st_ctime_ns = attributes.mtime_ns
        entry.entry_timeout = attributes.entry_timeout_s
        entry.attr_timeout = attributes.attr_timeout_s
        return entry


def _missing(missing: Missing) -> pyfuse3.EntryAttributes:
    """A name that the kernel may know not to exist."""
    entry = pyfuse3.EntryAttributes()
    entry.st_ino = 0
    entry.entry_timeout = missing.entry_timeout_s
    return entry


def _fail(request: str, ino: int, error: Exception) -> NoReturn:
    """Answer `request` with the errno that stands for `error`."""
    raise pyfuse3.FUSEError(errnos.errno_of(error, request=request, ino=ino)) from error
