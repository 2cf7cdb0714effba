"""Identifiers: 32-byte BLAKE3 hashes name content and objects, 16 random bytes name a pack.

In memory an id is `bytes`; people and keys see lower-case hex.
"""

from __future__ import annotations

import os
import re

from blake3 import blake3

Buffer = bytes | bytearray | memoryview
"""What holds bytes: passed on without a copy wherever that is possible."""

ID_BYTES = 32
PACK_ID_BYTES = 16
ID_HEX_DIGITS = 2 * ID_BYTES

MIN_PREFIX_DIGITS = 7
"""A commit may be named by this many hex digits or more; no ref may look like that."""

NO_ID = bytes(ID_BYTES)
"""Stands where an entry has no content (a directory). No content is known to hash to it."""

_HEX = re.compile(r"[0-9a-f]+\Z")


def content_id(data: Buffer) -> bytes:
    """BLAKE3-256 of `data`: 32 bytes. Releases the GIL for long inputs."""
    return blake3(data).digest()


def new_pack_id() -> bytes:
    """16 random bytes, so that a pack can be named before its content is known."""
    return os.urandom(PACK_ID_BYTES)


def is_commit_prefix(text: str) -> bool:
    """True if `text` could name a commit: 7 to 64 lower-case hex digits."""
    return MIN_PREFIX_DIGITS <= len(text) <= ID_HEX_DIGITS and _HEX.match(text) is not None


def parse_id(text: str) -> bytes:
    """The 32 bytes of a full hex id. Raises ValueError."""
    if len(text) != ID_HEX_DIGITS or _HEX.match(text) is None:
        raise ValueError(f"not a {ID_HEX_DIGITS}-digit lower-case hex id: {text!r}")
    return bytes.fromhex(text)
