"""Overlays: a folder that can be written to, over a version that cannot, with what was written in a folder of its own.

As root the kernel's, else that of fuse-overlayfs. The kernel's gives one inode's writes to all names of that inode, so
the lower folder must lie in a view (`fsd.vfs.toplevel`). Without `redirect_dir` and `metacopy`, so that what is written
lies in the upper folder whole, under its own name (`fsd.publish.upper` reads it there).
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from pathlib import Path

from fsd.daemon import mounts
from fsd.errors import FsdError, UsageError

PROGRAM = "fuse-overlayfs"

KERNEL_TYPE = "overlay"
_TYPES = (KERNEL_TYPE, "fuse.fuse-overlayfs")

_OPTIONS = "index=off,xino=off,redirect_dir=off,metacopy=off"
_SEPARATORS = ",:\\"
"""Of mount options; a path with one of them would have to be escaped, each program in its own way."""


class OverlayError(FsdError):
    """The overlay could not be mounted."""


def mount_overlay(lower: Path, upper: Path, work: Path, place: Path, *, by_program: bool) -> None:
    """Mount it at `place`, a folder. `by_program`: by fuse-overlayfs, though we are root. Raises FsdError."""
    for path in (lower, upper, work, place):
        if any(separator in os.fspath(path) for separator in _SEPARATORS):
            raise UsageError(f"{path} cannot be part of an overlay", hint="no ',', ':' or '\\' may be in its path")
    folders = f"lowerdir={lower},upperdir={upper},workdir={work}"
    if by_program:
        _mount_by_program(folders, place)
        return
    mounted = ctypes.CDLL(None, use_errno=True).mount(
        b"fsd-edit", os.fsencode(place), KERNEL_TYPE.encode(), 0, f"{folders},{_OPTIONS}".encode()
    )
    if mounted != 0:
        reason = os.strerror(ctypes.get_errno())
        raise OverlayError(f"cannot mount an overlay at {place}: {reason}", hint=f"install {PROGRAM}, or see dmesg")


def needs_program(wanted: bool) -> bool:
    """Whether fuse-overlayfs must do it: it is `wanted`, or the kernel does it only for root. Raises UsageError if it
    must, and there is none."""
    if os.geteuid() == 0 and not wanted:
        return False
    if shutil.which(PROGRAM) is None:
        raise UsageError(f"an edit takes {PROGRAM}, or root", hint=f"install it: apt install {PROGRAM}")
    return True


def is_overlaid(place: Path) -> bool:
    """Whether an overlay is mounted just there. Does not touch it."""
    mount = mounts.mount_at(place)
    return mount is not None and mount.type in _TYPES


def unmount_overlay(place: Path) -> None:
    """Take the overlay away if there is one. Raises MountBusyError while somebody uses it."""
    if is_overlaid(place):
        mounts.unmount(place)


def _mount_by_program(folders: str, place: Path) -> None:
    done = subprocess.run([PROGRAM, "-o", folders, os.fspath(place)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise OverlayError(f"{PROGRAM} cannot mount at {place}: {said}", hint="see 'fsd edit --help'")
