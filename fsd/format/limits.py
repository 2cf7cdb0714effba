"""Sizes that are part of the format. A reader checks each before it allocates; a writer never exceeds one.

`docs/format.md` lists them for who writes another reader.
"""

from __future__ import annotations

MAX_NAME_BYTES = 255
MAX_PATH_BYTES = 32_767
"""A whole path inside a tree. Longer than PATH_MAX on purpose: a tree can be walked with openat(2)."""

MAX_KEY_BYTES = MAX_PATH_BYTES + 1
"""An entry's key: its path with one more byte between directory and name."""

MAX_SYMLINK_BYTES = 4_095
"""The longest target that Linux can hold."""

MAX_ENTRIES = 2**48
"""Of a tree. An entry's number is a listing's cookie, which the kernel takes as a signed number of 64 bits."""

MAX_FILE_BYTES = 2**63 - 1
"""The greatest size that a file can have on Linux."""

MAX_LOGICAL_BYTES = 256 * 1024
"""The logical part of a page, index or recipe before compression."""

MAX_PLACEMENT_BYTES = 256 * 1024
"""The placement part of a page or recipe before compression: 24 bytes a chunk and 16 a pack, where each of the chunks
takes 40 bytes or more of the logical part."""

MAX_HEADER_BYTES = 1024 * 1024
"""A commit's header."""

MAX_COMMIT_BYTES = MAX_HEADER_BYTES + MAX_LOGICAL_BYTES + 64
MAX_REF_BYTES = 1024 * 1024
MAX_REFS_INDEX_BYTES = 32 * 1024 * 1024
"""Some 100,000 refs. A store with more has no index, and is not read from a web server."""
MAX_SEGMENT_BYTES = 1024 * 1024
MAX_MARKER_BYTES = 64 * 1024

MAX_RUN_HEADER_BYTES = 8 * 1024 * 1024
"""What is said of a run besides its inputs: its params, and the packages that were installed, most of all."""
MAX_RUN_BYTES = 64 * 1024 * 1024
"""A run's object before compression: a million inputs that lie apart take 2 MB."""

MAX_JSON_DEPTH = 32
"""Objects and lists within one another in what a publisher adds freely: metadata and rules."""

MAX_TIME_US = 250_000_000_000 * 1_000_000
"""In the year 9892: every calendar in use can show it, in every time zone."""

MAX_CHUNK_BYTES = 16 * 1024 * 1024
"""A chunk's plaintext. Its stored form is never longer."""

MAX_INLINE_PIECES = 64
"""An entry with more chunks than this names recipes instead."""

MAX_RECIPE_LEVEL = 4
MAX_INDEX_LEVEL = 8
MAX_PACK_CHUNKS = 1024 * 1024
"""Its contents are then 40 MiB, which a reader may hold at once."""

MAX_PACK_BYTES = 8 * 1024**4
"""Of a pack, and of its plaintext: object stores take 5 TiB, and a mirror must fit into one file of any file system."""
