"""What is not to be evicted: for each pin the extents of mirrors and the stored objects that it holds.

Owns the files below `<cache>/pins`, one a pin, and the answer to "is this pinned?". It does not know what a pin is for:
`about` is the caller's, JSON, kept as it is.

An extent is named by its pack and its number, not by its mirror's, so a pin holds a place before there is anything in
it, and goes on holding it when the mirror is made anew. What shares an extent with something pinned is kept as well.
Nothing is paid when something is read: eviction asks.

Used from the event loop's thread; files are written in threads. A pin that was saved is there after a power cut.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import trio

from fsd.durable import replace_file, sync

log = logging.getLogger(__name__)

VERSION = 1

_GROUP_BITS = 8
_GROUP_MASK = (1 << _GROUP_BITS) - 1

_SUFFIX = ".json"


class Extents:
    """A set of extent numbers: bits in groups, so that a far one (a placement may claim anything) costs little."""

    __slots__ = ("_groups",)

    def __init__(self, extents: Iterable[int] = ()) -> None:
        self._groups: dict[int, int] = {}
        for extent in extents:
            self.add(extent)

    def add(self, extent: int) -> bool:
        """True if it is new."""
        group, bit = extent >> _GROUP_BITS, 1 << (extent & _GROUP_MASK)
        bits = self._groups.get(group, 0)
        self._groups[group] = bits | bit
        return not bits & bit

    def __contains__(self, extent: int) -> bool:
        return bool(self._groups.get(extent >> _GROUP_BITS, 0) >> (extent & _GROUP_MASK) & 1)

    def __len__(self) -> int:
        return sum(bits.bit_count() for bits in self._groups.values())

    def __iter__(self) -> Iterator[int]:
        for group, bits in sorted(self._groups.items()):
            yield from (group << _GROUP_BITS | bit for bit in range(_GROUP_MASK + 1) if bits >> bit & 1)

    def encode(self) -> dict[str, str]:
        """For JSON."""
        return {str(group): f"{bits:x}" for group, bits in sorted(self._groups.items())}

    @classmethod
    def decode(cls, encoded: Mapping[str, str]) -> Extents:
        """What `encode` made. Raises ValueError."""
        extents = cls()
        extents._groups = {int(group): int(bits, 16) for group, bits in encoded.items()}
        if any(group < 0 or not 0 < bits < 1 << (1 << _GROUP_BITS) for group, bits in extents._groups.items()):
            raise ValueError("impossible extents")
        return extents

    def scaled(self, old_bytes: int, new_bytes: int) -> Extents:
        """Those that cover the same bytes, where extents have another size."""
        return Extents(
            number
            for extent in self
            for number in range(extent * old_bytes // new_bytes, ((extent + 1) * old_bytes - 1) // new_bytes + 1)
        )


class Pin:
    """One pin. What is added to it holds at once, and over a restart once it was saved."""

    def __init__(self, key: str, about: Mapping[str, Any]) -> None:
        self.key = key
        """Names it: hex digits."""
        self.about = dict(about)
        self.extents: dict[bytes, Extents] = {}
        """By pack."""
        self.objects: set[str] = set()
        """Names of files as `fsd.cache.metadata` has them."""

    def add(self, pack: bytes, extent: int) -> bool:
        """Hold an extent. True if this pin did not yet."""
        extents = self.extents.get(pack)
        if extents is None:
            extents = self.extents[pack] = Extents()
        return extents.add(extent)

    def holds(self, pack: bytes, extent: int) -> bool:
        """Whether it holds an extent."""
        extents = self.extents.get(pack)
        return extents is not None and extent in extents

    def encode(self, extent_bytes: int) -> bytes:
        """The content of its file."""
        document = {
            "version": VERSION,
            "extent_bytes": extent_bytes,
            "about": self.about,
            "extents": {pack.hex(): extents.encode() for pack, extents in self.extents.items()},
            "objects": sorted(self.objects),
        }
        return json.dumps(document).encode()

    @classmethod
    def decode(cls, key: str, data: bytes, extent_bytes: int) -> Pin:
        """What `encode` made. Raises ValueError, KeyError, TypeError or AttributeError for anything else."""
        document = json.loads(data)
        if document["version"] != VERSION:
            raise ValueError(f"version {document['version']}")
        pin = cls(key, document["about"])
        for pack, encoded in document["extents"].items():
            extents = Extents.decode(encoded)
            if document["extent_bytes"] != extent_bytes:
                extents = extents.scaled(int(document["extent_bytes"]), extent_bytes)
            pin.extents[bytes.fromhex(pack)] = extents
        pin.objects = set(document["objects"])
        return pin


class Pins:
    """All pins of a cache."""

    def __init__(self, directory: Path, extent_bytes: int, limiter: trio.CapacityLimiter) -> None:
        self._directory = directory
        self.extent_bytes = extent_bytes
        self._limiter = limiter
        self._pins: dict[str, Pin] = {}

    def load(self) -> None:
        """Learn what is pinned, in a thread before anything else. A file that makes no sense is put aside."""
        self._directory.mkdir(mode=0o700, exist_ok=True)
        for path in sorted(self._directory.iterdir()):
            if path.suffix != _SUFFIX:
                continue
            try:
                self._pins[path.stem] = Pin.decode(path.stem, path.read_bytes(), self.extent_bytes)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                log.warning("a pin cannot be read and no longer holds: %s: %s", path, error)
                path.rename(path.with_suffix(".bad"))

    def __iter__(self) -> Iterator[Pin]:
        return iter(self._pins.values())

    def get(self, key: str) -> Pin | None:
        """The pin of that name."""
        return self._pins.get(key)

    def begin(self, key: str, about: Mapping[str, Any]) -> Pin:
        """The pin of that name, made if there is none; it holds from now on."""
        pin = self._pins.get(key)
        if pin is None:
            pin = self._pins[key] = Pin(key, about)
        return pin

    async def save(self, pin: Pin) -> None:
        """Make it durable as it is now. Raises OSError."""
        data = pin.encode(self.extent_bytes)
        path = self._directory / (pin.key + _SUFFIX)
        await trio.to_thread.run_sync(replace_file, path, data, limiter=self._limiter)

    async def remove(self, pin: Pin) -> None:
        """Let go of what only this pin holds. Raises OSError."""
        self._pins.pop(pin.key, None)
        path = self._directory / (pin.key + _SUFFIX)
        await trio.to_thread.run_sync(_remove_durably, path, limiter=self._limiter)

    # --- what eviction asks

    def of_pack(self, pack: bytes) -> list[Extents]:
        """What is pinned of a pack, by pin; [] if nothing is."""
        return [pin.extents[pack] for pin in self._pins.values() if pack in pin.extents]

    def holds(self, pack: bytes, extent: int) -> bool:
        """Whether any pin holds an extent."""
        return any(extent in extents for extents in self.of_pack(pack))

    def holds_object(self, name: str) -> bool:
        """Whether any pin holds a stored object."""
        return any(name in pin.objects for pin in self._pins.values())


def pinned_packs(directory: Path) -> frozenset[str]:
    """Packs (in hex) of which something is pinned, by the files alone. For who has no index yet. Raises nothing."""
    found: set[str] = set()
    for path in directory.glob(f"*{_SUFFIX}"):
        try:
            found.update(json.loads(path.read_bytes())["extents"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return frozenset(found)


def _remove_durably(path: Path) -> None:
    path.unlink(missing_ok=True)
    sync(path.parent)
