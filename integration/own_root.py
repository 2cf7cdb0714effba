"""Runs a command where `/fsd` is an empty folder, whatever this machine has there, and nobody else sees what it mounts:
`python -m integration.own_root FOLDER COMMAND ...`, with FOLDER for what that takes.

To be started in a mount namespace and a PID namespace of its own, which take everything with them when they end.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from fsd.daemon import mounts
from fsd.daemon.namespace import show_at

IN_NAMESPACES = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
"""A wrapper for the command."""


def main(folder: Path, command: list[str]) -> None:
    for name in ("fsd", "staging"):
        (folder / name).mkdir(parents=True)
    show_at(folder / "fsd", Path("/fsd"), folder / "staging")
    for mount in reversed(mounts.list_mounts()):
        if mount.type == mounts.FILESYSTEM_TYPE:
            mounts.unmount(mount.mountpoint, lazy=True)  # for us alone: those of this machine are not the command's
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
