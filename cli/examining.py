"""Asks a store about pins. Apart from what shows them: with a mount, its daemon is asked, and this is not imported."""

from __future__ import annotations

from collections.abc import Sequence

import click

from fsd.pins.examine import examine
from fsd.pins.findings import Findings, Question
from fsd.repo.repository import Repositories
from fsd_cli.context import Invocation
from fsd_cli.opening import run_on_store


@click.command(hidden=True)
@click.argument("invocation")
@click.argument("questions")
def examine_pins(invocation: Invocation, questions: Sequence[Question]) -> Sequence[Findings]:
    """Ask the store that `invocation` means. Only other commands run this."""

    async def work(repositories: Repositories) -> Sequence[Findings]:
        return await examine(repositories, questions)

    return run_on_store(invocation, work)
