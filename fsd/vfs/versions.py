"""What a name in a repository's directory means: a version, or a symlink to one.

    main                a branch: a symlink to the commit it names now
    main@2026-11-17     a branch as it stood on a date (`fsd.repo.dates`): a symlink, not listed
    v1.2                a tag: a directory
    4f2a91c0d3e7…       a commit by its full id: a directory, not listed
    4f2a91c             seven or more digits of it: a symlink to the full id, not listed
    REV+tiny            a named subset of any of these, of the kind that REV is; listed for tags and branches. One that
                        follows a branch needs not have been taken from each of its commits: it is filtered then
    REV+10pct           a built-in subset, not listed

All symlinks are relative and name a commit, so `realpath` gives a path that never means anything else. Refs come from
`RefCache` and may be a little old; what they name never changes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from fsd.errors import NotFoundError, UsageError
from fsd.format.ref import Ref, RefKind, SegmentInfo
from fsd.ids import ID_HEX_DIGITS, is_commit_prefix
from fsd.repo.dates import MARK, last_moment_us
from fsd.repo.objects import MissingObjectError
from fsd.repo.repository import Repositories
from fsd.repo.revisions import parse_revision
from fsd.repo.rules import Rule, parse_builtin
from fsd.vfs.nodes import Version
from fsd.vfs.refcache import RefCache

MAX_HISTORIES = 64
"""Long histories of refs remembered."""


@dataclass(frozen=True, slots=True)
class Link:
    """A symlink in a repository's directory."""

    target: str


class Named(NamedTuple):
    """What a name means."""

    node: Link | Version
    is_fixed: bool
    """Whether it will always mean that."""


class _Subset(NamedTuple):
    """A subset of a commit: where its tree is and what of that to leave out."""

    tree_of: bytes
    rule: Rule | None


class _Base(NamedTuple):
    """What the part before the `+` means."""

    commit: bytes
    kind: RefKind | None
    """Of the ref; None for an id, a prefix of one, or a date."""
    is_link: bool


class Versions:
    """See the module. Raises CorruptDataError or StoreUnreachableError where what a name means cannot be told."""

    def __init__(self, repositories: Repositories, refs: RefCache) -> None:
        self._repositories = repositories
        self._refs = refs
        self._histories: OrderedDict[tuple[str, str], tuple[Sequence[SegmentInfo], Mapping[bytes, bytes]]] = (
            OrderedDict()
        )
        """By repository and name: the segments that were read, and what they say."""

    async def find(self, repository: str, name: str) -> Named | None:
        """What `name` means in a repository; None if it means nothing."""
        try:
            base_name, subset = parse_revision(name)
        except UsageError:
            return None
        base = await self._find_base(repository, base_name)
        if base is None:
            return None
        builtin = self._builtin(subset)
        shown: _Subset | None = _Subset(base.commit, builtin)
        if subset is not None and builtin is None:
            shown = await self._find_subset(repository, subset, base.commit)
        if shown is None:
            return None
        if base.is_link:
            return Named(Link(_label(base.commit.hex(), subset)), is_fixed=False)
        tag = base_name if base.kind is RefKind.TAG else ""
        version = Version(repository, name, base.commit, shown.tree_of, shown.rule, tag, subset or "")
        return Named(version, is_fixed=not tag and (subset is None or builtin is not None))

    async def list(self, repository: str) -> Sequence[tuple[str, Link | Version]]:
        """What is listed in a repository's directory, sorted by name: branches, tags, and their named subsets."""
        refs = await self._refs.refs_of(repository)
        subsets = [(name, ref) for name, ref in refs.items() if ref.kind is RefKind.SUBSET]
        listed: list[tuple[str, Link | Version]] = []
        for name, ref in refs.items():
            if ref.kind is RefKind.SUBSET:
                continue
            commit = ref.target
            shown: list[tuple[str | None, _Subset]] = [(None, _Subset(commit, None))]
            for subset, subset_ref in subsets:
                found = await self._find_subset_in(repository, subset, subset_ref, commit)
                if found is not None:
                    shown.append((subset, found))
            for subset_name, (tree_of, rule) in shown:
                label = _label(name, subset_name)
                if ref.kind is RefKind.BRANCH:
                    listed.append((label, Link(_label(commit.hex(), subset_name))))
                else:
                    listed.append((label, Version(repository, label, commit, tree_of, rule, name, subset_name or "")))
        return sorted(listed, key=lambda row: row[0])

    async def _find_base(self, repository: str, base: str) -> _Base | None:
        if len(base) == ID_HEX_DIGITS and is_commit_prefix(base):
            return await self._find_commit(repository, bytes.fromhex(base))
        if is_commit_prefix(base):
            commit = await self._refs.commit_of_prefix(repository, base)
            return None if commit is None else _Base(commit, None, is_link=True)
        if MARK in base:
            return await self._find_date(repository, base)
        ref = await self._refs.ref(repository, base)
        if ref is None or ref.kind is RefKind.SUBSET:
            return None
        return _Base(ref.target, ref.kind, is_link=ref.kind is RefKind.BRANCH)

    async def _find_date(self, repository: str, base: str) -> _Base | None:
        branch, _, date = base.partition(MARK)
        try:
            time_us = last_moment_us(date, self._repositories.clock())
        except (UsageError, NotFoundError):
            return None
        ref = await self._refs.ref(repository, branch)
        if ref is None or ref.kind is not RefKind.BRANCH:
            return None
        move = await self._repositories.refs.find_move(ref, time_us)
        return None if move is None else _Base(move.commit, None, is_link=True)

    async def _find_commit(self, repository: str, commit: bytes) -> _Base | None:
        try:
            header = await self._repositories.commit(commit)
        except MissingObjectError:
            return None
        if header.repository != repository:
            return None
        return _Base(commit, None, is_link=False)

    def _builtin(self, subset: str | None) -> Rule | None:
        try:
            return None if subset is None else parse_builtin(subset, self._repositories.marker.keep)
        except UsageError:
            return None

    async def _find_subset(self, repository: str, subset: str, commit: bytes) -> _Subset | None:
        ref = await self._refs.ref(repository, subset)
        if ref is None or ref.kind is not RefKind.SUBSET:
            return None
        return await self._find_subset_in(repository, subset, ref, commit)

    async def _find_subset_in(self, repository: str, subset: str, ref: Ref, commit: bytes) -> _Subset | None:
        taken = ref.subset_of(commit)
        if taken is None and ref.segments:
            taken = (await self._older(repository, subset, ref)).get(commit)
        if taken is not None:
            return _Subset(taken, None)
        for branch, body in ref.follow.items():
            rule = _readable_rule(body)
            if rule is not None and await self._was_on(repository, branch, commit):
                return _Subset(commit, rule)
        return None

    async def _was_on(self, repository: str, branch: str, commit: bytes) -> bool:
        ref = await self._refs.ref(repository, branch)
        if ref is None or ref.kind is not RefKind.BRANCH:
            return False
        if any(move.commit == commit for move in ref.moves):
            return True
        return bool(ref.segments) and commit in await self._older(repository, branch, ref)

    async def _older(self, repository: str, name: str, ref: Ref) -> Mapping[bytes, bytes]:
        """What a ref named before its last moves; of a subset ref, by the commit that each was taken from.

        Read once for as long as no segment is added.
        """
        key = (repository, name)
        kept = self._histories.get(key)
        if kept is None or kept[0] != ref.segments:
            found: dict[bytes, bytes] = {}
            async for move in self._repositories.refs.history(ref):
                found.setdefault(move.source or move.commit, move.commit)
            kept = self._histories[key] = ref.segments, found
            if len(self._histories) > MAX_HISTORIES:
                self._histories.popitem(last=False)
        self._histories.move_to_end(key)
        return kept[1]


def _readable_rule(body: Mapping[str, Any]) -> Rule | None:
    """The rule, if it can be applied while reading."""
    try:
        rule = Rule.from_json(body)
    except UsageError:
        return None
    return rule if rule.per_entry else None


def _label(base: str, subset: str | None) -> str:
    return base if subset is None else f"{base}+{subset}"
