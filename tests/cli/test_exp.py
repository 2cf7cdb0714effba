"""`fsd exp`: runs as a list, one by one, and compared."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from fsd.format.inputs import Inputs
from fsd.format.run import RunEnd, RunStart, StoredTree
from fsd.limits import DEFAULT_LIMITS
from fsd.publish.picked import store_picked
from fsd.repo.repository import Repositories, open_repositories
from fsd.stores.local import LocalStore
from fsd_cli.text import json_time
from tests.cli.conftest import Fsd
from tests.format.test_run import END, NAME, START
from tests.publish.folders import Folder, file, write_folder

FIRST = NAME._replace(run="a1" * 8)
SECOND = NAME._replace(run="b2" * 8)
THIRD = NAME._replace(repository="birds", run="b3" * 8)


@pytest.fixture
def runs(fsd: Fsd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fsd:
    """Three runs: a good one, one that failed and differs in much, and one of another repository without an end."""
    store = tmp_path / "store"
    monkeypatch.setenv("FSD_STORE", str(store))
    fsd("init")

    async def tree(repositories: Repositories, folder: Folder) -> StoredTree:
        top = write_folder(tmp_path / "files", folder)
        return await store_picked(repositories, "digits", top, list(folder), state=tmp_path / "state")

    async def write() -> None:
        repositories = await open_repositories(LocalStore(store, DEFAULT_LIMITS))
        async with repositories.leases.held("test"):
            old = await tree(repositories, {b"train.py": file(b"one"), b"same.py": file(b"s"), b"gone.py": file(b"g")})
            new = await tree(repositories, {b"train.py": file(b"two"), b"same.py": file(b"s"), b"new.py": file(b"n")})
            base = replace(START, pins=(), code=old)
            changed = {**base.params, "train.lr": 0.01, "extra": "a|b"}
            python = {"python": {"version": "3.12", "packages": {"trio": "1"}}}
            second = replace(base, name=SECOND, time_us=base.time_us + 1)
            starts: list[RunStart] = [
                replace(base, name=FIRST),
                replace(second, params=changed, code=new, environment=python, label="wide\nname"),
                replace(base, name=THIRD, time_us=base.time_us + 2),
            ]
            for start in starts:
                await repositories.runs.write_start(start)
            good = replace(END, outputs=old, files=None, inputs=Inputs())
            ends: list[RunEnd] = [
                replace(good, name=FIRST),
                replace(good, name=SECOND, code=3, metrics={"accuracy": 0.95}, outputs=new),
            ]
            for end in ends:
                await repositories.runs.write_end(end)

    trio.run(write)
    return fsd


def test_a_list_shows_what_differs(runs: Fsd) -> None:
    heading, first, second = runs("exp", "list", "digits").splitlines()
    assert heading.split() == ["RUN", "NAME", "TIME", "STATE", "extra", "train.lr", "accuracy", "steps"]
    assert first.split()[0] == "a1a1a1a1"
    assert first.split()[-4:] == ["done", "0.1", "0.9", "100"]
    assert second.split()[-4:] == ["failed", "a|b", "0.01", "0.95"]
    assert '"wide\\nname"' in second
    assert len(runs("exp", "list").splitlines()) == 4
    assert "seed" in runs("exp", "list", "--all")
    assert runs("exp", "list", "nothing").splitlines() == ["RUN  NAME  TIME  STATE"]


def test_order_filter_and_number(runs: Fsd) -> None:
    def listed(*arguments: str) -> list[str]:
        return [run["run"][:2] for run in runs.json("exp", "list", *arguments)]

    assert listed() == ["a1", "b2", "b3"]
    assert listed("-r") == ["b3", "b2", "a1"]
    assert listed("--sort", "accuracy", "-r") == ["b2", "a1", "b3"]
    assert listed("-n", "1") == ["b3"]
    assert listed("-s", "accuracy", "-r", "-n", "1") == ["b2"]
    assert listed("-w", "accuracy>0.9") == ["b2"]
    assert listed("-w", "train.lr=0.1", "-w", "state=done") == ["a1"]


def test_mistakes(runs: Fsd) -> None:
    assert "did you mean 'accuracy'" in runs.fails(4, "exp", "list", "-w", "acuracy>1")
    assert "no condition" in runs.fails(2, "exp", "list", "-w", "accuracy")
    assert "one form" in runs.fails(2, "exp", "list", "--csv", "--md")
    assert "2 runs begin with 'b'" in runs.fails(4, "exp", "show", "b")
    assert "no run 'ff'" in runs.fails(4, "exp", "diff", "a1", "ff")


def test_a_list_as_data(runs: Fsd) -> None:
    first, second = runs.json("exp", "list", "digits")
    changed = ["params.extra", "params.train.lr", "metrics.accuracy", "metrics.steps"]
    assert list(first) == ["run", "name", "time", "state", "seconds", *changed]
    assert (first["time"], first["seconds"]) == (json_time(START.time_us), 100.0)
    assert (second["name"], second["params.extra"], second["metrics.steps"]) == ("wide\nname", "a|b", None)
    read = list(csv.DictReader(runs("exp", "list", "digits", "--csv").splitlines(keepends=True)))
    assert read[1]["name"] == "wide\nname"
    assert read[0]["params.train.lr"] == "0.1"
    lines = runs("exp", "list", "digits", "--md").splitlines()
    assert len(lines) == 4
    assert all(line.replace("\\|", "").count("|") == lines[0].count("|") for line in lines)


def test_one_run(runs: Fsd) -> None:
    shown = runs("exp", "show", "b2")
    for line in ('"wide\\nname"', "param    train.lr = 0.01", "metric   accuracy = 0.95", "exit code 3", "failed"):
        assert line in shown
    run = runs.json("exp", "show", "a1a1")
    assert (run["run"], run["state"], run["exit_code"]) == (FIRST.run, "done", 0)
    unfinished = runs.json("exp", "show", "b3")
    assert (unfinished["ended"], unfinished["state"], unfinished["metrics"]) == (None, "no end", {})
    assert "took" not in runs("exp", "show", "b3")


def test_what_differs_between_two(runs: Fsd) -> None:
    found = {(each["what"], each["name"]): each for each in runs.json("exp", "diff", "a1", "b2")}
    assert set(found) == {
        ("params", "extra"),
        ("params", "train.lr"),
        ("code", "train.py"),
        ("code", "gone.py"),
        ("code", "new.py"),
        ("environment", "python.packages"),
        ("environment", "python.version"),
        ("metrics", "accuracy"),
        ("metrics", "steps"),
        ("outputs", "train.py"),
        ("outputs", "gone.py"),
        ("outputs", "new.py"),
    }
    lr = found["params", "train.lr"]
    assert (lr["before"], lr["after"], round(lr["delta"], 6)) == (0.1, 0.01, -0.09)
    assert found["code", "gone.py"]["after"] is None
    assert found["code", "new.py"]["before"] is None
    assert len(found["code", "train.py"]["before"]) == 64
    assert "train.lr" in runs("exp", "diff", "a1", "b2")
    assert runs.json("exp", "diff", "a1", "a1") == []
    assert runs("exp", "diff", "a1", "b2", "--md").splitlines()[0] == "| WHAT | NAME | BEFORE | AFTER | DELTA |"
