"""The control socket of a mount: where it is, who may use it, and when what answers there is loaded.

A Unix socket of mode 0600 in the cache's folder, which this daemon alone holds: whatever lies there from one that was
killed is nobody's. Only the daemon's user and root can connect. It speaks HTTP (`control_api`); what that takes is
loaded when somebody connects for the first time, so a mount starts no later for it.

Metrics can have a socket of their own, since Prometheus speaks TCP; there is nothing else to be had there.

Cheap to import: the command line finds the socket by the same rules.
"""

from __future__ import annotations

import importlib
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import trio

from fsd.daemon.sockets import address

log = logging.getLogger(__name__)

SOCKET_NAME = "control.sock"

_BACKLOG = 64


@contextmanager
def listening(folder: Path) -> Iterator[socket.socket]:
    """A listening socket in `folder`, which must be ours alone; it is gone at the end. Raises OSError."""
    path = folder / SOCKET_NAME
    with suppress(FileNotFoundError):
        path.unlink()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as listener:
        with address(path) as bound:
            listener.bind(bound)
        try:
            # Nobody can connect before there is somebody who listens, so nobody came before this.
            os.chmod(path, 0o600)
            listener.listen(_BACKLOG)
            yield listener
        finally:
            with suppress(FileNotFoundError):
                path.unlink()


@contextmanager
def listening_for_metrics(address: tuple[str, int]) -> Iterator[socket.socket]:
    """A listening socket that Prometheus can reach. Raises OSError."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.create_server(address, family=family, backlog=_BACKLOG) as listener:
        listener.setblocking(False)
        yield listener


async def serve(listener: socket.socket, vfs: Any, *, only_metrics: bool = False) -> None:
    """Answer on `listener`, until cancelled. A mistake in there does not end the mount."""
    await trio.lowlevel.wait_readable(listener)
    try:
        api = await trio.to_thread.run_sync(importlib.import_module, "fsd.daemon.control_api")
        await api.serve(listener, vfs, only_metrics=only_metrics)
    except Exception:
        log.exception("the control API has ended; the mount goes on without")
