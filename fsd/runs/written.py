"""The files of metrics as a run's command wrote them: kept with the run, and written again where nothing runs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from fsd.checkout.stored import StoredContents
from fsd.format.model import Entry, Kind
from fsd.format.run import StoredTree
from fsd.repo.repository import Repositories
from fsd.runs.placing import put

FOLDER = "written"
"""Among the files of a run; below it are paths from the command's folder."""


async def read_written(repositories: Repositories, files: StoredTree) -> dict[str, bytes]:
    """Contents by path from the command's folder. Raises CorruptDataError, and what a store raises."""
    tree = await repositories.tree(files.commit)
    top = FOLDER.encode()
    found: list[Entry] = []
    async for listed in tree.list_below(top):
        found += [listed.page.entry(at) for at in listed.positions if listed.page.kind(at) == Kind.FILE]
    contents = await StoredContents(repositories).read_small(found) if found else []
    paths = [os.fsdecode(entry.path.removeprefix(top + b"/")) for entry in found]
    return {path: bytes(content) for path, content in zip(paths, contents, strict=True)}


def put_written(directory: Path, files: Mapping[str, bytes]) -> None:
    """Write them, each in one step. Blocks. Raises FsdError."""
    for path, content in files.items():
        put(directory / path, partial(_write, content))


def _write(content: bytes, path: Path) -> None:
    path.write_bytes(content)
