"""The cache's folder: who holds it, and which version of the layout it has.

lock        held with flock(2) while a daemon runs; says which process, and what for
version     of this layout
mirrors/    fsd.cache.mirrors
index/      fsd.cache.index
objects/    fsd.cache.metadata
"""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path

from fsd.errors import ConflictError, UsageError

LAYOUT_VERSION = "1\n"


class CacheFolder:
    """A folder that is ours alone until `close`. Blocks."""

    def __init__(self, directory: Path, purpose: str) -> None:
        """Make it if need be, and take it. Raises ConflictError if another process has it, UsageError if it cannot be.

        `purpose` tells who is refused what it is used for (a mountpoint).
        """
        self.directory = directory
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise UsageError(f"cannot use {directory} as cache folder: {error.strerror}") from error
        try:
            self._take(purpose)
            self._check_version()
        except BaseException:
            os.close(self._lock)
            raise

    def _take(self, purpose: str) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid, _, what = os.pread(self._lock, 4096, 0).decode(errors="replace").strip().partition(" ")
            raise ConflictError(
                f"cache folder {self.directory} is in use by process {pid or '?'}{f' ({what})' if what else ''}",
                hint="use another --cache-dir or umount it",
            ) from None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()} {purpose}\n".encode(errors="surrogateescape"), 0)

    def _check_version(self) -> None:
        version = self.directory / "version"
        try:
            if version.read_text() == LAYOUT_VERSION:
                return
        except (FileNotFoundError, UnicodeDecodeError):
            pass
        # Another layout, or a first start that was killed: it is only a cache.
        for name in ("mirrors", "index", "objects"):
            shutil.rmtree(self.directory / name, ignore_errors=True)
        version.write_text(LAYOUT_VERSION)

    def close(self) -> None:
        """Give it up."""
        os.close(self._lock)
