"""What a run read below the mountpoint, as it was observed there: the part of a run's record that answers whether
running it again would read the same.

Paths are not written down one by one: of each version directory it is the numbers of its entries, so a million files
that were read take as many bytes as a handful. The bytes are self-contained: u32 H, H bytes of JSON, and the columns
of each version, one after the other. `docs/format.md` has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from fsd.errors import CorruptDataError
from fsd.format.fields import as_id, as_integer, as_list, as_mapping, as_text, member
from fsd.format.headed import encode_header, split_header
from fsd.format.limits import MAX_ENTRIES
from fsd.format.positions import Stretches, decode_positions, encode_positions

_COLUMNS = 3


class VersionInputs(NamedTuple):
    """What was seen below one version directory. A position is 0 for the top, and one more than an entry's ordinal in
    the tree of `commit`."""

    repository: str
    name: str
    """As it was looked up in the repository's directory: `v1.2`, a commit's id, `v1.2+tiny`."""
    commit: bytes
    """The commit or named subset whose tree it shows; with a built-in subset in the name, only a part of it."""
    seen: Stretches
    """What was looked up, and so perhaps read."""
    listed: Stretches
    """Directories that were listed."""
    missing: tuple[bytes, ...]
    """Paths that were looked up and were not there."""
    is_identified: bool = False
    """Whether it was asked which commit that is."""


class NameInputs(NamedTuple):
    """What a name meant that was looked up above the versions."""

    repository: str
    name: str
    """In the repository's directory; '' where it was the repository itself that was looked up."""
    target: str | None
    """Of a symlink; '' for a directory; None if there was nothing of that name."""


class ListingInputs(NamedTuple):
    """That a directory above the versions was listed."""

    repository: str
    """'' for the top."""
    names: bytes
    """32 bytes that tell these names from others."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """All of it."""

    versions: tuple[VersionInputs, ...] = ()
    names: tuple[NameInputs, ...] = ()
    listings: tuple[ListingInputs, ...] = ()
    problem: str = ""
    """Why this may not be all that was read, for people; '' if it is all."""

    @property
    def commits(self) -> frozenset[bytes]:
        """What is kept for it."""
        return frozenset(version.commit for version in self.versions)


def encode_inputs(inputs: Inputs) -> bytes:
    """The bytes. Raises ValueError for what has no such form. (What else a reader would refuse, `encode_run_end` finds
    out: it reads all that it has written.)"""
    columns: list[bytes] = []
    versions = []
    for version in inputs.versions:
        parts = (encode_positions(version.seen), encode_positions(version.listed), b"\0".join(version.missing))
        columns += parts
        versions.append(
            {
                "repository": version.repository,
                "name": version.name,
                "commit": version.commit.hex(),
                "identified": version.is_identified,
                "bytes": [len(part) for part in parts],
            }
        )
    header = {
        "versions": versions,
        "names": [list(each) for each in inputs.names],
        "listings": [[each.repository, each.names.hex()] for each in inputs.listings],
        "problem": inputs.problem,
    }
    return b"".join((encode_header(header), *columns))


def decode_inputs(data: bytes, what: str) -> Inputs:
    """What was read. `what` names it in errors. Raises CorruptDataError."""
    header, columns = split_header(data, what)
    try:
        return Inputs(
            versions=_versions(as_list(member(header, "versions"), "versions"), columns, what),
            names=tuple(_name(as_list(each, "a name")) for each in as_list(member(header, "names"), "names")),
            listings=tuple(
                _listing(as_list(each, "a listing")) for each in as_list(member(header, "listings"), "listings")
            ),
            problem=as_text(member(header, "problem"), "problem"),
        )
    except ValueError as error:
        raise CorruptDataError(f"{what} cannot be read: {error}") from error


def _versions(listed: list[Any], columns: bytes, what: str) -> tuple[VersionInputs, ...]:
    found = []
    at = 0
    for each in listed:
        body = as_mapping(each, "a version")
        sizes = [as_integer(size, "bytes") for size in as_list(member(body, "bytes"), "bytes")]
        if len(sizes) != _COLUMNS or at + sum(sizes) > len(columns):
            raise ValueError("inputs that are not there")
        parts = []
        for size in sizes:
            parts.append(columns[at : at + size])
            at += size
        found.append(_version(body, parts, what))
    if at != len(columns):
        raise ValueError("more inputs than are announced")
    return tuple(found)


def _version(body: Mapping[str, Any], parts: list[bytes], what: str) -> VersionInputs:
    seen, listed = (decode_positions(part, what, MAX_ENTRIES + 1) for part in parts[:2])
    is_identified = member(body, "identified")
    if not isinstance(is_identified, bool):
        raise ValueError("identified is neither true nor false")
    return VersionInputs(
        repository=as_text(member(body, "repository"), "repository"),
        name=as_text(member(body, "name"), "name"),
        commit=as_id(member(body, "commit"), "commit"),
        seen=seen,
        listed=listed,
        missing=tuple(parts[2].split(b"\0")) if parts[2] else (),
        is_identified=is_identified,
    )


def _name(row: list[Any]) -> NameInputs:
    if len(row) != len(NameInputs._fields):
        raise ValueError("a name with more or less than it has")
    repository, name, target = row
    return NameInputs(
        as_text(repository, "repository"),
        as_text(name, "name"),
        None if target is None else as_text(target, "target"),
    )


def _listing(row: list[Any]) -> ListingInputs:
    if len(row) != len(ListingInputs._fields):
        raise ValueError("a listing with more or less than it has")
    return ListingInputs(as_text(row[0], "repository"), as_id(row[1], "names"))
