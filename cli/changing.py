"""`fsd add`, `fsd rm` and `fsd mv`: small changes, committed without a copy of the rest."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import click
import trio

from fsd.memory import keep_freed
from fsd.publish.adding import Added, add_path
from fsd.publish.amend import move_path, remove_paths
from fsd.publish.content import Content
from fsd.publish.landing import Landed, Request
from fsd.repo.refs import short
from fsd.repo.repository import Repositories
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
from fsd_cli.completion import complete_path, complete_repository
from fsd_cli.context import Invocation, pass_invocation
from fsd_cli.opening import opened, run_on_store
from fsd_cli.output import json_option, print_json, say
from fsd_cli.paths import parse_path
from fsd_cli.progress import ProgressBar
from fsd_cli.text import count, shown


@click.command()
@click.argument("repository", metavar="REPO", shell_complete=complete_repository)
@click.argument("path", metavar="PATH", shell_complete=complete_path)
@click.argument("source", metavar="FILE|DIR", type=click.Path(path_type=Path))
@commit_options
@json_option
@pass_invocation
def add(invocation: Invocation, repository: str, path: str, source: Path, said: Said, as_json: bool) -> None:
    """Commit one more file or folder, without a copy of the others.

    PATH is the path that FILE or DIR gets in the tree, '.' for the top. A file that is there is replaced; a folder is
    added to the one that is there.
    """
    target = parse_path(path)
    request = said.request(repository, f"Add {shown(target) or source.name}")

    async def main() -> Added:
        async with opened(invocation) as repositories, ProgressBar("look").ticking() as bar:
            return await add_path(
                repositories,
                request,
                target,
                os.fsencode(source),
                state=invocation.state,
                progress=ShownProgress(bar),
            )

    keep_freed(KEPT_MEMORY_BYTES)
    added = trio.run(main)
    _print(request, added.landed, added.content, as_json=as_json)


@click.command()
@click.argument("repository", metavar="REPO", shell_complete=complete_repository)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, shell_complete=complete_path)
@commit_options
@json_option
@pass_invocation
def rm(invocation: Invocation, repository: str, paths: tuple[str, ...], said: Said, as_json: bool) -> None:
    """Commit the tree without some of its files and folders.

    A folder goes with all that is in it. Earlier commits keep what they have.
    """
    parsed = [parse_path(path) for path in paths]
    rest = f" and {count(len(parsed) - 1, 'other')}" if len(parsed) > 1 else ""
    request = said.request(repository, f"Remove {shown(parsed[0])}{rest}")
    _amend(invocation, request, lambda repositories: remove_paths(repositories, request, parsed), as_json=as_json)


@click.command()
@click.argument("repository", metavar="REPO", shell_complete=complete_repository)
@click.argument("source", metavar="FROM", shell_complete=complete_path)
@click.argument("target", metavar="TO", shell_complete=complete_path)
@commit_options
@json_option
@pass_invocation
def mv(invocation: Invocation, repository: str, source: str, target: str, said: Said, as_json: bool) -> None:
    """Commit the tree with a file or folder at another path.

    TO is the whole new path, and must not be there yet. No contents are read or written.
    """
    before, after = parse_path(source), parse_path(target)
    request = said.request(repository, f"Move {shown(before)} to {shown(after)}")
    _amend(invocation, request, lambda repositories: move_path(repositories, request, before, after), as_json=as_json)


def _amend(
    invocation: Invocation, request: Request, work: Callable[[Repositories], Awaitable[Landed]], *, as_json: bool
) -> None:
    _print(request, run_on_store(invocation, work), None, as_json=as_json)


def _print(request: Request, landed: Landed, content: Content | None, *, as_json: bool) -> None:
    if as_json:
        print_json(made_json(request, landed, content))
    elif landed.is_new:
        say_made(request, landed, content)
    else:
        place = place_of(request)
        say(f"nothing to commit: {place} has that as it is, in {short(landed.commit)}{tagged(request)}")
