"""Subsets: trees that hold a part of a commit's files.

A named subset is an object of its own, written in this order: its pages, the subset object (which is read as a commit
is), then the entry in the subset's ref. It shares chunks with its commit and copies none. A built-in subset, and a
followed one that nobody has taken yet, is the commit's own tree, filtered while it is read.
"""

from __future__ import annotations

from dataclasses import dataclass

from fsd.errors import NotFoundError, UsageError
from fsd.format.commit import Commit, encode_commit
from fsd.format.index import Totals
from fsd.format.keys import ObjectKind, check_ref_name
from fsd.format.ref import RefKind
from fsd.repo.builder import build_tree
from fsd.repo.filtered import FilteredTree
from fsd.repo.refs import short
from fsd.repo.repository import Repositories
from fsd.repo.revisions import Resolved
from fsd.repo.rules import Rule
from fsd.repo.selection import Selection
from fsd.repo.tree import Tree

MAX_FOLLOWED_RULE_BYTES = 64 * 1024
"""Of a rule that is kept in a ref, which everybody reads."""

_MISSING_SHOWN = 3
"""Of the listed paths that are not there, in the message."""


@dataclass(frozen=True, slots=True)
class CreatedSubset:
    """A subset and the commit it was taken from."""

    name: str
    source: bytes
    id: bytes
    """Of the subset object, which is read as a commit is."""
    totals: Totals


async def open_tree(repositories: Repositories, resolved: Resolved) -> Tree | FilteredTree:
    """The tree that a resolved revision means: stored, or filtered while it is read."""
    subset = resolved.subset
    if subset is None:
        return await repositories.tree(resolved.commit)
    if subset.id is not None:
        return await repositories.tree(subset.id)
    assert subset.rule is not None
    return FilteredTree(await repositories.tree(resolved.commit), subset.rule)


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

    Raises UsageError if the rule selects no file, or cannot be stored to be followed; NotFoundError for listed paths
    and a followed branch that are not there; ConflictError if `name` means something else, unless `force`.
    """
    repositories.check_writable()
    check_ref_name(name)
    header = await repositories.commit(commit)
    if header.repository != repository or header.is_subset:
        raise UsageError(f"{short(commit)} is not a commit of {repository!r}")
    if follow_branch is not None:
        await _check_followed(repositories, repository, follow_branch, rule)
    async with repositories.leases.held("take a subset"):
        await repositories.leases.check_kept(commit)
        await _check_listed(await repositories.tree(commit), rule)
        taken = await _take(repositories, commit, header, name, rule, may_be_empty=False)
        await repositories.refs.set_subset(
            repository,
            name,
            commit,
            taken.id,
            follow=None if follow_branch is None else {follow_branch: rule.to_json()},
            force=force,
        )
    return taken


async def follow_branch_moved(
    repositories: Repositories, repository: str, branch: str, commit: bytes
) -> list[CreatedSubset]:
    """Publishers call this after they moved `branch` to `commit`: takes the subsets that follow it.

    Idempotent. A subset that is empty for this commit is taken all the same, so that its path goes on being there.
    """
    created = []
    for name, stored in (await repositories.refs.read_all(repository)).items():
        body = stored.ref.follow.get(branch)
        if body is None or await repositories.refs.find_subset(stored.ref, commit) is not None:
            continue
        header = await repositories.commit(commit)
        taken = await _take(repositories, commit, header, name, Rule.from_json(body), may_be_empty=True)
        await repositories.refs.set_subset(repository, name, commit, taken.id)
        created.append(taken)
    return created


async def _check_followed(repositories: Repositories, repository: str, branch: str, rule: Rule) -> None:
    stored = await repositories.refs.read(repository, branch)
    if stored is None or stored.ref.kind is not RefKind.BRANCH:
        raise NotFoundError(f"{repository!r} has no branch {branch!r} to follow")
    if rule.paths is not None and len(b"\0".join(rule.paths)) > MAX_FOLLOWED_RULE_BYTES:
        raise UsageError(
            f"a list of {len(rule.paths)} paths is too long to be followed", hint="follow a rule of patterns instead"
        )


async def _check_listed(tree: Tree, rule: Rule) -> None:
    missing = []
    for path in rule.paths or ():
        directory, _, name = path.rpartition(b"/")
        if await tree.find(directory, name) is None:
            missing.append(path)
    if missing:
        shown = ", ".join(repr(path.decode("utf-8", "replace")) for path in missing[:_MISSING_SHOWN])
        more = f" and {len(missing) - _MISSING_SHOWN} more" if len(missing) > _MISSING_SHOWN else ""
        raise NotFoundError(
            f"listed, but not in this version: {shown}{more}", hint="paths count from the version's top"
        )


async def _take(
    repositories: Repositories, commit: bytes, header: Commit, name: str, rule: Rule, *, may_be_empty: bool
) -> CreatedSubset:
    """Write the subset's pages and its object. Its time is its commit's: the same rule makes the same id anywhere."""
    selection = Selection(await repositories.tree(commit), rule)
    built = await build_tree(repositories.writer, selection.batches())
    if not (selection.matched or may_be_empty):
        raise UsageError(
            f"the rule selects no file of {short(commit)}", hint="files that every subset keeps are not counted"
        )
    subset = Commit(
        repository=header.repository,
        tree=built.id,
        totals=built.totals,
        time_us=header.time_us,
        source=commit,
        rule=rule.to_json(),
    )
    subset_id = await repositories.writer.write(ObjectKind.COMMIT, encode_commit(subset, built.root))
    return CreatedSubset(name, commit, subset_id, built.totals)
