"""Manual pages, made from the commands' own help."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from fsd_cli import manual
from fsd_cli.main import COMMANDS


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("man")
    manual.main(str(made))
    return made


def test_every_command_has_a_page(folder: Path) -> None:
    names = {path.name for path in folder.iterdir()}
    assert {f"fsd-{name}.1" for commands in COMMANDS.values() for name in commands} < names
    assert {"fsd.1", "mount.fsd.8", "fsd-subset-create.1"} < names


@pytest.mark.skipif(shutil.which("groff") is None, reason="no groff")
def test_what_a_page_shows(folder: Path) -> None:
    def rendered(name: str) -> str:
        command = ["groff", "-man", "-Tutf8", "-P-cbou", "-rLL=100n", "-ww", folder / name]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stderr == ""
        return done.stdout

    mount = rendered("fsd-mount.1")
    assert "fsd mount [OPTIONS] [STORE] [MOUNTPOINT]" in mount
    assert "--allow-other / --no-allow-other" in mount
    assert "-h, --help" in mount
    assert "MOUNT.FSD(8)" in rendered("mount.fsd.8")
    everything = rendered("fsd.1")
    assert "fsd-prefetch(1)" in everything
    assert "5 store unreachable, 6 corrupt data." in everything
    assert "fsd-subset-create(1)" in rendered("fsd-subset.1")


def test_nothing_in_a_help_is_taken_for_a_request_of_roff() -> None:
    assert list(manual._paragraphs(".fsd.toml…\n\n'quoted' a\\b -x")) == [
        "\\&.fsd.toml\\[u2026]",
        ".PP",
        "\\&'quoted' a\\eb \\-x",
    ]
