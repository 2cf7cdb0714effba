"""What is no input in the mount and bears on a result all the same: it must not be taken for the same."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from integration.program import Program
from integration.steps import Project

OUT = ("-o", "out")
READS_FILE = 'Path("out").write_text(Path("params.yaml").read_text())\n'
READS_METRICS = 'Path("out").write_text(Path("metrics.json").read_text())\n'
EDITS = 'Path("other.py").write_text("x = 2"); import other; Path("out").write_text(str(other.x))\n'
WRITES_METRICS = 'Path("metrics.json").write_text(Path("number").read_text())\n'


@pytest.fixture
def project(program: Program, tmp_path: Path) -> Project:
    project = Project(program, tmp_path / "project")
    project.publish({"a": "1\n"}, "--tag", "v1")
    project.mount()
    return project


def test_a_param_that_the_file_alone_has(project: Project) -> None:
    """-S does not reach who reads the file: equal values in the end are not enough."""
    project.python("read.py", READS_FILE)
    project.write("params.yaml", "lr: 1\n")
    assert not project.step("read.py", *OUT).is_hit
    project.write("params.yaml", "lr: 2\n")
    over = ("-S", "lr=1")
    assert not project.step("read.py", *OUT, *over).is_hit
    assert project.read("out") == "lr: 2\n"
    assert project.step("read.py", *OUT, *over).is_hit
    project.write("params.yaml", "lr: 3\n")
    done = project.run("--dry", *OUT, *over, "--", sys.executable, "read.py")
    assert done.out == "MISS: params.yaml: lr 2 → 3\n"
    assert not project.step("read.py", *OUT, *over).is_hit
    assert project.read("out") == "lr: 3\n"


def test_code_that_changes_while_it_runs(project: Project) -> None:
    """Nobody knows which of both ran."""
    project.python("edit.py", EDITS)
    project.python("other.py", "x = 1\n")
    first = (project.top / "other.py").read_text()
    project.step("edit.py", *OUT)
    (project.top / "other.py").write_text(first)
    done = project.run("--dry", *OUT, "--", sys.executable, "edit.py")
    assert "other.py changed while it ran" in done.out


def test_metrics_of_an_earlier_step_that_a_later_one_reads(project: Project) -> None:
    project.python("train.py", WRITES_METRICS)
    project.python("show.py", READS_METRICS)
    project.write("number", "1")
    project.step("train.py")
    project.step("show.py", *OUT)
    assert project.read("out") == "1"
    assert project.step("train.py").is_hit
    assert project.step("show.py", *OUT, "--code", "show.py").is_hit is False  # (another --code is another run)
    assert project.step("show.py", *OUT, "--code", "show.py").is_hit
    project.write("number", "2")
    project.step("train.py")
    done = project.run("--dry", *OUT, "--code", "show.py", "--", sys.executable, "show.py")
    assert done.out == "MISS: metrics.json changed\n"
    project.step("show.py", *OUT, "--code", "show.py")
    assert project.read("out") == "2"


def test_metrics_of_a_later_step_that_an_earlier_one_does_not_read(project: Project) -> None:
    project.python("first.py", 'Path("out").write_text("made")\n')
    project.python("last.py", WRITES_METRICS)
    for number in ("1", "2", "3"):
        project.write("number", number)
        only = ("--code", "first.py")
        assert project.step("first.py", *OUT, *only).is_hit is (number != "1")
        project.step("last.py")
    assert project.step("first.py", *OUT, "--code", "first.py").is_hit


def test_copies_of_an_earlier_step_that_a_later_one_reads(project: Project) -> None:
    """They are in no mount, and Git may be told to ignore them."""
    project.write(".gitignore", "made\nout\n")
    project.python("make.py", 'Path("made").write_text(Path("number").read_text())\n')
    project.python("use.py", 'Path("out").write_text(Path("made").read_text())\n')
    project.write("number", "1")
    make, use = ("-o", "made", "--copy"), (*OUT, "--code", "use.py")
    project.step("make.py", *make)
    project.step("use.py", *use)
    assert project.step("use.py", *use).is_hit
    project.write("number", "2")
    project.step("make.py", *make)
    assert not project.step("use.py", *use).is_hit
    assert project.read("out") == "2"
    assert project.step("make.py", *make).is_hit
