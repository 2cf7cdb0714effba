"""What a program says of its own run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import fsd
from fsd.runs.reporting import REPORT_VARIABLE, read_report


class Tensor:
    """Something that is a number when asked."""

    def __float__(self) -> float:
        return 0.125


def test_what_was_said_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = tmp_path / "report"
    monkeypatch.setenv(REPORT_VARIABLE, str(report))
    fsd.log_metric("loss", 0.5, step=0)
    fsd.log_metric("loss", Tensor(), step=1)  # type: ignore[arg-type]
    fsd.log_metric("acc", float("nan"))
    fsd.log_params({"model": {"depth": 3, "path": Path("x")}, "lr": float("inf")})
    metrics, params = read_report(report.read_bytes().splitlines())
    assert metrics.pop("acc") != 0
    assert metrics == {"loss": 0.125}
    assert params == {"model.depth": 3, "model.path": "x", "lr": "inf"}
    assert [json.loads(line).get("step") for line in report.read_text().splitlines()] == [0, 1, None, None]


def test_lines_that_are_none_are_left_out() -> None:
    lines = [b'{"metric": "a", "value": "1"}', b'{"metric": "a", "va', b"[]", b'{"params": 3}', b"\xff", b"{}"]
    assert read_report(lines) == ({"a": 1.0}, {})


def test_outside_of_a_run_nothing_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(REPORT_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    fsd.log_metric("loss", 1)
    fsd.log_params({"a": 1})
    assert os.listdir(tmp_path) == []


def test_a_program_that_reports_loads_nothing_heavy() -> None:
    heavy = ("trio", "yaml", "zstandard", "blake3")
    code = f"import sys, fsd; fsd.log_metric; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
