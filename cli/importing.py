"""`fsd import`: what lies elsewhere becomes commits."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace

import click
import trio

from fsd.config import format_size
from fsd.importing.importer import METADATA_KEY, ImportedHistory, ImportedSnapshot, import_history, import_snapshot
from fsd.importing.opening import KINDS, Asked, Opened, open_source
from fsd.memory import keep_freed
from fsd.publish.content import Content
from fsd.publish.landing import Request
from fsd.repo.refs import short
from fsd_cli.committing import (
    KEPT_MEMORY_BYTES,
    Said,
    ShownProgress,
    commit_options,
    made_json,
    place_of,
    say_made,
    tagged,
)
from fsd_cli.completion import complete_repository
from fsd_cli.context import Invocation, pass_invocation
from fsd_cli.opening import create_own_store, opened
from fsd_cli.output import json_option, note, print_json, say
from fsd_cli.progress import ProgressBar
from fsd_cli.text import count, duration, shown


@click.command("import")
@click.argument("source", metavar="SOURCE")
@click.argument("repository", metavar="REPO", shell_complete=complete_repository)
@commit_options
@click.option("--from", "kind", type=click.Choice(KINDS), help="What SOURCE is, where it does not show.")
@click.option("--rev", "revisions", metavar="REV", multiple=True, help="Of DVC or Git LFS: these revisions of Git.")
@click.option("--with-git-files", is_flag=True, help="Of DVC: also the files that Git keeps itself.")
@json_option
@pass_invocation
def import_(
    invocation: Invocation,
    source: str,
    repository: str,
    said: Said,
    kind: str | None,
    revisions: tuple[str, ...],
    with_git_files: bool,
    as_json: bool,
) -> None:
    """Commit what lies elsewhere, without a copy of it here.

    SOURCE is a bucket or web folder (gs://, s3://, https:// and whatever fsspec knows), a tar or zip archive there or
    here ('-' for a tar on standard input), a snapshot in Hugging Face's cache, or a Git work tree with DVC or Git LFS.

    Of DVC and Git LFS each tag becomes a commit with that tag; with --rev, the revisions that are named; what is
    checked out, where there are no tags. If it is interrupted, the same command goes on.
    """
    asked = Asked(source, kind, revisions, with_git_files)
    keep_freed(KEPT_MEMORY_BYTES)

    async def main() -> tuple[Opened, Request, ImportedSnapshot | ImportedHistory, float]:
        started = trio.current_time()
        found = await trio.to_thread.run_sync(open_source, asked, sys.stdin.buffer)
        try:
            made = await create_own_store(invocation)
            if made is not None:
                note(f"made a store of your own at {made}")
            request = said.request(repository, f"Import {shown(found.where)}")
            async with opened(invocation) as repositories, ProgressBar("look").ticking() as bar:
                progress = ShownProgress(bar)
                done: ImportedSnapshot | ImportedHistory
                if found.history is not None:
                    request = replace(request, message="\n\n".join(said.message), author=said.author or "")
                    done = await import_history(
                        repositories, request, found.history, found.where, state=invocation.state, progress=progress
                    )
                else:
                    assert found.snapshot is not None
                    origin = {"from": found.kind, "source": found.where}
                    request = replace(request, metadata={METADATA_KEY: origin})
                    done = await import_snapshot(
                        repositories, request, found.snapshot, found.where, state=invocation.state, progress=progress
                    )
        finally:
            found.close()
        return found, request, done, trio.current_time() - started

    found, request, done, seconds = trio.run(main)
    if isinstance(done, ImportedHistory):
        for warning in done.warnings:
            note(warning)
        _show_history(found, request, done, seconds, as_json=as_json)
    else:
        _show_snapshot(found, request, done, seconds, as_json=as_json)


def _show_snapshot(found: Opened, request: Request, done: ImportedSnapshot, seconds: float, *, as_json: bool) -> None:
    landed = done.landed
    if as_json:
        made = made_json(request, landed, done.content)
        print_json({**made, "from": found.kind, "warnings": [], "seconds": round(seconds, 3)})
    elif landed.is_new:
        say_made(request, landed, done.content)
        say(f"  time     {duration(seconds)}")
    else:
        has = f"{place_of(request)} has {shown(found.where)} as it is, in {short(landed.commit)}"
        say(f"nothing to commit: {has}{tagged(request)}")


def _show_history(found: Opened, request: Request, done: ImportedHistory, seconds: float, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "repository": request.repository,
                "branch": request.branch,
                "from": found.kind,
                "revisions": [
                    {
                        "revision": each.revision.id,
                        "commit": each.commit.hex(),
                        "tags": list(each.tags),
                        "new": each.is_new,
                        "files": each.totals.files,
                        "bytes": each.totals.bytes,
                    }
                    for each in done.revisions
                ],
                **_sums_as_json([each.content for each in done.revisions if each.content is not None]),
                "warnings": list(done.warnings),
                "seconds": round(seconds, 3),
            }
        )
        return
    for each in done.revisions:
        named = f"tag {', '.join(each.tags)}" if each.tags else place_of(request)
        was_there = "" if each.is_new else ", was there"
        files = f"{count(each.totals.files, 'file')}, {format_size(each.totals.bytes)}"
        say(f"{short(each.commit)} is {each.revision.id[:10]} of Git, {named}: {files}{was_there}")
    _say_read([each.content for each in done.revisions if each.content is not None])
    say(f"  time     {duration(seconds)}")


def _say_read(contents: Sequence[Content]) -> None:
    sums = _sums_as_json(contents)
    known = f"; {format_size(sums['known_bytes'])} was known" if sums["known_bytes"] else ""
    say(f"  read     {count(sums['read_files'], 'file')}, {format_size(sums['read_bytes'])}")
    say(f"  added    {format_size(sums['added_bytes'])}{known}")


def _sums_as_json(contents: Sequence[Content]) -> dict[str, int]:
    return {
        "read_files": sum(content.files_read for content in contents),
        "read_bytes": sum(content.bytes_read for content in contents),
        "known_bytes": sum(content.known_bytes for content in contents),
        "added_bytes": sum(content.stored_bytes for content in contents),
    }
