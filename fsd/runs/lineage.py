"""Where files came from: which run made them, with which code, params and data, and where that data came from.

A run's outputs are a commit that its record names. What was published from them since is another commit, so who made
its files is found by their content: a run made them if its outputs have all of them, under the same path, or one that
ends so. Inputs are what a run was seen to read, if all of that was seen, and else its pins as well, and
what its params name below the mountpoint.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from fsd.errors import FsdError, NotFoundError, UsageError
from fsd.format.model import Kind
from fsd.format.run import RunName
from fsd.pins import worktree
from fsd.pins.links import parse_target
from fsd.pins.manifest import DEFAULT_MOUNTPOINT
from fsd.repo.repository import Repositories
from fsd.repo.revisions import RevisionKind, resolve
from fsd.repo.runs import Replaced, Run
from fsd.repo.subsets import open_tree
from fsd.repo.tree import TreeView
from fsd.runs.table import OUTPUT_PATHS, OUTPUTS, Row, params_of

MAX_COMPARED_FILES = 50
"""Of a folder or a version, so many files are looked for, the first."""

MAX_SEARCHED_RUNS = 2000
"""So many runs' outputs are searched by content, the latest."""

MAX_DEPTH = 50
"""Runs after one another."""

_MAX_SUFFIXES = 8


@dataclass(frozen=True, slots=True)
class Wanted:
    """Files whose origin is asked for."""

    files: tuple[tuple[bytes, bytes], ...]
    """Path and content (BLAKE3) of each, of many the first."""
    commit: bytes | None = None
    """The version that they are of."""
    before_us: int | None = None
    """They were there then."""


@dataclass(frozen=True, slots=True)
class Data:
    """A version that a run read."""

    links: tuple[str, ...]
    """The pins, or params, that lead to it."""
    commit: str
    repository: str
    subset_of: str | None
    """The commit that a subset was taken from."""
    author: str
    summary: str
    time_us: int
    made_by: Made | None
    """None where no run is known to have made it: a root."""


@dataclass(frozen=True, slots=True)
class Made:
    """The run that made something."""

    run: Run
    by_content: bool
    """Whether that was told by the files' content, and not by the version's name."""
    others: int
    """Runs that made the same, later."""
    inputs: tuple[Data, ...]
    is_repeated: bool = False
    """Whether it stands elsewhere in the same lineage, where its inputs are."""


class _Maker:
    """A run with outputs."""

    def __init__(self, name: RunName, row: Row, replaced: Replaced) -> None:
        self.name = name
        recorded = bytes.fromhex(str(row[OUTPUTS]))
        self.ids = {recorded, replaced.now(recorded)}
        self.commit = replaced.now(recorded)
        self.paths = [path.encode() for path in json.loads(str(row[OUTPUT_PATHS]))]
        assert isinstance(row["time"], int)
        assert isinstance(row["seconds"], int | float)
        self.end_us = row["time"] + row["seconds"] * 1e6


class Lineage:
    """What is known of where files came from. Reads the store."""

    def __init__(self, repositories: Repositories, rows: Mapping[RunName, Row], replaced: Replaced) -> None:
        """`rows` are those of all runs of the store."""
        self._repositories = repositories
        found = [_Maker(name, row, replaced) for name, row in rows.items() if OUTPUTS in row]
        self._makers = sorted(found, key=lambda maker: (maker.end_us, maker.name))
        self._replaced = replaced
        self._seen: set[RunName] = set()

    async def of(self, wanted: Wanted, depth: int = MAX_DEPTH) -> Made | None:
        """The run that made some files, the first that did, and where its inputs came from; None if no run is known to
        have made them. Raises CorruptDataError, and what a store raises."""
        makers = [maker for maker in self._makers if wanted.before_us is None or maker.end_us <= wanted.before_us]
        found = [maker for maker in makers if wanted.commit is not None and wanted.commit in maker.ids]
        by_content = not found
        if by_content and wanted.files:
            searched = makers[-MAX_SEARCHED_RUNS:]
            found = [maker for maker in searched if await self._has_made(maker, wanted.files)]
        if not found:
            return None
        name = found[0].name
        run = await self._repositories.runs.read(name)
        if name in self._seen or not depth:
            return Made(run, by_content, len(found) - 1, (), is_repeated=True)
        self._seen.add(name)
        inputs = [await self._data(run, commit, links, depth) for commit, links in (await self._inputs(run)).items()]
        return Made(run, by_content, len(found) - 1, tuple(inputs))

    async def _has_made(self, maker: _Maker, files: Sequence[tuple[bytes, bytes]]) -> bool:
        if maker.commit is None:
            return False
        tree = await self._repositories.tree(maker.commit)
        for path, content in files:
            for place in _places(path, maker.paths):
                if await _content_at(tree, place) == content:
                    break
            else:
                return False
        return True

    async def _inputs(self, run: Run) -> dict[bytes, list[str]]:
        """What a run read, as it is now, and by which links."""
        named: dict[bytes, list[str]] = {}
        for pin in run.start.pins:
            if pin.commit is not None:
                named.setdefault(pin.commit, []).append(pin.link)
        for name, value in params_of(run).items():
            commit = await self._named_by(value)
            if commit is not None:
                named.setdefault(commit, []).append(name)
        if run.end is not None:
            read = {each.commit: named.get(each.commit, []) for each in run.end.inputs.versions}
            # What was seen for sure is all there is, or else a part of it.
            named = {**named, **read} if run.end.inputs.problem else read
        return {now: links for commit, links in named.items() if (now := self._replaced.now(commit)) is not None}

    async def _named_by(self, value: object) -> bytes | None:
        """What a param leads to, if that cannot have moved."""
        target = parse_target(value, DEFAULT_MOUNTPOINT) if isinstance(value, str) else None
        if target is None:
            return None
        try:
            resolved = await resolve(self._repositories, target.repository, target.revision)
        except (NotFoundError, UsageError):
            return None
        if resolved.kind not in (RevisionKind.TAG, RevisionKind.COMMIT, RevisionKind.PREFIX):
            return None
        return (resolved.subset and resolved.subset.id) or resolved.commit

    async def _data(self, run: Run, commit: bytes, links: Sequence[str], depth: int) -> Data:
        header = await self._repositories.commit(commit)
        wanted = Wanted(await files_of(await self._repositories.tree(commit)), commit, run.start.time_us)
        made = await self.of(wanted, depth - 1)
        if made is None and header.source is not None:
            source = await self._repositories.tree(header.source)
            made = await self.of(Wanted(await files_of(source), header.source, run.start.time_us), depth - 1)
        return Data(
            links=tuple(links),
            commit=commit.hex(),
            repository=header.repository,
            subset_of=None if header.source is None else header.source.hex(),
            author=header.author,
            summary=header.summary,
            time_us=header.time_us,
            made_by=made,
        )


async def wanted_at(repositories: Repositories, repository: str, revision: str, path: bytes) -> Wanted:
    """What is at a path of a version. Raises NotFoundError, UsageError, CorruptDataError, and what a store raises."""
    resolved = await resolve(repositories, repository, revision)
    tree = await open_tree(repositories, resolved)
    commit = (resolved.subset and resolved.subset.id) or resolved.commit
    content = await _content_at(tree, path) if path else None
    files = ((path, content),) if content is not None else await files_of(tree, path)
    if not files:
        raise NotFoundError(f"there is no file at {repository}/{revision}/{path.decode(errors='replace')}".rstrip("/"))
    return Wanted(files, commit)


def local_files(path: Path) -> tuple[tuple[bytes, bytes], ...]:
    """The first files at or below a path of this machine, named from the top of the work tree around it, or from the
    folder that it is in. Raises NotFoundError if there is none, FsdError if one cannot be read."""
    real = Path(os.path.realpath(path))
    top = worktree.find_top(real) or real.parent
    places = sorted(each for each in real.rglob("*") if each.is_file()) if real.is_dir() else [real]
    if not places:
        raise NotFoundError(f"there is no file in {path}")
    found = []
    for place in places[:MAX_COMPARED_FILES]:
        try:
            content = blake3().update_mmap(place).digest()
        except OSError as error:
            raise FsdError(f"cannot read {place}: {error.strerror}") from error
        found.append((os.fsencode(os.path.relpath(place, top)), content))
    return tuple(found)


async def files_of(tree: TreeView, below: bytes = b"") -> tuple[tuple[bytes, bytes], ...]:
    """The first files below a directory."""
    found: list[tuple[bytes, bytes]] = []
    listing = tree.list_below(below)
    async for listed in listing:
        for entry in map(listed.page.entry, listed.positions):
            if entry.kind == Kind.FILE:
                found.append((_joined(entry.directory, entry.name), entry.content))
                if len(found) == MAX_COMPARED_FILES:
                    return tuple(found)
    return tuple(found)


async def _content_at(tree: TreeView, path: bytes) -> bytes | None:
    directory, _, name = path.rpartition(b"/")
    found = await tree.find(directory, name)
    if found is None or found.page.kind(found.position) != Kind.FILE:
        return None
    return found.page.entry(found.position).content


def _places(path: bytes, outputs: Iterable[bytes]) -> list[bytes]:
    """Where a run may have made what is at a path now: there, or below one of its outputs, in a shorter way each time,
    or as an output of that name."""
    parts = path.split(b"/")
    ends = [b"/".join(parts[start:]) for start in range(min(len(parts), _MAX_SUFFIXES))]
    found = dict.fromkeys(ends)
    for output in outputs:
        found |= dict.fromkeys(b"/".join((output, end)) for end in ends)
        if output.rpartition(b"/")[2] == parts[-1]:
            found[output] = None
    return list(found)


def _joined(directory: bytes, name: bytes) -> bytes:
    return directory + b"/" + name if directory else name
