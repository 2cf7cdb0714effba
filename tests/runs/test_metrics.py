"""Metrics from files that were written during a run, and only then."""

from __future__ import annotations

from pathlib import Path

from fsd.runs.metrics import finite, measured, statuses


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_json_and_curves(tmp_path: Path) -> None:
    write(tmp_path / "metrics.json", '{"acc": 0.9, "f1": {"cat": 0.5, "n": [1, 2]}, "name": "x", "ok": true}')
    write(tmp_path / "dvclive/metrics.json", '{"step": 7, "acc": 0.1}')
    write(tmp_path / "dvclive/plots/metrics/train/loss.tsv", "step\tloss\n0\t0.5\n1\t0.25\n")
    write(tmp_path / "plots/metrics/empty.tsv", "step\tempty\n")
    found = measured(tmp_path, {})
    assert found.metrics == {"acc": 0.9, "f1.cat": 0.5, "f1.n.0": 1, "f1.n.1": 2, "step": 7, "train.loss": 0.25}
    assert found.problems == []


def test_a_file_that_an_earlier_run_left_says_nothing(tmp_path: Path) -> None:
    write(tmp_path / "metrics.json", '{"acc": 0.9}')
    write(tmp_path / "plots/metrics/loss.tsv", "step\tloss\n0\t0.5\n")
    before = statuses(tmp_path)
    assert measured(tmp_path, before).metrics == {}
    (tmp_path / "metrics.json").unlink()
    write(tmp_path / "metrics.json", '{"acc": 0.8}')
    assert measured(tmp_path, before).metrics == {"acc": 0.8}


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    write(tmp_path / "metrics.json", "{")
    write(tmp_path / "plots/metrics/loss.tsv", "step\tloss\n0\tno number\n")
    found = measured(tmp_path, {})
    assert found.metrics == {}
    assert sorted(problem.split()[0] for problem in found.problems) == ["metrics.json", "plots/metrics/loss.tsv"]


def test_what_is_no_value_is_left_out_and_said() -> None:
    kept, said = finite({"loss": float("nan"), "acc": 0.5, "n": 10**400})
    assert kept == {"acc": 0.5}
    assert said[0] == "metric loss is nan"
    assert said[1].startswith("metric n is 1000")
