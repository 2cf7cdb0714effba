"""The symlinks of a work tree that lead into the mount: pins, which people made, and outputs, which runs put there.

An output leads to a commit that `fsd run` made (`fsd.publish.picked`): nobody has to make it anew where it is missing,
and where it leads is no choice of anybody's. Asks Git, and the store for commits; blocks where it says so.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from fsd.errors import NotFoundError, UsageError
from fsd.format.run import RunPin
from fsd.pins import worktree
from fsd.pins.links import Target, parse_target
from fsd.publish.picked import is_picked
from fsd.repo.repository import Repositories
from fsd.repo.revisions import resolve
from fsd.tasks import gather

_TASKS = 16


def find_links(top: Path, mountpoints: Sequence[str], outputs: Iterable[str], *, has_git: bool) -> dict[str, Target]:
    """Where each link leads that leads into the mount, by its path from the top. Blocks.

    Looked at are those that Git knows or would add, those that it is told to ignore and that are in no folder of which
    it knows nothing, and what is at `outputs`.
    """
    names = set(outputs)
    if has_git:
        names.update(name for name, _ in worktree.symlinks(top))
        names.update(worktree.ignored(top))
    else:
        with os.scandir(top) as entries:
            names.update(entry.name for entry in entries if entry.is_symlink())
    return {name: target for name in sorted(names) if (target := target_of(top / name, mountpoints)) is not None}


def target_of(link: Path, mountpoints: Sequence[str]) -> Target | None:
    """Where a link into the mount leads; None if it is none."""
    try:
        text = os.readlink(link)
    except OSError:
        return None
    absolute = os.path.join(link.parent, text)
    found = (parse_target(absolute, mountpoint) for mountpoint in mountpoints)
    return next((target for target in found if target is not None), None)


async def resolved_pins(repositories: Repositories, links: dict[str, Target]) -> tuple[RunPin, ...]:
    """The links with the commits that they lead to, which are kept from now on: a lease is held."""
    return tuple(await gather(partial(_resolved, repositories), links.items(), tasks=_TASKS))


async def _resolved(repositories: Repositories, item: tuple[str, Target]) -> RunPin:
    link, target = item
    commit: bytes | None = None
    is_output = False
    try:
        resolved = await resolve(repositories, target.repository, target.revision)
        # (A built-in subset is no object: what it is of, is.)
        commit = (resolved.subset and resolved.subset.id) or resolved.commit
        await repositories.leases.check_kept(commit)
        is_output = target.is_fixed and is_picked(await repositories.commit(commit))
    except (NotFoundError, UsageError):
        commit = None
    return RunPin(text_of(link), target.repository, target.revision, text_of(target.path), commit, is_output)


def text_of(text: str) -> str:
    """As UTF-8 can hold it."""
    return os.fsencode(text).decode(errors="backslashreplace")


def is_below_any(name: str, folders: Iterable[str]) -> bool:
    """Whether a path is one of some others, or below it."""
    return any(name == folder or name.startswith(f"{folder}/") for folder in folders)


def below(path: Path, top: Path) -> str:
    """A path from the top, '' for the top itself."""
    return "" if path == top else os.fspath(path.relative_to(top))


def walked(top: Path, paths: Iterable[Path]) -> Iterator[str]:
    """All files at and below some paths, from the top; without what Python keeps there of what it compiled."""
    for path in paths:
        if not path.is_dir() or path.is_symlink():
            yield below(path, top)
        for folder, folders, names in os.walk(path):
            folders[:] = [name for name in folders if name not in ("__pycache__", ".git")]
            yield from (below(Path(folder, name), top) for name in names)
            yield from (
                below(Path(folder, name), top) for name in folders if os.path.islink(os.path.join(folder, name))
            )
