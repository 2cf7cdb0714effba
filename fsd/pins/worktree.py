"""A Git work tree, as far as pins and runs need it: its top, its files and symlinks, how it differs from its commit.

Asks the program `git`, in the environment of this process: inside a hook Git itself says there which index counts.
Cheap to import. Paths are text with surrogate escapes, relative to the top.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from fsd.errors import FsdError, NotFoundError

_SYMLINK = "120000"
"""A symlink's mode in Git's index."""


def find_top(path: Path) -> Path | None:
    """The top of the work tree around `path`: the nearest folder above it, or itself, that has a `.git`."""
    absolute = Path(os.path.realpath(path))
    return next((folder for folder in (absolute, *absolute.parents) if (folder / ".git").exists()), None)


def top_of(path: Path) -> Path:
    """The same. Raises NotFoundError outside of every work tree."""
    top = find_top(path)
    if top is None:
        raise NotFoundError(
            f"{path} is in no Git work tree", hint="pins are versioned by Git: make one with 'git init'"
        )
    return top


def symlinks(top: Path) -> Iterator[tuple[str, str]]:
    """Path and text of each symlink in the work tree that is tracked or could be added, by path.

    Those in the index that are no symlinks in the work tree any more are left out.
    """
    tracked = {
        name
        for line in _git(top, "ls-files", "-z", "--stage")
        for meta, _, name in [line.partition("\t")]
        if meta.startswith(_SYMLINK)
    }
    untracked = _git(top, "ls-files", "-z", "--others", "--exclude-standard")
    for name in sorted({*tracked, *untracked}):
        try:
            yield name, os.readlink(top / name)
        except OSError:  # a file, or deleted
            continue


class GitState(NamedTuple):
    """What Git says of a work tree. '' where there is none: no commit yet, no branch checked out."""

    commit: str
    branch: str
    is_changed: bool
    """Whether anything differs from the commit, files included that Git does not know and is not told to ignore."""


def state_of(top: Path) -> GitState:
    """The commit that a work tree was made from, and whether it still is as that was. Raises FsdError."""
    commit, branch, is_changed = "", "", False
    for item in _git(top, "status", "--porcelain=v2", "--branch", "-z"):
        if item.startswith("# branch.oid "):
            commit = item.removeprefix("# branch.oid ").replace("(initial)", "")
        elif item.startswith("# branch.head "):
            branch = item.removeprefix("# branch.head ").replace("(detached)", "")
        elif not item.startswith("# "):
            is_changed = True
    return GitState(commit, branch, is_changed)


def files(top: Path) -> set[str]:
    """The paths of all files that Git has in its index or would add, those of submodules and of other work trees inside
    included. Some may not be there. Raises FsdError."""
    found = set(_git(top, "ls-files", "-z", "--cached", "--recurse-submodules"))
    for name in _git(top, "ls-files", "-z", "--others", "--exclude-standard"):
        if name.endswith("/"):
            found.update(name + inner for inner in files(top / name))
        else:
            found.add(name)
    return found


def is_ignored(top: Path, name: str) -> bool:
    """Whether Git is told to ignore `name`, so that `git add` would refuse it."""
    # 0: ignored, 1: not, others: could not tell.
    return _run(top, "check-ignore", "-q", "--", name).returncode == 0


def is_tracked(top: Path, name: str) -> bool:
    """Whether `name` is in Git's index."""
    return bool(list(_git(top, "ls-files", "-z", "--", f":(literal){name}")))


def _git(top: Path, *arguments: str) -> Iterator[str]:
    """The NUL-terminated items that git prints. Raises FsdError."""
    done = _run(top, *arguments)
    if done.returncode != 0:
        lines = os.fsdecode(done.stderr).strip().split("\n")
        # After what went wrong, Git may go on for paragraphs about what to do.
        said = next((line for line in lines if line.startswith("fatal: ")), lines[-1])
        raise FsdError(f"git {arguments[0]} in {top} failed: {said.removeprefix('fatal: ')}")
    return (item for item in os.fsdecode(done.stdout).split("\0") if item)


def _run(top: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    command = shutil.which("git")
    if command is None:
        raise FsdError("there is no git", hint="install the package git")
    return subprocess.run([command, "-C", top, *arguments], capture_output=True, check=False)
