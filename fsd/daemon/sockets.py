"""The addresses of Unix sockets, however long their paths are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MAX_ADDRESS_BYTES = 107
"""What sockaddr_un holds, without its NUL."""


@contextmanager
def address(path: Path) -> Iterator[str]:
    """What to bind or connect to for `path`, while inside. Raises OSError."""
    if len(os.fsencode(path)) <= _MAX_ADDRESS_BYTES:
        yield os.fspath(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
