"""The mount units that systemd is given for the files in /etc/fsd."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from fsd_cli import generator

PATHS = ["/", "/fsd", "/srv/my-data", "/srv/.hidden", "/a b/ü%\\"]


def test_a_unit_for_each_mountpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    etc, out = tmp_path / "etc", tmp_path / "out"
    etc.mkdir()
    out.mkdir()
    (etc / "my-data.toml").write_text('store = "gs://bucket/a%20b"\nmountpoint = "/srv/data"\n')
    (etc / "site.toml").write_text('store = "gs://bucket/b"\n')
    (etc / "wrong.toml").write_text('stoer = "x"\nmountpoint = "/wrong"\n')
    monkeypatch.setattr(generator, "SYSTEM_CONFIG", etc)
    assert generator.main([str(out), "early", "late"]) == 0
    assert [path.name for path in out.iterdir()] == ["srv-data.mount"]
    lines = (out / "srv-data.mount").read_text().split("\n")
    assert {
        "Requires=fsd@my-data.service",
        "After=fsd@my-data.service",
        "What=gs://bucket/a%%20b",
        "Where=/srv/data",
        "Type=fsd",
        f"SourcePath={etc}/my-data.toml",
    } <= set(lines)


@pytest.mark.skipif(shutil.which("systemd-escape") is None, reason="no systemd-escape")
@pytest.mark.parametrize("path", PATHS)
def test_names_are_those_of_systemd(path: str) -> None:
    command = ["systemd-escape", "--path", path]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert generator.escape(path) == said.strip()
