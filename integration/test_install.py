"""The wheel, and what script/install puts on a machine: here into a folder, which stands for one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from integration.users import needs_root
from integration.wheels import REPOSITORY, make_wheels, offline

HOST_PLACES = [Path("/opt/fsd"), Path("/usr/local/bin/fsd"), Path("/sbin/mount.fsd"), Path("/etc/fsd"), Path("/fsd")]

INSTALL = (REPOSITORY / "script/install", "--extras", "")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_wheels(tmp_path_factory.mktemp("wheels"), extras="")


def run(*command: str | Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, timeout=300, check=False, env=env, cwd="/"
    )
    assert done.returncode == 0, f"{command} gave {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout


def files_below(root: Path) -> set[str]:
    found = (path for path in root.rglob("*") if path.is_symlink() or not path.is_dir())
    return {str(path.relative_to(root)) for path in found if "opt/fsd/lib" not in str(path)}


def test_the_wheel_installs_into_a_fresh_environment(wheel: Path, tmp_path: Path) -> None:
    # As pipx and `uv tool install` do: an environment for fsd alone, of which the commands are linked.
    run(sys.executable, "-m", "venv", tmp_path / "venv")
    pip = (tmp_path / "venv/bin/python", "-m", "pip", "install", "-q", "--disable-pip-version-check")
    run(*pip, wheel, env=offline(wheel.parent))
    program = tmp_path / "venv/bin/fsd"
    assert run(program, "--version").startswith("fsd ")
    assert "STORE MOUNTPOINT" in run(tmp_path / "venv/bin/mount.fsd", "--help")
    home = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    (tmp_path / "data").mkdir()
    (tmp_path / "data/f").write_text("content")
    run(program, "commit", tmp_path / "data", "data", env=home)
    assert run(program, "cat", "data/main/f", env=home) == "content"


@needs_root
def test_installed_below_a_folder_and_taken_away_again(wheel: Path, tmp_path: Path) -> None:
    before = [path.exists() for path in HOST_PLACES]
    root = tmp_path / "machine"
    for _ in range(2):  # the second time it brings everything up to date
        run(*INSTALL, "--root", root, "--wheel", wheel, env=offline(wheel.parent))
    found = files_below(root)
    assert {
        "opt/fsd/bin/fsd",
        "usr/local/bin/fsd",
        "usr/sbin/mount.fsd",
        "usr/local/lib/systemd/system/fsd@.service",
        "usr/local/lib/systemd/user/fsd.service",
        "usr/local/lib/systemd/system-generators/fsd-generator",
        "usr/local/lib/sysusers.d/fsd.conf",
        "usr/local/lib/tmpfiles.d/fsd.conf",
        "usr/local/share/man/man1/fsd-mount.1",
        "usr/local/share/man/man8/mount.fsd.8",
        "usr/local/share/bash-completion/completions/fsd",
        "usr/local/share/zsh/site-functions/_fsd",
        "usr/local/share/fish/vendor_completions.d/fsd.fish",
        "etc/fsd/example.toml.txt",
    } <= found
    assert (root / "usr/local/bin/fsd").readlink() == Path("/opt/fsd/bin/fsd")
    assert (root / "sbin/mount.fsd").readlink() == Path("/opt/fsd/bin/mount.fsd")
    assert (root / "fsd").is_dir()
    # Nothing there knows where it was made.
    grep = subprocess.run(["grep", "-rlI", "--exclude-dir=site-packages", str(root), root], capture_output=True)
    assert grep.stdout == b""
    assert (root / "opt/fsd/bin/fsd").read_text().startswith("#!/opt/fsd/bin/python")
    assert "_fsd_completion" in (root / "usr/local/share/bash-completion/completions/fsd").read_text()

    (root / "etc/fsd/data.toml").write_text("store = '/srv'\n")
    run(REPOSITORY / "script/uninstall", "--root", root)
    assert files_below(root) - {"sbin"} == {"etc/fsd/data.toml"}
    assert not (root / "opt/fsd").exists()
    run(REPOSITORY / "script/uninstall", "--root", root, "--purge")
    assert files_below(root) - {"sbin"} == set()
    assert [path.exists() for path in HOST_PLACES] == before


@needs_root
def test_a_program_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    place = tmp_path / "usr/local/bin/fsd"
    place.parent.mkdir(parents=True)
    place.write_text("#!/bin/sh\n")
    script = [*INSTALL, "--root", tmp_path]
    done = subprocess.run(script, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1
    assert f"{place} is in the way" in done.stderr
    assert place.read_text() == "#!/bin/sh\n"
    assert not (tmp_path / "opt").exists()
    run(REPOSITORY / "script/uninstall", "--root", tmp_path)
    assert place.exists()


def test_what_is_asked_for_wrongly() -> None:
    for script in ("install", "uninstall"):
        done = subprocess.run(
            [REPOSITORY / "script" / script, "--rot"], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 1
        assert f"no option --rot; see script/{script} --help" in done.stderr
        assert "--root DIR" in run(REPOSITORY / "script" / script, "--help")
