"""Pins with the real Git and a real mount: whatever Git does with versions of the source moves the data as well."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fsd.daemon import mounts
from integration.conftest import sweep
from integration.program import Program, status
from integration.users import NOBODY_ID, let_nobody_mount_below, needs_root, ordinary_user, skip_without_user_namespaces
from integration.worktrees import WorkTree

REPOSITORY = Path(__file__).parents[1]
VERSIONS = 5


class Team:
    """A store with `digits`, whose versions are tagged v1, v2 and so on, and what is needed to work with it."""

    def __init__(self, program: Program, folder: Path) -> None:
        self.program = program
        self.folder = folder
        program("init")
        source = folder / "source"
        (source / "train").mkdir(parents=True)
        (source / "same").write_bytes(b"the same in all" * 1000)
        self.commits = []
        for version in range(1, VERSIONS + 1):
            (source / "train" / "labels").write_text(f"version {version}\n")
            self.commits.append(program.json("commit", source, "digits", "--tag", f"v{version}")["commit"])

    def work_tree(self, name: str, mountpoint: Path) -> WorkTree:
        """A new Git repository whose pins begin with that mountpoint."""
        tree = WorkTree(self.program, self.folder / name)
        tree.path.mkdir()
        tree("git", "init", "-q", "-b", "main")
        (tree / ".fsd.toml").write_text(f'store = "{self.program.store}"\nmountpoint = "{mountpoint}"\n')
        return tree


@pytest.fixture(scope="module")
def team(module_program: Program) -> Team:
    return Team(module_program, module_program.home.parent)


@pytest.fixture(scope="module")
def tree(team: Team) -> Iterator[WorkTree]:
    """A repository with a commit for each version of the data, and a mount where its pins lead."""
    mountpoint = team.folder / "m"
    tree = team.work_tree("tree", mountpoint)
    tree("fsd", "pin", "data", "digits/v1")
    pinned = os.readlink(tree / "data")
    for version, commit in enumerate(team.commits, 1):
        (tree / "data").unlink()
        (tree / "data").symlink_to(pinned.replace(team.commits[0], commit))
        tree.commit(f"with version {version}")
        tree("git", "tag", f"with-v{version}")
    assert tree("fsd", "up", "--mountpoint", mountpoint).endswith("; 1 pin, nothing missing\n")
    yield tree
    team.program("umount", mountpoint)


def labels(tree: WorkTree) -> str:
    return (tree / "data" / "train" / "labels").read_text()


def test_a_checkout_brings_the_data(tree: WorkTree) -> None:
    for version in (2, 4, 2):
        tree("git", "checkout", "-q", f"with-v{version}")
        assert labels(tree) == f"version {version}\n"
        assert tree("git", "status", "--porcelain") == ""
    tree("git", "checkout", "-q", "main")
    assert labels(tree) == f"version {VERSIONS}\n"
    # Git shows what changed, as it would of any other text.
    changed = tree("git", "diff", "with-v1", "with-v2", "--", "data").splitlines()
    assert [line[:1] for line in changed if "digits" in line] == ["-", "+"]


def test_another_work_tree_has_another_version_at_the_same_time(tree: WorkTree, team: Team) -> None:
    tree("git", "worktree", "add", "-q", team.folder / "second", "with-v3")
    second = WorkTree(team.program, team.folder / "second")
    assert (labels(tree), labels(second)) == (f"version {VERSIONS}\n", "version 3\n")
    second("fsd", "pin", "data", "v4")
    assert (labels(tree), labels(second)) == (f"version {VERSIONS}\n", "version 4\n")
    row = " ".join(second("fsd", "status").splitlines()[1].split())
    assert row == f"data digits/{team.commits[3][:12]} v4 1 behind main yes 10 B of 14.7 KiB"
    # What two versions have in common is one file for the kernel.
    assert (tree / "data/same").stat().st_ino == (second / "data/same").stat().st_ino


def test_bisecting_finds_where_the_data_changed(tree: WorkTree, team: Team) -> None:
    clone = WorkTree(team.program, team.folder / "bisected")
    tree("git", "clone", "-q", tree.path, clone.path)
    clone("git", "bisect", "start", f"with-v{VERSIONS}", "with-v1")
    clone("git", "bisect", "run", "sh", "-c", "test $(cut -d' ' -f2 data/train/labels) -lt 4")
    assert clone("git", "show", "-s", "--format=%s", "refs/bisect/bad") == "with version 4\n"


def test_a_mount_answers_as_the_store_does(tree: WorkTree, team: Team) -> None:
    mountpoint, store = team.folder / "m", team.program.store
    clone = WorkTree(team.program, team.folder / "asked")
    tree("git", "clone", "-q", tree.path, clone.path)
    (clone / "moving").symlink_to(mountpoint / "digits" / "main")
    (clone / "gone").symlink_to(mountpoint / "digits" / ("ab" * 32))
    mounted = json.loads(clone("fsd", "status", "--json"))
    assert [(pin["link"], pin["here"], pin["bytes"], pin["problem"] is None) for pin in mounted] == [
        ("data", True, 15_010, True),
        ("gone", False, None, False),
        ("moving", True, None, False),
    ]
    # By another name, the store is one that is not mounted.
    store.with_name("alias").symlink_to(store)
    manifest = (clone / ".fsd.toml").read_text()
    (clone / ".fsd.toml").write_text(manifest.replace(str(store), str(store.with_name("alias"))))
    stored = json.loads(clone("fsd", "status", "--json"))
    assert [pin["bytes"] for pin in stored] == [None] * 3
    for pin in (*mounted, *stored):
        del pin["bytes"], pin["cached_bytes"]
        pin["problem"] = (pin["problem"] or "").replace("alias", store.name)
    assert stored == mounted


def test_a_mount_whose_store_is_away(tree: WorkTree, team: Team) -> None:
    store = team.program.store
    store.rename(store.with_name("away"))
    try:
        done = tree.run("fsd", "status")
    finally:
        store.with_name("away").rename(store)
    assert done.returncode == 0
    assert done.stdout.splitlines()[1].split() == ["data", f"digits/{team.commits[-1][:12]}", "?", "?", "yes"]
    assert done.stderr.startswith("fsd: tags and branches are not shown: ")


def test_status_knows_pins_in_a_subfolder_and_from_there(tree: WorkTree, team: Team) -> None:
    (tree / "models").mkdir()
    below = WorkTree(team.program, tree / "models")
    below("fsd", "pin", "labels", "digits/v1/train/labels")
    assert (tree / "models" / "labels").read_text() == "version 1\n"
    assert [line.split()[0] for line in below("fsd", "status").splitlines()] == ["LINK", "data", "models/labels"]
    assert tree("fsd", "status", "--check") == ""
    # A path in the mount is a question about the mount, and so is a pin's.
    assert "MOUNTPOINT" in tree("fsd", "status", "--mounts")
    below("fsd", "unpin", "labels")
    assert not (tree / "models" / "labels").is_symlink()
    assert (tree / "models" / "labels").read_text() == "version 1\n"
    shutil.rmtree(tree / "models")


def test_unpin_leaves_files_of_ones_own(tree: WorkTree, team: Team) -> None:
    tree("git", "clone", "-q", tree.path, team.folder / "unpinned")
    own = WorkTree(team.program, team.folder / "unpinned")
    version = (own / "data").resolve()
    assert own("fsd", "unpin", "data") == "data is no pin any more: 2 files, 14.7 KiB in data\n"
    assert subprocess.run(["diff", "-r", version, own / "data"], check=False).returncode == 0
    (own / "data" / "train" / "labels").write_text("changed\n")
    assert labels(tree) == f"version {VERSIONS}\n"


def test_a_fresh_clone_where_nobody_saw_the_store(team: Team, tmp_path: Path) -> None:
    mountpoint = tmp_path / "to be made" / "fsd"
    tree = team.work_tree("cloned", mountpoint)
    tree("fsd", "pin", "data", "digits/v2")
    tree("fsd", "pin", "part", "digits/v2+50pct")
    tree.commit("pins")
    stranger = Program(tmp_path / "home")
    del stranger.environment["FSD_STORE"]
    clone = WorkTree(stranger, tmp_path / "clone")
    tree("git", "clone", "-q", tree.path, clone.path)
    assert not (clone / "data").exists()
    try:
        up = ("fsd", "up", "--mountpoint", mountpoint)
        assert clone.run(*up, "--", "sh", "-c", "cat data/train/labels; exit 7").stdout == "version 2\n"
        assert mounts.mount_at(mountpoint) is not None
        again = clone.run("fsd", "up", "--", "sh", "-c", "exit 7")
        assert (again.returncode, again.stderr) == (7, "")
        assert clone("fsd", "up") == (f"{team.program.store} is mounted at {mountpoint}; 2 pins, nothing missing\n")
        assert clone("git", "status", "--porcelain") == ""

        (clone / "lost").symlink_to(f"{mountpoint}/digits/{'ab' * 32}")
        missing = clone.run("fsd", "up")
        assert missing.returncode == 4
        assert missing.stderr.splitlines()[0] == f"fsd: lost leads to {os.readlink(clone / 'lost')}, which is not there"
        assert "of 3 pins, 1 cannot be had" in missing.stderr
    finally:
        sweep(tmp_path)


@needs_root
def test_a_command_sees_its_store_where_another_is_mounted(team: Team, tree: WorkTree, tmp_path: Path) -> None:
    other = Program(tmp_path / "other")
    other("init")
    place = other.mount(tmp_path / "taken")
    here = team.work_tree("other", place)
    here("fsd", "pin", "data", "digits/v3")
    # Nobody is shown a stranger's files at a place that only the stranger has named.
    refused = here.run("fsd", "up", "--", "true")
    assert refused.returncode == 2
    assert f"asks for a mount at {place}; if that is right, say so: fsd up --mountpoint {place}" in refused.stderr
    refused = here.run("fsd", "up", "--mountpoint", place)
    assert refused.returncode == 3
    assert f"another store is mounted at {place}: file://{other.store}; unmount it: fsd umount" in refused.stderr
    assert here("fsd", "up", "--mountpoint", place, "--", "cat", "data/train/labels") == "version 3\n"
    # It is the mount that there was already; and everybody else sees at that place what they saw.
    assert status(tree.path.parent / "m")["mountpoint"] == str(tree.path.parent / "m")
    assert os.listdir(place) == []
    other("umount", place)


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder that an ordinary user can reach, also while another session of tests starts: that locks pytest's own."""
    with tempfile.TemporaryDirectory() as folder:
        let_nobody_mount_below(Path(folder))
        yield Path(folder)


@needs_root
@pytest.mark.skipif(os.path.exists("/fsd"), reason="this machine has the common mountpoint")
def test_an_ordinary_user_where_the_common_mountpoint_cannot_be_made(team: Team, home: Path) -> None:
    skip_without_user_namespaces(ordinary_user())
    program = Program(home, wrapper=ordinary_user())
    shutil.copytree(team.program.store, program.store)
    tree = WorkTree(program, home / "tree")
    tree.path.mkdir()
    tree("git", "init", "-q")
    tree("fsd", "pin", "data", "digits/v4")
    tree.commit("a pin")
    assert os.readlink(tree / "data") == f"/fsd/digits/{team.commits[3]}"
    for path in (home, *home.rglob("*")):
        os.chown(path, NOBODY_ID, NOBODY_ID, follow_symlinks=False)
    steps = [
        "trap 'fsd umount $HOME/.local/state/fsd/mounts/*' EXIT",
        "fsd up && exit 1",
        "set -e",
        "fsd up -- sh -c 'cat data/train/labels; id -u; ls -d /fsd; pwd; fsd status'",
        "fsd up -- sh -c 'exit 6' || echo gave $?",
        "git status --porcelain",
        "test ! -e /fsd",
    ]
    done = tree.run(*program.wrapper, "sh", "-c", "\n".join(steps))
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[0] == (
        f"fsd: cannot make /fsd: Permission denied; once, as root: install -d -o {NOBODY_ID} /fsd; "
        "or run what needs the pins with: fsd up -- COMMAND"
    )
    lines = done.stdout.splitlines()
    assert lines[:4] == ["version 4", str(NOBODY_ID), "/fsd", str(tree.path)]
    assert lines[5].split()[0] == "data"
    assert lines[5].endswith("yes   10 B of 14.7 KiB")
    assert lines[6:] == ["gave 6"]


def test_the_hook_refuses_what_does_not_pin(team: Team, tmp_path: Path) -> None:
    hooks = WorkTree(team.program, tmp_path / "hooks")
    hooks.path.mkdir()
    hooks("git", "init", "-q")
    shutil.copy(REPOSITORY / ".pre-commit-hooks.yaml", hooks.path)
    revision = hooks.commit("hooks")
    tree = team.work_tree("hooked", tmp_path / "m")
    (tree / ".pre-commit-config.yaml").write_text(
        f"repos: [{{repo: {hooks.path}, rev: {revision}, hooks: [{{id: fsd-pins}}]}}]\n"
    )
    tree.environment["PRE_COMMIT_HOME"] = str(tmp_path / "pre-commit")
    tree(sys.executable, "-m", "pre_commit", "install")
    tree("fsd", "pin", "data", "digits/v1")
    tree("git", "add", "-A")
    assert "Passed" in tree.run("git", "commit", "-m", "a pin").stderr
    (tree / "moving").symlink_to(tmp_path / "m" / "digits" / "main")
    tree("git", "add", "-A")
    refused = tree.run("git", "commit", "-m", "no pin")
    assert refused.returncode == 1
    assert "moving: main is a branch: it does not pin" in refused.stderr
    tree("fsd", "pin", "moving")
    tree("git", "add", "-A")
    tree("git", "commit", "-q", "-m", "a pin")
