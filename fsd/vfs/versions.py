"""What a name in a repository's directory means: a version, or a symlink to one.

    main                a branch: a symlink to the commit it names now
    v1.2                a tag: a directory
    4f2a91c0d3e7…       a commit by its full id: a directory, not listed
    4f2a91c             seven or more digits of it: a symlink to the full id, not listed
    REV+tiny            a named subset of any of these, of the kind that REV is; listed for tags and branches
    REV+10pct           a built-in subset, not listed

All symlinks are relative and name a commit, so `realpath` gives a path that never means anything else. Refs come from
`RefCache` and may be a little old; what they name never changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from fsd.errors import UsageError
from fsd.format.ref import RefKind
from fsd.ids import ID_HEX_DIGITS, is_commit_prefix
from fsd.repo.objects import MissingObjectError
from fsd.repo.repository import Repositories
from fsd.repo.revisions import parse_revision
from fsd.repo.rules import Rule, parse_builtin
from fsd.vfs.nodes import Version
from fsd.vfs.refcache import RefCache


@dataclass(frozen=True, slots=True)
class Link:
    """A symlink in a repository's directory."""

    target: str


class Named(NamedTuple):
    """What a name means."""

    node: Link | Version
    is_fixed: bool
    """Whether it will always mean that."""


class _Base(NamedTuple):
    """What the part before the `+` means."""

    commit: bytes
    kind: RefKind | None
    """Of the ref; None for an id or a prefix of one."""
    is_link: bool


class Versions:
    """See the module. Raises CorruptDataError or StoreUnreachableError where what a name means cannot be told."""

    def __init__(self, repositories: Repositories, refs: RefCache) -> None:
        self._repositories = repositories
        self._refs = refs

    async def find(self, repository: str, name: str) -> Named | None:
        """What `name` means in a repository; None if it means nothing."""
        try:
            base_name, subset = parse_revision(name)
        except UsageError:
            return None
        base = await self._find_base(repository, base_name)
        if base is None:
            return None
        rule: Rule | None = None
        tree_of: bytes | None = base.commit
        if subset is not None:
            rule = self._builtin(subset)
            if rule is None:
                tree_of = await self._refs.subset_of(repository, subset, base.commit)
        if tree_of is None:
            return None
        if base.is_link:
            return Named(Link(_label(base.commit.hex(), subset)), is_fixed=False)
        tag = base_name if base.kind is RefKind.TAG else ""
        version = Version(repository, name, base.commit, tree_of, rule, tag, subset or "")
        return Named(version, is_fixed=not tag and (subset is None or rule is not None))

    async def list(self, repository: str) -> Sequence[tuple[str, Link | Version]]:
        """What is listed in a repository's directory, sorted by name: branches, tags, and their named subsets."""
        refs = await self._refs.refs_of(repository)
        subsets = [(name, ref) for name, ref in refs.items() if ref.kind is RefKind.SUBSET]
        listed: list[tuple[str, Link | Version]] = []
        for name, ref in refs.items():
            if ref.kind is RefKind.SUBSET:
                continue
            commit = ref.target
            trees: list[tuple[str | None, bytes]] = [(None, commit)]
            for subset, subset_ref in subsets:
                tree_of = await self._refs.subset_in(repository, subset, subset_ref, commit)
                if tree_of is not None:
                    trees.append((subset, tree_of))
            for subset_name, tree_of in trees:
                label = _label(name, subset_name)
                if ref.kind is RefKind.BRANCH:
                    listed.append((label, Link(_label(commit.hex(), subset_name))))
                else:
                    listed.append((label, Version(repository, label, commit, tree_of, None, name, subset_name or "")))
        return sorted(listed, key=lambda row: row[0])

    async def _find_base(self, repository: str, base: str) -> _Base | None:
        if len(base) == ID_HEX_DIGITS and is_commit_prefix(base):
            return await self._find_commit(repository, bytes.fromhex(base))
        if is_commit_prefix(base):
            # TODO(dates): `main@2026-11-17` will be another kind of link, resolved here.
            commit = await self._refs.commit_of_prefix(repository, base)
            return None if commit is None else _Base(commit, None, is_link=True)
        ref = await self._refs.ref(repository, base)
        if ref is None or ref.kind is RefKind.SUBSET:
            return None
        return _Base(ref.target, ref.kind, is_link=ref.kind is RefKind.BRANCH)

    async def _find_commit(self, repository: str, commit: bytes) -> _Base | None:
        try:
            header = await self._repositories.commit(commit)
        except MissingObjectError:
            return None
        if header.repository != repository or header.is_subset:
            return None
        return _Base(commit, None, is_link=False)

    def _builtin(self, subset: str) -> Rule | None:
        try:
            return parse_builtin(subset, self._repositories.marker.keep)
        except UsageError:
            return None


def _label(base: str, subset: str | None) -> str:
    return base if subset is None else f"{base}+{subset}"
