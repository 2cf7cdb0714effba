"""`refs/index`: which refs there are, for readers of servers that cannot list.

A checked note (`fsd.format.checked`), as a ref is. For each ref it has the hash and the size of the ref's object, by
which a reader sees those that have changed, and the version that the store gave it: whoever writes the index next reads
only what changed since.

It is a copy of what a listing says, and may be stale where somebody died between moving a ref and writing it here. A
reader that is given a ref's name reads the ref.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from fsd.errors import CorruptDataError
from fsd.format.checked import decode_checked, encode_checked
from fsd.format.fields import as_id, as_integer, as_mapping, as_text, member
from fsd.format.keys import is_ref_name, is_repository_name
from fsd.format.limits import MAX_REF_BYTES, MAX_REFS_INDEX_BYTES

MAX_VERSION_CHARACTERS = 256


class IndexedRef(NamedTuple):
    """What the index says of a ref."""

    content: bytes
    """The BLAKE3-256 of the ref's object."""
    size: int
    """Bytes."""
    version: str
    """As the store counts them, for whoever writes there; means nothing elsewhere."""


def encode_refs_index(refs: Mapping[str, IndexedRef]) -> bytes:
    """The bytes of an index of refs by `<repository>/<name>`. Raises ValueError where it is too long."""
    listed = {
        path: {"blake3": ref.content.hex(), "size": ref.size, "version": ref.version} for path, ref in refs.items()
    }
    return encode_checked({"refs": listed}, f"an index of {len(refs)} refs", MAX_REFS_INDEX_BYTES)


def parse_refs_index(data: bytes, what: str) -> dict[str, IndexedRef]:
    """The refs by `<repository>/<name>`, sorted. `what` names the index in errors. Raises CorruptDataError."""
    body = decode_checked(data, what, MAX_REFS_INDEX_BYTES)
    try:
        refs = as_mapping(member(body, "refs"), "refs")
        return {path: _parse_ref(path, refs[path]) for path in sorted(refs)}
    except ValueError as error:
        raise CorruptDataError(f"{what} cannot be read: {error}") from error


def _parse_ref(path: str, value: Any) -> IndexedRef:
    repository, _, name = path.partition("/")
    if not (is_repository_name(repository) and is_ref_name(name)):
        raise ValueError("a path that is no ref's")
    body = as_mapping(value, "a ref")
    return IndexedRef(
        as_id(member(body, "blake3"), "blake3"),
        as_integer(member(body, "size"), "size", 0, MAX_REF_BYTES),
        as_text(member(body, "version"), "version", MAX_VERSION_CHARACTERS),
    )
