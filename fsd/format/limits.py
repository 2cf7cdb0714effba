"""Sizes that are part of the format. A reader checks each before it allocates; a writer never exceeds one.

`docs/format.md` lists them for who writes another reader.
"""

from __future__ import annotations

MAX_NAME_BYTES = 255
MAX_PATH_BYTES = 32_767
"""A whole path inside a tree. Longer than PATH_MAX on purpose: a tree can be walked with openat(2)."""

MAX_SYMLINK_BYTES = 4_095
"""The longest target that Linux can hold."""

MAX_LOGICAL_BYTES = 256 * 1024
"""The logical part of a page, index or recipe before compression."""

MAX_PLACEMENT_BYTES = 2 * 1024 * 1024
"""The placement part of a page or recipe before compression: 28 bytes a chunk and 16 a pack."""

MAX_HEADER_BYTES = 1024 * 1024
"""A commit's header."""

MAX_COMMIT_BYTES = MAX_HEADER_BYTES + MAX_LOGICAL_BYTES + 64
MAX_REF_BYTES = 1024 * 1024
MAX_SEGMENT_BYTES = 1024 * 1024

MAX_CHUNK_BYTES = 16 * 1024 * 1024
"""A chunk's plaintext. Its stored form is never longer."""

MAX_INLINE_PIECES = 64
"""An entry with more chunks than this names recipes instead."""

MAX_RECIPE_LEVEL = 4
MAX_INDEX_LEVEL = 8
MAX_PACK_CHUNKS = 4 * 1024 * 1024
