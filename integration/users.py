"""Being somebody else, for tests that run as root."""

from __future__ import annotations

import os
import subprocess
import sys
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


_MAKE_NAMESPACES = ("unshare", "--user", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "none", "/mnt")


def skip_without_user_namespaces(wrapper: tuple[str, ...] = ()) -> None:
    """Skip the test where who runs a command with `wrapper` may not make a user namespace, and mount in it."""
    done = subprocess.run([*wrapper, *_MAKE_NAMESPACES], capture_output=True, text=True, timeout=20, check=False)
    if done.returncode == 0:
        return
    restriction = Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
    because = " (AppArmor does)" if restriction.exists() and restriction.read_text().strip() != "0" else ""
    pytest.skip(f"this system restricts user namespaces{because}: {done.stderr.strip()}")


def let_nobody_mount_below(folder: Path) -> None:
    """Make the way to `folder` passable for everybody, and /dev/fuse usable, as udev does where it runs."""
    for part in (folder, *folder.parents):
        if Path("/tmp") in part.parents:
            part.chmod(part.stat().st_mode | 0o011)
    Path("/dev/fuse").chmod(0o666)


def ordinary_user() -> tuple[str, ...]:
    """A wrapper that runs a command as an ordinary user who may read what everybody may, and nothing else.

    In a mount namespace of its own, where folders on the way to the interpreter and the working copy that nobody else
    may pass are replaced by empty ones with just these in them.
    """
    barred: dict[Path, list[Path]] = {}
    for needed in {Path(sys.prefix), Path(sys.base_prefix), Path(__file__).parents[1]}:
        barrier = next((each for each in reversed(needed.parents) if not each.stat().st_mode & 0o001), None)
        if barrier is not None:
            barred.setdefault(barrier, []).append(needed)
    steps = ["set -e", "mount --make-rprivate /", "mount -t tmpfs none /mnt"]
    for barrier, inside in barred.items():
        steps += [f"mkdir /mnt/{number} && mount --rbind {each} /mnt/{number}" for number, each in enumerate(inside)]
        steps.append(f"mount -t tmpfs -o mode=755 none {barrier}")
        steps += [f"mkdir -p {each} && mount --move /mnt/{number} {each}" for number, each in enumerate(inside)]
    steps.append("umount -l /mnt")
    steps.append(f'exec setpriv --reuid={NOBODY_ID} --regid={NOBODY_ID} --clear-groups "$@"')
    return "unshare", "-m", "sh", "-c", "\n".join(steps), "-"
