"""A run's work tree as it was: its code, its params and its pins, in a folder of their own."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import trio

from fsd.checkout.checkout import Version, check_out
from fsd.checkout.stored import StoredContents
from fsd.errors import NotFoundError, UsageError
from fsd.format.run import RunPin, RunStart, Scalar
from fsd.pins import manifest
from fsd.pins.links import Target
from fsd.repo.repository import Repositories
from fsd.repo.revisions import parse_revision
from fsd.runs import params


class Pin(NamedTuple):
    """A pin as it is put back."""

    link: str
    target: Target
    was: str
    """The revision that it led to by name then, where it leads to the commit by its id now; else ''."""


async def check_out_code(repositories: Repositories, start: RunStart, folder: Path) -> None:
    """A run's code into a folder that is not there yet, each file checked. Raises NotFoundError if it was not recorded,
    or purged; UsageError; CorruptDataError; and what a store raises."""
    run = start.name.run
    if start.code is None:
        raise NotFoundError(f"the code of run {run} was not recorded", hint="it ran outside of Git's work trees")
    commit = (await repositories.runs.replaced()).now(start.code.commit)
    if commit is None:
        raise NotFoundError(f"the code of run {run} was purged")
    version = Version(await repositories.tree(commit), repositories.objects)
    await check_out(version, StoredContents(repositories), os.fsencode(folder))


def pin_of(recorded: RunPin) -> Pin:
    """Where a pin of a run has to lead so that it leads to the same data. Raises UsageError."""
    revision = parse_revision(recorded.revision)
    target = Target(recorded.repository, revision.base, revision.subset or "", recorded.path)
    if target.is_fixed or target.subset or recorded.commit is None:
        return Pin(recorded.link, target, "")
    return Pin(recorded.link, target._replace(base=recorded.commit.hex()), revision.base)


async def lay_out(folder: Path, directory: str, values: Mapping[str, Scalar], text: str, pins: Iterable[Pin]) -> None:
    """Put params and pins beside the code in `folder`. `directory` is where the command runs, and where its file of
    params is; `text` is what that file may go on from. Raises UsageError."""
    await trio.to_thread.run_sync(_lay_out, folder, directory, values, text, list(pins))


def _lay_out(folder: Path, directory: str, values: Mapping[str, Scalar], text: str, pins: Iterable[Pin]) -> None:
    found = manifest.find(folder)
    mountpoint = manifest.DEFAULT_MOUNTPOINT if found is None else found.mountpoint
    for pin in pins:
        link = _inside(folder, pin.link)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(pin.target.text(mountpoint))
    where = _inside(folder, directory) if directory else folder
    where.mkdir(parents=True, exist_ok=True)
    if values or text:
        path = where / params.FILE_NAME
        path.write_text(params.file_of(values, text, os.fspath(path)))


def _inside(folder: Path, path: str) -> Path:
    """A record's path below the folder: records are written by others. Raises UsageError."""
    place = folder / path
    if (
        path.startswith("/")
        or ".." in Path(path).parts
        or not Path(os.path.realpath(place.parent)).is_relative_to(os.path.realpath(folder))
    ):
        raise UsageError(f"{path!r} leads out of the work tree")
    return place
