"""Whether what an earlier run read below the mountpoint would read the same now.

What it saw has *ways*: by which it came to a name, and so what stands there another time. A way is a pin or an output
of the work tree (by its path: it may lead elsewhere now) or the name itself, where that stands in the command or the
code. A name without any way may have been come to by a link that nobody looks after and that has moved since, so what
such a run read is never taken for the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from fsd.format.inputs import Inputs, NameInputs, VersionInputs
from fsd.format.run import RunEnd, RunPin
from fsd.runs.matching import MAX_REASONS, first_changes
from fsd.runs.meanings import Meanings
from fsd.vfs.nodes import Version
from fsd.vfs.versions import Link

Name = tuple[str, str]
"""A repository, and a name in its directory; '' for the repository itself."""


class _Way(NamedTuple):
    """Where a name stands."""

    link: str
    """A pin or output; '' for the name itself."""
    name: Name
    """What stood there then."""


class Ways:
    """By which ways a run came to what it saw."""

    def __init__(self, end: RunEnd) -> None:
        inputs = end.inputs
        self._made = {commit.hex() for commit in end.made}
        direct: dict[Name, set[_Way]] = {}
        for source in end.sources:
            name = (source.repository, source.name)
            direct.setdefault(name, set()).add(_Way(source.link, name))
        self._ways = {name: set(ways) for name, ways in direct.items()}
        for looked_up in inputs.names:
            if looked_up.target:
                target = (looked_up.repository, looked_up.target)
                self._ways.setdefault(target, set()).update(direct.get((looked_up.repository, looked_up.name), ()))

    def to(self, name: Name) -> list[_Way]:
        """Those to a name, in an order."""
        return sorted(self._ways.get(name, ()))

    def is_made(self, name: Name) -> bool:
        """Whether it is the outputs of a run that this one started."""
        return name[1] in self._made

    def unknown(self, inputs: Inputs) -> list[str]:
        """Names to which no way is known, for people."""
        known = {name[0] for name, ways in self._ways.items() if ways}
        found = []
        for name in names_of(inputs):
            if name[1] and not self._ways.get(name) and not self.is_made(name):
                found.append("/".join(name))
            elif not name[1] and name[0] not in known and not self._has_made(inputs, name[0]):
                found.append(name[0])
        return list(dict.fromkeys(found))

    def _has_made(self, inputs: Inputs, repository: str) -> bool:
        return any(name[0] == repository and self.is_made(name) for name in names_of(inputs))


def names_of(inputs: Inputs) -> Iterator[Name]:
    """Everything above the versions that was looked up or listed, but for the top."""
    for version in inputs.versions:
        yield version.repository, version.name
    for looked_up in inputs.names:
        yield looked_up.repository, looked_up.name
    for listing in inputs.listings:
        if listing.repository:
            yield listing.repository, ""


async def changed_inputs(
    meanings: Meanings, end: RunEnd, links: Mapping[str, RunPin], then: Iterable[RunPin]
) -> list[str]:
    """What would not read as it did, a line each, a few at most; [] if all would.

    `links` are the pins and outputs of now by their paths, `then` those of the run. Raises CorruptDataError, and what
    a store raises.
    """
    return await _Comparison(meanings, end, links, {pin.link: pin for pin in then}).changes()


class _Comparison:
    def __init__(
        self, meanings: Meanings, end: RunEnd, links: Mapping[str, RunPin], then: Mapping[str, RunPin]
    ) -> None:
        self._meanings = meanings
        self._inputs = end.inputs
        self._links = links
        self._then = then
        self._ways = Ways(end)
        self._versions = {(version.repository, version.name) for version in end.inputs.versions}

    async def changes(self) -> list[str]:
        found = [f"it read {name}, and by what way is not known" for name in self._ways.unknown(self._inputs)]
        for looked_up in self._inputs.names:
            if len(found) < MAX_REASONS:
                found += await self._changed_name(looked_up)
        for listing in self._inputs.listings:
            if await self._meanings.listing(listing.repository) != listing.names:
                found.append(f"there are other names in {listing.repository or 'the mount'}")
        for version in self._inputs.versions:
            if len(found) < MAX_REASONS:
                found += await self._changed_version(version)
        return list(dict.fromkeys(found))[:MAX_REASONS]

    def _moved(self, way: _Way) -> RunPin | None:
        """The pin or output that is at the place of a way now."""
        return self._links.get(way.link)

    def _is_away(self, way: _Way) -> str:
        """Why a link leads to nothing that can be compared; '' if it can."""
        now, then = self._moved(way), self._then.get(way.link)
        if now is None or then is None:
            return f"{way.link} is no link into the mount any more"
        if now.repository != then.repository:
            return f"{way.link} leads to {now.repository}, no longer to {then.repository}"
        if now.path != then.path:
            return f"{way.link} leads to another path"
        return ""

    async def _changed_name(self, looked_up: NameInputs) -> list[str]:
        """What is otherwise with a name above the versions."""
        repository, name, target = looked_up
        shown = f"{repository}/{name}" if name else repository
        if not name:
            is_there = await self._meanings.has_repository(repository)
            return [] if is_there == (target is not None) else [_appeared(shown, is_there)]
        for way in self._ways.to((repository, name)):
            if way.link and (why := self._is_away(way)):
                return [why]
            now = self._moved(way) if way.link else None
            meant = await self._meanings.find(repository, name if now is None else now.revision)
            if (meant is None) != (target is None):
                return [_appeared(f"what {way.link} leads to" if way.link else shown, meant is not None)]
            if meant is None or not target:
                if not way.link and isinstance(meant, Link):
                    return [f"{shown} changed"]
                continue
            # Where nobody looked at what it leads to, only the text of the link can have been of interest.
            is_text = (repository, target) not in self._versions
            if not isinstance(meant, Link) and (is_text or not way.link):
                return [f"{shown} changed"]
            if is_text and isinstance(meant, Link) and meant.target != target:
                return [f"{shown} changed"]
        return []

    async def _changed_version(self, inputs: VersionInputs) -> list[str]:
        """What is otherwise in the versions that its ways lead to now."""
        name = (inputs.repository, inputs.name)
        if self._ways.is_made(name):
            return []
        old = await self._meanings.seen_tree(inputs)
        if old is None:
            what = f"{inputs.repository}/{inputs.name}"
            return [f"it read {what}, which a rule selects: take that subset with 'fsd subset create'"]
        for way in self._ways.to(name):
            if way.link and (why := self._is_away(way)):
                return [why]
            now = self._moved(way) if way.link else None
            written = way.name[1] if now is None else now.revision
            version = await self._meanings.version(inputs.repository, written)
            if version is None:
                return [_appeared(f"{inputs.repository}/{written}", False)]
            if inputs.is_identified and not _is_same_version(version, inputs):
                return [f"it asked which commit {inputs.repository}/{inputs.name} is"]
            new = await self._meanings.tree(version)
            found = await first_changes(old, new, inputs, read_ahead_pages=self._meanings.read_ahead_pages)
            if found:
                return found
        return []


def _is_same_version(version: Version, inputs: VersionInputs) -> bool:
    """Whether its attributes are the same."""
    return (version.label, version.tree_of) == (inputs.name, inputs.commit)


def _appeared(what: str, is_there: bool) -> str:
    return f"{what} is there now" if is_there else f"{what} is gone"
