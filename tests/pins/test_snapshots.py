"""Commits and branches of the real Git, made beside a work tree that is in use."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from fsd.errors import ConflictError, FsdError, NotFoundError, UsageError
from fsd.pins.snapshots import (
    check_base,
    check_out_branch,
    check_unchanged,
    make_branch,
    make_work_tree,
    snapshot,
    text_at,
)
from fsd.pins.worktree import files


def git(top: Path, *arguments: str) -> str:
    return subprocess.run(["git", "-C", top, *arguments], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """A work tree with a commit, and changes of every kind that are not in it."""
    top = tmp_path / "tree"
    top.mkdir()
    git(top, "init", "-q", "-b", "main")
    for name, value in (("user.name", "x"), ("user.email", "x@y")):
        git(top, "config", name, value)
    for name, text in ((".gitignore", "ignored\n"), ("train.py", "one"), ("metrics.json", "{}"), ("gone.py", "g")):
        (top / name).write_text(text)
    git(top, "add", ".")
    git(top, "commit", "-q", "-m", "first")
    (top / "train.py").write_text("changed")
    (top / "new.py").write_text("new")
    git(top, "add", "new.py")
    (top / "ignored").write_text("mine")
    return top


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """Files as they were at another time."""
    folder = tmp_path / "code"
    (folder / "below").mkdir(parents=True)
    for name, text in ((".gitignore", "ignored\n"), ("train.py", "two"), ("ignored", "theirs"), ("below/x.sh", "x")):
        (folder / name).write_text(text)
    (folder / "below" / "x.sh").chmod(0o755)
    (folder / "data").symlink_to("/fsd/imagenet/abc")
    return folder


def state(top: Path) -> tuple[str, str, str, dict[str, str]]:
    """All of a work tree that a person could lose."""
    texts = {path.name: path.read_text() for path in top.iterdir() if path.is_file()}
    return git(top, "status", "--porcelain", "--ignored"), git(top, "rev-parse", "HEAD"), git(top, "branch"), texts


def test_a_snapshot_has_the_files_and_what_is_kept_and_touches_nothing(top: Path, code: Path) -> None:
    base, before = git(top, "rev-parse", "HEAD"), state(top)
    made = snapshot(top, base, code, lambda name: name == "metrics.json", "title\n\nbody\n")
    assert state(top) == before
    assert made.is_new
    listed = dict(line.split()[::-1][::3] for line in git(top, "ls-tree", "-r", made.commit).splitlines())
    assert listed == {
        ".gitignore": "100644",
        "below/x.sh": "100755",
        "data": "120000",
        "ignored": "100644",
        "metrics.json": "100644",
        "train.py": "100644",
    }
    assert git(top, "show", f"{made.commit}:train.py") == "two"
    assert git(top, "log", "-1", "--format=%P %s", made.commit) == f"{base} title"
    assert text_at(top, base, "train.py") == "one"
    assert text_at(top, base, "nothing") == ""


def test_what_is_in_the_commit_already_is_no_new_one(top: Path, tmp_path: Path) -> None:
    base = git(top, "rev-parse", "HEAD")
    git(top, "worktree", "add", "-q", "--detach", str(tmp_path / "same"))
    (tmp_path / "same" / ".git").unlink()
    made = snapshot(top, base, tmp_path / "same", lambda _: False, "x")
    assert (made.commit, made.is_new) == (base, False)


def test_where_there_was_no_commit_it_is_the_first(top: Path, code: Path) -> None:
    made = snapshot(top, "", code, lambda _: False, "x")
    assert git(top, "log", "--format=%P", made.commit) == ""


def test_submodules_stay_as_the_commit_has_them(top: Path, code: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "-q")
    git(other, "-c", "user.name=x", "-c", "user.email=x@y", "commit", "-q", "--allow-empty", "-m", "x")
    git(top, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(other), "lib")
    git(top, "commit", "-q", "-m", "with a submodule")
    (code / "lib").mkdir()
    (code / "lib" / "inner").write_text("recorded as a file")
    made = snapshot(top, git(top, "rev-parse", "HEAD"), code, lambda _: False, "x")
    assert made.submodules == ("lib",)
    assert git(top, "ls-tree", made.commit, "lib").startswith("160000 commit")


def test_a_branch_is_made_once_and_never_moved(top: Path, code: Path) -> None:
    base = git(top, "rev-parse", "HEAD")
    made = snapshot(top, base, code, lambda _: False, "x")
    assert make_branch(top, "fsd/a1", made.commit) is None
    again = snapshot(top, base, code, lambda _: False, "the same with another message")
    assert make_branch(top, "fsd/a1", again.commit) == made.commit
    with pytest.raises(ConflictError, match="already, with something else"):
        make_branch(top, "main", made.commit)
    with pytest.raises(UsageError, match="cannot be the name"):
        make_branch(top, "a..b", made.commit)
    assert git(top, "rev-parse", "main") == base


def test_a_check_out_loses_nothing(top: Path, code: Path) -> None:
    made = snapshot(top, git(top, "rev-parse", "HEAD"), code, lambda _: False, "x")
    make_branch(top, "fsd/a1", made.commit)
    with pytest.raises(ConflictError, match="not committed"):
        check_unchanged(top)
    git(top, "commit", "-q", "-a", "-m", "all")
    check_unchanged(top)
    before = state(top)
    with pytest.raises(ConflictError, match=r"would be overwritten.*ignored"):
        check_out_branch(top, "fsd/a1")
    assert state(top)[:2] == before[:2]
    assert (top / "ignored").read_text() == "mine"
    (top / "ignored").unlink()
    check_out_branch(top, "fsd/a1")
    assert ((top / "train.py").read_text(), (top / "ignored").read_text()) == ("two", "theirs")


def test_a_folder_becomes_a_work_tree_with_all_its_files(code: Path) -> None:
    make_work_tree(code)
    assert files(code) == {".gitignore", "train.py", "ignored", "below/x.sh", "data"}


def test_what_git_lacks_is_said(top: Path) -> None:
    with pytest.raises(NotFoundError, match="no commit 1234"):
        check_base(top, "1234" * 10)
    check_base(top, git(top, "rev-parse", "HEAD"))
    with pytest.raises(FsdError, match="failed"):
        snapshot(top, "1234" * 10, top, lambda _: False, "x")
