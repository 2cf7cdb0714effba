"""What the shell offers for REPO, REPO/REV and REV: names from the store, where asking is cheap.

Completion must be quick and must never print or fail: a store that takes longer than a moment, or is not there, offers
nothing. Local stores only: a remote one would make the shell wait at every TAB.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import click
import trio
from click.shell_completion import CompletionItem

from fsd.errors import FsdError
from fsd.format.model import Kind
from fsd.repo.repository import Repositories
from fsd.repo.revisions import resolve
from fsd.repo.subsets import open_tree
from fsd.stores.open import local_path
from fsd_cli.context import Invocation
from fsd_cli.opening import opened
from fsd_cli.paths import DEFAULT_BRANCH, parse_path
from fsd_cli.text import text_of

PATIENCE_S = 1.0
"""How long a TAB may take."""

_MAX_OFFERED = 2000
"""Of a directory's names, so many are looked at."""


def complete_repository(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of repositories."""
    return _items(context, incomplete, lambda repositories: repositories.refs.repositories())


def complete_revision(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of branches, tags and subsets of the repository that was given before."""
    repository = str(context.params.get("repository") or "")

    async def names(repositories: Repositories) -> list[str]:
        return list(await repositories.refs.list(repository))

    return _items(context, incomplete, names)


def complete_path(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Paths in the branch that a command commits to, a directory at a time."""
    repository = str(context.params.get("repository") or "")
    branch = str(context.params.get("branch") or DEFAULT_BRANCH)
    directory, slash, _ = incomplete.rpartition("/")

    async def paths(repositories: Repositories) -> list[str]:
        tree = await open_tree(repositories, await resolve(repositories, repository, branch))
        found: list[str] = []
        async for listed in tree.list(parse_path(directory)):
            for position in listed.positions:
                name = text_of(listed.page.name(position))
                end = "/" if listed.page.kind(position) == Kind.DIRECTORY else ""
                if name.isprintable():  # what is not is also not to be typed
                    found.append(f"{directory}{slash}{name}{end}")
            if len(found) >= _MAX_OFFERED:
                break
        return found

    return _items(context, incomplete, paths)


def complete_place(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """`REPO/`, then `REPO/REV`."""
    repository, slash, _ = incomplete.partition("/")

    async def names(repositories: Repositories) -> list[str]:
        if slash:
            return [f"{repository}/{name}" for name in await repositories.refs.list(repository)]
        return [f"{name}/" for name in await repositories.refs.repositories()]

    return _items(context, incomplete, names)


def _items(
    context: click.Context, incomplete: str, names: Callable[[Repositories], Awaitable[list[str]]]
) -> list[CompletionItem]:
    invocation = context.ensure_object(Invocation)

    async def main() -> list[str]:
        with trio.move_on_after(PATIENCE_S):
            async with opened(invocation) as repositories:
                return await names(repositories)
        return []

    try:
        if local_path(invocation.store_url) is None:
            return []
        return [CompletionItem(name) for name in trio.run(main) if name.startswith(incomplete)]
    except (FsdError, OSError):
        return []
