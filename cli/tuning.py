"""What only root may set on the mount of a service: `python -m fsd_cli.tuning FILE`, from the unit, once it is ready.

The daemon runs as a user of its own. Nothing here touches the mount, which may not let root in.
"""

from __future__ import annotations

import sys
from pathlib import Path

from fsd.config import ConfigSource
from fsd.daemon import mounts
from fsd.daemon.lifecycle import raise_max_background, raise_read_ahead


def main(file: str) -> int:
    """Let the kernel read as far ahead on the mount that `file` describes as its limits say."""
    config = ConfigSource((Path(file),), Path("/")).load()
    mount = mounts.mount_at(config.mountpoint) if config.mountpoint is not None else None
    if mount is None or mount.type != mounts.FILESYSTEM_TYPE:
        return 1
    raise_max_background(mount.device, config.limits.max_background)
    return 0 if raise_read_ahead(mount.device, config.limits.kernel_read_ahead_bytes) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
