"""A mount while things happen: publishing, moving, unmounting, writing to it, a store that goes away and comes back.

One mount for most of it; each test has a repository of its own.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fsd.daemon import mounts
from integration.datasets import noise, write_dataset
from integration.program import Program, appear, soon, status
from integration.reader import different
from integration.users import NOBODY, NOBODY_ID, let_nobody_mount_below

LARGE = 5_000_000


class Live:
    """A program, a mount of its store, and a folder for each repository to be published from."""

    def __init__(self, program: Program, folder: Path) -> None:
        self.program = program
        self.mountpoint = folder / "m"
        self._folder = folder

    def source(self, repository: str) -> Path:
        path = self._folder / "sources" / repository
        path.mkdir(parents=True, exist_ok=True)
        return path

    def commit(self, repository: str, files: dict[str, bytes], *options: str) -> str:
        """Make the folder hold just these files, and publish it; the commit."""
        source = self.source(repository)
        for path in source.rglob("*"):
            if path.is_file() and str(path.relative_to(source)) not in files:
                path.unlink()
        for name, data in files.items():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes(data)
        commit = self.program.json("commit", source, repository, *options)["commit"]
        assert isinstance(commit, str)
        return commit

    def __truediv__(self, path: str) -> Path:
        return self.mountpoint / path


def mounted(folder: Path, *options: str, **limits: float) -> Iterator[Live]:
    program = Program(folder / "home")
    program.configure(**limits)
    program("init")
    made = Live(program, folder)
    program.mount(made.mountpoint, *options)
    yield made
    program("umount", made.mountpoint)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """With the limits that everybody has: for what must be shown in time."""
    yield from mounted(tmp_path_factory.mktemp("live"))


QUICK = {"refs_ttl_s": 0.05, "entry_timeout_s": 0.05, "fetch_attempts": 3}
"""For what is about something else, and need not wait until its repository is shown, or until a read is given up."""


@pytest.fixture(scope="module")
def not_opening(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Files are read without being opened."""
    yield from mounted(tmp_path_factory.mktemp("not_opening"), **QUICK)


@pytest.fixture(scope="module")
def opening(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """The ordinary way, without the C extension."""
    yield from mounted(tmp_path_factory.mktemp("opening"), "--no-interpose", **QUICK)


@pytest.fixture(params=["not_opening", "opening"])
def either(request: pytest.FixtureRequest) -> Live:
    """Both ways, for what must hold of both."""
    made: Live = request.getfixturevalue(request.param)
    assert status(made.mountpoint)["opens_files"] is (request.param == "opening")
    return made


@pytest.fixture(params=["live", "opening"])
def in_time(request: pytest.FixtureRequest) -> Live:
    """Both ways, for what must be shown in time, whatever the limits."""
    made: Live = request.getfixturevalue(request.param)
    assert status(made.mountpoint)["opens_files"] is (request.param == "opening")
    return made


def reads(live: Live) -> int:
    """READ requests so far. To ask costs one, which the next answer counts."""
    answer: int = status(live.mountpoint)["requests"].get("read", 0)
    return answer


# --- what is published while it is mounted


def test_what_is_new_appears(live: Live) -> None:
    assert not (live / "new").exists()  # the kernel and the daemon have both seen that it is not there
    first = live.commit("new", {"a.txt": b"1", "b.txt": b"2"})
    assert (appear(live / "new/main") / "a.txt").read_bytes() == b"1"
    assert os.readlink(live / "new/main") == first
    assert "new" in os.listdir(live.mountpoint)
    assert not (live / "new/v1").exists()
    assert not (live / "new/v1+half").exists()
    live.program("tag", "new", "main", "v1")
    assert (appear(live / "new/v1") / "b.txt").read_bytes() == b"2"
    live.program("subset", "create", "new/v1", "only", "--include", "b*", "--no-keep")
    assert os.listdir(appear(live / "new/v1+only")) == ["b.txt"]
    live.program("branch", "new", "dev", "main")
    assert (appear(live / "new/dev") / "a.txt").read_bytes() == b"1"
    soon(lambda: sorted(os.listdir(live / "new")) == EXPECTED_LISTING, "the listing")
    live.program("branch", "new", "-d", "dev")
    soon(lambda: not os.path.lexists(live / "new/dev"), "the end of the branch")
    soon(lambda: "dev" not in os.listdir(live / "new"), "the listing without it")


EXPECTED_LISTING = ["dev", "dev+only", "main", "main+only", "v1", "v1+only"]


def test_a_branch_that_moves(in_time: Live) -> None:
    old = in_time.commit("moving", {"f": b"old", "large": noise(1, LARGE)})
    main = appear(in_time / "moving/main")
    folder = os.open(main, os.O_RDONLY)
    file = os.open("large", os.O_RDONLY, dir_fd=folder)
    here = os.path.realpath(main)
    new = in_time.commit("moving", {"f": b"new", "large": noise(2, LARGE)})
    soon(lambda: os.readlink(main) == new, "the new commit")
    assert (main / "f").read_bytes() == b"new"
    # Who was there before goes on as if nothing had happened.
    assert os.listdir(folder) == ["f", "large"]
    inner = os.open("f", os.O_RDONLY, dir_fd=folder)
    assert os.read(inner, 10) == b"old"
    assert os.pread(file, 1_000_000, 3_000_000) == noise(1, LARGE)[3_000_000:4_000_000]
    assert os.path.basename(here) == old
    assert Path(here, "f").read_bytes() == b"old"
    for descriptor in (folder, file, inner):
        os.close(descriptor)


def test_a_tag_that_is_replaced(live: Live) -> None:
    live.commit("retagged", {"f": b"old", "d/g": b"old too"}, "--tag", "v1")
    tag = appear(live / "retagged/v1")
    folder = os.open(tag, os.O_RDONLY)
    before = os.fstat(folder)
    live.commit("retagged", {"f": b"new", "d/g": b"new too"})
    live.program("tag", "retagged", "main", "v1", "--force")
    soon(lambda: tag.stat().st_ino != before.st_ino, "another directory")
    assert (tag / "f").read_bytes() == b"new"
    assert (tag / "d" / "g").read_bytes() == b"new too"
    for name, content in (("f", b"old"), ("d/g", b"old too")):
        descriptor = os.open(name, os.O_RDONLY, dir_fd=folder)
        assert os.read(descriptor, 10) == content
        os.close(descriptor)
    assert sorted(os.listdir(folder)) == ["d", "f"]
    os.close(folder)


def test_a_subset_that_follows_its_branch(live: Live) -> None:
    live.commit("followed", {"a.txt": b"1", "b.bin": b"2"})
    live.program("subset", "create", "followed/main", "texts", "--include", "*.txt", "--no-keep", "--follow")
    assert os.listdir(appear(live / "followed/main+texts")) == ["a.txt"]
    new = live.commit("followed", {"a.txt": b"1", "b.bin": b"2", "c.txt": b"3"})
    soon(lambda: os.readlink(live / "followed/main+texts") == f"{new}+texts", "the subset of the new commit")
    assert sorted(os.listdir(live / "followed/main+texts")) == ["a.txt", "c.txt"]
    assert (live / f"followed/{new}+texts/c.txt").read_bytes() == b"3"


# --- names


def test_prefixes_and_commits_are_there_and_not_listed(not_opening: Live) -> None:
    commit = not_opening.commit("hidden", {"f": b"1"}, "--tag", "v1")
    appear(not_opening / "hidden/v1")
    for digits in (7, 12, 63):
        assert os.readlink(not_opening / f"hidden/{commit[:digits]}") == commit
        assert os.readlink(not_opening / f"hidden/{commit[:digits]}+10pct") == f"{commit}+10pct"
    assert (not_opening / f"hidden/{commit}/f").read_bytes() == b"1"
    assert not os.path.lexists(not_opening / f"hidden/{commit[:6]}")
    assert not os.path.lexists(not_opening / f"hidden/{'0' * 64}")
    assert os.path.realpath(not_opening / f"hidden/{commit[:7]}") == str(not_opening / f"hidden/{commit}")
    assert sorted(os.listdir(not_opening / "hidden")) == ["main", "v1"]
    # A commit of one repository is none of another.
    not_opening.commit("other", {"f": b"1"})
    appear(not_opening / "other/main")
    assert not os.path.lexists(not_opening / f"other/{commit}")
    assert not os.path.lexists(not_opening / f"other/{commit[:12]}")


def test_names_that_programs_look_for_cost_no_request(live: Live) -> None:
    """The store's folder is taken away: a request would be an error."""
    live.commit("plain", {"f": b"1"}, "--tag", "v1")
    appear(live / "plain/v1/f")
    wanted = [".git", "HEAD", ".hg", "objects", "refs", ".gitignore", "config", ".Trash-1000", "autorun.inf"]
    list(os.scandir(live.mountpoint))
    errors = status(live.mountpoint)["errors"]
    with store_away(live.program):
        for name in wanted:
            assert not os.path.lexists(live / f"plain/v1/{name}")
        for name in (".git", ".hg", ".gitignore", ".Trash-1000"):
            assert not os.path.lexists(live / f"plain/{name}")
            assert not os.path.lexists(live / name)
    assert status(live.mountpoint)["errors"] == errors


# --- attributes


def test_extended_attributes(either: Live) -> None:
    data = noise(7, LARGE)
    commit = either.commit("described", {"large": data, "empty": b""}, "--tag", "v1")
    either.program("subset", "create", "described/v1", "one", "--limit", "1", "--no-keep")
    version = appear(either / "described/v1")
    file = version / "large"
    names = ["user.fsd.blake3", "user.fsd.cached", "user.fsd.chunks", "user.fsd.packs", "user.fsd.size"]
    assert sorted(os.listxattr(file)) == names
    entries = {entry["name"]: entry for entry in either.program.json("ls", "described/v1")}
    assert os.getxattr(file, "user.fsd.blake3").decode() == entries["large"]["content"]
    assert os.getxattr(file, "user.fsd.size") == b"%d" % LARGE
    assert os.getxattr(file, "user.fsd.cached") == b"0"
    assert int(os.getxattr(file, "user.fsd.chunks")) > 64
    assert int(os.getxattr(file, "user.fsd.packs")) == 1
    file.read_bytes()
    assert os.getxattr(file, "user.fsd.cached") == b"%d" % LARGE
    assert os.getxattr(version / "empty", "user.fsd.chunks") == b"0"
    said = {name: os.getxattr(version, name).decode() for name in os.listxattr(version)}
    assert said == {"user.fsd.commit": commit, "user.fsd.repository": "described", "user.fsd.tag": "v1"}
    said = {name: os.getxattr(appear(either / "described/v1+one"), name).decode() for name in os.listxattr(version)}
    assert said["user.fsd.commit"] == commit
    assert os.getxattr(either / "described/v1+one", "user.fsd.subset") == b"one"
    for name in ("user.fsd.nothing", "user.other", "security.capability"):
        with pytest.raises(OSError, match="No data available") as caught:
            os.getxattr(file, name)
        assert caught.value.errno == errno.ENODATA
    assert os.listxattr(either / "described") == []


def test_everything_that_writes_is_refused(either: Live) -> None:
    either.commit("still", {"f": b"1", "d/g": b"2"}, "--tag", "v1")
    version = appear(either / "still/v1")
    file, folder = version / "f", version / "d"
    attempts: list[Callable[[], Any]] = [
        lambda: os.open(version / "new", os.O_CREAT | os.O_WRONLY),
        lambda: os.open(either / "newly", os.O_CREAT | os.O_WRONLY),
        lambda: os.open(file, os.O_RDWR),
        lambda: os.open(file, os.O_WRONLY),
        lambda: os.open(file, os.O_WRONLY | os.O_TRUNC),
        lambda: os.open(either / ".fsd/status", os.O_RDWR),
        lambda: os.truncate(file, 0),
        lambda: os.unlink(file),
        lambda: os.rmdir(folder),
        lambda: os.mkdir(version / "new"),
        lambda: os.mkdir(either / "newrepo"),
        lambda: os.rename(file, version / "h"),
        lambda: os.rename(either / "still/v1", either / "still/v2"),
        lambda: os.symlink("f", version / "new"),
        lambda: os.link(file, version / "new"),
        lambda: os.mknod(version / "new", 0o644 | stat.S_IFIFO),
        lambda: os.chmod(file, 0o600),
        lambda: os.chown(file, 1, 1),
        lambda: os.utime(file),
        lambda: os.setxattr(file, "user.fsd.blake3", b"x"),
        lambda: os.removexattr(file, "user.fsd.blake3"),
    ]
    for number, attempt in enumerate(attempts):
        with pytest.raises(OSError, match="Read-only file system") as caught:
            attempt()
        assert caught.value.errno == errno.EROFS, number
    assert (file.read_bytes(), (folder / "g").read_bytes()) == (b"1", b"2")


# --- what is shared


def test_two_versions_share_pages(either: Live) -> None:
    large, small = noise(11, LARGE), [noise(12 + number, 30_000) for number in range(20)]
    files = {"large": large} | {f"small/{number}": data for number, data in enumerate(small)}
    first = either.commit("shared", files, "--tag", "v1")
    second = either.commit("shared", files | {"other name": large, "added": b"1"}, "--tag", "v2")
    either.program("subset", "create", "shared/v2", "part", "--exclude", "added", "--no-keep")
    v1, v2 = appear(either / "shared/v1"), appear(either / "shared/v2")
    part = appear(either / "shared/v2+part")
    for name, data in files.items():
        assert (v1 / name).read_bytes() == data
    before = reads(either)
    for version in (v2, part, either / f"shared/{first}", either / f"shared/{second}"):
        for name, data in files.items():
            assert (version / name).read_bytes() == data
    assert (v2 / "other name").read_bytes() == large
    assert reads(either) == before + 1  # that of the status before
    assert (v1 / "large").stat().st_ino == (v2 / "other name").stat().st_ino
    assert (v2 / "large").stat().st_nlink == 1
    folders = {os.stat(version / "small").st_ino for version in (v1, v2, part)}
    assert len(folders) == 3


# --- a store that goes away


@contextlib.contextmanager
def store_away(program: Program) -> Iterator[None]:
    """The store's folder is not where it was."""
    aside = program.store.with_name("away")
    program.store.rename(aside)
    try:
        yield
    finally:
        aside.rename(program.store)


@contextlib.contextmanager
def store_shut(program: Program) -> Iterator[None]:
    """Its packs are no files that can be opened: as root, a mode would not keep anybody out."""
    packs, aside = program.store / "packs", program.store / ".packs"
    packs.rename(aside)
    packs.symlink_to("packs")  # a loop: ELOOP
    try:
        yield
    finally:
        packs.unlink()
        aside.rename(packs)


@pytest.mark.parametrize("lost", [store_away, store_shut], ids=["gone", "unreadable"])
def test_a_store_that_is_away_for_a_while(
    either: Live, lost: Callable[[Program], contextlib.AbstractContextManager[None]]
) -> None:
    repository = lost.__name__.replace("_", "-")
    unread = f"unread, {repository}"
    seed = 100 if lost is store_away else 200
    files = {"read": noise(seed, 2_000_000), unread: noise(seed + 1, 2_000_000), "d/also read": b"1"}
    commit = either.commit(repository, files, "--tag", "v1")
    version = appear(either / f"{repository}/v1")
    assert (either / f"{repository}/main/d").is_dir()
    for name in ("read", "d/also read"):
        assert (version / name).read_bytes() == files[name]
    assert (version / unread).stat().st_size == 2_000_000
    with lost(either.program):
        forget_pages(version / "read")
        assert (version / "read").read_bytes() == files["read"]
        assert (either / f"{repository}/main/d/also read").read_bytes() == b"1"
        assert os.readlink(either / f"{repository}/main") == commit
        assert sorted(os.listdir(version)) == ["d", "read", unread]
        started = time.monotonic()
        with pytest.raises(OSError, match="Input/output error"):
            (version / unread).read_bytes()
        assert time.monotonic() - started < 20
        [told] = [line for line in errors(either) if unread in line]
        assert "cannot read packs/" in told
        assert mounts.mount_at(either.mountpoint) is not None
    assert (version / unread).read_bytes() == files[unread]
    either.commit(repository, files | {"later": b"2"})
    soon(lambda: (either / f"{repository}/main/later").exists(), "what was published after that")


def errors(live: Live) -> list[str]:
    return (live / ".fsd/errors").read_text().splitlines()


def forget_pages(path: Path) -> None:
    """Let the kernel drop what it has of a file: the daemon is asked again."""
    descriptor = os.open(path, os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


# --- being asked, and being taken down


def test_status(live: Live) -> None:
    [row] = live.program.json("status", live.mountpoint)
    assert row["mountpoint"] == str(live.mountpoint)
    assert row["store"] == f"file://{live.program.store}"
    assert row["answering"] is True
    assert row["cache"]["used_bytes"] <= row["cache"]["limit_bytes"]
    heading, line = live.program("status", live / ".fsd").splitlines()
    assert heading.split() == ["MOUNTPOINT", "PID", "UP", "CACHE", "OF", "PINNED", "FETCHED", "STORE"]
    assert line.split()[:2] == [str(live.mountpoint), str(row["pid"])]
    # Read as a file in pieces, it is one consistent text all the same.
    with (live / ".fsd/status").open("rb", buffering=0) as file:
        pieces = iter(lambda: file.read(100), b"")
        assert json.loads(b"".join(pieces))["pid"] == row["pid"]


@pytest.mark.parametrize("command", [("umount",), ("fusermount3", "-u"), ("fsd",)], ids=" ".join)
@pytest.mark.parametrize("who", ["root", "an ordinary user"])
def test_ways_to_unmount(program: Program, tmp_path: Path, who: str, command: tuple[str, ...]) -> None:
    if os.geteuid() != 0:
        pytest.skip("takes root to be both")
    source, mountpoint = tmp_path / "source", tmp_path / "m"
    write_dataset(source, 3, small=5, large=1, large_bytes=300_000)
    program("init")
    program("commit", source, "data", "--tag", "v1")
    mountpoint.mkdir()
    wrapper: tuple[str, ...] = ()
    if who != "root":
        wrapper = NOBODY
        let_nobody_mount_below(tmp_path)
        subprocess.run(["chown", "-R", f"{NOBODY_ID}:{NOBODY_ID}", program.home, mountpoint], check=True)
    user = Program(program.home, wrapper=wrapper)
    user("mount", mountpoint)
    read = subprocess.check_output([*wrapper, "cat", str(mountpoint / "data/v1/d0/f1")])
    assert read == (source / "d0/f1").read_bytes()
    pid = json.loads(subprocess.check_output([*wrapper, "cat", str(mountpoint / ".fsd/status")]))["pid"]
    daemon = os.pidfd_open(pid)
    if command == ("fsd",):
        user("umount", mountpoint)
    else:
        subprocess.run([*wrapper, *command, str(mountpoint)], check=True, timeout=20)
    assert mounts.wait_gone(daemon, timeout_s=20)
    os.close(daemon)
    assert os.listdir(mountpoint) == []
    assert mounts.mount_at(mountpoint) is None


def test_a_mount_in_use_is_not_taken_down(live: Live) -> None:
    live.commit("busy", {"f": b"1"}, "--tag", "v1")
    path = appear(live / "busy/v1")
    with (path / "f").open("rb"):
        done = live.program.run("umount", live.mountpoint)
        assert done.returncode == 1
        [line] = done.stderr.splitlines()
        assert "it is in use; leave it, or see who is there with: fuser -vm" in line
        assert (path / "f").read_bytes() == b"1"


def test_reading_everything_with_and_without_opens(either: Live) -> None:
    source = write_dataset(either.source("whole"), 9, small=60, large=2, large_bytes=2_000_000)
    either.program("commit", source, "whole", "--tag", "v1")
    assert different(appear(either / "whole/v1"), source) == []
