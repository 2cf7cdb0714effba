"""A Git work tree as commands see it: which one is meant, what its manifest says, and the store that follows.

Cheap to import: `fsd status` and `fsd up` look here first.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import NamedTuple

from fsd.errors import NotFoundError, UsageError
from fsd.pins import manifest, worktree
from fsd.pins.links import Target, parse_target
from fsd.pins.manifest import Manifest
from fsd_cli.context import Invocation


class Pin(NamedTuple):
    """A symlink that leads below the mountpoint."""

    link: str
    """Its path from the top of the work tree, with '/'."""
    text: str
    target: Target


class WorkTree(NamedTuple):
    """A Git work tree; `manifest` is None where nothing was pinned yet."""

    top: Path
    manifest: Manifest | None

    @property
    def mountpoint(self) -> str:
        """What its pins begin with."""
        return manifest.DEFAULT_MOUNTPOINT if self.manifest is None else self.manifest.mountpoint

    def pins(self) -> list[Pin]:
        """Every pin that Git knows or would add, by link."""
        found = ((link, text, parse_target(text, self.mountpoint)) for link, text in worktree.symlinks(self.top))
        return [Pin(link, text, target) for link, text, target in found if target is not None]

    def followed(self, link: str) -> str:
        """The branch that a pin follows."""
        return ({} if self.manifest is None else self.manifest.follow).get(link, manifest.DEFAULT_BRANCH)

    def meant(self, invocation: Invocation) -> Invocation:
        """The invocation with the store that the manifest names, which counts for everybody who has the work tree.

        Raises UsageError if --store names another one.
        """
        if self.manifest is None or invocation.store == self.manifest.store:
            return invocation
        if invocation.store is not None:
            raise UsageError(
                f"the pins of {self.top} are in {self.manifest.store}, not in {invocation.store}",
                hint=f"leave --store out, or change {manifest.FILE_NAME}",
            )
        return dataclasses.replace(invocation, store=self.manifest.store)


def work_tree_at(path: Path) -> WorkTree:
    """The work tree around `path`. Raises NotFoundError, and UsageError for a malformed manifest."""
    top = worktree.top_of(path)
    return WorkTree(top, manifest.find(top))


def pinned_work_tree_at(path: Path) -> WorkTree | None:
    """The same if it has a manifest, else None. Looks at a few names, and asks nobody."""
    top = worktree.find_top(path)
    found = None if top is None else manifest.find(top)
    return None if top is None or found is None else WorkTree(top, found)


def link_in(tree: WorkTree, path: Path) -> str:
    """The link at `path` as the work tree names it. The link itself is not followed, folders on the way are."""
    parent = Path(os.path.realpath(path.parent))
    if not parent.is_dir():
        raise NotFoundError(f"there is no folder {path.parent} for {path.name}", hint=f"mkdir -p {path.parent}")
    place = parent / path.name
    if path.name in ("", "..") or not place.is_relative_to(tree.top) or ".git" in place.relative_to(tree.top).parts:
        raise UsageError(f"{path} is no place for a pin", hint=f"name a link below {tree.top}")
    return place.relative_to(tree.top).as_posix()
