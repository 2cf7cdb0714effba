"""Rewriting a repository's history without some paths: every version that has one of them becomes another commit.

    trees      of each version, the parents' first; pages without such a path are shared with the old tree
    commits    with the same words, author and time, and the parents that the old ones became
    refs       each with its whole history, by compare-and-swap

What had expired is dropped from the histories. Killed in between, some refs name old commits and some new ones; doing
it again goes on, and makes the same commits.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fsd.format.commit import Commit, encode_commit
from fsd.format.keys import ObjectKind
from fsd.format.model import Entry, Kind
from fsd.format.ref import Move
from fsd.repo.builder import Change, Removal, RemovalBelow, build_tree
from fsd.repo.refs import StoredRef
from fsd.repo.repository import Repositories
from fsd.tasks import gather


class Rewriting:
    """One repository's, without `paths` (files or directories, from the top)."""

    def __init__(
        self, repositories: Repositories, repository: str, paths: Collection[bytes], expired: Collection[bytes]
    ) -> None:
        self._repositories = repositories
        self._repository = repository
        self._paths = sorted(paths)
        self._expired = expired
        self.replaced: dict[bytes, bytes | None] = {}
        """What each version became: itself, another one, or nothing."""
        self.removed: list[tuple[bytes, Entry]] = []
        """Files and symlinks that were taken out, each with the version that had it."""
        self._refs: dict[str, StoredRef] = {}
        self.refs = 0
        """Rewritten."""

    async def rewrite_versions(self) -> None:
        """Make the new versions of all that the repository's refs name and named, and of what runs name of it; no ref
        names them yet.

        Raises CorruptDataError for a version that cannot be read, and what a store raises.
        """
        self._refs = await self._repositories.refs.read_all(self._repository)
        named: dict[bytes, None] = {}
        for stored in self._refs.values():
            async for move in self._repositories.refs.history(stored.ref):
                named |= dict.fromkeys(each for each in (move.source, move.commit) if each is not None)
        replaced = await self._repositories.runs.replaced()
        async for run in self._repositories.runs.read_all():
            named |= dict.fromkeys(replaced.all_now(run.commits))
        headers = await self._headers(named)
        for commit in _parents_first(headers):
            if commit not in self.replaced:
                self.replaced[commit] = await self._rewrite(commit, headers[commit])

    async def rewrite_refs(self) -> bool:
        """Have the refs name the new versions. False if some were moved since: then both are to be done again."""
        moved = [await self._rewrite_ref(name, stored) for name, stored in self._refs.items()]
        return all(moved)

    # --- versions

    async def _headers(self, named: Mapping[bytes, None]) -> dict[bytes, Commit]:
        """Of these versions, and of all that they were made from."""
        headers: dict[bytes, Commit] = {}
        waiting = [*named]
        while waiting:
            found = await gather(self._repositories.commit, waiting, tasks=self._repositories.limits.fetch_requests)
            headers |= zip(waiting, found, strict=True)
            waiting = [*dict.fromkeys(each for header in found for each in _made_from(header) if each not in headers)]
        return headers

    async def _rewrite(self, commit: bytes, header: Commit) -> bytes | None:
        if commit in self._expired:
            return None
        if header.repository != self._repository:
            return commit
        made_from = {each: self.replaced[each] for each in _made_from(header)}
        source = None if header.source is None else made_from[header.source]
        if header.source is not None and source is None:
            return None
        changes = await self._changes(commit)
        metadata = _without_paths(header.metadata, self._paths)
        rule = self._rule(header.rule)
        is_same = all(old == new for old, new in made_from.items())
        if not changes and is_same and metadata == header.metadata and rule == header.rule:
            return commit
        built = await build_tree(
            self._repositories.writer, _batches(changes), base=await self._repositories.tree(commit)
        )
        parents = tuple(new for parent in header.parents if (new := made_from[parent]) is not None)
        renewed = replace(
            header, tree=built.id, totals=built.totals, parents=parents, source=source, rule=rule, metadata=metadata
        )
        return await self._repositories.writer.write(ObjectKind.COMMIT, encode_commit(renewed, built.root))

    def _rule(self, rule: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        """A subset's rule, without paths that it lists."""
        if rule is None or not isinstance(rule.get("paths"), list):
            return rule
        gone = {path.decode("utf-8", "surrogateescape") for path in self._paths}
        return {**rule, "paths": [path for path in rule["paths"] if path not in gone]}

    async def _changes(self, commit: bytes) -> list[Change]:
        """What makes a version's tree one without the paths."""
        tree = await self._repositories.tree(commit)
        changes: dict[bytes, Change] = {}
        emptied: tuple[bytes, ...] = ()
        for path in self._paths:
            directory, _, name = path.rpartition(b"/")
            if path.startswith(emptied):
                continue  # it goes with what is above it
            found = await tree.find(directory, name)
            if found is None:
                continue
            removal = Removal(directory, name)
            changes[removal.key] = removal
            entry = found.page.entry(found.position)
            if entry.kind is not Kind.DIRECTORY:
                self.removed.append((commit, entry))
                continue
            below = RemovalBelow(path)
            changes[below.key] = below
            emptied += (path + b"/",)
            async for listed in tree.list_below(path):
                entries = map(listed.page.entry, listed.positions)
                self.removed += [(commit, each) for each in entries if each.kind is not Kind.DIRECTORY]
        return [change for _, change in sorted(changes.items())]

    # --- refs

    async def _rewrite_ref(self, name: str, stored: StoredRef) -> bool:
        """False if somebody moved it meanwhile."""
        moves = [move async for move in self._repositories.refs.history(stored.ref)]
        if [self._change(move) for move in moves] == moves:
            return True
        done = await self._repositories.refs.rewrite(self._repository, name, stored, self._change)
        self.refs += done
        return done

    def _change(self, move: Move) -> Move | None:
        commit = self.replaced.get(move.commit, move.commit)
        source = None if move.source is None else self.replaced.get(move.source, move.source)
        if commit is None or (source is None) != (move.source is None):
            return None
        return move._replace(commit=commit, source=source)


def _made_from(header: Commit) -> tuple[bytes, ...]:
    return header.parents if header.source is None else (*header.parents, header.source)


def _parents_first(headers: Mapping[bytes, Commit]) -> list[bytes]:
    """Every version after those that it was made from."""
    order: dict[bytes, None] = {}
    for first in headers:
        stack = [first]
        while stack:
            open_ones = [each for each in _made_from(headers[stack[-1]]) if each not in order]
            if open_ones:
                stack += open_ones
            else:
                order[stack.pop()] = None
    return [*order]


def _without_paths(metadata: Mapping[str, Any], paths: Sequence[bytes]) -> Mapping[str, Any]:
    """Metadata without what it says, by path, of any of these, or of what is below them."""
    gone = tuple(path.decode("utf-8", "surrogateescape") for path in paths)

    def is_gone(key: str) -> bool:
        return key in gone or key.startswith(tuple(f"{path}/" for path in gone))

    return {
        name: {key: each for key, each in value.items() if not is_gone(key)} if isinstance(value, Mapping) else value
        for name, value in metadata.items()
    }


async def _batches(changes: Sequence[Change]) -> AsyncGenerator[Sequence[Change]]:
    yield changes
