"""Denying a command what it may not use, by Landlock: a sandbox that any process may put itself into, for good, with
all that it starts.

A rule names a file or folder by what it is, not by its path: a folder with all that is below it, by whichever way one
comes there (symlinks, `/proc/self/root`, bind mounts). Of that:

    read       to be read, listed and run
    write      to be changed as well; it is there already
    outputs    the same; and *below the folder that it is in* anything may be made, written and removed, but not read
    listed     only the names in it, and in all folders below it

The kernel knows no rule for a file that is not there yet, and none that ends at a folder's own entries. That is why an
output opens the folder that it is in for writing; and why it may be read again only if it was there before. Python
finds no module in a folder that it may not list, so a folder with code in it has to be `listed`.

What Landlock does not deny: that a file is there, its size and its times (`stat`); descriptors that are open already;
the network; UNIX sockets. A process in it gets no privileges from `sudo` and the like, and mounts nothing.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import stat
import struct
from collections.abc import Iterable, Sequence
from glob import iglob
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from fsd.errors import FsdError

_CREATE_RULESET = 444
_ADD_RULE = 445
_RESTRICT_SELF = 446
"""System calls, with the same numbers everywhere; the C library has no functions for them."""
_CREATE_RULESET_VERSION = 1
_RULE_PATH_BENEATH = 1
_PR_SET_NO_NEW_PRIVS = 38

_EXECUTE = 1 << 0
_WRITE_FILE = 1 << 1
_READ_FILE = 1 << 2
_READ_DIR = 1 << 3
_REMOVE = 1 << 4 | 1 << 5
_MAKE = sum(1 << bit for bit in range(6, 13))
"""Files, folders, symlinks, sockets, fifos; devices for who may."""
_REFER = 1 << 13
"""To move or link from one folder to another."""
_TRUNCATE = 1 << 14

_READING = _EXECUTE | _READ_FILE | _READ_DIR
_MAKING = _WRITE_FILE | _REMOVE | _MAKE | _REFER | _TRUNCATE
_FOR_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE
"""What a rule for something else than a folder may say."""

_SINCE = {2: _REFER, 3: _TRUNCATE}
"""By version of Landlock, what it can deny from then on. (From 5 on it could deny ioctl(2) on devices, which GPUs
need.)"""

_RULE = struct.Struct("=Qi")

_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/opt", "/nix/store", "/gnu/store")
"""Programs and libraries, and how the machine is set up. What they hold, a run's record tells by names alone: packages
and the machine."""
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "shm", "mqueue", "dri", "kfd", "nvidia*")
"""Of `/dev`: no disks. Shared memory is what the processes of a command talk through."""
_PACKAGE = Path(__file__).parents[1]
"""Ours, by which a command reports its metrics."""
_RESOLVER = "/etc/resolv.conf"
"""Is often a symlink to what is kept in `/run`."""


class Allowed(NamedTuple):
    """What a command may use; see the module. Paths are absolute and without symlinks: what is a symlink itself opens
    nothing, and neither does what is not there."""

    read: Sequence[Path] = ()
    write: Sequence[Path] = ()
    outputs: Sequence[Path] = ()
    listed: Sequence[Path] = ()

    def __or__(self, other: object) -> Allowed:
        """What is in either."""
        if not isinstance(other, Allowed):
            return NotImplemented
        return Allowed(*((*ours, *theirs) for ours, theirs in zip(self, other, strict=True)))


def system() -> Allowed:
    """What any command needs of the machine. (Of processes that are not in the sandbox, `/proc` then shows neither
    memory nor open files.)"""
    resolver = os.path.realpath(_RESOLVER)
    devices = [path for name in _DEVICES for path in iglob(f"/dev/{name}")]
    return Allowed(
        read=[_PACKAGE, *map(Path, (*_SYSTEM, "/sys", resolver))],
        write=list(map(Path, ("/proc", *devices))),
    )


class Ruleset:
    """Rules that are ready; a context manager that holds one descriptor."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def restrict_self(self) -> None:
        """Put this process and all that it will start under the rules, for good. For the child of a fork: allocates no
        more than a call takes, and takes no lock. Raises OSError: E2BIG where sandboxes are nested 16 deep."""
        if _LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
            raise _last_error()
        if _LIBC.syscall(_RESTRICT_SELF, self._descriptor, 0) != 0:
            raise _last_error()

    def close(self) -> None:
        """Idempotent. Who is under the rules already stays so."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __enter__(self) -> Ruleset:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def version() -> int:
    """Of the kernel's Landlock; 0 where it has none, or has it switched off."""
    found = int(_LIBC.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _CREATE_RULESET_VERSION))
    return max(found, 0)


def prepare(allowed: Allowed) -> Ruleset:
    """Rules for what is there now. Blocks for some 20 µs a path. Raises FsdError where the kernel has no Landlock."""
    known = version()
    if not known:
        raise FsdError(
            "this kernel cannot deny a command what is not declared: it has no Landlock",
            hint="run it without --strict; or boot Linux 5.13 or later with 'landlock' in its parameter 'lsm'",
        )
    handled = _READING | _MAKING
    for since, rights in _SINCE.items():
        if known < since:
            handled &= ~rights
    attributes = struct.pack("=Q", handled)
    descriptor = _LIBC.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    if descriptor < 0:
        raise FsdError(f"cannot make Landlock rules: {_last_error().strerror}")
    ruleset = Ruleset(descriptor)
    try:
        for path, rights in _rules(allowed):
            _add(descriptor, path, rights & handled)
    except OSError as error:
        ruleset.close()
        raise FsdError(f"cannot make a Landlock rule for {error.filename}: {error.strerror}") from error
    return ruleset


def _rules(allowed: Allowed) -> Iterable[tuple[Path, int]]:
    yield from ((path, _READING) for path in allowed.read)
    yield from ((path, _READING | _MAKING) for path in (*allowed.write, *allowed.outputs))
    yield from ((path, _READ_DIR) for path in allowed.listed)
    for path in dict.fromkeys(_nearest_folder(path) for path in allowed.outputs):
        yield path, _MAKING


def _nearest_folder(path: Path) -> Path:
    """Where the first of what leads to `path` will have to be made."""
    return next(folder for folder in path.parents if folder.is_dir())


def _add(ruleset: int, path: Path, rights: int) -> None:
    """Nothing for a symlink, and for what is not there. Raises OSError with the path."""
    try:
        descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EACCES):
            return
        raise
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISLNK(mode):
            return
        if not stat.S_ISDIR(mode):
            rights &= _FOR_FILES
        if rights and _LIBC.syscall(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, _RULE.pack(rights, descriptor), 0) != 0:
            raise _last_error(path)
    finally:
        os.close(descriptor)


def _last_error(path: Path | None = None) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), None if path is None else os.fspath(path))


_LIBC = ctypes.CDLL(None, use_errno=True)
"""Loaded before any fork."""


# --- what was denied

_TAIL_BYTES = 64 * 1024
_DENIED = (
    re.compile(r"Permission denied: '([^']+)'"),  # Python
    re.compile(r"(?:^|[:\s])'?([^\s:']+)'?: Permission denied"),  # cat, sh, perl, C programs
    re.compile(r"Permission denied[^'\"\w/]*['\"]?([^\s'\"]*)"),
)
"""How programs say it, the most exact first."""


def denial(log: Path) -> str:
    """For people, why a command may have failed that ran under rules: what it was denied, as its output tells.

    The kernel tells nobody but root's audit log, and not every kernel does; so this is what the command said itself.
    """
    try:
        with log.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
            lines = file.read().decode(errors="backslashreplace").splitlines()
    except OSError:
        lines = []
    for line in reversed(lines):
        for pattern in _DENIED:
            if (match := pattern.search(line)) is not None:
                named = f" ({match[1]})" if match[1] else ""
                return f"a file that is not declared{named} was denied: see --dep"
    return (
        "--strict denies files that are not declared, which may be why it failed: see --dep; "
        "its output does not say so, and the system does not tell which"
    )
