"""The C extension that stands between pyfuse3 and libfuse; what it does and why is said in `_interpose.c`.

It works only if it is in the process's global symbol scope when pyfuse3 is linked: `fsd.fuse` loads it on import.
Without it (no compiler at installation, pyfuse3 imported by somebody else before us) mounts work, more slowly.
"""

from __future__ import annotations

import ctypes
import importlib.util
import sys
from enum import IntFlag

CACHE_LISTING = 1 << 63
"""Set in the handle that opendir returns: the kernel may keep this directory's listing. No inode has this bit."""

_ABI = 1


class State(IntFlag):
    """What the extension has seen of this process's session."""

    NONE = 0
    SESSION = 1
    """The session was made through the extension; CACHE_LISTING is understood."""
    INITIALISED = 2
    """The kernel has answered. Until then the flags below are unknown."""
    NO_OPEN = 4
    """ENOSYS from open is understood on both sides."""
    SYMLINKS = 8
    """The kernel keeps the targets of symlinks."""


class _Extension:
    """What load() found; one for the process, as libfuse is."""

    library: ctypes.CDLL | None = None
    reason: str = "not loaded"


def load() -> None:
    """Put the extension before libfuse. Where that cannot be, `unavailable_reason` says why. Idempotent."""
    if _Extension.library is not None:
        return
    if "pyfuse3" in sys.modules:
        _Extension.reason = "pyfuse3 was imported before fsd.fuse"
        return
    spec = importlib.util.find_spec("fsd.fuse._interpose")
    if spec is None or spec.origin is None:
        _Extension.reason = "the extension was not built"
        return
    try:
        library = ctypes.CDLL(spec.origin, ctypes.RTLD_GLOBAL)
    except OSError as error:
        _Extension.reason = str(error)
        return
    if library.fsd_interpose_abi() != _ABI:
        _Extension.reason = f"{spec.origin} was built from other sources"
        return
    _Extension.library = library
    _Extension.reason = ""


def unavailable_reason() -> str:
    """Why the extension cannot be used, '' if it can."""
    return _Extension.reason


def available() -> bool:
    """True if sessions of this process can be changed."""
    return _Extension.library is not None


def configure(*, enabled: bool, no_open: bool = True, max_background: int = 0, symlinks: bool = True) -> None:
    """What the next session shall have; call it before pyfuse3.init. With `enabled` False, nothing is touched.

    `max_background` is the number of asynchronous requests that the kernel may have open, 0 for its default; the kernel
    limits what an ordinary user gets. Does nothing where the extension is not available.
    """
    if _Extension.library is not None:
        _Extension.library.fsd_interpose_configure(int(enabled), int(no_open), max_background, int(symlinks))


def state() -> State:
    """What came of it. `State.NONE` where the extension is not available."""
    return State(_Extension.library.fsd_interpose_state()) if _Extension.library is not None else State.NONE
