"""`script/demo`, as a user runs it once everything is installed. It downloads two packages the first time."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from fsd.daemon import mounts
from integration.conftest import REPOSITORY

pytestmark = [
    pytest.mark.skipif(Path(sys.prefix) != REPOSITORY / ".venv", reason="the demo runs from .venv, this does not"),
    pytest.mark.skipif(
        not all(importlib.util.find_spec(name) for name in ("numpy", "safetensors")),
        reason="numpy or safetensors is not installed",
    ),
]


@pytest.mark.parametrize("time", ["first", "second"])
def test_demo(time: str, found_environment: dict[str, str]) -> None:
    del time
    place = REPOSITORY / ".demo" / "mnt"
    result = subprocess.run(
        ["script/demo", "--installed"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=300,
        # A download may take a proxy. What a user may have set must not lead it to the user's store.
        env=found_environment | {"FSD_STORE": "/nonexistent"},
        check=False,
    )
    if "another demo is running" in result.stderr:
        pytest.skip("somebody else runs the demo here")
    assert result.returncode == 0, result.stdout + result.stderr
    for line in (
        "$ fsd mount .demo/mnt",
        " 1500 images  accuracy 92.5%",
        " 1797 images  accuracy 91.6%",
        "(no difference: byte for byte what was published)",
        "  0.8939      0.8939  The new movie is awesome | The new movie is so great",
        "$ fsd umount .demo/mnt",
    ):
        assert line in result.stdout.splitlines()
    assert mounts.mount_at(place) is None
