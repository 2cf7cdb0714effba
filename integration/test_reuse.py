"""What is run again and what is not: real programs, a real mount, and everything that could make a HIT false."""

from __future__ import annotations

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
