"""`fsd diff`: what changed from one revision to another."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

import click

from fsd.config import format_size
from fsd.format.keys import check_repository_name
from fsd.format.model import Kind
from fsd.repo.diff import MAX_FOR_RENAMES, Change, ChangeKind, Summary, changes_between
from fsd.repo.differences import Fact
from fsd.repo.repository import Repositories
from fsd.repo.revisions import resolve
from fsd.repo.subsets import open_tree
from fsd_cli.completion import complete_repository, complete_revision
from fsd_cli.context import Invocation, pass_invocation
from fsd_cli.opening import run_on_store
from fsd_cli.output import json_option, print_json, print_json_array, print_table, say
from fsd_cli.paths import parse_path
from fsd_cli.progress import ProgressBar
from fsd_cli.text import Column, count, shown, text_of

_LETTERS = {ChangeKind.ADDED: "A", ChangeKind.REMOVED: "D", ChangeKind.CHANGED: "M", ChangeKind.RENAMED: "R"}

_SUM_COLUMNS = (
    Column("CHANGE"),
    Column("FILES", right=True),
    Column("BEFORE", right=True),
    Column("AFTER", right=True),
)


@click.command()
@click.argument("repository", metavar="REPO", shell_complete=complete_repository)
@click.argument("old", metavar="REV", shell_complete=complete_revision)
@click.argument("new", metavar="REV", shell_complete=complete_revision)
@click.argument("path", metavar="[PATH]", required=False, default="")
@click.option("--stat", is_flag=True, help="Show how many files and bytes only.")
@click.option("--name-only", is_flag=True, help="Show the paths only.")
@json_option
@pass_invocation
def diff(
    invocation: Invocation, repository: str, old: str, new: str, path: str, stat: bool, name_only: bool, as_json: bool
) -> None:
    """Show what changed from one revision to another: added, removed, changed, renamed.

    \b
    fsd diff imagenet v1.1 v1.2              A added, D removed, M changed, R renamed
    fsd diff imagenet v1.2 main train        below a path
    fsd diff imagenet v1.2 v1.2+tiny --stat  what a subset leaves out

    Takes as long as there are differences, however large the revisions are. No contents are read.
    """
    if stat + name_only > 1:
        raise click.UsageError("--stat and --name-only exclude each other")
    check_repository_name(repository)
    below = parse_path(path)

    async def work(repositories: Repositories) -> None:
        before = await open_tree(repositories, await resolve(repositories, repository, old))
        after = await open_tree(repositories, await resolve(repositories, repository, new))
        bar = ProgressBar("compare")
        found = changes_between(
            before,
            after,
            path=below,
            where=f"{repository}/{new}",
            read_ahead_pages=repositories.limits.listing_read_ahead_pages,
            report=lambda change: bar.advance(change.size, items=1),
        )
        async with aclosing(found), aclosing(_behind(bar, found)) as changes:
            if stat:
                await _show_sums(changes, as_json=as_json)
            elif as_json:
                await print_json_array(_change_json(change) async for change in changes)
            elif name_only:
                async for change in changes:
                    say(shown(change.path))
            else:
                await _show_changes(changes)

    run_on_store(invocation, work)


async def _behind(bar: ProgressBar, changes: AsyncIterator[Change]) -> AsyncGenerator[Change]:
    """The changes; the bar goes when the first comes, and is not left behind."""
    try:
        async for change in changes:
            bar.clear()
            yield change
    finally:
        bar.clear()


async def _show_changes(changes: AsyncIterator[Change]) -> None:
    summary = Summary()
    lines = 0
    async for change in changes:
        summary.add(change)
        lines += 1
        say(f"{_LETTERS[change.kind]}  {_line(change)}")
    say(_sentence(summary) if lines else "no differences")
    if lines > MAX_FOR_RENAMES:
        say("(so many that renames were not looked for)")


def _line(change: Change) -> str:
    old, new = change.old, change.new
    if old is None or new is None:
        fact = new or old
        assert fact is not None
        return _named(fact) + (f"  ({format_size(fact.size)})" if fact.kind is Kind.FILE else "")
    if change.kind is ChangeKind.RENAMED:
        return f"{_named(old)} -> {_named(new)}"
    return f"{_named(new)}  ({_what(old, new)})"


def _what(old: Fact, new: Fact) -> str:
    """What is not the same any more."""
    if old.kind is not new.kind:
        return f"{old.kind.word} -> {new.kind.word}"
    if old.kind is Kind.SYMLINK:
        return "another target"
    if old.content == new.content:
        return "executable now" if new.executable else "not executable any more"
    if old.size == new.size:
        return f"{format_size(new.size)} as before"
    return f"{format_size(old.size)} -> {format_size(new.size)}"


def _named(fact: Fact) -> str:
    return shown(fact.path) + ("/" if fact.kind is Kind.DIRECTORY else "")


def _sentence(summary: Summary) -> str:
    added, removed, changed, renamed = (summary.sums[kind] for kind in ChangeKind)
    parts = []
    if added.files:
        parts.append(f"{count(added.files, 'file')} added ({format_size(added.new_bytes)})")
    if removed.files:
        parts.append(f"{removed.files:,} removed ({format_size(removed.old_bytes)})")
    if changed.files:
        parts.append(
            f"{changed.files:,} changed ({format_size(changed.old_bytes)} -> {format_size(changed.new_bytes)})"
        )
    if renamed.files:
        parts.append(f"{renamed.files:,} renamed")
    return ", ".join(parts) or "only directories"


async def _show_sums(changes: AsyncIterator[Change], *, as_json: bool) -> None:
    summary = Summary()
    async for change in changes:
        summary.add(change)
    if as_json:
        print_json(
            {
                str(kind): {"files": each.files, "old_bytes": each.old_bytes, "new_bytes": each.new_bytes}
                for kind, each in summary.sums.items()
            }
        )
        return
    rows = [
        (str(kind), f"{each.files:,}", format_size(each.old_bytes), format_size(each.new_bytes))
        for kind, each in summary.sums.items()
    ]
    print_table(_SUM_COLUMNS, rows)


def _change_json(change: Change) -> dict[str, Any]:
    return {"change": str(change.kind), "old": _fact_json(change.old), "new": _fact_json(change.new)}


def _fact_json(fact: Fact | None) -> dict[str, Any] | None:
    if fact is None:
        return None
    return {
        "path": text_of(fact.path),
        "kind": fact.kind.word,
        "executable": fact.executable,
        "bytes": fact.size,
        "content": None if fact.kind is Kind.DIRECTORY else fact.content.hex(),
    }
