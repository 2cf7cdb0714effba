"""Real files in the place of a pin: copied out of the mount, checked against the hash that the mount has for each file,
and put in place in one step when all of them are there and durable.

Knows paths and nothing of stores: what a pin leads to is read as everybody reads it.
"""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import trio
from blake3 import blake3

from fsd.errors import ConflictError, CorruptDataError, FsdError
from fsd.tasks import gather

HASH_ATTRIBUTE = "user.fsd.blake3"

_READ_BYTES = 1 << 20

_TASKS = 16
"""Files copied at once: enough to keep a link busy with small ones, and each holds a thread."""

_BATCH = 1024
"""Files listed before they are copied."""

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


class Item(NamedTuple):
    """A file or symlink to be copied."""

    source: Path
    target: Path
    size: int
    mode: int
    """Of the file; 0 for a symlink."""


Advance = Callable[[int, int], None]
"""Called with bytes and files that are done. In trio's thread."""


def measure(source: Path) -> tuple[int, int]:
    """Bytes and files below `source`, or of the file itself. Blocks; stats every file."""
    sizes = [item.size for item in _walk(source, source, make=False)]
    return sum(sizes), len(sizes)


async def replace_with_copy(source: Path, link: Path, target: Path, advance: Advance) -> None:
    """Copy `source`, where the symlink `link` leads, to `target`; then let nothing of it depend on the mount.

    Is `target` the link itself, the copy takes its place. Else the link leads to the copy from then on. Until all is
    copied and checked, nothing changes. Raises ConflictError if something is at `target`, CorruptDataError for a file
    that is not what its hash says, FsdError for one that cannot be read or written.
    """
    staged = target.with_name(f".{target.name[:200]}.unpin")
    try:
        await trio.to_thread.run_sync(_prepare, staged, link, target)
        await _copy(source, staged, advance)
        await trio.to_thread.run_sync(_put_in_place, staged, link, target)
    except OSError as error:
        raise FsdError(f"cannot copy {source} to {target}: {error.strerror}") from error
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(_remove, staged)


def _prepare(staged: Path, link: Path, target: Path) -> None:
    if target != link and os.path.lexists(target):
        raise ConflictError(f"{target} is there already", hint="name a folder that is to be made")
    _remove(staged)  # left by an earlier try that was killed


async def _copy(source: Path, staged: Path, advance: Advance) -> None:
    async def copy(item: Item) -> None:
        await trio.to_thread.run_sync(_copy_item, item)
        advance(item.size, 1)

    walking = _walk(source, staged, make=True)
    while batch := await trio.to_thread.run_sync(lambda: list(itertools.islice(walking, _BATCH))):
        await gather(copy, batch, tasks=_TASKS)
    await trio.to_thread.run_sync(_sync, staged)


def _walk(source: Path, target: Path, *, make: bool) -> Iterator[Item]:
    """Files and symlinks below `source`; with `make`, their directories are made first."""
    status = source.stat()
    if not source.is_dir():
        yield Item(source, target, status.st_size, status.st_mode)
        return
    waiting = [(source, target)]
    while waiting:
        directory, copy = waiting.pop()
        if make:
            copy.mkdir()
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append((directory / entry.name, copy / entry.name))
                    continue
                found = entry.stat(follow_symlinks=False)
                mode = 0 if entry.is_symlink() else found.st_mode
                yield Item(directory / entry.name, copy / entry.name, found.st_size, mode)


def _copy_item(item: Item) -> None:
    try:
        if not item.mode:
            os.symlink(os.readlink(item.source), item.target)
            return
        with item.source.open("rb", buffering=0) as reading:
            expected = os.getxattr(reading.fileno(), HASH_ATTRIBUTE).decode()
            permissions = 0o777 if item.mode & 0o111 else 0o666
            descriptor = os.open(item.target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, permissions)
            with open(descriptor, "wb", buffering=0) as writing:
                found = blake3()
                while data := reading.read(_READ_BYTES):
                    found.update(data)
                    writing.write(data)
    except OSError as error:
        raise FsdError(f"cannot copy {item.source}: {error.strerror}", hint="see .fsd/errors in the mount") from error
    if found.hexdigest() != expected:
        raise CorruptDataError(f"the copy of {item.source} is not what its hash says")


def _put_in_place(staged: Path, link: Path, target: Path) -> None:
    if target == link:
        _exchange(staged, link)
        return
    os.rename(staged, target)
    # Relative, so that the work tree can be moved.
    os.symlink(os.path.relpath(target, link.parent), staged)
    os.replace(staged, link)


def _exchange(staged: Path, link: Path) -> None:
    """Swap the two in one step; where the file system cannot, the link is gone for a moment."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(_AT_FDCWD, os.fsencode(staged), _AT_FDCWD, os.fsencode(link), _RENAME_EXCHANGE) == 0:
        return
    number = ctypes.get_errno()
    if number not in (errno.EINVAL, errno.ENOSYS):
        raise OSError(number, os.strerror(number))
    os.unlink(link)
    os.rename(staged, link)


def _sync(path: Path) -> None:
    """Make the whole file system durable: cheaper than one fsync a file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
