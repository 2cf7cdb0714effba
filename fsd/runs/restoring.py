"""A run brought back: its code, params and pins as a branch of Git, on the commit that it was recorded on."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import trio

from fsd.format.run import RunStart
from fsd.pins import snapshots
from fsd.repo.repository import Repositories
from fsd.runs import metrics, params
from fsd.runs.laying_out import Pin, check_out_code, lay_out, pin_of

_TITLE_CHARACTERS = 60


@dataclass(frozen=True, slots=True)
class Restored:
    """What was made."""

    run: str
    branch: str
    commit: str
    is_new: bool
    """False if the branch was there already, with the same."""
    base: str
    """Git's commit that it is on; '' if there was none yet."""
    is_base: bool
    """Whether that commit has all of it, so that the branch names it."""
    pins: tuple[Pin, ...]
    submodules: tuple[str, ...]
    """Left as that commit has them."""


async def restore(repositories: Repositories, start: RunStart, top: Path, branch: str) -> Restored:
    """Make a branch that has a run's code, params and pins. Nothing of the work tree at `top` is touched.

    Of the commit that the run was recorded on, the branch keeps what was no code: outputs, and what runs write. Raises
    NotFoundError if the code was not recorded, or Git does not have that commit; ConflictError if the branch has
    something else; UsageError; FsdError where Git fails; and what a store raises.
    """
    base = str((start.git or {}).get("commit", ""))
    if base:
        await trio.to_thread.run_sync(snapshots.check_base, top, base)
    pins = tuple(pin_of(pin) for pin in start.pins)
    with tempfile.TemporaryDirectory(prefix="fsd-restore-") as place:
        folder = Path(place) / "tree"
        await check_out_code(repositories, start, folder)
        path = os.path.join(start.directory, params.FILE_NAME)
        text = await trio.to_thread.run_sync(snapshots.text_at, top, base, path) if base else ""
        await lay_out(folder, start.directory, start.params, text, pins)
        kept = (*start.outputs, *(os.path.join(start.directory, name) for name in metrics.WRITTEN))

        def is_kept(name: str) -> bool:
            return any(name == each or name.startswith(f"{each}/") for each in kept)

        made = await trio.to_thread.run_sync(snapshots.snapshot, top, base, folder, is_kept, _message(start))
    there = await trio.to_thread.run_sync(snapshots.make_branch, top, branch, made.commit)
    return Restored(
        run=start.name.run,
        branch=branch,
        commit=there or made.commit,
        is_new=there is None,
        base=base,
        is_base=not made.is_new,
        pins=pins,
        submodules=made.submodules,
    )


def _message(start: RunStart) -> str:
    title = " ".join(f"Run {start.name.run[:8]} {start.label}".split())[:_TITLE_CHARACTERS]
    return f"{title}\n\nCode, params and pins as fsd recorded them.\n\nFsd-Run: {start.name.run}\n"
