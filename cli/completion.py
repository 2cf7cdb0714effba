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
from fsd.repo.repository import Repositories
from fsd.stores.open import local_path
from fsd_cli.context import Invocation
from fsd_cli.opening import opened

PATIENCE_S = 1.0
"""How long a TAB may take."""


def complete_repository(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of repositories."""
    return _items(context, incomplete, lambda repositories: repositories.refs.repositories())


def complete_revision(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of branches, tags and subsets of the repository that was given before."""
    repository = str(context.params.get("repository") or "")

    async def names(repositories: Repositories) -> list[str]:
        return list(await repositories.refs.list(repository))

    return _items(context, incomplete, names)


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
