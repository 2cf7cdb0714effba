"""Giving what a mirror holds to another file without copying it, where the file system can share blocks (XFS, btrfs).

What is shared is copied when either side is written, so this is not a link: nobody can change the cache through it.
See ioctl_ficlonerange(2).
"""

from __future__ import annotations

import errno
import fcntl
import struct
from collections.abc import Sequence
from functools import partial

import trio

from fsd.cache.mirrors import BLOCK_BYTES, Mirrors
from fsd.cache.reading import MirrorReader
from fsd.format.model import PlacedChunk

_FICLONERANGE = 0x4020940D
_ARGUMENT = struct.Struct("qQQQ")
"""The source's descriptor, and offset, length and the target's offset."""

_NEVER = {errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.ENOSYS, errno.EPERM}
"""Said by file systems that cannot, or of files on two of them: asking again is no use."""


class Cloner:
    """For the tasks of one trio loop. `can` turns False for good where it turns out not to work."""

    def __init__(self, mirrors: Mirrors, reader: MirrorReader, limiter: trio.CapacityLimiter) -> None:
        self._mirrors = mirrors
        self._reader = reader
        self._limiter = limiter
        self.can = True

    async def clone(self, chunks: Sequence[PlacedChunk], skip: int, length: int, target: int, at: int) -> bool:
        """Have byte `at` of the file `target` and what follows be the `length` bytes from byte `skip` of `chunks`.

        False, with nothing done, where they are not in one piece in a mirror, checked, and on the bounds of blocks:
        then they have to be copied.
        """
        located = self._reader.locate(chunks) if self.can else None
        if located is None or skip + length > located.length:
            return False
        runs = located.runs(skip, length)
        if len(runs) != 1 or runs[0].offset % BLOCK_BYTES or at % BLOCK_BYTES:
            return False
        mirror, offset, _ = runs[0]
        mark = mirror.begin_read()
        try:
            argument = _ARGUMENT.pack(self._mirrors.descriptor(mirror), offset, length, at)
            # To the file's end the length need not be that of whole blocks.
            await trio.to_thread.run_sync(partial(fcntl.ioctl, target, _FICLONERANGE, argument), limiter=self._limiter)
        except OSError as error:
            self.can = self.can and error.errno not in _NEVER
            return False
        finally:
            mirror.end_read(mark)
        return True
