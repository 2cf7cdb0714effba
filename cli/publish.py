"""`fsd commit`: publish a folder."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import trio

from fsd.daemon.edits import Edit, Edits
from fsd.errors import UsageError
from fsd.memory import keep_freed
from fsd.publish.edited import EditedFolder, commit_edit
from fsd.publish.landing import Request
from fsd.publish.progress import Progress
from fsd.publish.publisher import Published, publish
from fsd.repo.refs import short
from fsd.repo.repository import Repositories
from fsd.repo.revisions import resolve
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
from fsd_cli.completion import complete_repository, complete_revision
from fsd_cli.context import Invocation, pass_invocation
from fsd_cli.opening import create_own_store, opened
from fsd_cli.output import json_option, note, print_json, say
from fsd_cli.progress import ProgressBar
from fsd_cli.text import duration


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("repository", metavar="REPO", shell_complete=complete_repository)
@commit_options
@click.option("--allow-empty", is_flag=True, help="Make a commit although nothing has changed.")
@click.option("--merge", is_flag=True, help="If the branch has moved on, keep both changes if they touch other paths.")
@click.option(
    "--base",
    metavar="REV",
    help="With --merge: what DIR was made from, if not from here.",
    shell_complete=complete_revision,
)
@json_option
@pass_invocation
def commit(
    invocation: Invocation,
    directory: Path,
    repository: str,
    said: Said,
    allow_empty: bool,
    merge: bool,
    base: str | None,
    as_json: bool,
) -> None:
    """Publish a folder as a new commit.

    DIR is read, never changed. Of an edit ('fsd edit') only what was changed is read. The repository and the branch are
    made if they are new; so is a store of your own, where no other is named.

    The commit has what DIR has, and nothing else: what somebody else committed since DIR was made from the branch is
    undone by it. With --merge it has both changes, if they touch different paths. DIR stays as it is then, too.
    """
    if base is not None and not merge:
        raise UsageError("--base says what a merge starts from", hint="add --merge")
    request = replace(said.request(repository), allow_empty=allow_empty, merge=merge)
    edits = Edits(invocation.state)
    edit = edits.at(directory)

    async def main() -> tuple[Published, float]:
        started = trio.current_time()
        made = await create_own_store(invocation)
        if made is not None:
            note(f"made a store of your own at {made}")
        async with opened(invocation) as repositories, ProgressBar("look").ticking() as bar:
            if edit is not None and (edit.store, edit.repository) == (repositories.marker.id, repository):
                published = await _commit_edit(repositories, request, edits, edit, ShownProgress(bar))
                return published, trio.current_time() - started
            made_from = None if base is None else (await resolve(repositories, repository, base)).commit
            published = await publish(
                repositories,
                os.fsencode(directory),
                replace(request, base=made_from),
                state=invocation.state,
                progress=ShownProgress(bar),
            )
        return published, trio.current_time() - started

    keep_freed(KEPT_MEMORY_BYTES)
    published, seconds = trio.run(main)
    if as_json:
        print_json(_as_json(request, published, seconds))
    else:
        _print(request, directory, published, seconds)
        for warning in published.warnings:
            note(warning)


async def _commit_edit(
    repositories: Repositories, request: Request, edits: Edits, edit: Edit, progress: Progress
) -> Published:
    """Commit what was changed in a writable view, and note that it was."""
    made_from = EditedFolder(
        upper=os.fsencode(edit.upper),
        base=bytes.fromhex(edit.commit),
        last=bytes.fromhex(edit.last),
        marks_are_files=edit.marks_are_files,
    )
    done = await commit_edit(repositories, request, made_from, state=edits.state, progress=progress)
    edits.save(replace(edit, last=done.snapshot.hex()))
    return Published.of(done.landed, done.content)


def _print(request: Request, directory: Path, published: Published, seconds: float) -> None:
    is_merge = published.snapshot != published.commit
    if not published.is_new:
        where = place_of(request)
        if is_merge:
            as_it_is = f"{directory} is as it was in {short(published.snapshot)}, and {where} has moved on"
        else:
            as_it_is = f"{where} has {directory} as it is, in {short(published.commit)}"
        say(f"nothing to commit: {as_it_is}{tagged(request)}")
        return
    merged = ""
    if is_merge and published.parent is not None:
        merged = f"{short(published.snapshot)}, which is {directory}, into {short(published.parent)}"
    say_made(request, published, published.content, files_unchanged=published.files_unchanged, merged=merged)
    say(f"  time     {duration(seconds)}")


def _as_json(request: Request, published: Published, seconds: float) -> dict[str, Any]:
    return {
        **made_json(request, published, published.content, snapshot=published.snapshot),
        "warnings": list(published.warnings),
        "seconds": round(seconds, 3),
    }
