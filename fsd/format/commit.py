"""Commits, and subsets, which are commits of another kind: a header in JSON, then the root of the tree.

The header is written with sorted keys and without spaces; its bytes are what the id covers, so a reader keeps them as
they are. Unknown members are ignored. `docs/format.md` has the bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fsd.errors import CorruptDataError, UsageError
from fsd.format.fields import (
    as_free_mapping,
    as_id,
    as_integer,
    as_list,
    as_mapping,
    as_text,
    as_time,
    decode_json,
    encode_json,
    member,
)
from fsd.format.index import Index, Totals
from fsd.format.keys import ObjectKind, is_repository_name
from fsd.format.limits import MAX_HEADER_BYTES
from fsd.ids import content_id

MAGIC = ObjectKind.COMMIT.value

_LENGTH = struct.Struct("<I")

_RESERVED_HEADER_BYTES = 64 * 1024
"""For what is in a header besides people's words: its parents, most of all."""


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit's header. A *subset* also has the commit it was taken from and the rule by which."""

    repository: str
    tree: bytes
    """The id of the root: BLAKE3-256 of its logical part. Equal trees have equal ids, in whichever commit."""
    totals: Totals
    time_us: int
    """Microseconds since 1970 UTC, by the publisher's clock."""
    author: str = ""
    message: str = ""
    parents: tuple[bytes, ...] = ()
    source: bytes | None = None
    """Of a subset: the commit that it was taken from."""
    rule: Mapping[str, Any] | None = None
    """Of a subset: how its entries were chosen."""
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_subset(self) -> bool:
        """Whether this is a subset of a commit."""
        return self.source is not None

    @property
    def summary(self) -> str:
        """The first line of the message."""
        return self.message.partition("\n")[0]


def tree_id(root: bytes) -> bytes:
    """The id of a tree, from the logical part of its root."""
    return content_id(root)


def check_words(author: str, message: str, metadata: Mapping[str, Any]) -> None:
    """What people say of a commit, before everything else is done for it. Raises UsageError for what it cannot hold."""
    try:
        words = decode_json(encode_json({"author": author, "message": message, "metadata": dict(metadata)}))
        as_free_mapping(words["metadata"], "metadata")
    except ValueError as error:
        raise UsageError(f"the author, message or metadata cannot be stored: {error}") from error
    length = len(encode_json(words))
    if length > MAX_HEADER_BYTES - _RESERVED_HEADER_BYTES:
        raise UsageError(
            f"author, message and metadata have {length} bytes together", hint="put long texts into a file"
        )


def encode_commit(commit: Commit, root: bytes) -> bytes:
    """The logical part. Raises ValueError where a reader would refuse it, and where `root` is not the commit's tree."""
    if commit.tree != tree_id(root) or commit.totals != Index(root).totals:
        raise ValueError("a commit of another tree")
    header = {
        "repository": commit.repository,
        "tree": commit.tree.hex(),
        "totals": commit.totals._asdict(),
        "time_us": commit.time_us,
        "author": commit.author,
        "message": commit.message,
        "parents": [parent.hex() for parent in commit.parents],
        "metadata": dict(commit.metadata),
    }
    if commit.source is not None:
        header |= {"source": commit.source.hex(), "rule": dict(commit.rule or {})}
    text = encode_json(header)
    if len(text) > MAX_HEADER_BYTES:
        raise ValueError(f"a commit header of {len(text)} bytes")
    _parse_header(decode_json(text))
    return b"".join((MAGIC, _LENGTH.pack(len(text)), text, root))


def parse_commit(logical: bytes) -> tuple[Commit, Index]:
    """The header and the root of the tree. Raises CorruptDataError."""
    start = len(MAGIC) + _LENGTH.size
    if len(logical) < start or not logical.startswith(MAGIC):
        raise CorruptDataError("a commit is truncated or without its magic")
    (length,) = _LENGTH.unpack_from(logical, len(MAGIC))
    if length > MAX_HEADER_BYTES or start + length > len(logical):
        raise CorruptDataError("a commit's header does not have the length that it says")
    root = logical[start + length :]
    try:
        commit = _parse_header(decode_json(logical[start : start + length]))
    except ValueError as error:
        raise CorruptDataError(f"a commit's header cannot be read: {error}") from error
    index = Index(root)
    if tree_id(root) != commit.tree or index.totals != commit.totals:
        raise CorruptDataError("a commit's root does not match its header")
    return commit, index


def _parse_header(header: dict[str, Any]) -> Commit:
    source = header.get("source")
    totals = as_mapping(member(header, "totals"), "totals")
    repository = as_text(member(header, "repository"), "repository")
    if not is_repository_name(repository):
        raise ValueError("an impossible repository name")
    return Commit(
        repository=repository,
        tree=as_id(member(header, "tree"), "tree"),
        totals=Totals(*(as_integer(member(totals, name), name) for name in Totals._fields)),
        time_us=as_time(member(header, "time_us"), "time_us"),
        author=as_text(member(header, "author"), "author"),
        message=as_text(member(header, "message"), "message"),
        parents=tuple(as_id(parent, "a parent") for parent in as_list(member(header, "parents"), "parents")),
        source=None if source is None else as_id(source, "source"),
        rule=None if source is None else as_free_mapping(member(header, "rule"), "rule"),
        metadata=as_free_mapping(member(header, "metadata"), "metadata"),
    )
