"""What the shell offers for RUN and METRIC."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem

from fsd.repo.repository import Repositories
from fsd.runs.rows import read_rows
from fsd.runs.table import METRICS
from fsd_cli.completion import items
from fsd_cli.context import Invocation


def complete_run(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Ids of runs."""

    async def names(repositories: Repositories) -> list[str]:
        return sorted(name.run for name in await repositories.runs.names())

    return items(context, incomplete, names)


def complete_metric(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of metrics."""
    state = context.ensure_object(Invocation).state

    async def names(repositories: Repositories) -> list[str]:
        rows = await read_rows(repositories, str(context.params.get("repository") or ""), state)
        columns = {column for row in rows for column in row}
        return sorted(column.removeprefix(METRICS) for column in columns if column.startswith(METRICS))

    return items(context, incomplete, names)
