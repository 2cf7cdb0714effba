"""`fsd exp best`, `log`, `explain`, `importance`, `plot`: on runs of a real store."""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import click
import pytest
import trio

from fsd.format.inputs import Inputs
from fsd.format.run import Scalar
from fsd.limits import DEFAULT_LIMITS
from fsd.publish.picked import store_picked
from fsd.repo.repository import open_repositories
from fsd.stores.local import LocalStore
from fsd_cli.context import Invocation
from fsd_cli.exp_completion import complete_metric, complete_run
from tests.cli.conftest import Fsd
from tests.format.test_run import END, NAME, START
from tests.publish.folders import file, write_folder

HOUR_US = 3_600_000_000

Told = tuple[Mapping[str, Scalar], Mapping[str, float]]


class Log:
    """A store whose runs are written as a test says."""

    def __init__(self, fsd: Fsd, store: Path, files: Path) -> None:
        self.fsd = fsd
        self._store, self._files = store, files
        self.fsd("init")

    def write(self, *told: Told, code: int = 0) -> list[str]:
        """Runs of these params and metrics, an hour after each other; their ids."""
        ids: list[str] = []

        async def write() -> None:
            repositories = await open_repositories(LocalStore(self._store, DEFAULT_LIMITS))
            async with repositories.leases.held("test"):
                report = b'{"metric": "loss", "value": "1", "step": 0}\n{"metric": "loss", "value": "0.5", "step": 1}\n'
                top = write_folder(self._files, {b"train.py": file(b"x"), b"reported.jsonl": file(report)})
                stored = [
                    await store_picked(repositories, "digits", top, [name], state=self._files / "state")
                    for name in (b"train.py", b"reported.jsonl")
                ]
                for number, (params, metrics) in enumerate(told):
                    name = NAME._replace(run=f"{number + 1:x}".ljust(16, "a" if number < 15 else "0"))
                    ids.append(name.run)
                    began = START.time_us + number * HOUR_US
                    start = replace(START, name=name, time_us=began, params=dict(params), pins=(), code=stored[0])
                    end = replace(END, name=name, time_us=began + 60, code=code, metrics=dict(metrics), params={})
                    await repositories.runs.write_start(start)
                    await repositories.runs.write_end(replace(end, inputs=Inputs(), outputs=None, files=stored[1]))

        trio.run(write)
        return ids


@pytest.fixture
def log(fsd: Fsd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Log:
    monkeypatch.setenv("FSD_STORE", str(tmp_path / "store"))
    return Log(fsd, tmp_path / "store", tmp_path / "files")


def corners() -> list[Told]:
    return [
        ({"lr": lr, "depth": depth}, {"acc": 0.5 + 0.2 * (lr < 0.1) + 0.1 * (depth > 2)})
        for lr, depth in ((0.1, 2), (0.01, 2), (0.1, 5), (0.01, 5))
    ]


def test_the_best_run(log: Log) -> None:
    ids = log.write(*corners())
    found = log.fsd.json("exp", "best", "acc")
    assert (found["id"], found["minimized"], found["by_name"], found["n"]) == (ids[3], False, True, 4)
    assert found["second"]["id"] == ids[1]
    assert found["second"]["changes"] == [{"param": "depth", "role": "param", "old": 2, "new": 5, "diff": 3.0}]
    assert log.fsd.json("exp", "best", "acc", "--min")["id"] == ids[0]
    assert log.fsd.json("exp", "best", "acc", "digits", "-w", "depth=2")["id"] == ids[1]
    shown = log.fsd("exp", "best", "acc")
    assert "more is better (by its name; --min turns it round)" in shown
    assert "  +0.1 to 2aaaaaaa first (0.7), the second best" in shown
    assert "depth 2 → 5" in shown
    assert "less is better (as you say)" in log.fsd("exp", "best", "acc", "--min")


def test_steps_sum_to_the_total(log: Log) -> None:
    ids = log.write(*corners())
    report = log.fsd.json("exp", "log", "acc")
    assert (report["first"], report["last"]) == (ids[0], ids[3])
    assert sum(step["diff"] for step in report["steps"]) == pytest.approx(report["total"])
    lines = log.fsd("exp", "log", "acc", "--to", "2").splitlines()
    assert lines[0] == "acc 0.5 → 0.7: +0.2 from 1aaaaaaa first to 2aaaaaaa first, in 1 step"
    assert [line.split()[-4:] for line in lines[3:4]] == [["lr", "0.1", "→", "0.01"]]
    assert any(line.split() == ["total", "+0.2"] for line in lines)


def test_a_difference_is_divided_where_all_mixtures_were_run(log: Log) -> None:
    ids = log.write(*corners())
    report = log.fsd.json("exp", "explain", "1", ids[3], "--metric", "acc")
    assert report["method"] == "shapley"
    assert {effect["param"]: round(effect["effect"], 9) for effect in report["effects"]} == {"lr": 0.2, "depth": 0.1}
    shown = log.fsd("exp", "explain", "1", "4", "--metric", "acc")
    assert shown.splitlines()[3].split()[:3] == ["lr", "67%", "+0.2"]


def test_what_is_missing_for_an_answer_is_said(log: Log) -> None:
    first, *_, last = corners()
    log.write(first, last)
    shown = log.fsd("exp", "explain", "1", "2", "--metric", "acc", "--dry-run")
    assert "not enough evidence" in shown
    assert "fsd exp explain 1aaaaaaa 2aaaaaaa --metric acc --run: an answer without a model takes 2 runs" in shown
    assert "would run 1aaaaaaa with depth=5" in shown


def test_a_ranking_where_there_is_evidence_and_none_where_there_is_not(log: Log) -> None:
    chance = random.Random(1)
    runs: list[Told] = []
    for seed in range(40):
        lr = 10 ** chance.uniform(-4, -1)
        noise, junk = chance.gauss(0, 0.01), chance.random()
        runs.append(({"lr": lr, "junk": junk, "seed": seed}, {"acc": lr * 5 + noise, "noise": chance.random()}))
    log.write(*runs)
    report = log.fsd.json("exp", "importance", "--metric", "acc")
    assert (report["outcome"], report["effects"][0]["param"]) == ("found", "lr")
    effect = report["effects"][0]
    assert effect["ci_low"] < effect["effect"] < effect["ci_high"]
    assert "95 % INTERVAL" in log.fsd("exp", "importance", "digits", "--metric", "acc")
    assert log.fsd.json("exp", "importance", "--metric", "noise")["effects"] == []
    assert "not enough evidence for a ranking" in log.fsd("exp", "importance", "--metric", "noise")


def test_subsets_are_not_compared_with_the_whole_without_saying_so(log: Log, tmp_path: Path) -> None:
    runs: list[Told] = [({"data": "/fsd/birds/v1", "lr": n}, {"acc": n}) for n in range(4)]
    runs += [({"data": "/fsd/birds/v1+tiny", "lr": n}, {"acc": n + 10}) for n in range(3)]
    ids = log.write(*runs)
    best = log.fsd("exp", "best", "acc")
    assert f"run {ids[3][:8]}" in best
    assert "note: 3 runs on another subset not compared: data.subset tiny" in best
    shown = log.fsd("exp", "importance", "--metric", "acc")
    assert "3 runs not compared: data.subset the whole → tiny" in shown
    across = log.fsd("exp", "importance", "--metric", "acc", "--across", "data.subset")
    assert "runs on different subsets are compared: data.subset is a factor" in across
    assert "note: runs on different subsets are compared" in log.fsd("exp", "explain", "1", "5", "--metric", "acc")
    assert "(not comparable: subset)" in log.fsd("exp", "log", "acc", "--to", "5")
    if importlib.util.find_spec("matplotlib") is not None:
        assert log.fsd.json("exp", "plot", "--metric", "acc", "-o", tmp_path / "plots")["runs"] == 4
        assert "3 not shown" in (tmp_path / "plots" / "index.html").read_text()
        both = log.fsd.json("exp", "plot", "--metric", "acc", "--across", "data.subset", "-o", tmp_path / "plots")
        assert both["runs"] == 7
        assert "runs on different subsets are compared" in (tmp_path / "plots" / "index.html").read_text()


def test_mistakes_are_told_with_what_was_meant(log: Log) -> None:
    log.write(*corners())
    assert "did you mean 'acc'" in log.fsd.fails(4, "exp", "best", "ac")
    assert "did you mean 'acc'" in log.fsd.fails(4, "exp", "log", "acx")
    assert "did you mean 'acc'" in log.fsd.fails(4, "exp", "importance", "--metric", "accc")
    assert "no run '9'" in log.fsd.fails(4, "exp", "log", "acc", "--to", "9")
    assert "did you mean '1aaaaaaa'" in log.fsd.fails(4, "exp", "explain", "1aaaaaab", "2", "--metric", "acc")
    assert "did you mean '1aaaaaaa'" in log.fsd.fails(4, "exp", "show", "1aaaaaab")
    assert "no run has a factor 'dat'" in log.fsd.fails(2, "exp", "importance", "--metric", "acc", "--across", "dat")


def test_runs_that_failed_are_not_asked(log: Log) -> None:
    log.write(*corners(), code=1)
    assert "no run that succeeded" in log.fsd.fails(4, "exp", "best", "acc")
    assert "did not succeed: failed" in log.fsd.fails(2, "exp", "explain", "1", "2", "--metric", "acc")


def test_a_page_and_its_pictures(log: Log, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    ids = log.write(*corners())
    made = log.fsd.json("exp", "plot", "--metric", "acc", "-o", tmp_path / "plots")
    names = ["index.html", "metric.png", "steps.png", "effects.png", "parameters.png", "curves.png"]
    assert [Path(path).name for path in made["files"]] == names
    assert (made["runs"], made["best"]) == (4, ids[3])
    page = (tmp_path / "plots" / "index.html").read_text()
    assert "depth 2 → 5" in page
    log.fsd("exp", "plot", "digits", "--metric", "acc", "-o", tmp_path / "one.html")
    assert "acc of digits" in (tmp_path / "one.html").read_text()
    (tmp_path / "taken").write_text("")
    assert "cannot write" in log.fsd.fails(1, "exp", "plot", "--metric", "acc", "-o", tmp_path / "taken")


def test_the_shell_is_offered_runs_and_metrics(log: Log) -> None:
    ids = log.write(*corners())
    context = click.Context(click.Command("x"), obj=Invocation())
    parameter = click.Argument(["metric"])
    assert [item.value for item in complete_run(context, parameter, "2")] == [ids[1]]
    assert [item.value for item in complete_metric(context, parameter, "a")] == ["acc"]
