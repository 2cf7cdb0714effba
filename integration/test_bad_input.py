"""Bad input: one clear line, the documented exit code, and nothing changed.

(What a mountpoint can be that is no good, /dev/fuse that is not there, --allow-other: test_mount.py.)
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from fsd.format.commit import encode_commit
from fsd.format.index import encode_index
from fsd.format.keys import ObjectKind
from fsd.ids import MIN_PREFIX_DIGITS, content_id
from fsd.limits import DEFAULT_LIMITS
from fsd.repo.repository import open_repositories
from fsd.stores.local import LocalStore
from integration.datasets import noise
from integration.program import Program
from integration.users import NOBODY, NOBODY_ID, let_nobody_mount_below, ordinary_user

FAILED, USAGE, CONFLICT, NOT_FOUND, UNREACHABLE, CORRUPT = 1, 2, 3, 4, 5, 6


def refused(program: Program, *arguments: str | Path, code: int, printed: bool = False) -> str:
    """Run a command that must fail with `code`; the one line that it says. `printed`: it may have begun to answer."""
    done = program.run(*arguments)
    assert done.returncode == code, (done.args, done.returncode, done.stdout, done.stderr)
    assert printed or done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith("fsd: ")
    assert "internal error" not in line
    return line


def snapshot(store: Path) -> dict[str, bytes]:
    """All refs, and the names of all commits: what anybody could see of something that was published."""
    shown = {str(path.relative_to(store)): path.read_bytes() for path in (store / "refs").rglob("*") if path.is_file()}
    return shown | {path.name: b"" for path in (store / "commits").glob("*")}


@pytest.fixture(scope="module")
def library(module_program: Program) -> Program:
    """A program with a store that has a repository `birds`, and beside its home things to be named wrongly."""
    folder = module_program.home.parent
    (folder / "source").mkdir()
    (folder / "source" / "wren.jpg").write_bytes(b"wren")
    (folder / "notstore").mkdir()
    (folder / "notstore" / "file").touch()
    (folder / "broken.toml").write_text("store = ")
    (folder / "typo.toml").write_text("cache_sise = '1G'")
    module_program("init")
    module_program("commit", folder / "source", "birds", "--tag", "v1")
    module_program("subset", "create", "birds/v1", "tiny", "--limit", "1")
    return module_program


REFUSALS = [
    # not a store
    ("ls --store {}/notstore", NOT_FOUND, "{}/notstore is not an fsd store; make one with"),
    ("commit {}/source birds --store {}/notstore", NOT_FOUND, "is not an fsd store"),
    ("init {}/notstore", CONFLICT, "{}/notstore is not empty; make the store in a folder of its own"),
    ("ls --store {}/nowhere", NOT_FOUND, "there is no folder {}/nowhere; make a store there with: fsd init"),
    ("ls --store {}/broken.toml", NOT_FOUND, "{}/broken.toml is not a folder, so it is no store"),
    ("ls --store ftp://host/x", USAGE, "no stores of the kind ftp:// in this version; it has az://, file://, gs://"),
    ("ls --config {}/broken.toml", USAGE, "{}/broken.toml is not TOML"),
    ("ls --config {}/typo.toml", USAGE, "unknown key 'cache_sise'; did you mean 'cache_size'"),
    # unknown names, with what they may have been meant to be
    ("ls brids", NOT_FOUND, "no repository 'brids' in file://{}/home/store; did you mean 'birds'?"),
    ("log brids/main", NOT_FOUND, "no repository 'brids' in file://{}/home/store; did you mean 'birds'?"),
    ("ls fish", NOT_FOUND, "no repository 'fish' in file://{}/home/store; 'fsd ls' lists the repositories"),
    ("ls birds/mian", NOT_FOUND, "there is no revision 'mian' in 'birds'; did you mean 'main'?"),
    ("tag birds nightly v2", NOT_FOUND, "no revision 'nightly' in 'birds'; 'fsd ls birds' lists branches, tags"),
    ("ls birds/v1+tyni", NOT_FOUND, "there is no subset 'tyni' in 'birds'; did you mean 'tiny'?"),
    ("ls birds/tiny", NOT_FOUND, "'tiny' of 'birds' is a subset, not a revision; say of what: "),
    ("ls birds/abcdef0", NOT_FOUND, "there is no revision 'abcdef0' in 'birds'"),
    ("cat birds/v1/wern.jpg", NOT_FOUND, "no wern.jpg in birds/v1; did you mean 'wren.jpg'?"),
    ("cat birds/v1/x/y", NOT_FOUND, "no x in birds/v1; 'fsd ls birds/v1' lists what is there"),
    ("subset delete birds tyni", NOT_FOUND, "no subset 'tyni' in 'birds'; did you mean 'tiny'?"),
    ("commit {}/missing birds", NOT_FOUND, "no folder {}/missing"),
    ("comit {}/source birds", USAGE, "no command 'comit'; did you mean 'commit'"),
    # illegal names
    ("commit {}/source bi/rds", USAGE, "'bi/rds' is not a repository name; use letters, digits"),
    ("commit {}/source .birds", USAGE, "'.birds' is not a repository name; use letters, digits"),
    ("commit {}/source index", USAGE, "no repository can be called 'index'; the store keeps"),
    ("commit {}/source birds -b a+b", USAGE, "'a+b' is not a branch, tag or subset name; use letters"),
    ("tag birds main deadbeef", USAGE, "'deadbeef' looks like a commit id; use a name that is not all hex digits"),
    ("tag birds main 10pct", USAGE, "'10pct' is a built-in subset; use a name"),
    ("ls birds/v1+a+b", USAGE, "'v1+a+b' is not a revision; write a branch, tag or commit"),
    ("commit {}/broken.toml birds", USAGE, "is not a folder; put the file into a folder"),
    # what is there already, or is something else
    ("init", CONFLICT, "is an fsd store already; use it as it is"),
    ("commit {}/source birds --tag v1", CONFLICT, "tag 'v1' of 'birds' already exists; choose another name"),
    ("commit {}/source birds -b v1", CONFLICT, "'v1' of 'birds' is a tag, not a branch; choose another name"),
    # rules that cannot be
    ("subset create birds/v1 other", USAGE, "a subset takes a rule; give --sample"),
    ("subset create birds/v1 other --sample 200%", USAGE, "200% is not a sample; give a percentage between 0 and 100"),
    ("subset create birds/v1 other --include *.png", USAGE, "the rule selects no file of"),
    # a mount that would not do
    ("mount {}/notstore {}/missing", NOT_FOUND, "the mountpoint {}/missing does not exist; make it with: mkdir -p"),
    ("mount {}/source --cache-size lots", USAGE, "'lots' is no size; write a number with or without a unit"),
    ("umount {}/source", NOT_FOUND, "nothing is mounted at {}/source"),
    ("status {}/source", NOT_FOUND, "{}/source is in no mount of fsd"),
]


def test_one_line_that_says_what_and_why_and_what_to_do(library: Program) -> None:
    folder = str(library.home.parent)
    before = snapshot(library.store)

    def check(case: tuple[str, int, str]) -> str | None:
        command, code, says = case
        try:
            line = refused(library, *command.replace("{}", folder).split(), code=code)
        except AssertionError as error:
            return f"fsd {command}: {error}"
        return None if says.replace("{}", folder) in line else f"fsd {command}: {line}"

    with ThreadPoolExecutor(4) as pool:
        assert [problem for problem in pool.map(check, REFUSALS) if problem] == []
    assert snapshot(library.store) == before


def test_an_ambiguous_prefix(library: Program) -> None:
    """Two commits whose ids begin alike are made by changing the message until there are two."""

    async def add_alike() -> str:
        store = LocalStore(library.store, DEFAULT_LIMITS)
        repositories = await open_repositories(store)
        stored = await repositories.refs.read("birds", "main")
        assert stored is not None
        header, root = await repositories.objects.commit(stored.ref.target)
        encoded_root = encode_index(root.level, root.children)
        seen: dict[str, bytes] = {}
        for number in range(10**6):
            logical = encode_commit(replace(header, message=str(number)), encoded_root)
            prefix = content_id(logical).hex()[:MIN_PREFIX_DIGITS]
            if prefix in seen:
                await repositories.writer.write(ObjectKind.COMMIT, seen[prefix])
                await repositories.writer.write(ObjectKind.COMMIT, logical)
                return prefix
            seen[prefix] = logical
        raise AssertionError("20,000 should do")

    prefix = trio.run(add_alike)
    line = refused(library, "ls", f"birds/{prefix}", code=USAGE)
    assert f"'{prefix}' could be any of 2 commits of 'birds'; say which: " in line
    longer = re.findall(rf"{prefix}[0-9a-f]+", line)
    assert len(longer) == 2
    for each in longer:
        assert library("ls", f"birds/{each}") == "wren.jpg\n"


# --- folders that cannot be published


@pytest.fixture
def ordinary(program: Program, tmp_path: Path) -> Program:
    """A program that an ordinary user runs, with a store of theirs in which is one commit of `source`."""
    if os.geteuid() != 0:
        pytest.skip("takes root to become somebody else")
    let_nobody_mount_below(tmp_path)
    source = tmp_path / "source"
    (source / "closed").mkdir(parents=True)
    for number in range(20):
        (source / f"{number}").write_bytes(noise(number, 10_000))
    (source / "closed" / "inside").touch()
    subprocess.run(["chown", "-R", f"{NOBODY_ID}:{NOBODY_ID}", program.home, source], check=True)
    user = Program(program.home, wrapper=ordinary_user())
    user("init")
    user("commit", source, "data")
    return user


@pytest.mark.parametrize("name", ["7", "closed"])
def test_what_may_not_be_read(ordinary: Program, tmp_path: Path, name: str) -> None:
    path = tmp_path / "source" / name
    for number in range(20):
        (tmp_path / "source" / f"{number}").write_bytes(noise(100 + number, 10_000))
    os.chown(path, 0, 0)
    path.chmod(0o700)
    before = snapshot(ordinary.store)
    line = refused(ordinary, "commit", tmp_path / "source", "data", code=FAILED)
    expected = f"cannot read {path}: Permission denied; nothing was published; make it readable, or leave it out"
    assert expected in line
    assert snapshot(ordinary.store) == before
    path.chmod(0o755)
    assert json.loads(ordinary("commit", tmp_path / "source", "data", "--json"))["new"]


def test_a_store_of_somebody_else(ordinary: Program, tmp_path: Path) -> None:
    for path in (ordinary.store, *ordinary.store.rglob("*")):
        os.chown(path, 0, 0)
    before = snapshot(ordinary.store)
    (tmp_path / "source" / "new").write_bytes(b"new")
    assert "7\n" in ordinary("ls", "data/main")
    line = refused(ordinary, "commit", tmp_path / "source", "data", code=UNREACHABLE)
    assert re.search(r"cannot write \S+ in file://\S+: Permission denied; check who owns the store's folder", line)
    line = refused(ordinary, "tag", "data", "main", "v1", code=UNREACHABLE)
    assert "cannot write leases/" in line
    assert snapshot(ordinary.store) == before
    for place, says in (("refs", "cannot list"), ("fsd.json", "cannot read fsd.json"), ("", "cannot read fsd.json")):
        (ordinary.store / place).chmod(0o700)
        for command in (("ls",), ("ls", "data/main"), ("commit", tmp_path / "source", "data")):
            line = refused(ordinary, *command, code=UNREACHABLE)
            assert re.search(r"cannot (read|list) \S+ in file://\S+: Permission denied; check who owns", line)
        assert says in refused(ordinary, "ls", code=UNREACHABLE)


def test_a_mount_of_somebody_else(ordinary: Program, library: Program, tmp_path: Path) -> None:
    mountpoint = tmp_path / "m"
    library.mount(mountpoint, "--cache-dir", str(tmp_path / "cache"))
    try:
        user = Program(ordinary.home, wrapper=NOBODY)
        for options in ((), ("--lazy",)):
            line = refused(user, "umount", *options, mountpoint, code=FAILED)
            assert line.endswith(f"cannot unmount {mountpoint}: somebody else mounted it; ask them, or root")
        assert "is mounted at" in refused(user, "mount", mountpoint, code=CONFLICT)
        assert (mountpoint / "birds" / "v1" / "wren.jpg").read_bytes() == b"wren"
    finally:
        library("umount", mountpoint)


def test_a_machine_where_an_ordinary_user_cannot_mount(ordinary: Program, tmp_path: Path) -> None:
    mountpoint = tmp_path / "source" / "closed"
    (mountpoint / "inside").unlink()
    devices = "mount -t tmpfs -o mode=755 none /dev && mknod -m 666 /dev/null c 1 3 && mknod -m 600 /dev/fuse c 10 229"
    shut = Program(ordinary.home, wrapper=("unshare", "-m", "sh", "-c", f'{devices} && exec "$@"', "-", *NOBODY))
    line = refused(shut, "mount", mountpoint, code=FAILED)
    assert line.endswith("no right to use /dev/fuse; as root: chmod 666 /dev/fuse, as udev would do")
    bare = Program(ordinary.home, wrapper=(*NOBODY, "env", "PATH=/nowhere"))
    line = refused(bare, "mount", mountpoint, code=FAILED)
    assert line.endswith("mounting as an ordinary user takes fusermount3; install the package fuse3")
    line = refused(Program(ordinary.home, wrapper=NOBODY), "mount", mountpoint, "--cache-dir", "/proc/x", code=USAGE)
    assert "cannot use /proc/x as cache folder: " in line


def test_a_file_that_changes_while_it_is_read(program: Program, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(3):
        (source / f"{number}").write_bytes(noise(number, 8_000_000))
    program("init")
    program("commit", source, "data")
    for number in range(3):
        (source / f"{number}").write_bytes(noise(10 + number, 8_000_000))
    before = snapshot(program.store)
    writing = "import os, sys\nf = os.open(sys.argv[1], os.O_RDWR)\nprint(flush=True)\nwhile os.pwrite(f, b'y', 0): 0"
    command = [sys.executable, "-c", writing, str(source / "1")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        try:
            assert writer.stdout is not None
            writer.stdout.readline()
            line = refused(program, "commit", source, "data", code=FAILED)
        finally:
            writer.kill()
    assert f"{source}/1 changed while it was being published, so nothing was; commit again when nobody writes" in line
    assert snapshot(program.store) == before
    program("commit", source, "data")


# --- a newer format


@contextmanager
def marker(program: Program, **changes: object) -> Iterator[None]:
    """The store's marker with some members changed."""
    path = program.store / "fsd.json"
    original = path.read_bytes()
    path.write_text(json.dumps(json.loads(original) | changes))
    try:
        yield
    finally:
        path.write_bytes(original)


def test_a_store_of_a_newer_format(library: Program, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    reading = [("ls",), ("ls", "birds/v1"), ("log", "birds"), ("cat", "birds/v1/wren.jpg"), ("mount", tmp_path / "m")]
    writing = [("commit", library.home.parent / "source", "birds"), ("tag", "birds", "main", "v2")]
    writing += [("subset", "create", "birds/v1", "more", "--limit", "1"), ("branch", "birds", "-d", "main", "-f")]
    before = snapshot(library.store)
    with marker(library, version=2):
        for command in reading + writing:
            line = refused(library, *command, code=CORRUPT)
            assert "has format version 2, this fsd reads up to 1; install a newer fsd" in line
    with marker(library, features={"read": ["sealed"], "write": [], "gc": []}):
        for command in reading + writing:
            line = refused(library, *command, code=CORRUPT)
            assert "it needs sealed; install a newer fsd" in line
    with marker(library, features={"read": [], "write": ["sealed"], "gc": []}):
        assert library("ls", "birds/v1") == "wren.jpg\n"
        for command in writing:
            line = refused(library, *command, code=CORRUPT)
            assert "cannot write to file://" in line
            assert "it needs sealed; install a newer fsd" in line
    assert snapshot(library.store) == before
