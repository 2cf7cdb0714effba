"""Subsets: trees that hold a part of a commit's files. Signatures only so far."""

from __future__ import annotations

from dataclasses import dataclass

from fsd.format.index import Totals
from fsd.repo.repository import Repositories
from fsd.repo.revisions import Resolved
from fsd.repo.rules import Rule
from fsd.repo.tree import TreeView


@dataclass(frozen=True, slots=True)
class CreatedSubset:
    """A subset and the commit it was taken from."""

    name: str
    source: bytes
    id: bytes
    """Of the subset object, which is read as a commit is."""
    totals: Totals


async def open_tree(repositories: Repositories, resolved: Resolved) -> TreeView:
    """The tree that a resolved revision means: stored, or filtered while it is read (a built-in subset)."""
    raise NotImplementedError


async def create_subset(
    repositories: Repositories,
    repository: str,
    commit: bytes,
    name: str,
    rule: Rule,
    *,
    follow_branch: str | None = None,
    force: bool = False,
) -> CreatedSubset:
    """Take the subset of `commit` that `rule` selects, and enter it under `name`.

    No file contents are read or copied. The same rule on the same commit gives the same id in every store. With
    `follow_branch` later commits of that branch get a subset by the same rule (`follow_branch_moved`).
    Raises UsageError if the rule selects no file, ConflictError if `name` means something else for that commit.
    """
    raise NotImplementedError


async def follow_branch_moved(
    repositories: Repositories, repository: str, branch: str, commit: bytes
) -> list[CreatedSubset]:
    """Publishers call this after they moved `branch` to `commit`: takes the subsets that follow it."""
    raise NotImplementedError
