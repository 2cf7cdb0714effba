"""Runs in views of a real mount: what they read is known, whatever the kernel knew before."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from fsd.daemon import mounts
from fsd.format.inputs import Inputs, NameInputs, decode_inputs, digest_of_names
from fsd.format.model import entry_key
from fsd.format.positions import Stretches, stretches_of
from fsd.fuse import interpose
from integration.conftest import sweep
from integration.program import Program, status
from integration.users import NOBODY, NOBODY_ID, let_nobody_mount_below, needs_root, skip_without_user_namespaces
from integration.waiting import wait_for

pytestmark = pytest.mark.skipif(not interpose.available(), reason=interpose.unavailable_reason() or "available")

OBSERVE = """
import subprocess, sys
from fsd.daemon.observing import Observing
from fsd.errors import FsdError
from fsd.format.inputs import encode_inputs
with Observing.begin(lambda url: url == sys.argv[1]) as observing:
    try:
        with observing.entering():
            process = subprocess.Popen(sys.argv[2:], preexec_fn=observing.enter)
    except FsdError as error:
        sys.exit(f"{error.message} ({error.hint})")
    code = process.wait()
    print("inputs", code, encode_inputs(observing.inputs()).hex())
"""

FILES = {"a": "1\n", "b": "2\n", "twin": "1\n", "sub/c": "3\n", "sub/deep/d": "4\n", "run": "#!/bin/sh\necho ran\n"}
PATHS = sorted(
    {*FILES, "sub", "sub/deep"},
    key=lambda path: entry_key(os.path.dirname(path).encode(), os.path.basename(path).encode()),
)


def positions(*paths: str) -> Stretches:
    """Of paths in the tree; '' is the top."""
    return stretches_of(PATHS.index(path) + 1 if path else 0 for path in paths)


class Ran(NamedTuple):
    """What came of a command that was observed."""

    code: int
    output: str
    inputs: Inputs

    @property
    def seen(self) -> Stretches:
        """In the only version."""
        (version,) = self.inputs.versions
        return version.seen


class Place:
    """A mount with one version, `data/v1`, and a user who has it."""

    def __init__(self, folder: Path, program: Program, mountpoint: Path) -> None:
        self.folder = folder
        """Around all mounts of the test."""
        self.program = program
        self.mount = mountpoint
        self.v1 = mountpoint / "data" / "v1"
        self.environment = program.environment | {"PYTHONPATH": str(Path(__file__).parents[1])}

    def observer(self, *command: str | Path) -> list[str]:
        """How a command is run that is observed, by who is the user already."""
        return [sys.executable, "-c", OBSERVE, self.program.store.as_uri(), *map(str, command)]

    @property
    def wrapper(self) -> list[str]:
        """Becomes the user, where only mounts of tests are to be seen."""
        others = [
            mount.mountpoint
            for mount in mounts.list_mounts()
            if mount.type == mounts.FILESYSTEM_TYPE and not mount.mountpoint.startswith(f"{self.folder}/")
        ]
        hide = 'for each; do shift; [ "$each" = -- ] && break; umount -l "$each"; done; exec "$@"'
        hidden = ["unshare", "-m", "sh", "-c", hide, "-", *others, "--"] if others and os.geteuid() == 0 else []
        return [*hidden, *self.program.wrapper]

    @property
    def has_python(self) -> bool:
        """Whether a command of the user can run Python, also where the wrapper's capabilities do not hold."""
        folders = {
            parent for path in (sys.executable, os.path.realpath(sys.executable)) for parent in Path(path).parents
        }
        return not self.program.wrapper or all(folder.stat().st_mode & 0o001 for folder in folders)

    def plainly(self, *command: str | Path) -> str:
        """Run a command that is not."""
        done = subprocess.run(
            [*self.program.wrapper, *map(str, command)], capture_output=True, text=True, timeout=30, check=True
        )
        return done.stdout

    def run(self, *command: str | Path, cwd: Path | None = None, stdin: Path | None = None) -> Ran:
        """Run one that is."""
        # Where the user is to be is entered by the user: nobody else may.
        inner = " ".join(["cd", f"'{cwd or '/'}'", "&&", 'exec "$@"', f"<'{stdin or '/dev/null'}'"])
        done = subprocess.run(
            [*self.wrapper, "sh", "-c", inner, "-", *self.observer(*command)],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return parsed(done.stdout)

    def shell(self, command: str, **options: Path) -> Ran:
        """Run a shell command that is observed."""
        return self.run("sh", "-c", command, **options)

    def observed(self) -> int:
        """How many views the daemon remembers something of."""
        runs: int = json.loads(self.plainly("cat", self.mount / ".fsd" / "status"))["observed"]["runs"]
        return runs

    def reads(self) -> int:
        """How many reads the daemon has answered."""
        reads: int = json.loads(self.plainly("cat", self.mount / ".fsd" / "status"))["requests"].get("read", 0)
        return reads


def parsed(output: str) -> Ran:
    """What `OBSERVE` printed."""
    before, _, line = output.rpartition("inputs ")
    code, inputs = line.split()
    return Ran(int(code), before, decode_inputs(bytes.fromhex(inputs), "inputs"))


def make_place(folder: Path, wrapper: tuple[str, ...] = (), *, around: Path | None = None) -> Place:
    """A store with a version, mounted by who has the wrapper."""
    home, mountpoint = folder / "home", folder / "mount"
    program = Program(home, wrapper=wrapper)
    for name, content in FILES.items():
        path = home / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (home / "source" / "run").chmod(0o755)
    mountpoint.mkdir()
    if wrapper:
        let_nobody_mount_below(folder)
        for path in (mountpoint, home, *home.rglob("*")):
            os.chown(path, NOBODY_ID, NOBODY_ID)
    program("init", program.store)
    program("commit", home / "source", "data", "--tag", "v1")
    program.mount(mountpoint)
    return Place(around or folder, program, mountpoint)


USERS = [pytest.param((), id="root", marks=needs_root), pytest.param(NOBODY, id="user", marks=needs_root)]


@pytest.fixture(scope="module", params=USERS if os.geteuid() == 0 else [()])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    wrapper: tuple[str, ...] = request.param
    if wrapper or os.geteuid() != 0:
        skip_without_user_namespaces(wrapper)
    # Not below pytest's folder, which other sessions of it shut again for everybody else.
    with tempfile.TemporaryDirectory(prefix="fsd-observing-") as name:
        folder = Path(name)
        try:
            made = make_place(folder, wrapper)
            yield made
            made.program("umount", made.mount)  # its daemon has ended then, and writes nothing here any more
        finally:
            sweep(folder)


# --- what the kernel knew before


def test_what_was_warm_is_seen_and_not_read_again(place: Place) -> None:
    place.plainly("sh", "-c", f"cd {place.v1} && ls -lR . && cat a b sub/c sub/deep/d && ./run && stat none || true")
    before = place.reads()
    ran = place.shell(f"cat {place.v1}/a {place.v1}/sub/c; {place.v1}/run; cat {place.v1}/none")
    assert (ran.code, ran.output) == (1, "1\n3\nran\n")
    (version,) = ran.inputs.versions
    assert (version.repository, version.name, version.is_identified) == ("data", "v1", False)
    assert version.seen == positions("", "a", "sub", "sub/c", "run")
    assert (version.listed, version.missing) == ((), (b"none",))
    assert ran.inputs.names == (NameInputs("data", "", ""), NameInputs("data", "v1", ""))
    assert (ran.inputs.listings, ran.inputs.problem) == ((), "")
    status_reads = 2  # the two looks at the status, and the inputs
    assert place.reads() - before <= status_reads + 1
    assert place.observed() == 0


def test_what_was_listed_is_seen_only_when_it_is_used(place: Place) -> None:
    ran = place.shell(f"ls {place.v1} {place.v1}/sub >/dev/null; cat {place.v1}/b; ls {place.v1} | wc -l")
    (version,) = ran.inputs.versions
    assert ran.output.split() == ["2", "5"]
    assert (version.seen, version.listed) == (positions("", "sub", "b"), positions("", "sub"))


@pytest.mark.parametrize("command", ["ls -lR .", "find . -size +0 -type f", "tar c . | wc -c", "grep -r zzz . || true"])
def test_programs_that_walk_see_all(place: Place, command: str) -> None:
    ran = place.shell(command, cwd=place.v1)
    assert ran.output or "grep" in command
    (version,) = ran.inputs.versions
    assert (version.seen, version.listed) == (positions("", *PATHS), positions("", "sub", "sub/deep"))


def test_links_and_listings_above_versions(place: Place) -> None:
    ran = place.shell(f"cat {place.mount}/data/main/a; ls {place.mount} {place.mount}/data; cat {place.mount}/no/x")
    commit = os.fsdecode(ran.inputs.versions[0].commit.hex())
    assert [(version.name, version.seen) for version in ran.inputs.versions] == [(commit, positions("", "a"))]
    assert set(ran.inputs.names) == {
        NameInputs("data", "", ""),
        NameInputs("data", "main", commit),
        NameInputs("data", commit, ""),
        NameInputs("no", "", None),
    }
    top, data = ran.inputs.listings
    assert (top.repository, top.names) == ("", digest_of_names([("data", False)]))
    assert (data.repository, data.names) == ("data", digest_of_names([("main", True), ("v1", False)]))


# --- how one gets there


def test_from_within_and_by_standard_input(place: Place) -> None:
    ran = place.shell("read x; echo $x; cat deep/d; pwd", cwd=place.v1 / "sub", stdin=place.v1 / "b")
    assert ran.output.split() == ["2", "4", str(place.v1 / "sub")]
    assert ran.seen == positions("", "b", "sub", "sub/deep", "sub/deep/d")


def test_by_processes_and_threads_of_any_kind(place: Place) -> None:
    threads = "import threading; t = threading.Thread(target=lambda: print(open('sub/c').read())); t.start(); t.join()"
    command = 'setsid sh -c "cat a"; env -i /bin/sh -c "cat sub/deep/d"'
    seen = ["", "a", "sub", "sub/deep", "sub/deep/d"]
    if place.has_python:
        command += f'; {sys.executable} -c "{threads}"'
        seen.append("sub/c")
    if shutil.which("perl") is not None:
        command += """; perl -e 'open(F, "b"); print <F>'"""
        seen.append("b")
    ran = place.shell(command, cwd=place.v1)
    assert ran.seen == positions(*seen)


def test_a_run_within_a_run(place: Place) -> None:
    if not place.has_python:
        pytest.skip("the interpreter lies where nobody else may go")
    inner = place.observer("cat", place.v1 / "b")
    ran = place.run("sh", "-c", f'cat {place.v1}/a; exec "$@"', "-", *inner)
    within = parsed(ran.output)
    assert within.output == "1\n2\n"
    assert within.seen == positions("", "b")
    assert ran.seen == positions("", "a", "b")
    assert (within.inputs.problem, ran.inputs.problem) == ("", "")


def test_two_at_once_see_their_own(place: Place) -> None:
    observers = [
        subprocess.Popen(
            [*place.wrapper, *place.observer("sh", "-c", f"echo begun; read go; cat {place.v1}/{name}")],
            env=place.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("a", "b")
    ]
    for observer in observers:
        assert observer.stdout is not None
        assert observer.stdout.readline() == "begun\n"
    assert place.observed() == 2
    for observer, name in zip(observers, ("a", "b"), strict=True):
        output, _ = observer.communicate("go\n", timeout=30)
        assert parsed(output).seen == positions("", name)
    assert place.observed() == 0


def test_nothing_is_left_of_a_view(place: Place) -> None:
    def inodes() -> tuple[int, int]:
        known = json.loads(place.plainly("cat", place.mount / ".fsd" / "status"))["inodes"]
        return known["in_trees"], known["versions"]

    place.plainly("ls", "-lR", place.v1)
    before = inodes()
    place.shell(f"ls -lR {place.v1}; cat {place.v1}/sub/deep/d")
    wait_for(lambda: inodes() == before, "the kernel forgets")


def test_what_killed_runs_left_is_forgotten_when_there_is_too_much(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        skip_without_user_namespaces()
    (tmp_path / "home").mkdir()
    Program(tmp_path / "home").configure(observed_runs=1)
    place = make_place(tmp_path)
    try:
        observer = subprocess.Popen(
            [*place.wrapper, *place.observer("sh", "-c", f"cat {place.v1}/a; read go")],
            env=place.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert observer.stdin is not None
        assert observer.stdout is not None
        assert observer.stdout.readline() == "1\n"
        observer.kill()
        observer.wait(30)
        observer.stdin.close()  # and with that the command ends
        observer.stdout.close()
        assert place.observed() == 1
        wait_for(lambda: place.shell(f"cat {place.v1}/b").inputs.problem == "", "there is room again")
        assert place.observed() == 0
    finally:
        sweep(tmp_path)


# --- what cannot be known


def test_a_daemon_that_ends_meanwhile(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        skip_without_user_namespaces()
    place = make_place(tmp_path)
    try:
        pid = status(place.mount)["pid"]
        observer = subprocess.Popen(
            [*place.wrapper, *place.observer("sh", "-c", f"cat {place.v1}/a; read go")],
            env=place.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert observer.stdout is not None
        assert observer.stdout.readline() == "1\n"
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not Path(f"/proc/{pid}").exists(), "the daemon ends")
        output, _ = observer.communicate("go\n", timeout=60)
        assert parsed(output).inputs.problem == f"the mount at {place.mount} ended while it ran"
    finally:
        sweep(tmp_path)


@needs_root
def test_every_place_where_it_is_mounted(tmp_path: Path) -> None:
    place = make_place(tmp_path)
    binds: Sequence[tuple[Path, str]] = ((place.mount, "again"), (place.v1 / "sub", "folder"))
    try:
        for source, name in binds:
            (tmp_path / name).mkdir()
            subprocess.run(["mount", "--bind", source, tmp_path / name], check=True)
        (tmp_path / "file").touch()
        subprocess.run(["mount", "--bind", place.v1 / "twin", tmp_path / "file"], check=True)
        ran = place.shell(
            f"cat {tmp_path}/again/data/v1/a {tmp_path}/folder/deep/d {tmp_path}/file; ls {tmp_path}/folder"
        )
        assert ran.output.split() == ["1", "4", "1", "c", "deep"]
        assert ran.inputs.problem == ""
        assert ran.seen == positions("", "a", "sub", "sub/deep", "sub/deep/d", "twin")
        hidden = place.shell(f"umount {place.mount}; cat {place.v1}/b")
        assert hidden.inputs.problem == f"what is mounted at {place.mount} changed while it ran"
    finally:
        sweep(tmp_path)


@needs_root
def test_other_stores_and_mounts_that_come(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    place, other = (make_place(tmp_path / name, around=tmp_path) for name in ("one", "two"))
    try:
        assert place.shell(f"cat {place.v1}/a").inputs.problem == ""
        ran = place.shell(f"cat {other.v1}/a")
        assert ran.inputs == Inputs(problem=f"it read from another store, {other.program.store.as_uri()}")
        new = tmp_path / "three"
        new.mkdir()
        ran = place.shell(f"mount --bind {place.mount}/.views/0123456789abcdef {new}; cat {new}/data/v1/a")
        assert ran.inputs.problem
    finally:
        sweep(tmp_path)


def test_without_the_extension_it_is_said(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        skip_without_user_namespaces()
    program = Program(tmp_path / "home")
    program.environment["PYTHONPATH"] = str(tmp_path / "first")
    (tmp_path / "first").mkdir()
    # Imported first, pyfuse3 is linked before the extension is there.
    (tmp_path / "first" / "sitecustomize.py").write_text("import pyfuse3\n")
    program("init", program.store)
    program("commit", tmp_path / "first", "data", "--tag", "v1")
    place = Place(tmp_path, program, program.mount(tmp_path / "mount"))
    try:
        ran = place.shell(f"cat {place.v1}/sitecustomize.py")
        assert ran.output == "import pyfuse3\n"
        assert "cannot tell what is read" in ran.inputs.problem
    finally:
        sweep(tmp_path)


@needs_root
def test_where_namespaces_are_not_permitted(place: Place) -> None:
    # As in a container that was given no more than it needs.
    bare = ("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-all")
    done = subprocess.run(
        [*bare, *place.observer("true")],
        env=place.environment,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 1
    assert "cannot make a mount namespace" in done.stderr
    assert "does not let users have namespaces" in done.stderr
