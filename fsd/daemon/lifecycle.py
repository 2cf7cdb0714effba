"""Before and around a mount: is the mountpoint fit, which options, who is told that it is ready.

Cheap to import. Checks are there for clear messages; the kernel and fusermount3 have the last word.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fsd.daemon import mounts
from fsd.errors import ConflictError, FsdError, NotFoundError, UsageError

log = logging.getLogger(__name__)

FUSE_DEVICE = Path("/dev/fuse")
FUSE_CONF = Path("/etc/fuse.conf")
PROCESS_STATUS = Path("/proc/self/status")

_CAP_SYS_ADMIN = 21

_ANSWER_TIMEOUT_S = 5.0
"""What lies at the mountpoint may be somebody else's file system, whose server is stuck."""

_STACKED_STALE_MOUNTS = 8
"""Crashed daemons can have left this many mounts on top of each other before we give up."""


def check_fuse() -> None:
    """Raise FsdError where this machine, or this user, cannot mount at all."""
    if not FUSE_DEVICE.exists():
        raise FsdError(
            f"there is no {FUSE_DEVICE}",
            hint="load the kernel's module with 'modprobe fuse', or give the container --device /dev/fuse",
        )
    if not os.access(FUSE_DEVICE, os.R_OK | os.W_OK):
        raise FsdError(f"no right to use {FUSE_DEVICE}", hint=f"as root: chmod 666 {FUSE_DEVICE}, as udev would do")
    if not may_mount() and shutil.which("fusermount3") is None:
        raise FsdError("mounting as an ordinary user takes fusermount3", hint="install the package fuse3")


def may_mount() -> bool:
    """Whether the kernel lets this process mount: root, or a service's user that was given CAP_SYS_ADMIN."""
    try:
        lines = PROCESS_STATUS.read_text().split("\n")
    except OSError:
        return os.geteuid() == 0
    effective = next((line.split()[1] for line in lines if line.startswith("CapEff:")), "0")
    return bool(int(effective, 16) >> _CAP_SYS_ADMIN & 1)


@contextmanager
def prepared(mountpoint: Path) -> Iterator[None]:
    """A mountpoint that is fit (see `prepare_mountpoint`), and ours alone to mount at while inside.

    Else two that start at once would both find it empty, and mount one on top of the other. Raises also ConflictError.
    """
    prepare_mountpoint(mountpoint)
    descriptor = _open_directory(mountpoint)
    try:
        if descriptor is not None:
            _lock(descriptor, mountpoint)
        # Whoever was before us may have mounted meanwhile.
        _check_unmounted(mountpoint)
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _lock(descriptor: int, mountpoint: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConflictError(f"something else is just being mounted at {mountpoint}", hint="see 'fsd status'") from None


def _open_directory(path: Path) -> int | None:
    """A descriptor of the directory; None where there is none to be had, which is for others to tell."""
    try:
        return mounts.within(_ANSWER_TIMEOUT_S, lambda: os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    except (OSError, TimeoutError):
        return None


def prepare_mountpoint(mountpoint: Path) -> None:
    """Clear stale mounts at `mountpoint` and check that it is an empty directory that we may mount at.

    Raises NotFoundError, UsageError, ConflictError (a mount of ours is there and alive) or FsdError.
    """
    clear_stale(mountpoint)
    _check_unmounted(mountpoint)
    try:
        mounts.within(_ANSWER_TIMEOUT_S, lambda: _check_empty_directory(mountpoint))
    except FileNotFoundError as error:
        raise NotFoundError(
            f"the mountpoint {mountpoint} does not exist", hint=f"make it with: mkdir -p {mountpoint}"
        ) from error
    except TimeoutError as error:
        raise FsdError(f"cannot use the mountpoint {mountpoint}: {error}") from error
    except OSError as error:
        raise FsdError(f"cannot use the mountpoint {mountpoint}: {os.strerror(error.errno or errno.EIO)}") from error
    if not may_mount() and not os.access(mountpoint, os.W_OK):
        raise FsdError(
            f"no right to mount at {mountpoint}", hint="an ordinary user mounts at a directory that is theirs to write"
        )


def _check_unmounted(mountpoint: Path) -> None:
    mount = mounts.mount_at(mountpoint)
    if mount is not None and mount.type == mounts.FILESYSTEM_TYPE:
        raise ConflictError(
            f"{mount.source} is mounted at {mountpoint} already", hint=f"unmount it with: fsd umount {mountpoint}"
        )


def _check_empty_directory(mountpoint: Path) -> None:
    if not stat.S_ISDIR(os.stat(mountpoint).st_mode):
        raise UsageError(f"the mountpoint {mountpoint} is not a directory")
    with os.scandir(mountpoint) as entries:
        if any(entries):
            raise UsageError(f"the mountpoint {mountpoint} is not empty", hint="mount at an empty directory")


def clear_stale(mountpoint: Path) -> None:
    """Take away mounts whose daemon has died: they answer nothing but "Transport endpoint is not connected"."""
    for _ in range(_STACKED_STALE_MOUNTS):
        if not mounts.is_stale(mountpoint):
            return
        log.warning("clearing a stale mount at %s", mountpoint)
        mounts.unmount(mountpoint, lazy=True)
    raise FsdError(f"there are too many stale mounts at {mountpoint}", hint=f"clear them with: umount -l {mountpoint}")


def mount_options(store_url: str, *, allow_other: bool, noexec: bool = False) -> frozenset[str]:
    """Options of the mount, besides those of every session. Raises UsageError if others may not be let in."""
    options = {f"fsname={_escaped(store_url)}"}
    if allow_other:
        if not may_mount() and not _user_allow_other():
            raise UsageError(
                f"--allow-other is not permitted: {FUSE_CONF} lacks the line user_allow_other",
                hint="ask an administrator to add it",
            )
        options.add("allow_other")
    if noexec:
        options.add("noexec")
    return frozenset(options)


def raise_read_ahead(device: str, read_ahead_bytes: int) -> bool:
    """Let the kernel read further ahead on a mount (`device`: major:minor). Only root may; False if we may not."""
    control = Path("/sys/class/bdi") / device / "read_ahead_kb"
    try:
        control.write_text(str(read_ahead_bytes // 1024))
    except OSError as error:
        log.info("the kernel's read-ahead stays as it is: %s", error)
        return False
    return True


def raise_max_background(device: str, requests: int) -> bool:
    """Let the kernel have more asynchronous requests open, where the C extension could not ask for it; False if not."""
    control = Path("/sys/fs/fuse/connections") / device.partition(":")[2] / "max_background"
    try:
        control.write_text(str(requests))
    except OSError as error:
        log.info("the kernel's limit of background requests stays as it is: %s", error)
        return False
    return True


class ReadyPipe:
    """Tells whoever started us, once, how the start went: one JSON line on an inherited descriptor."""

    def __init__(self, descriptor: int | None = None) -> None:
        self._descriptor = descriptor

    def ready(self) -> None:
        """The mount answers."""
        self._write({"ready": True, "pid": os.getpid()})

    def failed(self, message: str, exit_code: int) -> None:
        """It never will, or it had been ready and this came too late: then nobody listens any more."""
        self._write({"ready": False, "error": message, "exit_code": exit_code})

    def _write(self, message: dict[str, object]) -> None:
        if self._descriptor is None:
            return
        descriptor, self._descriptor = self._descriptor, None
        try:
            os.write(descriptor, json.dumps(message).encode() + b"\n")
        except BrokenPipeError:
            log.info("whoever started this did not wait")
        finally:
            os.close(descriptor)


def _user_allow_other() -> bool:
    try:
        lines = FUSE_CONF.read_text().split("\n")
    except OSError:
        return False
    return any(line.strip() == "user_allow_other" for line in lines)


def _escaped(value: str) -> str:
    """Commas separate mount options."""
    return value.replace("\\", "\\\\").replace(",", "\\,")
