"""When each extent of a mirror was last used: eight bytes an extent, in groups, so that a far one costs little."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator

_GROUP_BITS = 8
_GROUP_MASK = (1 << _GROUP_BITS) - 1

_HEAD = struct.Struct("<QI")


class Recency:
    """The last use of the extents of one mirror. A use is a tick of the cache's own clock, 1 or more.

    Extents are numbered from the mirror's start. A placement may claim to lie anywhere, so the table is one of groups:
    an extent far out costs 2 KiB at most, not the space of all that would lie before it.
    """

    __slots__ = ("_extents", "_groups")

    def __init__(self) -> None:
        self._groups: dict[int, array[int]] = {}
        self._extents = 0

    def use(self, extent: int, tick: int) -> None:
        """Note a use. Part of every read from a mirror."""
        group = self._groups.get(extent >> _GROUP_BITS)
        slot = extent & _GROUP_MASK
        if group is None:
            group = self._groups[extent >> _GROUP_BITS] = array("Q")
        if slot >= len(group):
            group.frombytes(bytes(8 * (slot + 1 - len(group))))
        if not group[slot]:
            self._extents += 1
        group[slot] = tick

    def last_use(self, extent: int) -> int:
        """The tick of the last use, 0 if there was none."""
        group = self._groups.get(extent >> _GROUP_BITS)
        slot = extent & _GROUP_MASK
        return group[slot] if group is not None and slot < len(group) else 0

    def drop(self, extent: int) -> None:
        """Forget an extent that holds nothing any more."""
        group = self._groups.get(extent >> _GROUP_BITS)
        slot = extent & _GROUP_MASK
        if group is None or slot >= len(group) or not group[slot]:
            return
        group[slot] = 0
        self._extents -= 1
        if not any(group):
            del self._groups[extent >> _GROUP_BITS]

    def __len__(self) -> int:
        """Extents in use."""
        return self._extents

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """(tick, extent) of each extent in use."""
        for number, group in self._groups.items():
            base = number << _GROUP_BITS
            for slot, tick in enumerate(group):
                if tick:
                    yield tick, base | slot

    def encode(self) -> bytes:
        """For the index."""
        return b"".join(
            _HEAD.pack(number, len(group)) + group.tobytes() for number, group in sorted(self._groups.items())
        )

    @classmethod
    def decode(cls, data: bytes) -> Recency:
        """What `encode` made. It is only a hint: bytes that make no sense give an empty table."""
        recency = cls()
        position = 0
        while position + _HEAD.size <= len(data):
            number, slots = _HEAD.unpack_from(data, position)
            position += _HEAD.size
            if not 0 < slots <= _GROUP_MASK + 1 or position + 8 * slots > len(data):
                return cls()
            group = array("Q")
            group.frombytes(data[position : position + 8 * slots])
            recency._groups[number] = group
            recency._extents += sum(1 for tick in group if tick)
            position += 8 * slots
        return recency
