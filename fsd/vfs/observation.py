"""What was asked for in a run's view: the recorder of one view, and the room that all of them share.

It is told of names and of numbers in trees, and never looks anything up. Recorded is what could differ another time:
what was found, what was not, what was listed. However often something is asked for, it is remembered once, and so its
memory follows from what there is and not from how long somebody reads: numbers stand in bit maps, of which only the
parts exist that have a bit.

Invariant: what has no `problem` is everything. Whatever cannot be known or remembered becomes one; the first is kept.

For the event loop's thread, but for `Snapshot.inputs`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from fsd.format.inputs import Inputs, ListingInputs, NameInputs, VersionInputs
from fsd.format.positions import Stretches

TOP = 0
"""The position of a version's own directory; an entry has one more than its ordinal."""

_PART_SHIFT = 9
_PART_POSITIONS = 1 << _PART_SHIFT
_PART_BYTES = _PART_POSITIONS // 8
_PART_COST = 250
"""Bytes of memory for a part of a bit map, with its place in the dictionary."""

_NAME_COST = 250
"""The same for a name or a path, besides its own length."""

_VERSION_COST = 2000

_NO_ROOM = "more was read than the mount could remember"


class ShownVersion(NamedTuple):
    """A version directory, whichever view it is seen in."""

    repository: str
    name: str
    commit: bytes
    """The object whose tree it shows."""


class Positions:
    """A set of positions in a tree: 64 bytes for each 512 of them among which there is one."""

    __slots__ = ("_parts",)

    def __init__(self, parts: Mapping[int, bytearray] | None = None) -> None:
        self._parts = {number: bytearray(part) for number, part in (parts or {}).items()}

    def has_room(self, position: int) -> bool:
        """Whether it takes no more memory to add it."""
        return position >> _PART_SHIFT in self._parts

    def add(self, position: int) -> None:
        """Once, however often."""
        part = self._parts.get(position >> _PART_SHIFT)
        if part is None:
            part = self._parts[position >> _PART_SHIFT] = bytearray(_PART_BYTES)
        part[position >> 3 & _PART_BYTES - 1] |= 1 << (position & 7)

    def copy(self) -> Positions:
        """As it is now."""
        return Positions(self._parts)

    def stretches(self) -> Stretches:
        """All of them."""
        found: list[tuple[int, int]] = []
        for number in sorted(self._parts):
            # By whole stretches, not by bits: of a part that is full there is one.
            bits, at = int.from_bytes(self._parts[number], "little"), number << _PART_SHIFT
            while bits:
                gap = (bits & -bits).bit_length() - 1
                bits, at = bits >> gap, at + gap
                length = (~bits & bits + 1).bit_length() - 1
                if found and found[-1][1] == at:
                    found[-1] = found[-1][0], at + length
                else:
                    found.append((at, at + length))
                bits, at = bits >> length, at + length
        return tuple(found)


class _Below:
    """What was asked for below one version directory."""

    __slots__ = ("is_identified", "listed", "missing", "seen")

    def __init__(self) -> None:
        self.seen = Positions()
        self.listed = Positions()
        self.missing: set[bytes] = set()
        self.is_identified = False

    def copy(self) -> _Below:
        copied = _Below()
        copied.seen, copied.listed = self.seen.copy(), self.listed.copy()
        copied.missing, copied.is_identified = set(self.missing), self.is_identified
        return copied


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An observation as it was at one moment. Nobody else has any part of it."""

    _versions: Mapping[ShownVersion, _Below]
    _names: Mapping[tuple[str, str], str | None]
    _listings: Mapping[str, bytes]
    _problem: str

    def inputs(self) -> Inputs:
        """The same as a record has it. Takes a second for millions of numbers that lie apart."""
        return Inputs(
            versions=tuple(
                VersionInputs(
                    *version,
                    seen=below.seen.stretches(),
                    listed=below.listed.stretches(),
                    missing=tuple(sorted(below.missing)),
                    is_identified=below.is_identified,
                )
                for version, below in sorted(self._versions.items(), key=lambda item: item[0])
            ),
            names=tuple(
                NameInputs(repository, name, target) for (repository, name), target in sorted(self._names.items())
            ),
            listings=tuple(ListingInputs(repository, names) for repository, names in sorted(self._listings.items())),
            problem=self._problem,
        )


class Observation:
    """The recorder of one view. What it is told, those around it hear as well."""

    def __init__(self, room: ObservationRoom, outer: Observation | None = None) -> None:
        self._room = room
        self._chain: tuple[Observation, ...] = (self,) if outer is None else (self, *outer._chain)
        self._versions: dict[ShownVersion, _Below] = {}
        self._names: dict[tuple[str, str], str | None] = {}
        self._commits: dict[tuple[str, str], bytes] = {}
        """Of names that are version directories."""
        self._listings: dict[str, bytes] = {}
        self._used_bytes = 0
        self._is_over = False
        self.problem = ""
        """Why this may not be everything, for people."""

    @property
    def depth(self) -> int:
        """In how many views this one lies, itself included."""
        return len(self._chain)

    # --- in a version

    def saw(self, version: ShownVersion, position: int) -> None:
        """A name below a version was looked up, and there: perhaps it is read."""
        for each in self._chain:
            below = each._below(version)
            if below is not None and each._may_add(below.seen, position):
                below.seen.add(position)

    def listed(self, version: ShownVersion, position: int) -> None:
        """A directory of a version was listed."""
        for each in self._chain:
            below = each._below(version)
            if below is not None and each._may_add(below.listed, position):
                below.listed.add(position)

    def missed(self, version: ShownVersion, path: bytes) -> None:
        """A path was looked up, and certainly is not there."""
        for each in self._chain:
            below = each._below(version)
            if below is not None and path not in below.missing and each._take(_NAME_COST + len(path)):
                below.missing.add(path)

    def identified(self, version: ShownVersion) -> None:
        """It was asked which commit the version is."""
        for each in self._chain:
            below = each._below(version)
            if below is not None:
                below.is_identified = True

    # --- above versions

    def named(self, repository: str, name: str, target: str | None, commit: bytes = b"") -> None:
        """A name above the versions was looked up: see `NameInputs`. Of a version's, `commit` is whose tree it shows.

        One that changed its meaning meanwhile has no meaning that could be compared.
        """
        for each in self._chain:
            each._name((repository, name), target, commit)

    def enumerated(self, repository: str, names: bytes) -> None:
        """A directory above the versions was listed: see `ListingInputs`."""
        for each in self._chain:
            known = each._listings.get(repository)
            if known is None:
                if each._take(_NAME_COST):
                    each._listings[repository] = names
            elif known != names:
                each._note(f"the names in /{repository} changed while it ran")

    def fail(self, why: str) -> None:
        """There was something that is not known."""
        for each in self._chain:
            each._note(why)

    # --- what there is

    def snapshot(self) -> Snapshot:
        """All of it, now."""
        versions = {version: below.copy() for version, below in self._versions.items()}
        return Snapshot(versions, dict(self._names), dict(self._listings), self.problem)

    def close(self) -> None:
        """Nobody will ask for it any more."""
        self._room.leave(self._used_bytes)
        self._used_bytes, self._is_over = 0, True
        self._note("it was said to be over")
        self._versions.clear()
        self._names.clear()
        self._commits.clear()
        self._listings.clear()

    def _note(self, why: str) -> None:
        self.problem = self.problem or why

    def _take(self, size: int) -> bool:
        """Whether there is room for so many bytes more; they are its own then."""
        if self._is_over or not self._room.take(size):
            self._note(_NO_ROOM)
            return False
        self._used_bytes += size
        return True

    def _may_add(self, positions: Positions, position: int) -> bool:
        return positions.has_room(position) or self._take(_PART_COST)

    def _below(self, version: ShownVersion) -> _Below | None:
        below = self._versions.get(version)
        if below is None and self._take(_VERSION_COST):
            below = self._versions[version] = _Below()
        return below

    def _name(self, key: tuple[str, str], target: str | None, commit: bytes) -> None:
        if key not in self._names:
            if self._take(_NAME_COST + len(key[0]) + len(key[1])):
                self._names[key], self._commits[key] = target, commit
        elif (self._names[key], self._commits[key]) != (target, commit):
            self._note(f"{'/'.join(filter(None, key))} came to mean something else while it ran")


class ObservationRoom:
    """How many views may be observed at once, and how much memory they may take together."""

    def __init__(self, max_views: int, max_bytes: int) -> None:
        self._max_views = max_views
        self._max_bytes = max_bytes
        self._used_bytes = 0
        self._live: set[Observation] = set()

    def __iter__(self) -> Iterator[Observation]:
        """Those that somebody may yet ask for."""
        return iter(self._live)

    def __len__(self) -> int:
        return len(self._live)

    @property
    def used_bytes(self) -> int:
        """Of memory, about."""
        return self._used_bytes

    def enter(self, outer: Observation | None) -> Observation:
        """An observation that begins. Beyond the bound it is one with a problem."""
        observation = Observation(self, outer)
        if len(self._live) >= self._max_views:
            observation.problem = f"more than {self._max_views} runs were observed at once"
        self._live.add(observation)
        return observation

    def end(self, observation: Observation) -> None:
        """What it took is free again. Idempotent."""
        self._live.discard(observation)
        observation.close()

    def take(self, size: int) -> bool:
        """Take so many bytes, if they are there."""
        if self._used_bytes + size > self._max_bytes:
            return False
        self._used_bytes += size
        return True

    def leave(self, size: int) -> None:
        """Give them back."""
        self._used_bytes -= size
