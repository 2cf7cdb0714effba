"""Imports of what the real DVC and the real `git lfs` made, where these are installed; with them the layouts that
`tests/importing` writes by hand are held."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from integration.program import Program
from tests.importing.dvc_folder import DvcFolder
from tests.importing.importing import GIT_USER, GitFolder
from tests.publish.folders import read_folder

_FOLDERS = (Path(sys.executable).parent, Path(__file__).parents[1] / ".bench" / "dvc" / "bin")
"""The second is what `script/bench import` installs."""
DVC = shutil.which("dvc") or shutil.which("dvc", path=os.pathsep.join(map(str, _FOLDERS)))
HAS_LFS = shutil.which("git-lfs") is not None

FILES = {"a": b"1", "deep/b": os.urandom(2_000_000), "deep/text.csv": b"a,b\r\n1,2\r\n"}


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """With a store of its own."""
    made = Program(tmp_path / "home")
    made("init")
    return made


def plain(folder: Path) -> dict[str, bytes]:
    """The files of a folder."""
    return {os.fsdecode(path): item.data for path, item in read_folder(folder).items() if item.kind == "f"}


def names(folder: Path) -> set[str]:
    """The paths of all files below it, as a cache has them."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and "runs" not in path.parts}


def lay(folder: Path, files: dict[str, bytes]) -> None:
    """These files."""
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)


@pytest.mark.skipif(DVC is None, reason="dvc is not installed")
def test_dvc(program: Program, tmp_path: Path) -> None:
    assert DVC is not None
    git = GitFolder(tmp_path / "repository")
    run = ["env", "DVC_NO_ANALYTICS=1", f"HOME={tmp_path / 'home'}", DVC]

    def dvc(*arguments: str) -> None:
        subprocess.run([*run, *arguments], cwd=git.top, check=True, capture_output=True)

    dvc("init", "-q")
    dvc("remote", "add", "-d", "storage", str(tmp_path / "remote"))
    lay(git.top / "data", FILES)
    (git.top / "one.bin").write_bytes(b"one")
    (git.top / "make.sh").write_text("cp one.bin model.bin; echo '{}' > metrics.json\n")
    dvc("add", "-q", "data", "one.bin")
    dvc("stage", "add", "-q", "-n", "train", "-d", "one.bin", "-o", "model.bin", "-M", "metrics.json", "sh make.sh")
    dvc("repro", "-q")
    git.commit("one", "v1")
    (git.top / "data" / "a").write_bytes(b"2")
    dvc("add", "-q", "data")
    git.commit("two", "v2")
    dvc("push", "-q", "--all-tags")
    shutil.rmtree(git.top / ".dvc" / "cache")

    done = program.json("import", git.top, "data")
    assert [each["tags"] for each in done["revisions"]] == [["v1"], ["v2"]]
    expected = {f"data/{path}": data for path, data in FILES.items()} | {"one.bin": b"one", "model.bin": b"one"}
    for tag, content in (("v1", b"1"), ("v2", b"2")):
        program("checkout", f"data/{tag}", tmp_path / tag)
        assert plain(tmp_path / tag) == {**expected, "data/a": content}

    # What the tests write by hand is what DVC writes.
    byhand = DvcFolder(tmp_path / "byhand")
    byhand.track("data", {**FILES, "a": b"2"})
    byhand.track("one.bin", b"one")
    for name in ("data.dvc", "one.bin.dvc"):
        assert (byhand.top / name).read_text() == (git.top / name).read_text()
    assert names(byhand.remote) < names(tmp_path / "remote")


@pytest.mark.skipif(not HAS_LFS, reason="git-lfs is not installed")
def test_git_lfs(program: Program, tmp_path: Path) -> None:
    environment = program.environment | GIT_USER
    subprocess.run(["git", "lfs", "install", "--skip-repo"], check=True, env=environment, capture_output=True)

    def git(folder: Path, *arguments: str) -> None:
        command = ["git", "-c", "protocol.file.allow=always", "-C", folder, *arguments]
        subprocess.run(command, check=True, env=environment, capture_output=True)

    git(tmp_path, "init", "-q", "--bare", "-b", "main", "bare.git")
    git(tmp_path, "clone", "-q", f"file://{tmp_path}/bare.git", "work")
    work = tmp_path / "work"
    git(work, "lfs", "track", "*.csv", "deep/b")
    lay(work, FILES)
    git(work, "add", "-A")
    git(work, "commit", "-q", "-m", "one")
    git(work, "tag", "v1")
    git(work, "push", "-q", "origin", "HEAD:main", "v1")
    environment = environment | {"GIT_LFS_SKIP_SMUDGE": "1"}
    git(tmp_path, "clone", "-q", f"file://{tmp_path}/bare.git", "clone")
    assert b"git-lfs" in (tmp_path / "clone" / "deep" / "b").read_bytes()
    program("import", tmp_path / "clone", "data")
    program("checkout", "data/v1", tmp_path / "out")
    found = plain(tmp_path / "out")
    assert found.pop(".gitattributes")
    assert found == FILES
