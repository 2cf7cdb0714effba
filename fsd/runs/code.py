"""A run's code: all files of the work tree but links into the mount, params, what runs write, and what fsd itself keeps
in it. It is stored as it is, and read whole each time."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from fsd.errors import FsdError
from fsd.format.model import Kind
from fsd.format.run import RunStart, StoredTree
from fsd.pins import worktree
from fsd.publish.guard import is_at_or_below
from fsd.publish.picked import store_picked
from fsd.repo.repository import Repositories
from fsd.runs import metrics, params
from fsd.runs.links import below, is_below_any, walked
from fsd.runs.wanted import Wanted

_ATTEMPTS = 3
"""An editor that saves a file while it is being read is waited out."""


def files_to_store(wanted: Wanted, left_out: Collection[str], places: Sequence[bytes]) -> list[str]:
    """Paths from the top of all that is code. `left_out` are links and outputs, from the top; `places` fsd's own.
    Blocks."""
    here = below(wanted.directory, wanted.top)
    others = [*left_out, *(os.path.join(here, name) for name in (params.FILE_NAME, *metrics.WRITTEN))]
    others += _those_in(wanted.top, places)
    return sorted(name for name in names_of_code(wanted) if not is_below_any(name, others))


async def store_code(
    repositories: Repositories, wanted: Wanted, names: Sequence[str], state: Path
) -> StoredTree | None:
    """Store these files; None where nothing says what is code: no Git, and no paths. A lease is held. Raises as
    `store_picked`."""
    if not wanted.has_git and not wanted.code_paths:
        return None
    chosen = list(map(os.fsencode, names))
    for attempt in range(_ATTEMPTS):
        try:
            return await store_picked(repositories, wanted.repository, wanted.top, chosen, state=state)
        except FsdError as error:
            if error.exit_code != FsdError.exit_code or attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError("the last attempt returns or raises")


def names_of_code(wanted: Wanted) -> set[str]:
    """Paths from the top of what may be code. Blocks."""
    names = worktree.files(wanted.top) if wanted.has_git else set()
    # Made from the rest by Python itself.
    names = {name for name in names if "__pycache__" not in name.split("/")}
    # What is named outright counts, also if Git is told to ignore it.
    return names | set(walked(wanted.top, wanted.code_paths))


async def files_of_code(repositories: Repositories, start: RunStart, top: Path) -> list[Path]:
    """The files in the work tree that were code when a run began, as far as they count."""
    if start.code is None:
        return []
    found: list[Path] = []
    async for listed in (await repositories.tree(start.code.commit)).list_below():
        for position in listed.positions:
            path = os.fsdecode(listed.page.path(position))
            is_counted = not start.code_paths or is_below_any(path, start.code_paths) or "" in start.code_paths
            if listed.page.kind(position) == Kind.FILE and is_counted:
                found.append(top / path)
    return found


def _those_in(top: Path, places: Sequence[bytes]) -> Iterator[str]:
    """Of some places those in the work tree, from its top."""
    inside = os.fsencode(top)
    return (os.fsdecode(os.path.relpath(place, inside)) for place in places if is_at_or_below(place, inside))
