"""Edits: a version is changed in place, by all that programs do, and what is committed is what was seen."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fsd.daemon import mounts
from integration.conftest import sweep
from integration.program import Program, status
from integration.test_roundtrip import described
from integration.users import NOBODY, NOBODY_ID, let_nobody_mount_below

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the kernel's overlay takes root")


@pytest.fixture(scope="module")
def edits(module_program: Program) -> Iterator[Program]:
    """The program with a mounted store: the repository `data` has a tag v1."""
    source = module_program.home / "source"
    make_folder(source)
    module_program("init", module_program.store)
    module_program("commit", source, "data", "--tag", "v1")
    module_program.mount(module_program.home / "mount")
    yield module_program
    for edit in module_program.json("edit", "--list"):
        module_program("edit", "--discard", edit["place"])


def make_folder(top: Path) -> None:
    for name in ("a", "b", "sub/c", "sub/deep/d", "other/e", "other/deep/f"):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_bytes(b"the same for all\n" * 100)
    (top / "sub" / "run").write_bytes(b"#!/bin/sh\n")
    (top / "sub" / "run").chmod(0o755)
    (top / "link").symlink_to("a")
    (top / "hollow").mkdir()


def commit(edits: Program, place: Path, *options: str) -> dict[str, object]:
    """Commit an edit, and check that what was committed is what is seen."""
    made: dict[str, object] = edits.json("commit", place, "data", *options)
    version = edits.home / "mount" / "data" / str(made["snapshot"])
    assert described(os.fsencode(version)) == described(os.fsencode(place))
    return made


def test_a_day_with_an_edit(edits: Program, tmp_path: Path) -> None:
    place = tmp_path / "work"
    edits("edit", "data/v1", place)
    assert described(os.fsencode(place)) == described(os.fsencode(edits.home / "source"))
    with open(place / "a", "r+b") as a:
        a.write(b"THE")
    (place / "sub" / "c").unlink()
    (place / "new").mkdir()
    (place / "new" / "file").write_bytes(os.urandom(3_000_000))
    (place / "sub" / "run").chmod(0o644)
    shutil.rmtree(place / "other")
    (place / "other").mkdir()
    (place / "other" / "deep").write_bytes(b"a file where a directory was")
    (place / "link").unlink()
    (place / "link").mkdir()
    made = commit(edits, place, "-b", "day", "-m", "A day")
    assert made["read_files"] == 4, "the others were not read"
    assert edits.json("log", "data/day")[0]["parents"] == [edits.json("tag", "data")[0]["commit"]]

    (place / "new" / "file").rename(place / "renamed")
    shutil.rmtree(place / "link")
    (place / "link").symlink_to("b")
    second = commit(edits, place, "-b", "day")
    assert second["parent"] == made["commit"]
    assert edits.json("commit", place, "data", "-b", "day")["new"] is False
    edits("edit", "--discard", place)
    assert os.listdir(tmp_path) == []


def test_it_is_ready_at_once_and_takes_no_room(edits: Program, tmp_path: Path) -> None:
    started = time.monotonic()
    made = edits.json("edit", "data/v1", tmp_path / "work")
    elapsed = time.monotonic() - started
    (edit,) = edits.json("edit", "--list")
    assert edit == made
    (tmp_path / "link").symlink_to("work")
    assert edits.json("commit", tmp_path / "link", "data")["new"] is False
    assert "already" in edits("edit", "data/v1", tmp_path / "link")
    assert (edit["place"], edit["repository"], edit["mounted"]) == (str(tmp_path / "work"), "data", True)
    assert os.listdir(edit["upper"]) == []
    assert elapsed < 20, "a second on a machine that is not loaded"
    edits("edit", "--discard", tmp_path / "link")
    assert os.listdir(tmp_path) == ["link"]


def change(place: Path, rng: random.Random) -> None:
    """Something that programs do to folders."""
    paths = sorted(place.rglob("*"))
    path = rng.choice(paths) if paths else place / "first"
    here = path if path.is_dir() and not path.is_symlink() else path.parent
    match rng.randrange(8):
        case 0 | 1:
            new = here / f"new{rng.randrange(5)}"
            if not os.path.lexists(new):
                new.write_bytes(rng.randbytes(100))
        case 2:
            new = here / f"dir{rng.randrange(3)}"
            if not os.path.lexists(new):
                new.mkdir()
        case 3:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif os.path.lexists(path):
                path.unlink()
        case 4:
            if path.is_file() and not path.is_symlink():
                with open(path, "ab") as file:
                    file.write(b"more")
        case 5:
            if path.is_file() and not path.is_symlink():
                path.chmod(rng.choice((0o644, 0o755)))
        case 6:
            subprocess.run(["mv", "-n", path, here / f"moved{rng.randrange(3)}"], capture_output=True, check=False)
        case 7:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
                rng.choice((lambda: path.mkdir(), lambda: path.write_bytes(b"file"), lambda: path.symlink_to("a")))()


@pytest.mark.parametrize(("by_program", "rounds"), [(False, 2), (True, 1)], ids=["kernel", "fuse-overlayfs"])
def test_whatever_is_done_to_it(by_program: bool, rounds: int, edits: Program, tmp_path: Path) -> None:
    if by_program and shutil.which("fuse-overlayfs") is None:
        pytest.skip("fuse-overlayfs is not installed")
    rng = random.Random(7)
    for number in range(rounds):
        place = tmp_path / f"work{number}"
        edits("edit", "data/v1", place, *(["--fuse-overlayfs"] if by_program else []))
        for _ in range(2):
            for _ in range(20):
                change(place, rng)
            commit(edits, place, "-b", f"{by_program}{number}")
        edits("edit", "--discard", place)


def test_a_branch_that_moved_on(edits: Program, tmp_path: Path) -> None:
    place = tmp_path / "work"
    edits("branch", "data", "shared", "v1")
    edits("edit", "data/shared", place)
    edits("rm", "data", "b", "-b", "shared")
    (place / "a").write_bytes(b"mine")
    refused = edits.run("commit", place, "data", "-b", "shared")
    assert refused.returncode == 3
    assert "--merge keeps both changes" in refused.stderr
    merged = commit(edits, place, "-b", "shared", "--merge")
    names = [entry["name"] for entry in edits.json("ls", "data/shared")]
    assert "a" in names
    assert "b" not in names
    assert merged["snapshot"] != merged["commit"]
    (place / "sub" / "c").write_bytes(b"mine too")
    commit(edits, place, "-b", "shared", "--merge")
    edits("edit", "--discard", place)


def test_it_outlives_the_daemon(program: Program, tmp_path: Path) -> None:
    source, place, mountpoint = tmp_path / "source", tmp_path / "work", tmp_path / "mount"
    make_folder(source)
    program("init", program.store)
    program("commit", source, "data")
    program.mount(mountpoint)
    program("edit", "data/main", place)
    (place / "a").write_bytes(b"changed")
    (place / "b").unlink()
    daemon = status(mountpoint)["pid"]
    os.kill(daemon, 9)
    mounts.unmount(mountpoint, lazy=True)
    assert "not mounted: fsd edit data/main" in program("edit", "--list")
    # What was changed can be committed even now: it is not read through the mount.
    made = program.json("commit", place, "data", "-m", "after all")
    assert (made["read_files"], made["files"]) == (1, 6)
    program.mount(mountpoint)
    assert "again, with what was changed" in program("edit", "data/main", place)
    assert (place / "a").read_bytes() == b"changed"
    assert (place / "sub" / "run").read_bytes() == b"#!/bin/sh\n"
    assert not (place / "b").exists()
    program("edit", "--discard", place)
    assert sorted(os.listdir(tmp_path)) == ["home", "mount", "source"]
    program("umount", mountpoint)


def test_what_is_refused(edits: Program, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    for arguments, code, words in (
        (("data/v1", tmp_path / "full"), 3, "is not an empty folder"),
        (("data/v1+10pct", tmp_path / "x"), 2, "would lack the rest"),
        (("data/v1/sub", tmp_path / "x"), 2, "an edit is of a whole version"),
        (("data/v9", tmp_path / "x"), 4, "did you mean"),
        (("data/v1",), 2, "write: fsd edit REPO/REV DIR"),
        (("--discard", tmp_path / "x"), 4, "is no edit"),
        (("data/v1", tmp_path / "a,b"), 2, "may be in its path"),
        (("--store", edits.home / "elsewhere", "data/v1", tmp_path / "x"), 4, ""),
    ):
        refused = edits.run("edit", *arguments)
        assert refused.returncode == code, refused.stderr
        assert words in refused.stderr
    assert sorted(os.listdir(tmp_path)) == ["full"]


def test_as_an_ordinary_user(tmp_path: Path) -> None:
    if shutil.which("fuse-overlayfs") is None:
        pytest.skip("fuse-overlayfs is not installed")
    let_nobody_mount_below(tmp_path)
    home = tmp_path / "home"
    program = Program(home, wrapper=NOBODY)
    source, place, mountpoint = home / "source", home / "work", home / "mount"
    make_folder(source)
    mountpoint.mkdir()
    for path in (home, *home.rglob("*")):
        os.chown(path, NOBODY_ID, NOBODY_ID, follow_symlinks=False)
    program("init", program.store)
    program("commit", source, "data")
    program.mount(mountpoint)
    try:
        program("edit", "data/main", place)
        work = (
            'cd "$0" && echo more >> a && rm b && rm -r other && mkdir other && echo new > other/new && chmod +x sub/c'
        )
        subprocess.run([*NOBODY, "sh", "-c", work, place], check=True, capture_output=True)
        made = program.json("commit", place, "data")
        assert made["read_files"] == 3
        program("edit", "--discard", place)
        names = [entry["name"] for entry in program.json("ls", "-R", "data/main") if entry["kind"] == "file"]
        assert names == ["a", "other/new", "sub/c", "sub/run", "sub/deep/d"]
    finally:
        sweep(tmp_path)
