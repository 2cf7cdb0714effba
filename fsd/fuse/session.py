"""One session with the kernel: mount, serve until it is over, unmount. pyfuse3 allows one a process.

The session is over when somebody unmounts (the kernel then closes the connection), or when the task that serves it is
cancelled: requests under way are then dropped, and the unmount answers them with ENOTCONN.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
from collections.abc import Iterator
from pathlib import Path

import pyfuse3
import trio

from fsd.errors import FsdError
from fsd.fuse import interpose
from fsd.fuse.adapter import Operations
from fsd.limits import Limits

log = logging.getLogger(__name__)

SUBTYPE = "fsd"
"""Mounts are of type `fuse.fsd`."""

_SPARE_TASKS = 1024
"""Requests served at once beyond the kernel's background ones: every process that waits for a read holds one."""


class MountError(FsdError):
    """The kernel, or fusermount3, refused to mount."""


class Session:
    """A mount that this process serves. Made by `mounted`."""

    def __init__(self, mountpoint: Path, limits: Limits, device: int) -> None:
        self.mountpoint = mountpoint
        self._max_tasks = limits.max_background + _SPARE_TASKS
        self._device = device

    async def serve(self) -> None:
        """Answer the kernel until somebody unmounts. Requests under way then have lost their callers: cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._cancel_when_disconnected, nursery.cancel_scope)
            await pyfuse3.main(max_tasks=self._max_tasks)
            nursery.cancel_scope.cancel()

    async def _cancel_when_disconnected(self, scope: trio.CancelScope) -> None:
        """pyfuse3's loop ends by itself, but it waits for its handlers, and one of them may wait for the network.

        The kernel signals the end as an error condition of the descriptor; an epoll that asks for nothing else becomes
        readable just then.
        """
        with select.epoll(1) as epoll:
            epoll.register(self._device, 0)
            await trio.lowlevel.wait_readable(epoll.fileno())
        log.debug("the kernel closed the connection")
        scope.cancel()


@contextlib.contextmanager
def mounted(
    operations: Operations, mountpoint: Path, options: frozenset[str], limits: Limits, *, interposed: bool = True
) -> Iterator[Session]:
    """Mount at `mountpoint`, with `options` besides those that always hold; unmount at the end.

    `interposed` False keeps the C extension out, for tests of the ordinary path. Raises MountError. Touches the
    mountpoint's file system, but never the mount itself.
    """
    interpose.configure(enabled=interposed, max_background=limits.max_background)
    if interposed and not interpose.available():
        log.warning("files are opened the ordinary way: %s", interpose.unavailable_reason())
    everything = options | {"ro", "default_permissions", f"subtype={SUBTYPE}"}
    with _collected_stderr() as complaints:
        try:
            pyfuse3.init(operations, os.fspath(mountpoint), set(everything))
        except RuntimeError as error:
            raise MountError(f"cannot mount at {mountpoint}: {_last_line(complaints) or error}") from error
    try:
        yield Session(mountpoint, limits, _fuse_device())
    finally:
        pyfuse3.close(unmount=True)


def _fuse_device() -> int:
    """The descriptor that pyfuse3 talks to the kernel by, which it does not tell. There is only one."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{name}") == "/dev/fuse":
                return int(name)
    raise MountError("mounted, but there is no descriptor of /dev/fuse")


@contextlib.contextmanager
def _collected_stderr() -> Iterator[int]:
    """libfuse and fusermount3 say what is wrong on descriptor 2 only. Yields a descriptor to read it from."""
    collected = os.memfd_create("libfuse-messages")
    saved = os.dup(2)
    os.dup2(collected, 2)
    try:
        yield collected
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(collected)


def _last_line(descriptor: int) -> str:
    lines = os.pread(descriptor, 65536, 0).decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
