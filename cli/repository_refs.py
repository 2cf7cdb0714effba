"""The refs of one repository as commands use them: looked up, shown as a table or JSON, deleted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from fsd.config import format_size
from fsd.errors import ConflictError, NotFoundError, near_misses
from fsd.format.commit import Commit
from fsd.format.keys import check_repository_name
from fsd.format.ref import Move, RefKind
from fsd.repo.refs import StoredRef, short
from fsd.repo.repository import Repositories
from fsd.tasks import gather
from fsd_cli.output import print_json, print_table, say
from fsd_cli.text import Column, json_time, local_time, shown

_ORDER = (RefKind.BRANCH, RefKind.TAG, RefKind.SUBSET)

_COLUMNS = (
    Column("NAME"),
    Column("KIND"),
    Column("COMMIT"),
    Column("FILES", right=True),
    Column("SIZE", right=True),
    Column("SINCE"),
    Column("SUMMARY"),
)


class NamedCommit(NamedTuple):
    """A ref, where it points, and what is there."""

    name: str
    kind: RefKind
    move: Move
    commit: Commit


async def read_refs(repositories: Repositories, repository: str) -> dict[str, StoredRef]:
    """All refs of a repository. Raises NotFoundError if there is no such repository."""
    check_repository_name(repository)
    refs = await repositories.refs.read_all(repository)
    if not refs:
        known = await repositories.refs.repositories()
        hint = near_misses(repository, known) or "'fsd ls' lists the repositories"
        raise NotFoundError(f"no repository {repository!r} in {repositories.store.url}", hint=hint)
    return refs


def pick_ref(refs: dict[str, StoredRef], repository: str, name: str, kind: RefKind) -> StoredRef:
    """The ref of that name and kind. Raises NotFoundError."""
    stored = refs.get(name)
    if stored is not None and stored.ref.kind is kind:
        return stored
    if stored is not None:
        raise NotFoundError(f"{name!r} of {repository!r} is a {stored.ref.kind}, not a {kind}")
    alike = [known for known, other in refs.items() if other.ref.kind is kind]
    hint = near_misses(name, alike) or f"'fsd ls {repository}' lists branches, tags and subsets"
    raise NotFoundError(f"no {kind} {name!r} in {repository!r}", hint=hint)


async def print_refs(repositories: Repositories, repository: str, kinds: Iterable[RefKind], *, as_json: bool) -> None:
    """Print the repository's refs of these kinds."""
    rows = await load_refs(repositories, await read_refs(repositories, repository), kinds)
    if as_json:
        print_json([ref_json(row) for row in rows])
    else:
        print_table(_COLUMNS, [_cells(row) for row in rows])


async def load_refs(
    repositories: Repositories, refs: dict[str, StoredRef], kinds: Iterable[RefKind]
) -> list[NamedCommit]:
    """The refs of these kinds with the commits that they name: branches, then tags, then subsets, each by name."""
    wanted = [(name, stored.ref) for name, stored in refs.items() if stored.ref.kind in set(kinds)]
    wanted.sort(key=lambda item: (_ORDER.index(item[1].kind), item[0]))
    commits = await gather(
        repositories.commit, [ref.target for _, ref in wanted], tasks=repositories.limits.fetch_requests
    )
    return [
        NamedCommit(name, ref.kind, ref.moves[-1], commit) for (name, ref), commit in zip(wanted, commits, strict=True)
    ]


def ref_json(row: NamedCommit) -> dict[str, Any]:
    """The documented fields of a ref."""
    return {
        "name": row.name,
        "kind": str(row.kind),
        "commit": row.move.commit.hex(),
        "source": row.move.source.hex() if row.move.source else None,
        "files": row.commit.totals.files,
        "bytes": row.commit.totals.bytes,
        "time": json_time(row.move.time_us),
        "summary": row.commit.summary,
    }


def _cells(row: NamedCommit) -> Sequence[str]:
    return (
        row.name,
        row.kind,
        short(row.move.commit),
        f"{row.commit.totals.files:,}",
        format_size(row.commit.totals.bytes),
        local_time(row.move.time_us),
        shown(row.commit.summary) if row.move.source is None else f"of {short(row.move.source)}",
    )


async def delete_ref(repositories: Repositories, repository: str, name: str, kind: RefKind, *, force: bool) -> None:
    """Delete a ref. Without `force`, a branch or tag only if something else goes on naming its commit."""
    refs = await read_refs(repositories, repository)
    stored = pick_ref(refs, repository, name, kind)
    if not force and kind is not RefKind.SUBSET and not is_named_elsewhere(refs, name, stored.ref.target):
        raise ConflictError(
            f"nothing else names {short(stored.ref.target)}, the commit of {kind} {name!r} of {repository!r}",
            hint="name it with 'fsd tag' first, or give it up with --force",
        )
    async with repositories.leases.held("delete"):
        await repositories.refs.delete(repository, name, stored.version)
    say(f"deleted {kind} {name} of {repository}, which named {short(stored.ref.target)}")


def is_named_elsewhere(refs: dict[str, StoredRef], name: str, commit: bytes) -> bool:
    """Whether another branch or tag names the commit, now or in its last moves."""
    return any(
        move.commit == commit
        for other, stored in refs.items()
        if other != name and stored.ref.kind is not RefKind.SUBSET
        for move in stored.ref.moves
    )
