"""A mount namespace where mount(8) knows the type fsd, and where what root's mounts keep goes nowhere else.

Over this machine's /sbin lies, for who is in there alone, a folder with `mount.fsd`; /run, /var/log and /var/cache are
empty. Nothing of the machine's own is changed. Takes root.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

EMPTY = ("/run", "/var/log", "/var/cache")

_SCRIPT = """
set -e
mount -t overlay -o ro,lowerdir="$1":/usr/sbin none /usr/sbin
shift
for folder in "$@"; do mount -t tmpfs none "$folder"; done
echo ready
exec cat
"""


@contextmanager
def own_sbin(folder: Path) -> Iterator[tuple[str, ...]]:
    """A wrapper that runs a command in such a namespace; `folder` is for the link.

    What is mounted in there goes with the last process that leaves it."""
    links = folder / "sbin"
    links.mkdir(parents=True)
    (links / "mount.fsd").symlink_to(Path(sys.prefix) / "bin" / "mount.fsd")
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", _SCRIPT, "-", os.fspath(links), *EMPTY]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == b"ready\n"
        yield "nsenter", "--mount", f"--target={holder.pid}", "--"
    finally:
        holder.stdin.close()
        holder.wait(10)
        holder.stdout.close()
