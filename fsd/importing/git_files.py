"""What Git keeps itself, as items: blobs are checked against the names that Git has for them, and read once."""

from __future__ import annotations

from collections.abc import Sequence

from fsd.importing.digests import GIT, Digest
from fsd.importing.git import FILE, PROGRAM, SUBMODULE, SYMLINK, Blob, BlobReader
from fsd.importing.items import FILE_MODE, PROGRAM_MODE, SYMLINK_MODE, Item
from fsd.publish.source import shown

ORIGIN = "git:"
"""What the origins of such items begin with; the blob's name follows."""


def git_item(blob: Blob, reader: BlobReader, warnings: list[str]) -> Item | None:
    """A path of a revision as an item; None for a submodule, of which `warnings` are told."""
    if blob.mode == SUBMODULE:
        told = f"{shown(blob.path)} is a submodule: it is left out"
        if told not in warnings:
            warnings.append(told)
        return None
    if blob.mode == SYMLINK:
        return Item(blob.path, SYMLINK_MODE, target=reader.read(blob.id))
    assert blob.mode in (FILE, PROGRAM) or blob.mode & 0o100000, "Git has no other kinds"
    mode = PROGRAM_MODE if blob.mode == PROGRAM else FILE_MODE
    return Item(blob.path, mode, blob.size, origin=ORIGIN + blob.id, digest=Digest(GIT, blob.id))


def is_of_git(item: Item) -> bool:
    """Whether the item's content is a blob."""
    return item.origin.startswith(ORIGIN)


def blob_of(item: Item) -> str:
    """The blob that an item's content is."""
    return item.origin.removeprefix(ORIGIN)


def paths_of(blobs: Sequence[Blob]) -> frozenset[bytes]:
    """The paths that Git has."""
    return frozenset(blob.path for blob in blobs)
