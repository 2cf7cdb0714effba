"""What is swept of mounts left behind: whose folder that may be. (That it is taken away, all other tests rely on.)"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from integration.conftest import ended_sessions


@pytest.mark.parametrize("worker", ["", "gw1"])
def test_only_sessions_that_have_ended_are_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, worker: str) -> None:
    with subprocess.Popen(["true"]) as ended:
        pass
    for number, pid in enumerate((str(ended.pid), str(os.getppid()), "", None)):
        (tmp_path / f"pytest-{number}").mkdir()
        if pid is not None:
            (tmp_path / f"pytest-{number}" / ".lock").write_text(pid)
    (tmp_path / "of somebody else").mkdir()
    ours = tmp_path / "pytest-4"
    (ours / "popen-gw0").mkdir(parents=True)
    (ours / "popen-gw1").mkdir()
    (tmp_path / "pytest-current").symlink_to(ours)
    monkeypatch.setenv("PYTEST_XDIST_WORKER", worker)
    found = ended_sessions(ours / f"popen-{worker}" if worker else ours)
    assert sorted(path.name for path in found) == ["pytest-0", "pytest-3"]
