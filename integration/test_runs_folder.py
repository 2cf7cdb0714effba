"""`.runs` of a real mount: what came of a run is a path, for any program."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from integration.program import Program
from integration.waiting import wait_for

TRAIN = """\
import json, pathlib
pathlib.Path("out").mkdir()
pathlib.Path("out/model.json").write_text(json.dumps({"weights": [1, 2, 3]}))
pathlib.Path("metrics.json").write_text(json.dumps({"acc": 0.9}))
print("epoch 1")
"""


class Trained:
    """A mount, and a run that has made a model."""

    def __init__(self, program: Program, folder: Path) -> None:
        self.program = program
        self.work = folder / "digits"
        self.work.mkdir()
        git = ["git", "-c", "init.defaultBranch=main", "init", "-q"]
        subprocess.run(git, cwd=self.work, env=program.environment, check=True)
        (self.work / "train.py").write_text(TRAIN)
        (self.work / "params.yaml").write_text("lr: 0.1\n")
        program("init", program.store)
        self.mountpoint = program.mount(program.home.parent / "mount")
        self.top = self.mountpoint / ".runs"
        self.id = self.run(sys.executable, "train.py", options=("-o", "out"))

    def run(self, *command: str, options: tuple[str, ...] = ()) -> str:
        """The id of a run."""
        done = subprocess.run(
            [*self.program.command, "run", *options, "--", *command],
            cwd=self.work,
            env=self.program.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        shown = self.program.json("exp", "list", "--sort", "time")
        return str(shown[-1]["run"])


@pytest.fixture(scope="module")
def trained(module_program: Program, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return Trained(module_program, tmp_path_factory.mktemp("trained"))


def output_of(*command: str | Path) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


def test_programs_read_it(trained: Trained) -> None:
    run = trained.top / trained.id
    assert ".runs" not in os.listdir(trained.mountpoint)
    assert output_of("ls", trained.top).split() == [trained.id]
    assert output_of("cat", run / "log") == "epoch 1\n"
    assert output_of("cat", run / "params.yaml") == '{\n  "lr": 0.1\n}\n'
    assert json.loads(output_of("cat", run / "metrics.json")) == {"acc": 0.9}
    assert output_of("sh", "-c", f"ls -l {run} | wc -l").strip() == "9"
    names = {"code", "inputs", "outputs", "run.json", "log", "metrics.json", "params.yaml", "written"}
    assert {os.path.basename(line) for line in output_of("find", run, "-mindepth", "1").split()} == names
    assert output_of("find", run, "-type", "f", "-newermt", "2020-01-01").split() == [f"{run}/run.json"]


def test_a_model_is_loaded_by_the_path_of_its_run(trained: Trained) -> None:
    shown = trained.program.json("exp", "show", trained.id)
    outputs = trained.top / trained.id[:5] / "outputs"
    assert json.loads((outputs / "out" / "model.json").read_bytes()) == {"weights": [1, 2, 3]}
    real = Path(output_of("readlink", "-f", outputs).strip())
    assert real == trained.mountpoint / "digits" / shown["output_commit"]
    assert (real / "out" / "model.json").is_file()
    assert (trained.top / trained.id / "code" / "train.py").read_text() == TRAIN
    assert json.loads((trained.top / trained.id / "run.json").read_bytes()) == shown
    with pytest.raises(OSError, match="Read-only"):
        (outputs / "new").touch()


def test_a_new_run_appears_and_ends(trained: Trained) -> None:
    script = "while [ ! -e $0/$FSD_RUN/run.json ]; do :; done; cp $0/$FSD_RUN/run.json seen.json"
    new = trained.run("sh", "-c", script, str(trained.top), options=("-o", "seen.json"))
    while_it_ran = json.loads((trained.work / "seen.json").read_text())
    assert (while_it_ran["run"], while_it_ran["state"], while_it_ran["ended"]) == (new, "running", None)
    wait_for(lambda: new in os.listdir(trained.top), "the run to be listed")
    run = trained.top / new
    wait_for((run / "log").exists, "its log to be seen")
    shown = trained.program.json("exp", "show", new)
    wait_for(lambda: json.loads((run / "run.json").read_bytes()) == shown, "its end to be seen")
