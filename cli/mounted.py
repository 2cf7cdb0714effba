"""The mount of a store, where a command goes through one."""

from __future__ import annotations

from fsd.daemon import mounts
from fsd.errors import FsdError


def answering_mount(store_url: str) -> mounts.Mount | None:
    """The latest mount of the store that answers us. Blocks, for a moment where one hangs."""
    for mount in reversed(mounts.list_mounts()):
        if mount.type == mounts.FILESYSTEM_TYPE and mount.source == store_url:
            try:
                mounts.status_of(mount, timeout_s=mounts.STATUS_TIMEOUT_S)
            except FsdError:
                continue
            return mount
    return None
