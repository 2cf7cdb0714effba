"""A mount at a place that only this process and its children see: a mount namespace of our own.

For who may not make or mount at `/fsd`: the kernel lets an ordinary user do so in a user namespace, where others see
nothing of it. The place needs not exist: the folder that it would be in is shown again, with everything that is there
and the place besides. For `/fsd` this is a new root. On the disk nothing changes.

Changes the whole process for good, which is to have one thread by then. Errors are FsdErrors; what was done before one
vanishes with the process.
"""

from __future__ import annotations

import ctypes
import errno
import os
import time
from pathlib import Path

from fsd.errors import FsdError

_CLONE_NEWNS = 0x00020000
_CLONE_NEWUSER = 0x10000000
_MS_BIND = 0x1000
_MS_MOVE = 0x2000
_MS_REC = 0x4000
_MS_SLAVE = 0x80000
_MNT_DETACH = 2
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "ppc64le": 203, "s390x": 217, "riscv64": 41}
"""The system call's number; the C library has no function for it."""

_ALONE_WITHIN_S = 1.0
"""A thread that has been joined takes microseconds more to end."""

_DENIED = (errno.EPERM, errno.EACCES, errno.ENOSPC, errno.EUSERS, errno.ENOSYS)
"""How a system says that it does not let users have namespaces. ENOSPC: `user.max_user_namespaces` is 0."""


def show_at(source: Path, place: Path, staging: Path) -> None:
    """Let the folder `source`, such as a mount's, be at `place` too, for this process and its children.

    Both are absolute; `staging` is a folder that exists and that nothing else needs, where the kernel would show what
    is being prepared. Raises FsdError where namespaces are not permitted.
    """
    _leave()
    if place.is_dir():
        _mount(os.fspath(source), place, _MS_BIND | _MS_REC)
    else:
        _show_with_place(source, place, staging)


def _leave() -> None:
    """Enter a mount namespace of our own; who is not root needs a user namespace with their own id in it."""
    _wait_alone()
    user, group = os.geteuid(), os.getegid()
    flags = _CLONE_NEWNS if user == 0 else _CLONE_NEWNS | _CLONE_NEWUSER
    if _libc().unshare(flags) != 0:
        raise _error("make a mount namespace", ctypes.get_errno())
    try:
        if user != 0:
            # Root's id would be the usual choice; but who looks at their own files wants to see their own name.
            _write("/proc/self/setgroups", "deny")
            _write("/proc/self/uid_map", f"{user} {user} 1")
            _write("/proc/self/gid_map", f"{group} {group} 1")
    except OSError as error:
        raise _error("enter a user namespace", error.errno or errno.EIO) from error
    # What is mounted and unmounted outside goes on reaching us, and nothing of ours the outside.
    _mount("none", Path("/"), _MS_SLAVE | _MS_REC)


def _wait_alone() -> None:
    """Wait until threads that have done their work are gone from the kernel's list as well."""
    deadline = time.monotonic() + _ALONE_WITHIN_S
    while len(os.listdir("/proc/self/task")) > 1:
        if time.monotonic() > deadline:
            raise FsdError("cannot make a mount namespace: a thread still waits for a mount that does not answer")
        time.sleep(0.001)


def _show_with_place(source: Path, place: Path, staging: Path) -> None:
    """Show the nearest folder above `place` again, with `source` at the place in it."""
    around = next(folder for folder in place.parents if folder.is_dir())
    here = os.getcwd()
    _mount("none", staging, 0, kind="tmpfs", options="mode=755")
    _show_again(around, staging)
    staged = staging / place.relative_to(around)
    staged.mkdir(parents=True)
    _mount(os.fspath(source), staged, _MS_BIND | _MS_REC)
    if around == Path("/"):
        _pivot(staging)
    else:
        _mount(os.fspath(staging), around, _MS_MOVE)
    os.chdir(here)


def _show_again(folder: Path, copy: Path) -> None:
    """Everything that is in `folder`, with what is mounted there, in the empty folder `copy`."""
    with os.scandir(folder) as entries:
        for entry in entries:
            at = copy / entry.name
            if entry.is_symlink():
                at.symlink_to(os.readlink(entry.path))
                continue
            if entry.is_dir():
                at.mkdir()
            else:
                at.touch()
            _mount(entry.path, at, _MS_BIND | _MS_REC)


def _pivot(root: Path) -> None:
    """Make `root` the root. Not chroot: in one, no further user namespace may be made, as sandboxes want to."""
    number = _PIVOT_ROOT.get(os.uname().machine)
    if number is None:
        raise FsdError(
            f"cannot change the root on {os.uname().machine}", hint="ask an administrator for the mountpoint"
        )
    os.chdir(root)
    # The old root ends up on top of the new one, at the same place, from where it is taken away.
    if _libc().syscall(number, b".", b".") != 0:
        raise _error("change the root", ctypes.get_errno())
    if _libc().umount2(b".", _MNT_DETACH) != 0:
        raise _error("leave the old root", ctypes.get_errno())
    os.chdir("/")


def _mount(source: str, target: Path, flags: int, *, kind: str = "none", options: str = "") -> None:
    done = _libc().mount(
        os.fsencode(source), os.fsencode(target), kind.encode(), ctypes.c_ulong(flags), options.encode()
    )
    if done != 0:
        raise _error(f"show something at {target}", ctypes.get_errno())


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _error(what: str, number: int) -> FsdError:
    hint = (
        "this system does not let users have namespaces: ask for the mountpoint to be made" if number in _DENIED else ""
    )
    return FsdError(f"cannot {what}: {os.strerror(number)}", hint=hint)
