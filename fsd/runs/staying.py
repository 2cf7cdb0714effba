"""Whether the files by which runs are compared (code, params, and what was declared) stayed as they were while a
command ran.

Who changes a program while it runs may have been in time for it to notice: then nobody knows what ran.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

Statuses = dict[str, tuple[int, int, int, int, int]]
"""By path how each looks: inode, mode, size, and the times of its content and of its inode, in nanoseconds."""

_SHOWN = 2


def statuses(paths: Iterable[Path]) -> Statuses:
    """How some files look now, and all files below those that are folders. Blocks."""
    found: Statuses = {}
    for path in paths:
        _note(found, os.fspath(path))
        if path.is_dir() and not path.is_symlink():
            for folder, folders, names in os.walk(path):
                for name in (*folders, *names):
                    _note(found, os.path.join(folder, name))
    return found


def _note(found: Statuses, path: str) -> None:
    try:
        status = os.lstat(path)
    except OSError:
        return
    found[path] = (status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def what_changed(before: Statuses, now: Statuses, top: Path) -> str:
    """What is not as it was, for people; '' if all is."""
    changed = sorted(path for path in {*before, *now} if before.get(path) != now.get(path))
    if not changed:
        return ""
    shown = [os.path.relpath(path, top) if Path(path).is_relative_to(top) else path for path in changed[:_SHOWN]]
    more = f", and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
    return f"{', '.join(shown)}{more} changed while it ran"
