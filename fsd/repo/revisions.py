"""From what a user writes to a commit: `REV` or `REV+SUBSET`.

REV is a branch, a tag, a commit's id, or 7 or more of its first digits. What looks like an id is never looked up as a
ref (no ref may look so), and a full id needs no listing. SUBSET is a subset's name, or a built-in such as `10pct`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from fsd.repo.repository import Repositories
from fsd.repo.rules import Rule


class RevisionKind(StrEnum):
    """By what a commit was named."""

    BRANCH = "branch"
    TAG = "tag"
    COMMIT = "commit"
    PREFIX = "prefix"


class Revision(NamedTuple):
    """A revision as it was written."""

    base: str
    subset: str | None


@dataclass(frozen=True, slots=True)
class ResolvedSubset:
    """A subset of a commit: an object of its own (`id`), or a rule to be applied while reading. One of them is None."""

    name: str
    id: bytes | None
    rule: Rule | None


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a revision means now."""

    repository: str
    commit: bytes
    """The commit itself, also where a subset of it is meant."""
    kind: RevisionKind
    name: str
    """The base as it was written: the branch's or tag's name, the id or its prefix."""
    subset: ResolvedSubset | None = None


def parse_revision(text: str) -> Revision:
    """The parts of `text`. Raises UsageError if it has no base, an empty subset, or more than one '+'."""
    raise NotImplementedError


async def resolve(repositories: Repositories, repository: str, text: str) -> Resolved:
    """Resolve `text` in a repository. One request for a branch, a tag or a full id, two with a named subset.

    Raises NotFoundError (with near misses) for an unknown repository, revision or subset, and UsageError for an
    ambiguous prefix or a malformed revision.
    """
    raise NotImplementedError


async def resolve_base(repositories: Repositories, repository: str, base: str) -> Resolved:
    """The same without a subset."""
    raise NotImplementedError


async def resolve_subset(repositories: Repositories, resolved: Resolved, name: str) -> ResolvedSubset:
    """What the subset `name` of a resolved commit is."""
    raise NotImplementedError
