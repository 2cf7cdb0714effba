"""What a run reads outside of the mount, as far as it was told of, or as far as an earlier step put it there."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import trio

from fsd.errors import NotFoundError
from fsd.repo.repository import Repositories
from fsd.repo.revisions import resolve
from fsd.runs import metrics
from fsd.runs.dependencies import digest_of
from fsd.runs.links import below, is_below_any, target_of, text_of
from fsd.runs.variables import normalised
from fsd.runs.wanted import Wanted


async def dependency_ids(repositories: Repositories, wanted: Wanted) -> dict[str, str]:
    """By path, the id of what is there, for what is declared.

    Raises NotFoundError for what is not there, and as `digest_of`.
    """
    found = {}
    for path in dict.fromkeys(wanted.dependencies):
        target = target_of(path, wanted.mountpoints)
        if target is None:
            found[_shown(path, wanted)] = await trio.to_thread.run_sync(digest_of, path)
            continue
        # Which version that is; what of it counts, only reading it would tell.
        try:
            resolved = await resolve(repositories, target.repository, target.revision)
        except NotFoundError as error:
            raise NotFoundError(f"{path} leads nowhere: {error.message}") from error
        commit = (resolved.subset and resolved.subset.id) or resolved.commit
        found[_shown(path, wanted)] = f"{commit.hex()}+{target.subset}/{text_of(target.path)}"
    return found


def found_ids(wanted: Wanted, known: Mapping[str, str]) -> dict[str, str]:
    """By path from the top, the id of what other steps left as plain files or folders: what is a link is seen when it
    is read. `known` has the steps of outputs by path; metrics lie there, too, whoever wrote them. Blocks. Raises as
    `digest_of`."""
    own = wanted.output_paths
    paths = {*known, *(below(path, wanted.top) for path in metrics.files_in(wanted.directory))}
    paths = {path for path in paths if known.get(path) != wanted.step and not is_below_any(path, own)}
    places = {path: wanted.top / path for path in sorted(paths)}
    return {
        text_of(path): digest_of(place)
        for path, place in places.items()
        if os.path.lexists(place) and not place.is_symlink()
    }


def _shown(path: Path, wanted: Wanted) -> str:
    """The path as a colleague has it, too."""
    if path.is_relative_to(wanted.top):
        return text_of(below(path, wanted.top)) or "."
    return text_of(normalised(os.fspath(path), os.fspath(wanted.top), wanted.variables.get("HOME", "")))
