"""`fsd log`: the commits that a revision comes from, or the moves of a branch."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from itertools import count
from typing import Any

import click

from fsd.config import format_size
from fsd.errors import CorruptDataError, UsageError
from fsd.format.commit import Commit
from fsd.format.ref import Move, RefKind
from fsd.repo.refs import StoredRef, short
from fsd.repo.repository import Repositories
from fsd.repo.revisions import RevisionKind, resolve
from fsd.tasks import gather
from fsd_cli.completion import complete_place
from fsd_cli.context import Invocation, pass_invocation
from fsd_cli.opening import run_on_store
from fsd_cli.output import json_option, note, print_json, print_table, say
from fsd_cli.paths import parse_revision_argument
from fsd_cli.repository_refs import pick_ref, read_refs
from fsd_cli.text import Column, date_in_revision, json_time, local_time, shown

_COMMIT_COLUMNS = (
    Column("COMMIT"),
    Column("TIME"),
    Column("AUTHOR"),
    Column("FILES", right=True),
    Column("SIZE", right=True),
    Column("NAMES"),
    Column("SUMMARY"),
)
_MOVE_COLUMNS = (Column("SINCE (UTC)"), Column("COMMIT"), Column("SUMMARY"))

Entry = tuple[bytes, Commit]


@click.command()
@click.argument("place", metavar="REPO[/REV]", shell_complete=complete_place)
@click.option("-n", "--number", type=click.IntRange(min=1), default=20, show_default=True, help="Show so many at most.")
@click.option("--moves", is_flag=True, help="Show instead when the branch or tag was moved, and to where.")
@json_option
@pass_invocation
def log(invocation: Invocation, place: str, number: int, moves: bool, as_json: bool) -> None:
    """Show how a revision came about.

    Lists the commit and those that it was made from, newest first. Without REV, the branch main.
    """
    repository, revision = parse_revision_argument(place)

    async def work(repositories: Repositories) -> None:
        if moves:
            await _show_moves(repositories, repository, revision, number, as_json=as_json)
        else:
            await _show_commits(repositories, repository, revision, number, as_json=as_json)

    run_on_store(invocation, work)


async def _show_commits(
    repositories: Repositories, repository: str, revision: str, number: int, *, as_json: bool
) -> None:
    resolved = await resolve(repositories, repository, revision)
    if resolved.subset is not None:
        raise UsageError("a subset has no history of its own", hint=f"see 'fsd log {repository}/{resolved.name}'")
    try:
        refs = await read_refs(repositories, repository)
    except CorruptDataError as error:
        # Of another name, since this one was resolved: the history can be shown all the same.
        note(f"names are not shown: {error}")
        refs = {}
    if resolved.kind is RevisionKind.BRANCH and resolved.name in refs:
        await _read_ahead(repositories, refs[resolved.name], number)
    commits, more = await _ancestry(repositories, resolved.commit, number)
    names = _names(refs)
    if as_json:
        print_json([_commit_json(commit, names) for commit in commits])
        return
    print_table(_COMMIT_COLUMNS, [_commit_cells(commit, names) for commit in commits])
    if more:
        say(f"(older ones: fsd log {repository}/{revision} -n {10 * number})")


async def _read_ahead(repositories: Repositories, stored: StoredRef, number: int) -> None:
    """Load together what the ancestry would load one after the other: mostly, a branch's moves are its ancestry."""
    wanted = [move.commit for move in reversed(stored.ref.moves)][: min(number, repositories.limits.open_trees)]
    await gather(repositories.commit, wanted, tasks=repositories.limits.fetch_requests)


async def _ancestry(repositories: Repositories, commit: bytes, number: int) -> tuple[list[Entry], bool]:
    """Up to `number` commits from which `commit` was made, itself first, later ones first; whether there are more."""
    tie_breaker = count()
    seen = {commit}
    waiting = [(0, next(tie_breaker), commit, await repositories.commit(commit))]
    shown_commits: list[Entry] = []
    while waiting and len(shown_commits) < number:
        _, _, at, header = heapq.heappop(waiting)
        shown_commits.append((at, header))
        for parent in header.parents:
            if parent not in seen:
                seen.add(parent)
                found = await repositories.commit(parent)
                heapq.heappush(waiting, (-found.time_us, next(tie_breaker), parent, found))
    return shown_commits, bool(waiting)


def _names(refs: dict[str, StoredRef]) -> dict[bytes, list[str]]:
    """Branches and tags by the commit that they name."""
    names: dict[bytes, list[str]] = {}
    for name, stored in refs.items():
        if stored.ref.kind is not RefKind.SUBSET:
            names.setdefault(stored.ref.target, []).append(name)
    return names


def _commit_json(entry: Entry, names: dict[bytes, list[str]]) -> dict[str, Any]:
    commit, header = entry
    return {
        "commit": commit.hex(),
        "time": json_time(header.time_us),
        "author": header.author,
        "message": header.message,
        "parents": [parent.hex() for parent in header.parents],
        "names": names.get(commit, []),
        "files": header.totals.files,
        "bytes": header.totals.bytes,
    }


def _commit_cells(entry: Entry, names: dict[bytes, list[str]]) -> Sequence[str]:
    commit, header = entry
    return (
        short(commit),
        local_time(header.time_us),
        shown(header.author),
        f"{header.totals.files:,}",
        format_size(header.totals.bytes),
        ", ".join(names.get(commit, [])),
        shown(header.summary),
    )


async def _show_moves(repositories: Repositories, repository: str, name: str, number: int, *, as_json: bool) -> None:
    refs = await read_refs(repositories, repository)
    kind = RefKind.TAG if name in refs and refs[name].ref.kind is RefKind.TAG else RefKind.BRANCH
    stored = pick_ref(refs, repository, name, kind)
    moves: list[Move] = []
    async for move in repositories.refs.history(stored.ref):
        moves.append(move)
        if len(moves) == number:
            break
    if as_json:
        print_json(
            [{"commit": move.commit.hex(), "time": json_time(move.time_us), "summary": move.summary} for move in moves]
        )
    else:
        print_table(
            _MOVE_COLUMNS, [(date_in_revision(move.time_us), short(move.commit), shown(move.summary)) for move in moves]
        )
