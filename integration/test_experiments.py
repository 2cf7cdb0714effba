"""`fsd exp restore`, `explain --run` and `lineage`, as a user has them: with real runs in real work trees."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from integration.program import Program
from integration.test_runs import Work

TRAIN = """\
import json, os, pathlib, yaml
params = yaml.safe_load(pathlib.Path("params.yaml").read_text())
lr, depth = float(os.environ.get("FSD_PARAM_lr", params["lr"])), params["model"]["depth"]
pathlib.Path("out").mkdir(exist_ok=True)
pathlib.Path("out/model").write_text(f"{lr} {depth}")
plots = pathlib.Path("dvclive/plots/metrics")
plots.mkdir(parents=True, exist_ok=True)
(plots / "loss.tsv").write_text("step\\tloss\\n0\\t1.0\\n1\\t0.5\\n")
acc = 0.5 + 0.2 * (lr < 0.1) + 0.1 * (depth > 2) + 0.05 * (lr < 0.1) * (depth > 2)
pathlib.Path("metrics.json").write_text(json.dumps({"acc": acc}))
"""
SCORE = """\
import pathlib
pathlib.Path("scores").mkdir(exist_ok=True)
pathlib.Path("scores/all").write_text("good")
"""
PARAMS = "lr: 0.5  # slow\nmodel:\n  depth: 2\n"


@pytest.fixture
def work(program: Program, tmp_path: Path) -> Work:
    """A work tree with a program that reads its params in both ways."""
    program("init")
    work = Work(program, tmp_path / "digits")
    (work.top / "train.py").write_text(TRAIN)
    (work.top / "params.yaml").write_text(PARAMS)
    work.git("add", ".")
    work.git("commit", "-q", "-m", "second")
    return work


def train(work: Work, *options: str) -> str:
    """A run; its id."""
    done = work.run(*options, "-o", "out", "--", sys.executable, "train.py")
    assert done.returncode == 0, done.stderr
    return work.runs()[-1].start.name.run


def exp(work: Work, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fsd_cli", "exp", *arguments],
        cwd=work.top,
        env=work.program.environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def told(work: Work, *arguments: str) -> Any:
    done = exp(work, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def git(work: Work, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=work.top, env=work.program.environment, check=True, capture_output=True, text=True
    )
    return done.stdout


# --- restore


def test_a_restored_run_has_the_same_code_and_params(work: Work) -> None:
    (work.top / "helper.py").write_text("not in Git")
    (work.top / "train.py").write_text(TRAIN + "# changed\n")
    first = train(work, "-S", "lr=0.01")
    git(work, "checkout", "-q", "train.py")
    (work.top / "helper.py").unlink()
    before = git(work, "status", "--porcelain"), git(work, "rev-parse", "HEAD")
    made = told(work, "restore", first[:6])
    assert (git(work, "status", "--porcelain"), git(work, "rev-parse", "HEAD")) == before
    assert (made["branch"], made["new"], made["checked_out"]) == (f"fsd/{first[:8]}", True, False)
    assert told(work, "restore", first)["commit"] == made["commit"]
    assert git(work, "show", f"{made['branch']}:params.yaml") == PARAMS.replace("0.5", "0.01")

    switched = told(work, "restore", first, "--checkout", "--name", "again")
    assert git(work, "branch", "--show-current").strip() == "again"
    assert switched["command"] == [
        "fsd", "run", "--repo", "digits", "-S", "lr=0.01", "-o", "out", "--", sys.executable, "train.py",
    ]  # fmt: skip
    train(work, "-S", "lr=0.01")
    old, new = work.runs()
    assert old.start.code is not None
    assert new.start.code is not None
    assert (new.start.code.tree, new.start.params) == (old.start.code.tree, old.start.params)
    assert old.end is not None
    assert new.end is not None
    assert old.end.outputs == new.end.outputs
    # What is restored derives from what it was restored from.
    assert told(work, "log", "acc")["steps"] == [
        {
            "parent": first,
            "child": new.start.name.run,
            "old": 0.7,
            "new": 0.7,
            "diff": 0.0,
            "changes": [],
            "seed_changes": [],
            "skipped": [],
            "is_comparable": True,
            "is_within_noise": None,
            "notes": [],
        }
    ]


def test_nothing_that_is_not_committed_is_lost(work: Work) -> None:
    first = train(work)
    (work.top / "train.py").write_text("# precious\n")
    done = exp(work, "restore", first, "--checkout")
    assert done.returncode == 3
    assert "not committed" in done.stderr
    assert (work.top / "train.py").read_text() == "# precious\n"
    assert git(work, "branch", "--format=%(refname:short)").split() == ["main"]


def test_what_was_in_no_work_tree_has_no_code(program: Program, tmp_path: Path, work: Work) -> None:
    (tmp_path / "plain").mkdir()
    command = [sys.executable, "-m", "fsd_cli", "run", "--repo", "x", "--", "true"]
    subprocess.run(command, cwd=tmp_path / "plain", env=program.environment, check=True, capture_output=True)
    done = exp(work, "restore", work.runs()[0].start.name.run)
    assert done.returncode == 4
    assert "was not recorded" in done.stderr


# --- explain --run


def test_what_is_missing_is_run_and_recorded_and_not_run_again(work: Work) -> None:
    first = train(work)
    (work.top / "params.yaml").write_text(PARAMS.replace("2", "5"))
    last = train(work, "-S", "lr=0.01")
    (work.top / "train.py").write_text("raise SystemExit('the code of now is not what is run')")
    report = told(work, "explain", first[:6], last[:6], "--metric", "acc", "--run")
    assert report["method"] == "shapley"
    assert {each["param"]: round(each["effect"], 9) for each in report["effects"]} == {
        "lr": 0.225,
        "model.depth": 0.125,
    }
    assert report["unexplained"] == pytest.approx(0, abs=1e-9)
    runs = work.runs()
    assert len(runs) == 4
    assert len({run.start.code for run in runs}) == 1
    assert {(run.start.params["lr"], run.start.params["model.depth"]) for run in runs} == {
        (lr, depth) for lr in (0.5, 0.01) for depth in (2, 5)
    }
    assert told(work, "explain", first, last, "--metric", "acc", "--run") == report
    assert len(work.runs()) == 4


def test_a_run_that_fails_ends_the_attempt_and_says_so(work: Work) -> None:
    (work.top / "train.py").write_text(TRAIN + "assert not (lr == 0.01 and depth == 2)\n")
    first = train(work)
    (work.top / "params.yaml").write_text(PARAMS.replace("2", "5"))
    last = train(work, "-S", "lr=0.01")
    done = exp(work, "explain", first, last, "--metric", "acc", "--run")
    assert done.returncode == 1
    assert "it ended with exit code 1" in done.stderr
    assert len(work.runs()) >= 3


def test_what_the_command_tells_of_itself_cannot_be_set(work: Work) -> None:
    report = "import fsd, os; fsd.log_params({'width': int(os.environ.get('WIDTH', 1))})\n"
    (work.top / "train.py").write_text(TRAIN + report)
    first = train(work)
    work.program.environment["WIDTH"] = "2"
    last = train(work, "-S", "lr=0.01")
    done = exp(work, "explain", first, last, "--metric", "acc", "--run")
    assert done.returncode == 2
    assert "width cannot be set" in done.stderr
    assert len(work.runs()) == 2


# --- lineage


def test_a_file_is_followed_back_to_its_roots(work: Work, tmp_path: Path) -> None:
    first = train(work)
    work.program("commit", work.top / "out", "models", "-m", "the first model")
    published = work.program("log", "models", "--json")
    commit = json.loads(published)[0]["commit"]
    (work.top / "model").symlink_to(f"/fsd/models/{commit}")
    (work.top / "score.py").write_text(SCORE)
    done = work.run("-n", "score", "-o", "scores", "--", sys.executable, "score.py")
    assert done.returncode == 0, done.stderr
    score = work.runs()[-1].start.name.run

    made = told(work, "lineage", "scores")["made_by"]
    assert (made["run"], made["name"], made["by_content"]) == (score, "score", True)
    (data,) = made["inputs"]
    assert (data["links"], data["commit"], data["repository"], data["message"]) == (
        ["model"],
        commit,
        "models",
        "the first model",
    )
    root = data["made_by"]
    assert (root["run"], root["params"], root["inputs"]) == (first, {"lr": 0.5, "model.depth": 2}, [])
    assert told(work, "lineage", "models/main/model")["made_by"]["run"] == first
    outputs = work.runs()[0].end
    assert outputs is not None
    assert outputs.outputs is not None
    by_name = told(work, "lineage", f"digits/{outputs.outputs.commit.hex()}")["made_by"]
    assert (by_name["run"], by_name["by_content"]) == (first, False)
    lines = exp(work, "lineage", "scores/all").stdout.splitlines()
    assert lines[0] == "scores/all"
    assert any("data     models/" in line and "(model), the first model" in line for line in lines)
    assert any(f"└─ run {first[:8]} of digits" in line for line in lines)

    (tmp_path / "alien").write_text("nobody made this")
    assert told(work, "lineage", str(tmp_path / "alien"))["made_by"] is None
    assert "no run is known" in exp(work, "lineage", str(tmp_path / "alien")).stdout
    assert exp(work, "lineage", "models/main/nothing").returncode == 4


# --- curves


def test_curves_are_kept_with_a_run_and_drawn(work: Work, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    train(work)
    end = work.runs()[0].end
    assert end is not None
    assert end.files is not None
    assert b"curves/loss.tsv" in work.files(end.files.commit)
    made = told(work, "plot", "--metric", "acc", "-o", str(tmp_path / "plots"))
    assert made["runs"] == 1
    assert (tmp_path / "plots" / "curves.png").stat().st_size > 10_000
