"""Where things lie in a store, and which names are allowed there."""

from __future__ import annotations

import re
from enum import Enum

from fsd.errors import UsageError
from fsd.format.limits import MAX_NAME_BYTES
from fsd.ids import MIN_PREFIX_DIGITS

STORE_MARKER = "fsd.json"
REFS = "refs/"
REFS_INDEX = "index"
"""`refs/index` lists the refs for servers that cannot list, so it cannot be a repository's folder as well."""
COMMITS = "commits/"
PAGES = "pages/"
RECIPES = "recipes/"
SEGMENTS = "logs/"
PACKS = "packs/"
MOVED = "moved/"
LEASES = "leases/"
CONDEMNED = "condemned/"
EXPIRED = "expired/"
RUNS = "runs/"
REPLACED = "replaced/"
"""What became of commits that were purged, and that run records name."""
PURGES = "purges/"
"""What a purge under way is about to delete: a sealed list each, of keys and chunks."""

MAX_REF_NAME_CHARACTERS = 128

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")
_HEX_DIGITS = re.compile(rf"[0-9A-Fa-f]{{{MIN_PREFIX_DIGITS},}}\Z")
_BUILTIN_SUBSET = re.compile(r"[0-9]+(\.[0-9]+)?pct\Z")


class ObjectKind(Enum):
    """Objects named by the hash of what they mean. The value is the magic that their logical part starts with."""

    PAGE = b"fsdpage1"
    INDEX = b"fsdindx1"
    RECIPE = b"fsdrecp1"
    COMMIT = b"fsdcomm1"
    SEGMENT = b"fsdsegm1"


_FOLDERS = {
    ObjectKind.PAGE: PAGES,
    ObjectKind.INDEX: PAGES,
    ObjectKind.RECIPE: RECIPES,
    ObjectKind.SEGMENT: SEGMENTS,
}


def object_key(kind: ObjectKind, object_id: bytes) -> str:
    """The key of an object named by its hash."""
    name = object_id.hex()
    if kind is ObjectKind.COMMIT:
        # Not fanned out, so that one listing answers what a prefix could mean.
        return f"{COMMITS}{name}"
    return f"{_FOLDERS[kind]}{name[:2]}/{name}"


def pack_key(pack: bytes) -> str:
    """The key of a pack."""
    name = pack.hex()
    return f"{PACKS}{name[:2]}/{name}"


def moved_key(pack: bytes) -> str:
    """The key of the note that says where a repacked pack's chunks went."""
    return f"{MOVED}{pack.hex()}"


def id_of(key: str, size: int) -> bytes | None:
    """The id of `size` bytes that a key ends in; None for what somebody else put there."""
    name = key.rpartition("/")[2]
    try:
        return bytes.fromhex(name) if len(name) == 2 * size else None
    except ValueError:
        return None


def lease_key(lease: str) -> str:
    """The key of a publisher's lease."""
    return f"{LEASES}{lease}"


def condemned_key(condemnation: str, part: str = "") -> str:
    """The key of a condemnation, or of one of the objects beside it: a part's number, `sweep`, `leases`."""
    return f"{CONDEMNED}{condemnation}.{part}" if part else f"{CONDEMNED}{condemnation}"


def expired_key(commit: bytes) -> str:
    """The key of the note that a commit's tree was let go of."""
    return f"{EXPIRED}{commit.hex()}"


def ref_prefix(repository: str) -> str:
    """What the keys of a repository's refs start with."""
    return f"{REFS}{repository}/"


def ref_key(repository: str, name: str) -> str:
    """The key of a branch, tag or subset."""
    return f"{REFS}{repository}/{name}"


def is_builtin_subset(name: str) -> bool:
    """True for names such as `10pct` or `0.5pct`, that need no definition."""
    return _BUILTIN_SUBSET.match(name) is not None


def _is_name(name: str) -> bool:
    return len(name) <= MAX_REF_NAME_CHARACTERS and _NAME.match(name) is not None


def is_repository_name(name: str) -> bool:
    """True if a repository may have that name."""
    return _is_name(name) and name != REFS_INDEX


def is_ref_name(name: str) -> bool:
    """True if a branch, tag or subset may have that name."""
    return _is_name(name) and _HEX_DIGITS.match(name) is None and not is_builtin_subset(name)


def check_repository_name(name: str) -> None:
    """Raises UsageError unless a repository may have that name."""
    if name == REFS_INDEX:
        raise UsageError(f"no repository can be called {name!r}", hint="the store keeps the list of refs by that name")
    if not is_repository_name(name):
        raise UsageError(
            f"{name!r} is not a repository name",
            hint=f"use letters, digits, '.', '_' and '-', a letter or digit first, at most {MAX_REF_NAME_CHARACTERS}",
        )


def check_ref_name(name: str) -> None:
    """Raises UsageError unless a branch, tag or subset may have that name."""
    if _HEX_DIGITS.match(name):
        raise UsageError(f"{name!r} looks like a commit id", hint="use a name that is not all hex digits")
    if is_builtin_subset(name):
        raise UsageError(f"{name!r} is a built-in subset", hint="use a name that does not end in 'pct'")
    if not _is_name(name):
        raise UsageError(
            f"{name!r} is not a branch, tag or subset name",
            hint=f"use letters, digits, '.', '_' and '-', a letter or digit first, at most {MAX_REF_NAME_CHARACTERS}",
        )


def check_entry_name(name: bytes) -> None:
    """Raises ValueError unless a tree may hold an entry of that name."""
    if not 0 < len(name) <= MAX_NAME_BYTES:
        raise ValueError(f"an entry name of {len(name)} bytes, allowed are 1 to {MAX_NAME_BYTES}")
    if name in (b".", b"..") or b"/" in name or b"\0" in name:
        raise ValueError(f"an entry named {name!r}")
