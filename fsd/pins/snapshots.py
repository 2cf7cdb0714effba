"""Git commits and branches made beside a work tree: its files, its index and what is checked out stay as they are.

Asks the program `git`, as `fsd.pins.worktree` does.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from fsd.errors import ConflictError, FsdError, NotFoundError, UsageError
from fsd.pins.worktree import run_git

_GITLINK = "160000"
"""A submodule's mode in Git's index."""

_SETTINGS = ("-c", "core.safecrlf=false", "-c", "core.sparseCheckout=false", "-c", "core.fsmonitor=false")


class Snapshot(NamedTuple):
    """What was made."""

    commit: str
    is_new: bool
    """False if it is the commit that it was to be made on: the files are the same."""
    submodules: tuple[str, ...]
    """Left as that commit has them."""


def has_commit(top: Path, commit: str) -> bool:
    """Whether the repository has it."""
    return run_git(top, "cat-file", "-e", f"{commit}^{{commit}}").returncode == 0


def text_at(top: Path, commit: str, path: str) -> str:
    """A file in a commit, as text; '' where there is none, or it is not UTF-8."""
    done = run_git(top, "cat-file", "blob", f"{commit}:{path}")
    try:
        return done.stdout.decode() if done.returncode == 0 else ""
    except UnicodeDecodeError:
        return ""


def snapshot(top: Path, base: str, folder: Path, is_kept: Callable[[str], bool], message: str) -> Snapshot:
    """A commit on top of `base` (of none, if it is '') that has the files of `folder`, and of `base` those that are to
    be kept, and submodules. What lies in submodules is deleted from `folder`. Raises FsdError."""
    git_dir = os.fsdecode(_asked(top, "rev-parse", "--absolute-git-dir")).removesuffix("\n")
    with tempfile.TemporaryDirectory() as place:
        inside = _Inside(top, [*_SETTINGS, f"--git-dir={git_dir}", f"--work-tree={folder}"], Path(place) / "index")
        submodules = inside.take_over(base, is_kept) if base else []
        for name in submodules:
            shutil.rmtree(folder / name, ignore_errors=True)
        inside.ask("add", "--force", "--ignore-removal", "--", ".")
        tree = inside.ask("write-tree").decode().strip()
        if base and tree == tree_of(top, base):
            return Snapshot(base, False, tuple(submodules))
        parents = ("-p", base) if base else ()
        commit = inside.ask("commit-tree", tree, *parents, "-F", "-", data=message.encode()).decode().strip()
    return Snapshot(commit, True, tuple(submodules))


class _Inside(NamedTuple):
    """Git with an index of its own, over a folder that is no work tree."""

    top: Path
    options: Sequence[str]
    index_file: Path

    def ask(self, *arguments: str, data: bytes = b"") -> bytes:
        """What Git prints. Raises FsdError."""
        return _asked(
            self.top, *self.options, *arguments, data=data, variables={"GIT_INDEX_FILE": str(self.index_file)}
        )

    def take_over(self, base: str, is_kept: Callable[[str], bool]) -> list[str]:
        """Have in the index what is kept of a commit; its submodules."""
        self.ask("read-tree", base)
        submodules, dropped = [], []
        for line in os.fsdecode(self.ask("ls-files", "-z", "--stage")).split("\0"):
            meta, _, name = line.partition("\t")
            if meta.startswith(_GITLINK):
                submodules.append(name)
            elif name and not is_kept(name):
                dropped.append(name)
        names = b"".join(os.fsencode(name) + b"\0" for name in dropped)
        self.ask("update-index", "--force-remove", "-z", "--stdin", data=names)
        return submodules


def tree_of(top: Path, commit: str) -> str:
    """The id of a commit's tree. Raises FsdError."""
    return _asked(top, "rev-parse", f"{commit}^{{tree}}").decode().strip()


def make_branch(top: Path, name: str, commit: str) -> str | None:
    """Make a branch. None then; if there is one already, with the same files on the same commit, where that is. Raises
    UsageError for an impossible name, ConflictError for one that is taken."""
    if run_git(top, "check-ref-format", "--branch", name).returncode != 0:
        raise UsageError(f"{name!r} cannot be the name of a branch in Git")
    found = run_git(top, "rev-parse", "--verify", "--quiet", f"refs/heads/{name}")
    if found.returncode != 0:
        _asked(top, "update-ref", "-m", "fsd exp restore", f"refs/heads/{name}", commit, "")
        return None
    there = found.stdout.decode().strip()
    if there == commit or (tree_of(top, there), _parents(top, there)) == (tree_of(top, commit), _parents(top, commit)):
        return there
    raise ConflictError(f"there is a branch {name} already, with something else", hint="say another name with --name")


def _parents(top: Path, commit: str) -> bytes:
    return _asked(top, "rev-list", "--parents", "-n", "1", commit).split(b" ", 1)[-1] if commit else b""


def check_unchanged(top: Path) -> None:
    """Raises ConflictError if tracked files have changes that are in no commit."""
    if _asked(top, "status", "--porcelain", "--untracked-files=no").strip():
        raise ConflictError(
            f"{top} has changes that are not committed", hint="commit or stash them, or leave --checkout out"
        )


def check_out_branch(top: Path, name: str) -> None:
    """Switch the work tree to a branch. Raises ConflictError where that would overwrite a file, ignored ones too."""
    done = run_git(top, "checkout", "--quiet", "--no-overwrite-ignore", name, "--")
    if done.returncode != 0:
        lines = [line.strip() for line in os.fsdecode(done.stderr).splitlines()]
        said = " ".join(line for line in lines if line and not line.startswith(("Please", "Aborting")))
        raise ConflictError(f"the branch {name} is made, and not checked out: {said.removeprefix('error: ')}")


def make_work_tree(folder: Path) -> None:
    """Have Git know all files of a folder, also those that it would be told to ignore. Raises FsdError."""
    _asked(folder, "init", "--quiet", "--initial-branch=main")
    _asked(folder, *_SETTINGS, "add", "--force", "--", ".")


def check_base(top: Path, commit: str) -> None:
    """Raises NotFoundError if the repository does not have a commit."""
    if not has_commit(top, commit):
        raise NotFoundError(f"{top} has no commit {commit[:12]}", hint="fetch it: the run's code was made on it")


def _asked(top: Path, *arguments: str, data: bytes = b"", variables: Mapping[str, str] | None = None) -> bytes:
    done = run_git(top, *arguments, data=data, variables=variables)
    if done.returncode != 0:
        lines = os.fsdecode(done.stderr).strip().split("\n")
        said = next((line for line in lines if line.startswith(("fatal: ", "error: "))), lines[-1])
        raise FsdError(f"git in {top} failed: {said.removeprefix('fatal: ').removeprefix('error: ')}")
    return done.stdout
