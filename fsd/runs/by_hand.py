"""Whether what lies at a step's outputs is something that the step made: then it is in the store, and may go."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path

from fsd.errors import FsdError
from fsd.format.run import RunName, StoredTree
from fsd.publish.picked import store_picked
from fsd.repo.diff import changes_between
from fsd.repo.repository import Repositories
from fsd.repo.runs import Run
from fsd.runs.reuse import MAX_COMPARED
from fsd.runs.wanted import Wanted
from fsd.tasks import gather


async def differing_output(
    repositories: Repositories, wanted: Wanted, there: Sequence[str], hit: Run | None, state: Path
) -> str:
    """The first of the outputs `there` (files and folders, paths from the top) that no run of the step made; '' if all
    are of some run. `hit` is one that is looked at first. A lease is held. Raises what a store raises."""
    if not there:
        return ""
    paths = list(map(os.fsencode, there))
    try:
        found = await store_picked(repositories, wanted.repository, wanted.top, paths, state=state)
    except FsdError as error:
        if error.exit_code != FsdError.exit_code:
            raise
        return there[0]
    first_outputs = None if hit is None or hit.end is None else hit.end.outputs
    if first_outputs is not None and await _differing(repositories, found, first_outputs, there) == "":
        return ""
    names = [
        name for name, has_end in (await repositories.runs.names(wanted.repository, wanted.step)).items() if has_end
    ]
    first = ""
    for outputs in await gather(lambda name: _outputs(repositories, name), sorted(names)[:MAX_COMPARED], tasks=8):
        if outputs is not None:
            differing = await _differing(repositories, found, outputs, there)
            if not differing:
                return ""
            first = first or differing
    return first or there[0]


async def _outputs(repositories: Repositories, name: RunName) -> StoredTree | None:
    end = await repositories.runs.read_end(name)
    return None if end is None else end.outputs


async def _differing(repositories: Repositories, found: StoredTree, made: StoredTree, there: Sequence[str]) -> str:
    """The first of the outputs that is another in one tree than in the other."""
    if found.tree == made.tree:
        return ""
    try:
        trees = [await repositories.tree(each.commit) for each in (found, made)]
    except FsdError:
        return there[0]
    for path in there:
        pages = repositories.limits.listing_read_ahead_pages
        async with aclosing(changes_between(*trees, path=os.fsencode(path), read_ahead_pages=pages)) as changes:
            if await anext(changes, None) is not None:
                return path
    return ""
