"""Being somebody else, for tests that run as root."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

NOBODY_ID = 65534

NOBODY = (
    "setpriv",
    f"--reuid={NOBODY_ID}",
    f"--regid={NOBODY_ID}",
    "--clear-groups",
    # May read what root may, and nothing else: the interpreter and the working copy can lie in root's home.
    "--inh-caps=+dac_read_search",
    "--ambient-caps=+dac_read_search",
)
"""A wrapper that runs a command as an ordinary user."""

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="takes root")


def let_nobody_mount_below(folder: Path) -> None:
    """Make the way to `folder` passable for everybody, and /dev/fuse usable, as udev does where it runs."""
    for part in (folder, *folder.parents):
        if Path("/tmp") in part.parents:
            part.chmod(part.stat().st_mode | 0o011)
    Path("/dev/fuse").chmod(0o666)
