"""The cache's folder: who holds it, and which version of the layout it has.

lock        held with flock(2) while a daemon runs; says which process, and what for
version     of this layout
mirrors/    fsd.cache.mirrors
index/      fsd.cache.index
objects/    fsd.cache.metadata
pins/       fsd.cache.pins
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

from fsd.cache.pins import pinned_packs
from fsd.errors import ConflictError, UsageError

LAYOUT_VERSION = "1\n"

CLOSING_WAIT_S = 60.0
"""Making the last data durable can take that long on a busy disk."""

CLOSING_POLL_S = 0.05

_CLOSING = "closing"
_IN_MEMORY = ("tmpfs", "ramfs")

DISK_MARGIN_BYTES = 64 * 1024 * 1024
DISK_MARGIN_SHARE = 0.02
"""The lesser of both stays free on the disk, also when others fill it: the index must be able to write down what is
evicted, and nobody else's program should fail for a cache."""


def missing_disk_bytes(directory: Path) -> int:
    """By how much the disk is fuller than the margin permits; negative where it is not."""
    disk = os.statvfs(directory)
    margin = min(DISK_MARGIN_BYTES, int(disk.f_blocks * disk.f_frsize * DISK_MARGIN_SHARE))
    return margin - disk.f_bavail * disk.f_frsize


def is_in_memory(directory: Path) -> bool:
    """Whether the folder is on tmpfs or the like, where nothing is ever read from a disk."""
    device = os.stat(directory).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
        for line in mounts:
            fields, _, rest = line.partition(" - ")
            if fields.split()[2] == number:
                return rest.split()[0] in _IN_MEMORY
    return False


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
            raise _refused(directory, error) from error
        try:
            self._take()
            self._make_room()
            self._check_version()
            self._tell(purpose)
        except BaseException as error:
            os.close(self._lock)
            if isinstance(error, OSError):
                raise _refused(directory, error) from error
            raise

    def _take(self) -> None:
        until_s = time.monotonic() + CLOSING_WAIT_S
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                pid, _, what = os.pread(self._lock, 4096, 0).decode(errors="replace").strip().partition(" ")
            if what != _CLOSING or time.monotonic() > until_s:
                raise ConflictError(
                    f"cache folder {self.directory} is in use by process {pid or '?'}{f' ({what})' if what else ''}",
                    hint="use another --cache-dir or umount it",
                )
            time.sleep(CLOSING_POLL_S)

    def _make_room(self) -> None:
        """Where the disk is too full for the index to be opened, let the mirrors go that were not written for longest,
        and those with something pinned in them last.

        Their records are removed when the cache finds them gone.
        """
        missing = missing_disk_bytes(self.directory)
        if missing <= 0:
            return
        mirrors = [(path.stat(), path) for path in (self.directory / "mirrors").glob("*/*") if path.is_file()]
        pinned = pinned_packs(self.directory / "pins")
        for stat, path in sorted(mirrors, key=lambda found: (found[1].name in pinned, found[0].st_mtime)):
            if missing <= 0:
                break
            path.unlink()
            missing -= stat.st_blocks * 512

    def _tell(self, purpose: str) -> None:
        """Write down for others who has the folder."""
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()} {purpose}\n".encode(errors="surrogateescape"), 0)

    def begin_closing(self) -> None:
        """Whoever wants the folder from now on waits instead of being refused: it will be free in a moment."""
        with suppress(OSError):  # a full disk: they are refused, then
            self._tell(_CLOSING)

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


def unusable(directory: Path, reason: str, *, is_full: bool) -> UsageError:
    """What to tell who wanted `directory` for a cache: why it cannot be, and what to do; `is_full` if its disk is."""
    hint = "make room there, or use another --cache-dir" if is_full else "use another --cache-dir"
    return UsageError(f"cannot use {directory} as cache folder: {reason}", hint=hint)


def _refused(directory: Path, error: OSError) -> UsageError:
    return unusable(directory, error.strerror or str(error), is_full=error.errno == errno.ENOSPC)
