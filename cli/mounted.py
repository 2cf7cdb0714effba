"""The mount of a store, where a command goes through one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from fsd.daemon import mounts


def answering_mount(is_wanted: Callable[[str], bool]) -> mounts.Mount | None:
    """The latest mount that answers us of a store whose URL `is_wanted`. Blocks, for a moment where one hangs."""
    return next(answering_mounts(is_wanted), None)


def answering_mounts(is_wanted: Callable[[str], bool]) -> Iterator[mounts.Mount]:
    """All of them, the latest first."""
    for mount in reversed(mounts.list_mounts()):
        if mount.type == mounts.FILESYSTEM_TYPE and is_wanted(mount.source):
            try:
                mounts.status_of(mount, timeout_s=mounts.STATUS_TIMEOUT_S)
            except mounts.NotAnsweringError:
                continue
            yield mount
