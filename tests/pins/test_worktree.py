"""Work trees of the real Git."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from fsd.errors import FsdError, NotFoundError
from fsd.pins.worktree import find_top, is_ignored, is_tracked, symlinks, top_of


def git(top: Path, *arguments: str) -> None:
    subprocess.run(
        ["git", "-C", top, "-c", "user.name=x", "-c", "user.email=x@y", *arguments], check=True, capture_output=True
    )


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """A work tree with every kind of thing that is, or is not, a symlink of it."""
    top = tmp_path / "tree"
    (top / "below").mkdir(parents=True)
    git(top, "init", "-q")
    (top / ".gitignore").write_text("ignored\n")
    for name in ("tracked", "below/tracked", "new", "ignored", "replaced", "deleted", "odd \n name", b"latin-\xe9"):
        (top / os.fsdecode(name)).symlink_to("/fsd/x/y")
    (top / "file").write_text("/fsd/x/y")
    git(top, "add", "tracked", "below", "replaced", "deleted", "file", "odd \n name")
    (top / "replaced").unlink()
    (top / "replaced").write_text("a file now")
    (top / "deleted").unlink()
    return top


def test_symlinks_that_git_knows_or_would_add(top: Path) -> None:
    found = dict(symlinks(top))
    assert sorted(found) == ["below/tracked", "latin-\udce9", "new", "odd \n name", "tracked"]
    assert set(found.values()) == {"/fsd/x/y"}


def test_what_git_thinks_of_a_name(top: Path) -> None:
    assert is_ignored(top, "ignored")
    assert not is_ignored(top, "new")
    assert is_tracked(top, "tracked")
    assert not is_tracked(top, "new")
    assert not is_tracked(top, "*racked")


def test_the_top_is_found_from_below_and_in_another_work_tree(top: Path, tmp_path: Path) -> None:
    git(top, "commit", "-q", "-m", "x")
    git(top, "worktree", "add", "-q", str(tmp_path / "second"))
    (tmp_path / "second" / "deeper").mkdir()
    (tmp_path / "way").symlink_to(top / "below")
    assert find_top(tmp_path / "way") == top
    assert find_top(tmp_path / "second" / "deeper") == tmp_path / "second"
    assert [name for name, _ in symlinks(tmp_path / "second")] == [
        "below/tracked",
        "deleted",
        "odd \n name",
        "replaced",
        "tracked",
    ]


def test_outside_of_every_work_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_top(tmp_path) is None
    with pytest.raises(NotFoundError, match="is in no Git work tree"):
        top_of(tmp_path)
    with pytest.raises(FsdError, match=r"git ls-files in .* failed: not a git repository"):
        list(symlinks(tmp_path))
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(FsdError, match="there is no git"):
        list(symlinks(tmp_path))
