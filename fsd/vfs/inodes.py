"""The inodes of what lies in trees: a packed table, since the kernel may hold millions of them at once.

A *number* is derived from a 32-byte key (`Page.identity` for files and symlinks, a hash of version and path for
directories) and from the flavour, which stands in its two lowest bits. It is never trusted as a name: each row holds
the whole key and the size, and where two of them meet in one number the later one moves on to the next that is free.

Invariants:

- A key, flavour and value has one number as long as it is looked up, whoever comes and goes beside it.
- A row lives while its lookup count is above zero; its page and, for a directory, its tree are held as long.
- Rows of a shard are dense: the last one moves into the hole of one that goes, so memory returns.
- A shard's index is at most two thirds full, has one slot for each row, and no tombstones.

A row costs about 65 bytes. The table is split so that growing one index takes about a millisecond at 1.5 million rows.
It must not know what lies in a page or a tree. Used from the event loop only.
"""

from __future__ import annotations

from array import array
from collections.abc import Hashable
from sys import getsizeof
from typing import Generic, NamedTuple, TypeVar

from fsd.ids import ID_BYTES

FILE = 0
EXECUTABLE = 1
SYMLINK = 2
DIRECTORY = 3
"""Flavours: what a node is, as far as its number says. A plain and an executable twin are two nodes."""

FLAVOUR_BITS = 0b11

FIRST_TREE_INO = 1 << 61
"""Numbers below this belong to nodes that are not in a tree."""

_NUMBER_MASK = (FIRST_TREE_INO - 1) & ~FLAVOUR_BITS
_SHARDS = 128
_SHARD_MASK = _SHARDS - 1
_SHARD_SHIFT = 46
_MIN_SLOTS = 8
_POSITION_BITS = 16
_POSITION_MASK = (1 << _POSITION_BITS) - 1
_MAX_SMALL_ROWS = 0xFFFF
"""The most rows that slots of two bytes can name."""

_from_bytes = int.from_bytes

T = TypeVar("T", bound=Hashable)


class Seen(NamedTuple):
    """Where an entry was last seen."""

    page: int
    """The page's number in the table's `pages`."""
    position: int
    """Its position in the page."""


class Numbering(Generic[T]):
    """Small numbers for things, each kept as long as it is held. Number 0 is never given."""

    __slots__ = ("_free", "_numbers", "_things", "holders")

    def __init__(self) -> None:
        self._numbers: dict[T, int] = {}
        self._things: list[T | None] = [None]
        self.holders = array("Q", [0])
        """By number; whoever adds to it directly holds."""
        self._free: list[int] = []

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, number: int) -> T:
        """The thing of a number that is held."""
        thing = self._things[number]
        if thing is None:
            raise KeyError(number)
        return thing

    def hold(self, thing: T, count: int = 1) -> int:
        """The number of `thing`, held `count` times more."""
        number = self._numbers.get(thing)
        if number is None:
            if self._free:
                number = self._free.pop()
                self._things[number] = thing
            else:
                number = len(self._things)
                self._things.append(thing)
                self.holders.append(0)
            self._numbers[thing] = number
        self.holders[number] += count
        return number

    def hold_number(self, number: int) -> None:
        """Hold what already has a number once more."""
        self.holders[number] += 1

    def drop(self, number: int) -> None:
        """Undo one hold; the number is free for something else after the last."""
        holders = self.holders[number] - 1
        self.holders[number] = holders
        if not holders:
            thing = self._things[number]
            assert thing is not None
            del self._numbers[thing]
            self._things[number] = None
            self._free.append(number)


class _Shard:
    """Rows in columns, row 0 unused so that an empty slot can be 0."""

    __slots__ = ("index", "inos", "keys", "lookups", "mask", "seen", "values")

    def __init__(self) -> None:
        self.inos = array("Q", [0])
        self.keys = bytearray(ID_BYTES)
        self.values = array("Q", [0])
        self.seen = array("Q", [0])
        self.lookups = array("I", [0])
        self.index = array("H", bytes(2 * _MIN_SLOTS))
        self.mask = _MIN_SLOTS - 1

    @property
    def memory_bytes(self) -> int:
        """What its columns and its index occupy, with the room they have to grow."""
        return sum(map(getsizeof, (self.inos, self.keys, self.values, self.seen, self.lookups, self.index)))

    def row(self, ino: int) -> int:
        """The row of a number, 0 if there is none."""
        index, inos, mask = self.index, self.inos, self.mask
        slot = ino >> 2 & mask
        while row := index[slot]:
            if inos[row] == ino:
                return row
            slot = slot + 1 & mask
        return 0

    def slot(self, ino: int) -> int:
        """The slot that names the row of `ino`, which is there."""
        index, inos, mask = self.index, self.inos, self.mask
        slot = ino >> 2 & mask
        while inos[index[slot]] != ino:
            slot = slot + 1 & mask
        return slot

    def free_slot(self, ino: int) -> int:
        """The slot where a row of `ino`, which is not there, belongs."""
        index, mask = self.index, self.mask
        slot = ino >> 2 & mask
        while index[slot]:
            slot = slot + 1 & mask
        return slot

    def add(self, slot: int, ino: int, key: bytes, value: int, seen: int) -> None:
        """A new row, looked up once; `slot` is the free one where it belongs."""
        row = len(self.inos)
        self.inos.append(ino)
        self.keys += key
        self.values.append(value)
        self.seen.append(seen)
        self.lookups.append(1)
        if row * 3 > self.mask * 2:
            self.rebuild((self.mask + 1) * 2)
        else:
            self.index[slot] = row

    def rebuild(self, slots: int) -> None:
        """Make an index of that many slots (a power of two)."""
        typecode = "H" if slots <= _MAX_SMALL_ROWS + 1 else "I"
        index = array(typecode, bytes(slots * array(typecode).itemsize))
        mask = slots - 1
        inos = iter(self.inos)
        next(inos)
        for row, ino in enumerate(inos, 1):
            slot = ino >> 2 & mask
            while index[slot]:
                slot = slot + 1 & mask
            index[slot] = row
        self.index, self.mask = index, mask

    def remove(self, row: int) -> None:
        """Free a row: its slot, then its columns, into which the last row moves."""
        inos = self.inos
        self._empty_slot(self.slot(inos[row]))
        last = len(inos) - 1
        if row != last:
            self.index[self.slot(inos[last])] = row
            inos[row] = inos[last]
            self.keys[row * ID_BYTES : (row + 1) * ID_BYTES] = self.keys[last * ID_BYTES :]
            self.values[row] = self.values[last]
            self.seen[row] = self.seen[last]
            self.lookups[row] = self.lookups[last]
        del self.keys[last * ID_BYTES :]
        for column in (inos, self.values, self.seen, self.lookups):
            column.pop()
        if last * 8 < self.mask and self.mask >= _MIN_SLOTS:
            # An array does not shrink by itself when its last element is taken; a copy does.
            self.inos, self.values = self.inos[:], self.values[:]
            self.seen, self.lookups = self.seen[:], self.lookups[:]
            self.rebuild((self.mask + 1) // 2)

    def _empty_slot(self, hole: int) -> None:
        # Later rows of the same run are moved up, so that no search ever stops short of its row.
        index, inos, mask = self.index, self.inos, self.mask
        slot = hole + 1 & mask
        while row := index[slot]:
            home = inos[row] >> 2 & mask
            if (slot - home) & mask >= (slot - hole) & mask:
                index[hole] = row
                hole = slot
            slot = slot + 1 & mask
        index[hole] = 0


class InodeTable:
    """See the module. `pages` and `trees` number what rows refer to."""

    def __init__(self, *, number_mask: int = _NUMBER_MASK) -> None:
        """`number_mask` says which bits of a number come from the key; tests take few, to make conflicts."""
        self.pages: Numbering[bytes] = Numbering()
        self.trees: Numbering[Hashable] = Numbering()
        self._page_holders = self.pages.holders
        self._tree_holders = self.trees.holders
        self._mask = number_mask
        self._shards = [_Shard() for _ in range(_SHARDS)]
        self._moved: dict[tuple[bytes, int, int], int] = {}
        """Numbers of the rows that had to move on, by key, flavour and value: none, but for a hash with 59 bits in
        common with another, and for pages that lie about a size."""

    def __len__(self) -> int:
        return sum(len(shard.inos) - 1 for shard in self._shards)

    @property
    def memory_bytes(self) -> int:
        """What the rows and their index occupy."""
        return sum(shard.memory_bytes for shard in self._shards)

    def remember(self, key: bytes, flavour: int, value: int, page: int, position: int) -> int:
        """Count one lookup of (key, flavour, value) and return its number.

        `value` is the size of a file or symlink, and the number of the tree of a directory; `page` is a number too.
        """
        ino = _from_bytes(key[:8], "little") >> 3 & self._mask | FIRST_TREE_INO | flavour
        if self._moved:
            ino = self._moved.get((key, flavour, value), ino)
        seen = page << _POSITION_BITS | position
        # Written out here, since this runs for every name of every listing.
        shard = self._shards[ino >> _SHARD_SHIFT & _SHARD_MASK]
        index, inos, mask = shard.index, shard.inos, shard.mask
        slot = ino >> 2 & mask
        while row := index[slot]:
            if inos[row] == ino:
                if shard.keys.startswith(key, row * ID_BYTES) and shard.values[row] == value:
                    shard.lookups[row] += 1
                    if shard.seen[row] != seen:
                        self._move_seen(shard, row, page, seen)
                    return ino
                ino = self._next_free((key, flavour, value), ino)
                shard = self._shards[ino >> _SHARD_SHIFT & _SHARD_MASK]
                slot = shard.free_slot(ino)
                break
            slot = slot + 1 & mask
        shard.add(slot, ino, key, value, seen)
        self._page_holders[page] += 1
        if flavour == DIRECTORY:
            self._tree_holders[value] += 1
        return ino

    def _move_seen(self, shard: _Shard, row: int, page: int, seen: int) -> None:
        # The last place is the one to trust: an older one may belong to a version that has gone since.
        before = shard.seen[row] >> _POSITION_BITS
        shard.seen[row] = seen
        if before != page:
            self.pages.hold_number(page)
            self.pages.drop(before)

    def _next_free(self, named: tuple[bytes, int, int], ino: int) -> int:
        flavour = ino & FLAVOUR_BITS
        taken = ino
        while self._find(taken)[1]:
            taken = (taken + FLAVOUR_BITS + 1) & self._mask | FIRST_TREE_INO | flavour
            if taken == ino:
                raise OverflowError("every inode number is taken")
        self._moved[named] = taken
        return taken

    def _find(self, ino: int) -> tuple[_Shard, int]:
        shard = self._shards[ino >> _SHARD_SHIFT & _SHARD_MASK]
        return shard, shard.row(ino)

    def forget(self, ino: int, count: int) -> bool:
        """Undo `count` lookups; the row goes with the last, and then this is True. An unknown number is ignored."""
        shard, row = self._find(ino)
        if not row:
            return False
        left = shard.lookups[row] - count
        if left > 0:
            shard.lookups[row] = left
            return False
        self.pages.drop(shard.seen[row] >> _POSITION_BITS)
        if ino & FLAVOUR_BITS == DIRECTORY:
            self.trees.drop(shard.values[row])
        if self._moved:
            key = bytes(shard.keys[row * ID_BYTES : (row + 1) * ID_BYTES])
            self._moved.pop((key, ino & FLAVOUR_BITS, shard.values[row]), None)
        shard.remove(row)
        return True

    def value(self, ino: int) -> int | None:
        """The size of a file or symlink, the tree of a directory; None if the number names nothing."""
        shard, row = self._find(ino)
        return shard.values[row] if row else None

    def content(self, ino: int) -> tuple[bytes, int] | None:
        """Key and value."""
        shard, row = self._find(ino)
        return (bytes(shard.keys[row * ID_BYTES : (row + 1) * ID_BYTES]), shard.values[row]) if row else None

    def seen(self, ino: int) -> Seen | None:
        """Where the entry was last seen."""
        shard, row = self._find(ino)
        if not row:
            return None
        seen = shard.seen[row]
        return Seen(seen >> _POSITION_BITS, seen & _POSITION_MASK)

    def lookups(self, ino: int) -> int:
        """How often the kernel has been given it and not yet forgotten it."""
        shard, row = self._find(ino)
        return shard.lookups[row] if row else 0
