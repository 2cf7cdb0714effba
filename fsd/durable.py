"""What survives a power cut: written aside, synced, and only then named."""

from __future__ import annotations

import os
from pathlib import Path


def replace_file(path: Path, data: bytes) -> None:
    """Make `data` all that `path` holds. Whenever it ends early, the file is there as it was. Raises OSError.

    For one writer at a time: what is written aside has the path with the suffix `.tmp`.
    """
    aside = path.with_suffix(".tmp")
    with aside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    aside.rename(path)
    sync(path.parent)


def sync(path: str | Path) -> None:
    """Make durable what a file holds, or which names a directory has. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
