"""Whether what a run saw of a version would look the same in another one.

Positions of entries are looked for in the *difference* of the two trees, so that it takes what differs, and not what
was read: equal trees are told by their ids. What counts of a path depends on how it was looked at:

    seen       a file or symlink: content, kind and executable bit; of a directory, that it is one
    missing    that there is nothing
    listed     of a directory, the names in it and their kinds

Reads pages; knows nothing of names above versions.
"""

from __future__ import annotations

from bisect import bisect_right
from contextlib import aclosing

from fsd.format.inputs import VersionInputs
from fsd.format.model import Kind
from fsd.format.positions import Stretches
from fsd.repo.differences import Differing, Fact, Part, numbered_differences

MAX_REASONS = 3
"""A person needs no more, and the first is enough to run again."""

_TOP = 0


class Positions:
    """A set of numbers that is asked for its members."""

    def __init__(self, stretches: Stretches) -> None:
        self._firsts = [first for first, _ in stretches]
        self._ends = [end for _, end in stretches]

    def __contains__(self, position: int) -> bool:
        at = bisect_right(self._firsts, position) - 1
        return at >= 0 and position < self._ends[at]


async def first_changes(old: Part, new: Part, inputs: VersionInputs, *, read_ahead_pages: int) -> list[str]:
    """What of a version's inputs is not the same in the tree `new`, a line each, at most `MAX_REASONS`; [] if all is.

    `old` is the tree that the inputs were seen in. Raises CorruptDataError, and what a store raises.
    """
    if old.id == new.id:
        return []
    return await _Comparison(old, inputs).changes_to(new, read_ahead_pages)


class _Comparison:
    def __init__(self, old: Part, inputs: VersionInputs) -> None:
        self._old = old
        self._repository = inputs.repository
        self._seen = Positions(inputs.seen)
        self._listed = Positions(inputs.listed)
        self._has_listed = bool(inputs.listed)
        self._missing = frozenset(inputs.missing)
        self._is_listed: dict[bytes, bool] = {}
        """Of directories that something was added to or taken from."""

    async def changes_to(self, new: Part, read_ahead_pages: int) -> list[str]:
        found: list[str] = []
        async with aclosing(numbered_differences(self._old, new, read_ahead_pages=read_ahead_pages)) as differences:
            async for differing in differences:
                found += self._looked_up(differing) or await self._in_listing(differing)
                if len(found) >= MAX_REASONS:
                    break
        return found[:MAX_REASONS]

    def _looked_up(self, differing: Differing) -> list[str]:
        """What a lookup would find otherwise."""
        old, new, ordinal = differing
        if old is None:
            assert new is not None
            return [f"{self._named(new)} is there now"] if new.path in self._missing else []
        assert ordinal is not None
        if ordinal + 1 not in self._seen:
            return []
        if new is None:
            return [f"{self._named(old)} is gone"]
        if old.kind is new.kind is Kind.DIRECTORY:
            return []
        return [f"{self._named(old)} changed"]

    async def _in_listing(self, differing: Differing) -> list[str]:
        """What a listing would show otherwise."""
        old, new, _ = differing
        if not self._has_listed or (old is not None and new is not None and old.kind is new.kind):
            return []
        fact = new or old
        assert fact is not None
        directory = fact.path.rpartition(b"/")[0]
        if directory not in self._is_listed:
            self._is_listed[directory] = await self._was_listed(directory)
        if not self._is_listed[directory]:
            return []
        if old is None:
            return [f"{self._named(fact)} is new in a folder that it lists"]
        return [f"{self._named(fact)} is gone" if new is None else f"{self._named(fact)} changed"]

    async def _was_listed(self, path: bytes) -> bool:
        if not path:
            return _TOP in self._listed
        directory, _, name = path.rpartition(b"/")
        found = await self._old.find(directory, name)
        return found is not None and found.ordinal + 1 in self._listed

    def _named(self, fact: Fact) -> str:
        return f"{self._repository}/{fact.path.decode(errors='surrogateescape')}"
