"""`fsd.json`: what makes a folder or bucket prefix a store."""

from __future__ import annotations

import json
import uuid
from dataclasses import asdict, dataclass, field
from typing import Any

from fsd.errors import CorruptDataError, UnsupportedFormatError
from fsd.format.chunker import ChunkerParams

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
    try:
        body: dict[str, Any] = json.loads(data)
        if body["format"] != FORMAT:
            raise CorruptDataError(f"{where} is a store of something else: {body['format']!r}")
        if body["version"] > VERSION:
            raise UnsupportedFormatError(
                f"{where} has format version {body['version']}, this fsd reads up to {VERSION}",
                hint="install a newer fsd",
            )
        features, defaults = body["features"], body["defaults"]
        return StoreMarker(
            id=str(uuid.UUID(body["id"])),
            created_us=int(body["created_us"]),
            version=int(body["version"]),
            read_features=frozenset(map(str, features["read"])),
            write_features=frozenset(map(str, features["write"])),
            gc_features=frozenset(map(str, features["gc"])),
            chunker=ChunkerParams(**defaults["chunker"]),
            keep=tuple(map(str, defaults["keep"])),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptDataError(f"fsd.json of {where} cannot be read: {error!r}") from error
