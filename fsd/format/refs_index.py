"""`refs/index`: which refs there are, for readers of servers that cannot list.

Two lines of UTF-8, as in a ref: a JSON object, then the BLAKE3-256 of the first line (without its line end) in hex. For
each ref it has the hash and the size of the ref's object, so that a reader sees which have changed, and the version
that the store gave it, so that whoever writes the index next reads only those that changed since.

It is a copy of what a listing says, and may be stale where somebody died between moving a ref and writing it here. A
reader that is given a ref's name reads the ref.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from fsd.errors import CorruptDataError
from fsd.format.fields import as_id, as_integer, as_mapping, as_text, decode_json, encode_json, member
from fsd.format.keys import is_ref_name, is_repository_name
from fsd.format.limits import MAX_REF_BYTES, MAX_REFS_INDEX_BYTES
from fsd.ids import ID_HEX_DIGITS, content_id

MAX_VERSION_CHARACTERS = 256

_CHECK_BYTES = ID_HEX_DIGITS + 2
"""The checksum's line, and the end of the line before it."""


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
    line = encode_json(
        {
            "refs": {
                path: {"blake3": ref.content.hex(), "size": ref.size, "version": ref.version}
                for path, ref in refs.items()
            }
        }
    )
    if len(line) > MAX_REFS_INDEX_BYTES - _CHECK_BYTES:
        raise ValueError(f"an index of {len(refs)} refs, of {len(line)} bytes")
    return line + b"\n" + _check(line)


def parse_refs_index(data: bytes, what: str) -> dict[str, IndexedRef]:
    """The refs by `<repository>/<name>`, sorted. `what` names the index in errors. Raises CorruptDataError."""
    line, _, check = data.partition(b"\n")
    if len(data) > MAX_REFS_INDEX_BYTES or check != _check(line):
        raise CorruptDataError(f"{what} does not match its checksum")
    try:
        refs = as_mapping(member(decode_json(line), "refs"), "refs")
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


def _check(line: bytes) -> bytes:
    return content_id(line).hex().encode() + b"\n"
