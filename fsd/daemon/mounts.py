"""The mounts that this machine has, as the kernel lists them, and how to take one away.

Cheap to import (no trio, no pyfuse3): `fsd mount`, `umount` and `status` are short-lived processes. Nothing
here may hang on a mount whose daemon does not answer: whatever asks one does so in a thread that is left behind.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import re
import select
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from fsd.errors import FsdError, NotFoundError, UsageError

FILESYSTEM_TYPE = "fuse.fsd"

STATUS_FILE = ".fsd/status"
"""Below a mount: a JSON object about the daemon, with at least its `pid`."""

STATUS_TIMEOUT_S = 2.0
"""A daemon that serves answers in milliseconds, whatever its store does."""

_MNT_DETACH = 2
_UMOUNT_NOFOLLOW = 8
_MAX_SYMLINKS = 40
_OCTAL = re.compile(r"\\([0-7]{3})")

Answer = TypeVar("Answer")


class MountBusyError(FsdError):
    """Somebody uses files of the mount."""


class NotAnsweringError(FsdError):
    """The mount is there, but its daemon did not answer in time."""


class Mount(NamedTuple):
    """A line of /proc/self/mountinfo."""

    mountpoint: str
    source: str
    type: str
    device: str
    """`major:minor`."""
    options: str
    """Comma-separated."""


def list_mounts(mountinfo: str = "/proc/self/mountinfo") -> list[Mount]:
    """All mounts that this process sees, oldest first. The later of two at one place hides the other."""
    text = Path(mountinfo).read_bytes().decode("utf-8", "surrogateescape")
    return [_parse(line) for line in text.split("\n") if line]


def mount_at(path: str | os.PathLike[str]) -> Mount | None:
    """What is mounted just at `path`, if anything is. Does not touch the mount."""
    place = _place(path)
    return next((mount for mount in reversed(list_mounts()) if mount.mountpoint == place), None)


def mount_of(path: str | os.PathLike[str]) -> Mount | None:
    """The mount of ours that `path` lies in, if any."""
    try:
        place = within(STATUS_TIMEOUT_S, lambda: os.path.realpath(path))
    except TimeoutError:  # somewhere on the way is a mount that does not answer: this one, if no symlink led here
        place = os.path.abspath(path)
    around = [mount for mount in reversed(list_mounts()) if _is_below(place, mount.mountpoint)]
    innermost = max(around, key=lambda mount: len(mount.mountpoint), default=None)
    return innermost if innermost is not None and innermost.type == FILESYSTEM_TYPE else None


def status_of(mount: Mount, *, timeout_s: float) -> dict[str, Any]:
    """What the daemon says of itself. Raises NotAnsweringError."""
    path = os.path.join(mount.mountpoint, STATUS_FILE)

    def read() -> Any:
        with open(path, "rb") as file:
            return json.loads(file.read())

    try:
        status = within(timeout_s, read)
    except (OSError, ValueError, TimeoutError) as error:
        raise NotAnsweringError(f"the mount at {mount.mountpoint} is not answering: {_reason(error)}") from error
    if not isinstance(status, dict):
        raise NotAnsweringError(f"the mount at {mount.mountpoint} gave no status")
    return status


def within(timeout_s: float, function: Callable[[], Answer]) -> Answer:
    """`function()`, or TimeoutError when it takes longer; the thread that runs it is then left behind."""
    answers: list[Answer] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            answers.append(function())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True, name="asks a mount")
    thread.start()
    thread.join(timeout_s)
    if errors:
        raise errors[0]
    if not answers:
        raise TimeoutError(f"no answer within {timeout_s:g} s")
    return answers[0]


def is_stale(path: str | os.PathLike[str]) -> bool:
    """True if `path` is a mount whose daemon is gone: ENOTCONN, "Transport endpoint is not connected"."""
    mount = mount_at(path)
    if mount is None or not mount.type.startswith("fuse"):
        return False
    try:
        # Not stat: the kernel can answer that from its cache long after the daemon is gone.
        within(STATUS_TIMEOUT_S, lambda: os.statvfs(mount.mountpoint))
    except OSError as error:
        return error.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    except TimeoutError:
        return False  # slow, or stopped: somebody holds it
    return False


def unmount(path: str | os.PathLike[str], *, lazy: bool = False) -> None:
    """Take away the mount at `path`; with `lazy`, also one that is in use, for everybody who comes after.

    Raises MountBusyError, NotFoundError if nothing is mounted there, FsdError if we may not.
    """
    place = _place(path)
    number = _umount2(place, lazy=lazy)
    if number == 0:
        return
    if number != errno.EPERM:
        raise _unmount_error(place, number)
    command = shutil.which("fusermount3")
    if command is None:
        raise FsdError("there is no fusermount3", hint="install the package fuse3")
    flags = "-uz" if lazy else "-u"
    done = subprocess.run([command, flags, "--", place], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return
    said = done.stderr.strip().split("\n")[-1].removeprefix("fusermount3: ")
    if os.strerror(errno.EBUSY) in said:
        raise _unmount_error(place, errno.EBUSY)
    if "not found in" in said:  # of the mounts of this user
        if mount_at(place) is not None:
            raise FsdError(f"cannot unmount {place}: somebody else mounted it", hint="ask them, or root")
        raise _unmount_error(place, errno.EINVAL)
    raise FsdError(f"cannot unmount {place}: {said}")


def take_down(path: str | os.PathLike[str], *, lazy: bool, timeout_s: float) -> None:
    """Unmount the mount of ours at `path` and wait until its daemon has ended, so that its cache is free again.

    With `lazy`, a daemon that still serves somebody is not waited for. Raises as `unmount`, UsageError if the mount is
    not ours, and FsdError if the daemon does not end in time.
    """
    mount = mount_at(path)
    if mount is None:
        around = mount_of(path)
        raise NotFoundError(
            f"nothing is mounted at {path}", hint=f"the mount is at {around.mountpoint}" if around is not None else ""
        )
    if mount.type != FILESYSTEM_TYPE:
        raise UsageError(f"what is mounted at {path} is not of fsd, but of type {mount.type}")
    pidfd = _open_daemon(mount)
    try:
        unmount(path, lazy=lazy or is_stale(path))
        if pidfd is not None and not lazy and not wait_gone(pidfd, timeout_s=timeout_s):
            raise FsdError(
                f"{path} is unmounted, but its daemon has not ended within {timeout_s:g} s",
                hint="who still uses it keeps it: an edit, perhaps ('fsd edit --list')",
            )
    finally:
        if pidfd is not None:
            os.close(pidfd)


def _open_daemon(mount: Mount) -> int | None:
    """A pidfd of the mount's daemon; None if the mount does not answer, or the process is not one that we see."""
    try:
        return os.pidfd_open(int(status_of(mount, timeout_s=STATUS_TIMEOUT_S)["pid"]))
    except (NotAnsweringError, KeyError, ValueError, OSError):
        return None


def wait_gone(pidfd: int, *, timeout_s: float) -> bool:
    """Wait until the process behind `pidfd` has ended; False if it has not by then."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))


def _umount2(place: str, *, lazy: bool) -> int:
    """0 or an errno."""
    libc = ctypes.CDLL(None, use_errno=True)
    flags = _UMOUNT_NOFOLLOW | (_MNT_DETACH if lazy else 0)
    return 0 if libc.umount2(os.fsencode(place), flags) == 0 else ctypes.get_errno()


def _unmount_error(place: str, number: int) -> FsdError:
    if number == errno.EBUSY:
        return MountBusyError(
            f"cannot unmount {place}: it is in use", hint=f"leave it, or see who is there with: fuser -vm {place}"
        )
    if number in (errno.EINVAL, errno.ENOENT):
        return NotFoundError(f"nothing is mounted at {place}")
    return FsdError(f"cannot unmount {place}: {os.strerror(number)}")


def _is_below(path: str, folder: str) -> bool:
    return (path + "/").startswith(folder.rstrip("/") + "/")


def _place(path: str | os.PathLike[str]) -> str:
    """The absolute path without symlinks, found without touching what may be mounted at its last part."""
    place = os.path.abspath(path)
    for _ in range(_MAX_SYMLINKS):
        parent, name = os.path.split(place)
        place = os.path.join(os.path.realpath(parent), name)
        try:
            place = os.path.join(os.path.dirname(place), os.readlink(place))
        except OSError:
            break  # no symlink, or a mount that does not answer
    return os.path.normpath(place)


def _parse(line: str) -> Mount:
    """Fields, per proc(5): id parent device root mountpoint options [optional ...] - type source super-options."""
    fields = line.split(" ")
    separator = fields.index("-", 6)
    kind, source, super_options = fields[separator + 1 : separator + 4]
    return Mount(_decode(fields[4]), _decode(source), kind, fields[2], f"{fields[5]},{super_options}")


def _decode(field: str) -> str:
    """The kernel writes blanks and backslashes in octal."""
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), field)


def _reason(error: BaseException) -> str:
    return os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
