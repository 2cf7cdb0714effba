"""`fsd.json`: what makes a folder or bucket prefix a store."""

from __future__ import annotations

import json
import uuid
from dataclasses import asdict, dataclass, field
from typing import Any

from fsd.errors import CorruptDataError, UnsupportedFormatError, UsageError
from fsd.format.chunker import ChunkerParams
from fsd.format.fields import as_integer, as_list, as_mapping, as_text, as_time, decode_json, member
from fsd.format.limits import MAX_MARKER_BYTES

FORMAT = "fsd"
VERSION = 1

SUPPORTED_FEATURES: frozenset[str] = frozenset()
"""None yet: version 1 is what `docs/format.md` describes."""

DEFAULT_KEEP = (
    "README*",
    "LICENSE*",
    "LICENCE*",
    "*.md",
    "*label*",
    "*classes*",
    "*metadata*",
    "dataset_info*",
    "*.yaml",
    "*.yml",
)
"""Names (not paths) that every subset keeps: what explains a dataset, whatever part of it is looked at."""


@dataclass(frozen=True, slots=True)
class StoreMarker:
    """What a store says of itself."""

    id: str
    """Names the store whatever its URL; caches are kept by it."""
    created_us: int
    version: int = VERSION
    read_features: frozenset[str] = frozenset()
    """What a reader must know to read it; likewise for writers and gc."""
    write_features: frozenset[str] = frozenset()
    gc_features: frozenset[str] = frozenset()
    chunker: ChunkerParams = field(default_factory=ChunkerParams)
    keep: tuple[str, ...] = DEFAULT_KEEP

    def check_readable(self, where: str) -> None:
        """Raises UnsupportedFormatError if this program cannot read the store."""
        self._check(self.read_features, "read", where)

    def check_writable(self, where: str) -> None:
        """Raises UnsupportedFormatError if this program must not write to the store."""
        self._check(self.read_features | self.write_features, "write to", where)

    def check_collectable(self, where: str) -> None:
        """Raises UnsupportedFormatError if this program must not collect garbage in the store."""
        self._check(self.read_features | self.write_features | self.gc_features, "collect garbage in", where)

    def _check(self, features: frozenset[str], verb: str, where: str) -> None:
        missing = sorted(features - SUPPORTED_FEATURES)
        if self.version > VERSION or missing:
            needs = ", ".join(missing) or f"format version {self.version}"
            raise UnsupportedFormatError(f"cannot {verb} {where}: it needs {needs}", hint="install a newer fsd")


def new_marker(
    created_us: int, chunker: ChunkerParams | None = None, keep: tuple[str, ...] | None = None
) -> StoreMarker:
    """The marker of a store that is being made now."""
    return StoreMarker(
        str(uuid.uuid4()),
        created_us,
        chunker=chunker or ChunkerParams(),
        keep=DEFAULT_KEEP if keep is None else keep,
    )


def encode_marker(marker: StoreMarker) -> bytes:
    """The bytes of `fsd.json`, indented for people."""
    body = {
        "format": FORMAT,
        "version": marker.version,
        "id": marker.id,
        "created_us": marker.created_us,
        "features": {
            "read": sorted(marker.read_features),
            "write": sorted(marker.write_features),
            "gc": sorted(marker.gc_features),
        },
        "defaults": {"chunker": asdict(marker.chunker), "keep": list(marker.keep)},
    }
    return json.dumps(body, indent=2, sort_keys=True).encode() + b"\n"


def parse_marker(data: bytes, where: str) -> StoreMarker:
    """The marker. `where` names the store in errors. Raises CorruptDataError, or UnsupportedFormatError if newer."""
    if len(data) > MAX_MARKER_BYTES:
        raise CorruptDataError(f"fsd.json of {where} has {len(data)} bytes, more than the format allows")
    try:
        body = decode_json(data)
        if member(body, "format") != FORMAT:
            raise ValueError("it belongs to something else")
        version = as_integer(member(body, "version"), "version", 1)
        if version > VERSION:
            raise UnsupportedFormatError(
                f"{where} has format version {version}, this fsd reads up to {VERSION}",
                hint="install a newer fsd",
            )
        return _parse_body(body, version)
    except (ValueError, UsageError) as error:
        raise CorruptDataError(
            f"fsd.json of {where} cannot be read: {error}", hint="restore that file from a copy of the store"
        ) from error


def _parse_body(body: dict[str, Any], version: int) -> StoreMarker:
    features = as_mapping(member(body, "features"), "features")
    defaults = as_mapping(member(body, "defaults"), "defaults")
    chunker = as_mapping(member(defaults, "chunker"), "chunker")
    return StoreMarker(
        id=str(uuid.UUID(as_text(member(body, "id"), "id"))),
        created_us=as_time(member(body, "created_us"), "created_us"),
        version=version,
        read_features=_parse_features(features, "read"),
        write_features=_parse_features(features, "write"),
        gc_features=_parse_features(features, "gc"),
        chunker=ChunkerParams(
            as_integer(member(chunker, "average"), "average"),
            as_integer(member(chunker, "whole_file"), "whole_file"),
        ),
        keep=tuple(as_text(glob, "keep") for glob in as_list(member(defaults, "keep"), "keep")),
    )


def _parse_features(features: dict[str, Any], what: str) -> frozenset[str]:
    return frozenset(as_text(feature, what) for feature in as_list(member(features, what), what))
