"""What is run again and what is not: real programs, a real mount, and everything that could make a HIT false."""

from __future__ import annotations

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
    print(first)
    assert (first.is_hit, first.out) == (False, "ran\n")
    assert (project.top / "out").is_symlink()
    assert project.read("out/total") == "3"
    (project.top / "out").unlink()
    (project.top / "metrics.json").unlink()
    second = project.step("sum.py", *OUT)
    assert (second.is_hit, second.out) == (True, ""), second
    assert project.read("out/total") == "3"
    assert project.read("metrics.json") == '{"total": 3}'
