"""A Git work tree, as far as pins need it: where its top is, which symlinks Git knows or would add.

Asks the program `git`, in the environment of this process: inside a hook Git itself says there which index counts.
Cheap to import. Paths are text with surrogate escapes, relative to the top.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

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
