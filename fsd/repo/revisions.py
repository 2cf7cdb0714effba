"""From what a user writes to a commit: `REV` or `REV+SUBSET`.

REV is a branch, a branch as it stood on a date (`fsd.repo.dates`), a tag, a commit's id, or 7 or more of its first
digits. What looks like an id is never looked up as a ref (no ref may look so), and a full id needs no listing. SUBSET
is a subset's name, or a built-in such as `10pct`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple

from fsd.clock import format_time
from fsd.errors import NotFoundError, UsageError, near_misses
from fsd.format.keys import COMMITS
from fsd.format.ref import RefKind
from fsd.ids import ID_HEX_DIGITS, is_commit_prefix, parse_id
from fsd.repo.dates import DATED, MARK, last_moment_us
from fsd.repo.objects import MissingObjectError
from fsd.repo.refs import short
from fsd.repo.repository import Repositories
from fsd.repo.rules import Rule, parse_builtin
from fsd.tasks import gather

_MAX_CANDIDATES = 32
"""Commits looked at for a prefix. Seven digits tell 268 million apart."""

_MORE_DIGITS = 8
"""Shown of the candidates for an ambiguous prefix."""


class RevisionKind(StrEnum):
    """By what a commit was named."""

    BRANCH = "branch"
    TAG = "tag"
    COMMIT = "commit"
    PREFIX = "prefix"
    DATE = "date"
    """A branch as it stood then."""


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
    """The base as it was written: the branch's or tag's name, with a date if there is one; the id or its prefix."""
    subset: ResolvedSubset | None = None


def parse_revision(text: str) -> Revision:
    """The parts of `text`. Raises UsageError if it has no base, an empty subset, or more than one '+'."""
    dated = DATED.match(text)
    base = dated[0] if dated else text.partition("+")[0]
    plus, subset = text[len(base) :][:1], text[len(base) + 1 :]
    if not base or base.startswith(MARK) or (plus and not subset) or "+" in subset:
        raise UsageError(
            f"{text!r} is not a revision", hint="write a branch, tag or commit, or one of these with '+SUBSET'"
        )
    return Revision(base, subset if plus else None)


async def resolve(repositories: Repositories, repository: str, text: str) -> Resolved:
    """Resolve `text` in a repository. One request for a branch, a tag or a full id, one more for a date that is not
    among the branch's last moves, and for a named subset.

    Raises NotFoundError (with near misses) for an unknown repository, revision or subset, and UsageError for an
    ambiguous prefix or a malformed revision.
    """
    revision = parse_revision(text)
    resolved = await resolve_base(repositories, repository, revision.base)
    if revision.subset is None:
        return resolved
    return replace(resolved, subset=await resolve_subset(repositories, resolved, revision.subset))


async def resolve_base(repositories: Repositories, repository: str, base: str) -> Resolved:
    """The same for a revision without a subset."""
    if is_commit_prefix(base):
        if len(base) == ID_HEX_DIGITS:
            return await _resolve_id(repositories, repository, base)
        return await _resolve_prefix(repositories, repository, base)
    if MARK in base:
        return await _resolve_date(repositories, repository, base)
    stored = await repositories.refs.read(repository, base)
    if stored is None:
        raise await unknown_revision(repositories, repository, base)
    match stored.ref.kind:
        case RefKind.BRANCH:
            kind = RevisionKind.BRANCH
        case RefKind.TAG:
            kind = RevisionKind.TAG
        case RefKind.SUBSET:
            raise NotFoundError(
                f"{base!r} of {repository!r} is a subset, not a revision",
                hint=f"say of what: 'v1+{base}', 'main+{base}'",
            )
    return Resolved(repository, stored.ref.target, kind, base)


async def resolve_subset(repositories: Repositories, resolved: Resolved, name: str) -> ResolvedSubset:
    """What the subset `name` of a resolved commit is. One request for a named one that was taken from that commit.

    One that was not, but follows a branch on which the commit is, is its rule applied while reading, if that can be.
    """
    rule = parse_builtin(name, repositories.marker.keep)
    if rule is not None:
        return ResolvedSubset(name, None, rule)
    stored = await repositories.refs.read(resolved.repository, name)
    if stored is None or stored.ref.kind is not RefKind.SUBSET:
        raise await _unknown_subset(repositories, resolved.repository, name)
    found = await repositories.refs.find_subset(stored.ref, resolved.commit)
    if found is not None:
        return ResolvedSubset(name, found, None)
    for branch, body in stored.ref.follow.items():
        rule = Rule.from_json(body)
        if rule.per_entry and await _was_on(repositories, resolved, branch):
            return ResolvedSubset(name, None, rule)
    raise NotFoundError(
        f"subset {name!r} of {resolved.repository!r} was never taken from {resolved.name!r}",
        hint=f"take it: fsd subset create {resolved.repository}/{resolved.name} {name} …",
    )


async def _resolve_date(repositories: Repositories, repository: str, base: str) -> Resolved:
    branch, _, date = base.partition(MARK)
    time_us = last_moment_us(date, repositories.clock())
    stored = await repositories.refs.read(repository, branch)
    if stored is None:
        raise await unknown_revision(repositories, repository, branch)
    if stored.ref.kind is not RefKind.BRANCH:
        raise NotFoundError(
            f"{branch!r} of {repository!r} is a {stored.ref.kind}", hint="only branches are asked for by date"
        )
    move = await repositories.refs.find_move(stored.ref, time_us)
    if move is None:
        begin_us = stored.ref.segments[0].first_us if stored.ref.segments else stored.ref.moves[0].time_us
        raise NotFoundError(
            f"branch {branch!r} of {repository!r} has only been there since {format_time(begin_us)}",
            hint=f"'fsd log {repository}/{branch} --moves' shows when it was moved",
        )
    return Resolved(repository, move.commit, RevisionKind.DATE, base)


async def _resolve_id(repositories: Repositories, repository: str, text: str) -> Resolved:
    commit = parse_id(text)
    try:
        header = await repositories.commit(commit)
    except MissingObjectError as error:
        raise NotFoundError(f"there is no commit {text} in {repositories.store.url}") from error
    if header.repository != repository:
        raise NotFoundError(
            f"commit {short(commit)} is not one of {repository!r}", hint=f"it is one of {header.repository!r}"
        )
    return Resolved(repository, commit, RevisionKind.COMMIT, text)


async def _resolve_prefix(repositories: Repositories, repository: str, prefix: str) -> Resolved:
    """One listing, and a request for each commit that it shows: any repository's can begin so."""
    candidates: list[bytes] = []
    async for info in repositories.store.list(COMMITS + prefix):
        candidates.append(parse_id(info.key.removeprefix(COMMITS)))
        if len(candidates) == _MAX_CANDIDATES:
            break
    headers = await gather(repositories.commit, candidates, tasks=_MAX_CANDIDATES)
    found = [commit for commit, header in zip(candidates, headers, strict=True) if header.repository == repository]
    if not found:
        raise await unknown_revision(repositories, repository, prefix)
    if len(found) > 1:
        listed = ", ".join(commit.hex()[: len(prefix) + _MORE_DIGITS] for commit in found)
        raise UsageError(
            f"{prefix!r} could be any of {len(found)} commits of {repository!r}", hint=f"say which: {listed}"
        )
    return Resolved(repository, found[0], RevisionKind.PREFIX, prefix)


async def _was_on(repositories: Repositories, resolved: Resolved, branch: str) -> bool:
    """Whether the branch ever named the commit."""
    stored = await repositories.refs.read(resolved.repository, branch)
    if stored is None or stored.ref.kind is not RefKind.BRANCH:
        return False
    async for move in repositories.refs.history(stored.ref):
        if move.commit == resolved.commit:
            return True
    return False


async def unknown_repository(repositories: Repositories, repository: str) -> NotFoundError:
    """The error for a repository that is not there."""
    hint = near_misses(repository, await repositories.refs.repositories()) or "'fsd ls' lists the repositories"
    return NotFoundError(f"there is no repository {repository!r} in {repositories.store.url}", hint=hint)


async def unknown_revision(repositories: Repositories, repository: str, base: str) -> NotFoundError:
    """The error for a revision that is not there; or for its repository, if that is what is missing."""
    refs = await repositories.refs.read_all(repository)
    if not refs:
        return await unknown_repository(repositories, repository)
    names = [name for name, stored in refs.items() if stored.ref.kind is not RefKind.SUBSET]
    hint = near_misses(base, names) or f"'fsd ls {repository}' lists branches, tags and subsets"
    return NotFoundError(f"there is no revision {base!r} in {repository!r}", hint=hint)


async def _unknown_subset(repositories: Repositories, repository: str, name: str) -> NotFoundError:
    refs = await repositories.refs.read_all(repository)
    names = [known for known, stored in refs.items() if stored.ref.kind is RefKind.SUBSET]
    hint = near_misses(name, names) or "built in are those such as '10pct'"
    return NotFoundError(f"there is no subset {name!r} in {repository!r}", hint=hint)
