"""Whatever is published reads through a mount as the plain copy on disk that was kept of it.

Hypothesis edits folders, commits them, names the commits, and looks here and there. All examples share one mount, each
with repositories of its own; the commands run in this process, which is ten times as fast.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from blake3 import blake3
from hypothesis import Phase, settings
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    multiple,
    rule,
    run_state_machine_as_test,
)

from fsd_cli.main import main
from integration.datasets import noise, text
from integration.program import Program, appear, status

REPOSITORIES = 60
"""Made beforehand: a mount shows a new repository only after a while."""

NAMES = [
    b"a", b"b", b"a.b", b"a-b", b"A", b"x.jpg", b"x.json", b"y.jpg", b"y.tar.gz", b"README", b"labels.csv",
    b"with space", b"new\nline", b"\xff\xfe", "é".encode(), "e\u0301".encode(), b"-rf", b"n" * 255, b".hidden",
    b"0123456",
]  # fmt: skip
SIZES = [0, 1, 100, 4095, 4096, 4097, 16_384, 16_385, 32_768, 100_000, 131_072, 300_000]
LARGE = 3_000_000
"""More than 64 chunks: such a file has a recipe."""


def make_content(kind: str, seed: int, size: int) -> bytes:
    """A file's content."""
    if kind == "zeros":
        return bytes(size)
    return noise(seed, size) if kind == "noise" else text(seed, size)


names = st.sampled_from(NAMES)
folders = st.lists(names, max_size=3).map(b"/".join)
paths = st.lists(names, min_size=1, max_size=4).map(b"/".join)
contents = st.builds(
    make_content,
    st.sampled_from(["noise", "noise", "text", "zeros"]),
    st.integers(0, 5),
    st.sampled_from([*SIZES, *SIZES, LARGE]),
)


class Shelf:
    """A store that is mounted, and the command line in this process."""

    def __init__(self, program: Program, mounted: Path, copies: Path) -> None:
        self.program = program
        self.mounted = mounted
        self.copies = copies
        self.used = 0

    def run(self, *arguments: str | Path) -> Any:
        """A command that must succeed; what it says as JSON, if it does."""
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            code = main([os.fspath(argument) for argument in arguments])
        assert code == 0, (arguments, output.getvalue())
        return json.loads(output.getvalue()) if "--json" in arguments else None

    def new_repository(self) -> str:
        """One that no other example uses."""
        self.used += 1
        return f"r{self.used - 1}"


@pytest.fixture(scope="module")
def shelf(module_program: Program, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    folder = tmp_path_factory.mktemp("shelf")
    # What moves shows at once, and the cache is far too small for all of it.
    module_program.configure(refs_ttl_s=0.02, entry_timeout_s=0.02, cache_bytes="8M", own_pack_bytes="1M")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in module_program.environment.items():
            patch.setenv(name, value)
        made = Shelf(module_program, folder / "m", folder / "copies")
        made.copies.mkdir()
        (folder / "nothing").mkdir()
        made.run("init")
        for number in range(REPOSITORIES):
            made.run("commit", folder / "nothing", f"r{number}", "-b", "begin", "-m", "nothing", "--json")
        module_program.mount(made.mounted)
        yield made
    module_program("umount", made.mounted)


@dataclass
class Version:
    """A commit, or a subset of one, and the plain copy of what it holds."""

    label: str
    """In the repository's directory of the mount."""
    copy: Path
    chosen: set[bytes] | None = None
    """The files of the copy that are in it; None for all."""


def kind_of(path: bytes) -> str | None:
    """What is at a path, None if nothing is."""
    try:
        mode = os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    return {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink"}[stat.S_IFMT(mode)]


def remove(path: bytes) -> None:
    if kind_of(path) == "directory":
        shutil.rmtree(path)
    elif kind_of(path):
        os.unlink(path)


def files_of(copy: Path) -> set[bytes]:
    """The paths of all files and symlinks."""
    top = os.fsencode(copy)
    found = set()
    for folder, directories, files in os.walk(top):
        for name in (*files, *(each for each in directories if os.path.islink(os.path.join(folder, each)))):
            found.add(os.path.relpath(os.path.join(folder, name), top))
    return found


# --- subsets, as docs/format.md has them


KEPT = re.compile(
    rb"README.*|LICEN[SC]E.*|.*\.md|.*label.*|.*classes.*|.*metadata.*|dataset_info.*|.*\.ya?ml", re.DOTALL
)
EXTENSIONS = re.compile(rb"(?<=.)(?:\.[A-Za-z][A-Za-z0-9]{0,15})+\Z", re.DOTALL)


def sample_number(path: bytes) -> int:
    folder, slash, name = path.rpartition(b"/")
    return int.from_bytes(blake3(b"0\0" + folder + slash + EXTENSIONS.sub(b"", name)).digest(8), "little")


def is_kept(path: bytes) -> bool:
    return KEPT.fullmatch(path.rpartition(b"/")[2]) is not None


def sampled(copy: Path, percent: int) -> set[bytes]:
    below = percent * 2**64 // 100
    return {path for path in files_of(copy) if is_kept(path) or sample_number(path) < below}


class Publishing(RuleBasedStateMachine):
    """A folder, its commits, and the copies of it."""

    shelf: Shelf
    versions: Bundle[Version] = Bundle("versions")
    files: Bundle[bytes] = Bundle("files")

    @initialize(target=files, large=st.lists(st.tuples(names, contents), min_size=1, max_size=3))
    def begin(self, large: list[tuple[bytes, bytes]]) -> Any:
        self.repository = self.shelf.new_repository()
        self.place = self.shelf.copies / self.repository
        self.folder = self.place / "folder"
        self.folder.mkdir(parents=True)
        self.top = os.fsencode(self.folder)
        self.copies: dict[str, Path] = {}
        self.branches: dict[str, str] = {}
        self.taken = 0
        for number, (name, content) in enumerate(large):
            self.write(name, content + noise(100 * self.shelf.used + number, LARGE), executable=False)
        return multiple(*(name for name, _ in large))

    def new_name(self, kind: str) -> str:
        self.taken += 1
        return f"{kind}{self.taken}"

    # --- edits

    @rule(target=files, path=paths, content=contents, executable=st.booleans())
    def write(self, path: bytes, content: bytes, executable: bool) -> bytes:
        self.make_room(path)
        with open(self.top + b"/" + path, "wb") as file:
            file.write(content)
        os.chmod(self.top + b"/" + path, 0o755 if executable else 0o644)
        return path

    @rule(target=files, folder=folders, seed=st.integers(0, 9), number=st.integers(1, 60))
    def write_many(self, folder: bytes, seed: int, number: int) -> Any:
        """Small files, some of them pairs that a sample must keep together."""
        made = []
        for each in range(number):
            name = b"%d-%d.%s" % (seed, each // 2, (b"jpg", b"json")[each % 2])
            made.append(folder + b"/" + name if folder else name)
            self.make_room(made[-1])
            with open(self.top + b"/" + made[-1], "wb") as file:
                file.write(noise(seed, 37 * each))
        return multiple(*made)

    @rule(path=paths, target_of=st.sampled_from([b"a", b"../b", b"/etc/hostname", b"no/such", b"\xff"]))
    def link(self, path: bytes, target_of: bytes) -> None:
        self.make_room(path)
        os.symlink(target_of, self.top + b"/" + path)

    @rule(path=paths)
    def make_directory(self, path: bytes) -> None:
        if kind_of(self.top + b"/" + path) != "directory":
            self.make_room(path)
            os.mkdir(self.top + b"/" + path)

    @rule(path=files, at=st.floats(0, 1), cut=st.integers(0, 40_000), content=contents)
    def edit(self, path: bytes, at: float, cut: int, content: bytes) -> None:
        """Put something into a file, in the place of some bytes of it."""
        whole = self.top + b"/" + path
        if kind_of(whole) == "file":
            with open(whole, "rb") as file:
                data = file.read()
            start = int(at * len(data))
            with open(whole, "wb") as file:
                file.write(data[:start] + content + data[start + cut :])

    @rule(path=files)
    def toggle_executable(self, path: bytes) -> None:
        whole = self.top + b"/" + path
        if kind_of(whole) == "file":
            os.chmod(whole, os.lstat(whole).st_mode ^ 0o111)

    @rule(old=files, new=paths)
    def rename(self, old: bytes, new: bytes) -> None:
        if kind_of(self.top + b"/" + old) and not (new + b"/").startswith(old + b"/"):
            self.make_room(new)
            if kind_of(self.top + b"/" + old):
                os.rename(self.top + b"/" + old, self.top + b"/" + new)

    @rule(path=st.one_of(consumes(files), paths))
    def delete(self, path: bytes) -> None:
        remove(self.top + b"/" + path)

    def make_room(self, path: bytes) -> None:
        """Directories above a path, whatever was there before, and nothing at it."""
        parts = path.split(b"/")
        for depth in range(1, len(parts)):
            folder = self.top + b"/" + b"/".join(parts[:depth])
            if kind_of(folder) != "directory":
                remove(folder)
                os.mkdir(folder)
        remove(self.top + b"/" + path)

    # --- versions

    @rule(target=versions, branch=st.sampled_from(["main", "main", "other"]), tagged=st.booleans())
    def commit(self, branch: str, tagged: bool) -> Any:
        arguments = ["-b", branch, *(["--tag", self.new_name("tag")] if tagged else [])]
        made = self.shelf.run("commit", self.folder, self.repository, *arguments, "--json")
        commit = made["commit"]
        self.branches[branch] = commit
        copy = self.copies.get(commit)
        if copy is None:
            copy = self.copies[commit] = self.place / commit
            shutil.copytree(self.folder, copy, symlinks=True)
        version = Version(commit, copy)
        self.compare_all(version)
        if tagged:
            return multiple(version, Version(arguments[-1], copy))
        return version

    @rule(target=versions, version=versions)
    def tag(self, version: Version) -> Version:
        name = self.new_name("tag")
        base, plus, subset = version.label.partition("+")
        self.shelf.run("tag", self.repository, base, name)
        return Version(name + plus + subset, version.copy, version.chosen)

    @rule(target=versions, version=versions, percent=st.sampled_from([1, 10, 50, 90]), named=st.booleans())
    def sample(self, version: Version, percent: int, named: bool) -> Any:
        if version.chosen is not None:
            return multiple()
        chosen = sampled(version.copy, percent)
        if not named:
            return Version(f"{version.label}+{percent}pct", version.copy, chosen)
        if not any(sample_number(path) < percent * 2**64 // 100 for path in chosen):
            return multiple()  # a rule that selects nothing is refused
        return self.take(version, chosen, "--sample", f"{percent}%")

    @rule(target=versions, version=versions, number=st.integers(1, 30), of_each=st.booleans())
    def limit(self, version: Version, number: int, of_each: bool) -> Any:
        everything = files_of(version.copy)
        if version.chosen is not None or not everything:
            return multiple()
        groups: dict[bytes, list[bytes]] = {}
        for path in everything:
            groups.setdefault(os.path.dirname(path) if of_each else b"", []).append(path)
        chosen: set[bytes] = set()
        for group in groups.values():
            numbers = sorted(map(sample_number, group))
            chosen |= {path for path in group if sample_number(path) <= numbers[min(number, len(numbers)) - 1]}
        option = "--per-dir" if of_each else "--limit"
        return self.take(version, chosen, option, str(number), "--no-keep")

    @rule(target=versions, version=versions)
    def include(self, version: Version) -> Any:
        chosen = {path for path in files_of(version.copy) if path.endswith(b".jpg")}
        if version.chosen is not None or not chosen:
            return multiple()
        return self.take(version, chosen, "--include", "*.jpg", "--no-keep")

    def take(self, version: Version, chosen: set[bytes], *options: str) -> Version:
        """A named subset."""
        name = self.new_name("subset")
        made = self.shelf.run("subset", "create", f"{self.repository}/{version.label}", name, *options, "--json")
        assert made["files"] == sum(not os.path.islink(os.fsencode(version.copy) + b"/" + path) for path in chosen)
        return Version(f"{version.label}+{name}", version.copy, chosen)

    # --- looking

    @rule(version=versions)
    def compare_whole(self, version: Version) -> None:
        self.compare_all(version)

    @rule(version=versions, path=st.one_of(paths, files))
    def compare_path(self, version: Version, path: bytes) -> None:
        self.compare(version, path)

    @rule(version=versions, path=files, at=st.floats(0, 1.1), size=st.integers(0, 200_000), forget=st.booleans())
    def compare_range(self, version: Version, path: bytes, at: float, size: int, forget: bool) -> None:
        here = os.fsencode(version.copy) + b"/" + path
        if kind_of(here) != "file" or (version.chosen is not None and path not in version.chosen):
            return
        start = int(at * os.path.getsize(here))
        there = os.open(self.mounted(version) + b"/" + path, os.O_RDONLY)
        if forget:
            os.posix_fadvise(there, 0, 0, os.POSIX_FADV_DONTNEED)  # of the kernel's pages: the mount is asked again
        with open(here, "rb") as file:
            assert os.pread(there, size, start) == os.pread(file.fileno(), size, start)
        os.close(there)

    @rule(branch=st.sampled_from(["main", "other"]))
    def compare_branch(self, branch: str) -> None:
        commit = self.branches.get(branch)
        if commit is None:
            return
        link = appear(self.shelf.mounted / self.repository / branch)
        if os.readlink(link) != commit:
            # Shown a moment ago: the kernel believes what it knew for so long as it may.
            with contextlib.suppress(AssertionError):
                appear(link / "no such name")
            assert os.readlink(link) == commit

    @rule(version=versions)
    def compare_prefix(self, version: Version) -> None:
        base, plus, subset = version.label.partition("+")
        if len(base) == 64:
            link = self.shelf.mounted / self.repository / (base[:12] + plus + subset)
            assert os.readlink(appear(link)) == version.label

    def mounted(self, version: Version) -> bytes:
        return os.fsencode(appear(self.shelf.mounted / self.repository / version.label))

    def compare_all(self, version: Version) -> None:
        """Every path of the copy, and every name that the mount lists."""
        top = os.fsencode(version.copy)
        for folder, directories, files in os.walk(top):
            inside = os.path.relpath(folder, top)
            prefix = b"" if inside == b"." else inside + b"/"
            for name in (*directories, *files):
                self.compare(version, prefix + name)
            self.compare(version, b"" if inside == b"." else inside)

    def compare(self, version: Version, path: bytes) -> None:
        """One path: what it is, and all that it holds."""
        here, there = os.fsencode(version.copy) + b"/" + path, self.mounted(version) + b"/" + path
        kind = kind_of(here)
        if kind != "directory" and version.chosen is not None and path not in version.chosen:
            kind = None
        assert kind_of(there) == kind, path
        if kind == "symlink":
            assert os.readlink(there) == os.readlink(here)
        elif kind == "file":
            first, second = os.lstat(here), os.lstat(there)
            assert (first.st_size, first.st_mode & 0o100) == (second.st_size, second.st_mode & 0o100)
            with open(here, "rb") as one, open(there, "rb") as other:
                assert one.read() == other.read(), path
        elif kind == "directory":
            names_here = {
                name
                for name in os.listdir(here)
                if version.chosen is None
                or kind_of(here + b"/" + name) == "directory"
                or os.path.normpath(path + b"/" + name).lstrip(b"/") in version.chosen
            }
            listed = os.listdir(there)
            assert len(listed) == len(set(listed))
            assert set(listed) == names_here, path


def test_a_mount_shows_what_was_published(shelf: Shelf) -> None:
    class Machine(Publishing):
        pass

    Machine.shelf = shelf
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=45, stateful_step_count=40, phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink]
        ),
    )
    said = status(shelf.mounted)
    assert said["errors"] == 0
    assert said["cache"]["evicted_extents"] > 0, "nothing was ever fetched a second time"


def test_after_a_restart_everything_is_still_the_same(shelf: Shelf) -> None:
    """What is left in the cache is checked before it is served again."""
    shelf.program("umount", shelf.mounted)
    shelf.program.mount(shelf.mounted)
    machine = Publishing.__new__(Publishing)
    machine.shelf = shelf
    looked_at = 0
    for copy in sorted(shelf.copies.glob("r*/" + "?" * 64)):
        machine.repository = copy.parent.name
        machine.compare_all(Version(copy.name, copy))
        looked_at += 1
    assert looked_at > 5
