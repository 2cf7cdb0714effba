"""`fsd ls`: repositories; the refs of one; the entries of a directory of a revision."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

import click

from fsd.config import format_size
from fsd.errors import UsageError
from fsd.format.commit import Commit
from fsd.format.model import Kind
from fsd.format.page import Page
from fsd.format.ref import RefKind
from fsd.repo.refs import StoredRef, short
from fsd.repo.repository import Repositories
from fsd.repo.revisions import resolve
from fsd.repo.subsets import open_tree
from fsd.repo.tree import Listed, TreeView
from fsd.tasks import gather
from fsd_cli.completion import complete_place
from fsd_cli.context import Invocation, pass_invocation
from fsd_cli.opening import run_on_store
from fsd_cli.output import json_option, note, print_json, print_json_array, print_table, say
from fsd_cli.paths import DEFAULT_BRANCH, Place, find_entry, parse_place
from fsd_cli.repository_refs import print_refs
from fsd_cli.text import Column, json_time, local_time, pad, shown, text_of

_REPOSITORY_COLUMNS = (
    Column("REPOSITORY"),
    Column("BRANCHES", right=True),
    Column("TAGS", right=True),
    Column("SUBSETS", right=True),
    Column("MAIN"),
    Column("FILES", right=True),
    Column("SIZE", right=True),
    Column("SINCE"),
)

Shown = tuple[Page, int]
"""An entry: a page and the position in it."""

_SIZE_CELLS = len("1023.9 MiB")


@click.command()
@click.argument("place", metavar="[REPO[/REV[/PATH]]]", required=False, shell_complete=complete_place)
@click.option("-l", "--long", "long", is_flag=True, help="Show kind and size of each entry.")
@click.option("-R", "--recursive", is_flag=True, help="Show everything below, as paths.")
@json_option
@pass_invocation
def ls(invocation: Invocation, place: str | None, long: bool, recursive: bool, as_json: bool) -> None:
    """List repositories, revisions, or what is in one.

    \b
    fsd ls                     the repositories
    fsd ls REPO                its branches, tags and subsets
    fsd ls REPO/REV            what is in a revision; REV may be v1.2 or v1.2+SUBSET
    fsd ls REPO/REV/PATH       what is in a directory of it
    """
    parsed = parse_place(place) if place else None
    if recursive and (parsed is None or not parsed.revision):
        raise UsageError("--recursive lists a revision", hint="write REPO/REV")

    async def work(repositories: Repositories) -> None:
        if parsed is None:
            await _list_repositories(repositories, as_json=as_json)
        elif not parsed.revision:
            await print_refs(repositories, parsed.repository, RefKind, as_json=as_json)
        else:
            await _list_directory(repositories, parsed, long=long, recursive=recursive, as_json=as_json)

    run_on_store(invocation, work)


# --- repositories


async def _list_repositories(repositories: Repositories, *, as_json: bool) -> None:
    names = await repositories.refs.repositories()

    async def load(name: str) -> tuple[dict[str, StoredRef], Commit | None]:
        refs = await repositories.refs.read_all(name)
        main = refs.get(DEFAULT_BRANCH)
        is_branch = main is not None and main.ref.kind is RefKind.BRANCH
        return refs, await repositories.commit(main.ref.target) if main and is_branch else None

    loaded = await gather(load, names, tasks=repositories.limits.fetch_requests)
    rows = [(name, refs, commit) for name, (refs, commit) in zip(names, loaded, strict=True)]
    if as_json:
        print_json([_repository_json(*row) for row in rows])
    elif rows:
        print_table(_REPOSITORY_COLUMNS, [_repository_cells(*row) for row in rows])
    else:
        note(f"{repositories.store.url} has no repositories yet; 'fsd commit DIR REPO' makes one")


def _repository_json(name: str, refs: dict[str, StoredRef], commit: Commit | None) -> dict[str, Any]:
    kinds = [stored.ref.kind for stored in refs.values()]
    main = None
    if commit is not None:
        move = refs[DEFAULT_BRANCH].ref.moves[-1]
        main = {
            "commit": move.commit.hex(),
            "files": commit.totals.files,
            "bytes": commit.totals.bytes,
            "time": json_time(move.time_us),
        }
    return {
        "repository": name,
        "branches": kinds.count(RefKind.BRANCH),
        "tags": kinds.count(RefKind.TAG),
        "subsets": kinds.count(RefKind.SUBSET),
        "main": main,
    }


def _repository_cells(name: str, refs: dict[str, StoredRef], commit: Commit | None) -> list[str]:
    kinds = [stored.ref.kind for stored in refs.values()]
    counts = [str(kinds.count(kind)) for kind in (RefKind.BRANCH, RefKind.TAG, RefKind.SUBSET)]
    if commit is None:
        return [name, *counts, "-", "", "", ""]
    move, totals = refs[DEFAULT_BRANCH].ref.moves[-1], commit.totals
    return [
        name,
        *counts,
        short(move.commit),
        f"{totals.files:,}",
        format_size(totals.bytes),
        local_time(move.time_us),
    ]


# --- entries


async def _list_directory(
    repositories: Repositories, place: Place, *, long: bool, recursive: bool, as_json: bool
) -> None:
    tree = await open_tree(repositories, await resolve(repositories, place.repository, place.revision))
    entries = await _entries(tree, place, recursive=recursive)
    async with aclosing(entries):
        if as_json:
            await print_json_array(_as_json(entries, whole_path=recursive))
            return
        async for page, position in entries:
            name = page.path(position) if recursive else page.name(position)
            say(_long_line(page, position, name) if long else shown(name) + _mark(page, position))


async def _entries(tree: TreeView, place: Place, *, recursive: bool) -> AsyncGenerator[Shown, None]:
    """The entries to show; that of the path itself where it is no directory."""
    if place.path:
        found = await find_entry(tree, place)
        if found.page.kind(found.position) != Kind.DIRECTORY:
            return _flatten(None, [(found.page, found.position)])
    return _flatten(tree.list_below(place.path) if recursive else tree.list(place.path))


async def _flatten(listing: AsyncIterator[Listed] | None, first: Sequence[Shown] = ()) -> AsyncGenerator[Shown, None]:
    for entry in first:
        yield entry
    if listing is not None:
        async for listed in listing:
            for position in listed.positions:
                yield listed.page, position


async def _as_json(entries: AsyncIterator[Shown], *, whole_path: bool) -> AsyncIterator[dict[str, Any]]:
    async for page, position in entries:
        kind = page.kind(position)
        yield {
            "name": text_of(page.path(position) if whole_path else page.name(position)),
            "kind": Kind(kind).word,
            "executable": page.executable(position),
            "bytes": page.size(position),
            "content": None if kind == Kind.DIRECTORY else page.content(position).hex(),
            "target": text_of(page.target(position)) if kind == Kind.SYMLINK else None,
        }


def _long_line(page: Page, position: int, name: bytes) -> str:
    kind = page.kind(position)
    letter = (
        "d" if kind == Kind.DIRECTORY else "l" if kind == Kind.SYMLINK else "x" if page.executable(position) else "-"
    )
    amount = format_size(page.size(position)) if kind == Kind.FILE else ""
    arrow = f" -> {shown(page.target(position))}" if kind == Kind.SYMLINK else ""
    return f"{letter}  {pad(amount, _SIZE_CELLS, right=True)}  {shown(name)}{_mark(page, position)}{arrow}"


def _mark(page: Page, position: int) -> str:
    return "/" if page.kind(position) == Kind.DIRECTORY else ""
