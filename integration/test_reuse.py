"""What is run again and what is not: real programs, a real mount, and everything that could make a HIT false."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from integration.program import Program
from integration.steps import Project

VERSION = {"train/a": "1\n", "train/b": "2\n", "test/c": "3\n", "README": "birds\n"}
SUM = """\
total = sum(int(file.read_text()) for file in sorted(Path("data/train").iterdir()))
Path("out").mkdir()
Path("out/total").write_text(str(total))
Path("metrics.json").write_text(json.dumps({"total": total}))
print("ran")
"""
"""Lists a folder of the data and reads what is in it."""

OUT = ("-o", "out")


@pytest.fixture
def project(program: Program, tmp_path: Path) -> Project:
    """Data at v1, pinned and mounted, and a program that adds up some of it."""
    project = Project(program, tmp_path / "project")
    commit = project.publish(VERSION, "--tag", "v1")
    project.mount()
    project.pin(commit)
    project.python("sum.py", SUM)
    project.write("params.yaml", "lr: 0.1\n")
    return project


def test_the_same_again_is_a_hit_and_its_outputs_are_there(project: Project) -> None:
    first = project.step("sum.py", *OUT)
    assert (first.is_hit, first.out) == (False, "ran\n")
    assert (project.top / "out").is_symlink()
    assert project.read("out/total") == "3"
    (project.top / "out").unlink()
    (project.top / "metrics.json").unlink()
    second = project.step("sum.py", *OUT)
    assert (second.is_hit, second.out) == (True, ""), second
    assert project.read("out/total") == "3"
    assert project.read("metrics.json") == '{"total": 3}'


CHANGES = {
    "a param": (lambda p: p.write("params.yaml", "lr: 0.2\n"), "params.lr 0.1 → 0.2"),
    "a param more": (lambda p: p.write("params.yaml", "lr: 0.1\nn: 1\n"), "params.n is new"),
    "the code": (lambda p: p.python("sum.py", SUM + "# more\n"), "code: sum.py"),
    "a file that it read": (lambda p: p.pin(p.publish({**VERSION, "train/a": "5\n"})), "birds/train/a changed"),
    "a file in a folder that it listed": (
        lambda p: p.pin(p.publish({**VERSION, "train/d": "5\n"})),
        "birds/train/d is new in a folder that it lists",
    ),
    "a file that is gone": (
        lambda p: p.pin(p.publish({path: text for path, text in VERSION.items() if path != "train/b"})),
        "birds/train/b is gone",
    ),
    "a pin more": (lambda p: p.pin("v1", "other"), "pin other is new"),
    "a pin's path": (lambda p: p.pin("v1", path="train"), "pin data . → train"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_is_otherwise_is_a_miss_and_said(project: Project, what: str) -> None:
    assert not project.step("sum.py", *OUT).is_hit
    assert project.step("sum.py", *OUT).is_hit
    change, reason = CHANGES[what]
    change(project)
    done = project.run("--dry", *OUT, "--", sys.executable, "sum.py")
    assert (done.code, done.out) == (0, f"MISS: {reason}\n")


@pytest.mark.parametrize(
    "version",
    [
        {**VERSION, "test/c": "9\n"},
        {**VERSION, "test/d": "9\n", "new/x": "9\n", "README": "other\n"},
        {path: text for path, text in VERSION.items() if not path.startswith("test/")},
    ],
)
def test_what_it_never_read_does_not_count(project: Project, version: dict[str, str]) -> None:
    project.step("sum.py", *OUT)
    project.pin(project.publish(version))
    assert project.step("sum.py", *OUT).is_hit


READERS = {
    "a child": "import subprocess; text = subprocess.run(['cat', 'data/train/a'], stdout=-1).stdout.decode()",
    "a shell that went into the background": (
        "import subprocess; subprocess.run(['sh', '-c', 'setsid sh -c \"cat data/train/a > copy\" & wait']);"
        " text = Path('copy').read_text(); os.unlink('copy')"
    ),
    "a thread": (
        "import threading; found = []; t = threading.Thread(target=lambda:"
        " found.append(Path('data/train/a').read_text())); t.start(); t.join(); text = found[0]"
    ),
    "perl": "import subprocess; text = subprocess.run(['perl', '-pe', '1', 'data/train/a'], stdout=-1).stdout.decode()",
    "tar": (
        "import subprocess; packed = subprocess.run(['tar', 'cf', '-', '-C', 'data', '.'], stdout=-1).stdout;"
        " text = str(len(packed)) + Path('data/train/a').read_text()"
    ),
    "a folder that it went into": (
        "here = os.getcwd(); os.chdir('data/train'); text = Path('a').read_text(); os.chdir(here)"
    ),
    "a real path": "text = Path(os.path.realpath('data/train/a')).read_text()",
    "a symlink in the data": "text = Path('data/link').read_text()",
    "what it found by looking": "text = ''.join(p.read_text() for p in sorted(Path('data').rglob('a')))",
    "a file that it opened through a folder": (
        "fd = os.open('data/train', os.O_RDONLY); text = os.fdopen(os.open('a', os.O_RDONLY, dir_fd=fd)).read()"
    ),
    "a map": (
        "import mmap; file = open('data/train/a');"
        " text = bytes(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)).decode()"
    ),
}


@pytest.mark.parametrize("reader", READERS)
def test_whoever_reads_it_is_seen(project: Project, reader: str) -> None:
    """Also what the kernel's cache has already."""
    linked = {**VERSION, "link": "-> train/a"}
    project.pin(project.publish(linked))
    subprocess.run(["grep", "-r", ".", f"{project.top}/data/"], check=True, stdout=subprocess.DEVNULL)
    project.python("read.py", f"{READERS[reader]}\nPath('out').write_text(text)\n")
    assert not project.step("read.py", *OUT).is_hit
    assert project.step("read.py", *OUT).is_hit
    project.pin(project.publish({**linked, "train/a": "7\n"}))
    done = project.step("read.py", *OUT)
    assert "birds/train/a changed" in done.reasons, done
    assert "7" in project.read("out")


def test_a_pipeline_runs_what_it_has_to(project: Project) -> None:
    """Three steps; the second reads one of two outputs of the first."""
    project.python(
        "prepare.py",
        "Path('made').mkdir(); Path('made/train').write_text(Path('data/train/a').read_text())\n"
        "Path('made/test').write_text(Path('data/test/c').read_text())\n",
    )
    project.python("train.py", "Path('model').write_text('m' + Path('made/train').read_text())\n")
    project.python(
        "evaluate.py",
        "value = int(Path('made/test').read_text())\n"
        "Path('metrics.json').write_text(json.dumps({'score': value, 'model': len(Path('model').read_text())}))\n",
    )
    project.write(".gitignore", "made\nmodel\n")

    def hits() -> list[bool]:
        return [
            project.step("prepare.py", "-o", "made").is_hit,
            project.step("train.py", "-o", "model").is_hit,
            project.step("evaluate.py").is_hit,
        ]

    assert hits() == [False, False, False]
    assert hits() == [True, True, True]
    project.pin(project.publish({**VERSION, "test/c": "4\n"}))
    assert hits() == [False, True, False]
    assert project.read("metrics.json") == '{"score": 4, "model": 3}'
    project.pin("v1")
    assert hits() == [True, True, True]
    assert project.read("metrics.json") == '{"score": 3, "model": 3}'


def test_a_tag_that_was_moved_and_a_branch_that_is_named_in_the_code(project: Project) -> None:
    for name in ("v1", "main"):
        there = project.mountpoint / "birds" / name / "train" / "a"
        project.python("read.py", f"Path('out').write_text(Path('{there}').read_text())")
        assert not project.step("read.py", *OUT).is_hit
        assert project.step("read.py", *OUT).is_hit
        project.publish({**VERSION, "train/a": f"for {name}\n"})
        project.program("tag", "birds", "main", "v1", "--force")
        assert "birds/train/a changed" in project.step("read.py", *OUT).reasons


def test_of_two_pins_on_one_version_either_may_move(project: Project) -> None:
    project.pin("v1", "other")
    project.pin("v1")
    project.python("read.py", "Path('out').write_text(Path('data/train/a').read_text())\n")
    project.step("read.py", *OUT)
    assert project.step("read.py", *OUT).is_hit
    project.pin(project.publish({**VERSION, "train/a": "9\n"}), "other")
    assert not project.step("read.py", *OUT).is_hit


@pytest.mark.parametrize("is_ignored", [True, False])
def test_a_link_that_git_ignores_is_looked_after_too(project: Project, is_ignored: bool) -> None:
    project.write(".gitignore", "hidden\n" if is_ignored else "")
    project.pin("v1", "hidden")
    project.python("read.py", "Path('out').write_text(Path('hidden/train/a').read_text())\n")
    project.step("read.py", *OUT)
    assert project.step("read.py", *OUT).is_hit
    project.pin(project.publish({**VERSION, "train/a": "9\n"}), "hidden")
    assert "birds/train/a changed" in project.step("read.py", *OUT).reasons
    assert project.read("out") == "9\n"


def test_a_link_from_elsewhere_is_none_to_trust(project: Project) -> None:
    link = project.top.parent / "elsewhere"
    link.symlink_to(project.mountpoint / "birds" / "v1")
    project.python("read.py", f"Path('out').write_text(Path('{link}/train/a').read_text())\n")
    project.step("read.py", *OUT)
    assert "it read birds/v1, and by what way is not known" in project.step("read.py", *OUT).reasons


def test_what_is_not_there_yet(project: Project) -> None:
    project.python("read.py", "Path('out').write_text(str(Path('data/train/z').exists()))\n")
    project.step("read.py", *OUT)
    project.pin(project.publish({**VERSION, "test/z": "9\n"}))
    assert project.step("read.py", *OUT).is_hit
    project.pin(project.publish({**VERSION, "train/z": "9\n"}))
    assert "birds/train/z is there now" in project.step("read.py", *OUT).reasons
    assert project.read("out") == "True"


def test_standard_input(project: Project) -> None:
    project.python("read.py", "Path('out').write_text(sys.stdin.read())\n")
    for text, is_hit in (("a", False), ("a", True), ("b", False), ("b", True)):
        project.write("../input", text)
        with (project.top / "../input").open() as file:
            assert project.step("read.py", *OUT, stdin=file).is_hit is is_hit
    for _ in range(2):
        reading, writing = os.pipe()
        os.close(writing)
        done = project.step("read.py", *OUT, stdin=reading)
        os.close(reading)
        assert not done.is_hit
    assert "it could read its standard input" in done.reasons


def test_variables(project: Project) -> None:
    project.step("sum.py", *OUT, variables={"SOME": "1", "TERM": "a"})
    assert project.step("sum.py", *OUT, variables={"SOME": "1", "TERM": "b"}).is_hit
    for variables, reason in (
        ({"SOME": "2"}, "a variable whose value is not recorded changed"),
        ({}, "environment: SOME is gone"),
        ({"SOME": "1", "TZ": "UTC"}, "environment: TZ is new"),
    ):
        done = project.run("--dry", *OUT, "--", sys.executable, "sum.py", variables=variables)
        assert reason in done.out


def test_what_was_there_before_may_have_been_read(project: Project) -> None:
    project.python("count.py", "out = Path('out'); out.write_text((out.read_text() if out.exists() else '') + 'x')\n")
    project.write("out", "old")
    first = project.step("count.py", *OUT)
    assert "this run is not reused" in first.said[0]
    assert project.read("out") == "oldx"
    second = project.step("count.py", *OUT)
    assert not second.is_hit
    assert project.read("out") == "x"
    assert project.step("count.py", *OUT).is_hit


def test_what_somebody_changed_by_hand_is_not_lost(project: Project) -> None:
    project.step("sum.py", *OUT)
    (project.top / "out").unlink()
    project.write("out/total", "mine")
    done = project.run("--dry", *OUT, "--", sys.executable, "sum.py")
    assert done.out == "MISS: out was changed by hand\n"
    assert project.read("out/total") == "mine"
    project.write("out/total", "3")
    assert project.step("sum.py", *OUT).is_hit
    assert (project.top / "out").is_symlink()


def test_copies_are_dependencies_of_who_comes_next(project: Project) -> None:
    project.python("prepare.py", "Path('made').write_text(Path('data/train/a').read_text())\n")
    project.python("use.py", "Path('out').write_text(Path('made').read_text())\n")
    project.write(".gitignore", "made\n")
    for is_hit in (False, True):
        assert project.step("prepare.py", "-o", "made", "--copy").is_hit is is_hit
        assert not (project.top / "made").is_symlink()
        assert project.step("use.py", *OUT).is_hit is is_hit
    (project.top / "made").unlink()
    assert project.step("prepare.py", "-o", "made", "--copy").is_hit
    assert project.read("made") == "1\n"
    project.write("made", "another")
    assert "dependency made changed" in project.step("use.py", *OUT).reasons
    assert project.read("out") == "another"


def test_declared_dependencies_and_narrowed_code(project: Project) -> None:
    project.write("../labels", "a")
    project.python("read.py", "Path('out').write_text(Path('../labels').read_text())\n")
    arguments = (*OUT, "--dep", "../labels", "--code", "read.py")
    project.step("read.py", *arguments)
    project.write("unrelated.py", "1")
    assert project.step("read.py", *arguments).is_hit
    project.write("../labels", "b")
    assert "dependency" in project.step("read.py", *arguments).reasons
    project.write("read.py", project.read("read.py") + "# more\n")
    assert project.step("read.py", *arguments).reasons == "code: read.py"


def test_force_and_no_reuse(project: Project) -> None:
    assert not project.step("sum.py", *OUT, "--no-reuse").is_hit
    assert "was made with --no-reuse" in project.step("sum.py", *OUT).reasons
    assert project.step("sum.py", *OUT).is_hit
    assert not project.step("sum.py", *OUT, "--force").is_hit


def test_what_failed_is_not_taken(project: Project) -> None:
    project.python("fail.py", "sys.exit(3)")
    for _ in range(2):
        assert project.run("--", sys.executable, "fail.py").code == 3


def test_a_colleague(project: Project, tmp_path: Path) -> None:
    """Another home, another place of the work tree, the same store and mountpoint."""
    project.step("sum.py", *OUT)
    other = Program(tmp_path / "other home")
    other.environment["FSD_STORE"] = str(project.program.store)
    clone = tmp_path / "elsewhere" / "project"
    clone.parent.mkdir()
    subprocess.run(["cp", "-a", project.top, clone], check=True)
    (clone / "out").unlink()
    (clone / "metrics.json").unlink()
    project.top = clone
    assert project.step("sum.py", *OUT, program=other).is_hit
    assert project.read("out/total") == "3"


def test_a_mount_that_ended_meanwhile(project: Project) -> None:
    project.python(
        "end.py",
        "import signal\npid = json.loads(Path('MNT/.fsd/status').read_text())['pid']\n"
        "Path('out').write_text(Path('data/train/a').read_text()); os.kill(pid, signal.SIGKILL)\n".replace(
            "MNT", str(project.mountpoint)
        ),
    )
    done = project.step("end.py", *OUT)
    assert any("ended while it ran" in line for line in done.said), done
    subprocess.run(["umount", "-l", project.mountpoint], check=True)
    project.mount()
    done = project.run("--dry", *OUT, "--", sys.executable, "end.py")
    assert done.out.startswith("MISS: what run"), done


def test_a_run_in_a_run(project: Project) -> None:
    project.python("inner.py", "Path('made').write_text(Path('data/train/a').read_text())\n")
    command = f"{sys.executable} -m fsd_cli run -o made -- {sys.executable} inner.py && cat made"
    project.write("all.sh", f"{command} > out\n")
    project.write(".gitignore", "made\nout\nmetrics.json\n")
    first = project.run(*OUT, "--", "sh", "all.sh")
    assert (first.code, first.is_hit) == (0, False), first
    assert project.read("out") == "1\n"
    assert project.run(*OUT, "--", "sh", "all.sh").is_hit
    again = project.run("--force", *OUT, "--", "sh", "all.sh")
    assert any("HIT" in line for line in again.said), again
    project.pin(project.publish({**VERSION, "train/a": "6\n"}))
    last = project.run(*OUT, "--", "sh", "all.sh")
    assert "birds/train/a changed" in last.reasons, last
    assert project.read("out") == "6\n"


READERS_PAST_THE_MOUNT = {
    "fsd cat": (
        "import subprocess; command = [sys.executable, '-m', 'fsd_cli', 'cat', 'birds/main/train/a'];"
        " text = subprocess.run(command, stdout=-1).stdout"
    ),
    "fsd's Python API": (
        "import fsd\nwith fsd.open_store() as store: text = store.version('birds/main').read('train/a')"
    ),
}


@pytest.mark.parametrize("reader", READERS_PAST_THE_MOUNT)
def test_who_reads_the_store_past_the_mount_says_so(project: Project, reader: str) -> None:
    project.python("read.py", f"{READERS_PAST_THE_MOUNT[reader]}\nPath('out').write_bytes(text)\n")
    for _ in range(2):
        assert not project.step("read.py", *OUT).is_hit
    done = project.run("--dry", *OUT, "--", sys.executable, "read.py")
    assert f"it read the store past the mount, by '{reader}'" in done.out
    assert project.read("out") == "1\n"
