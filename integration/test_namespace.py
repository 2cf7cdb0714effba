"""A folder at a place that only one process and its children see."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from integration.users import needs_root, skip_without_user_namespaces

_RUN = """
import os, sys
from pathlib import Path
from fsd.daemon.namespace import show_at
show_at(*map(Path, sys.argv[1:4]))
os.execvp("sh", ["sh", "-ec", sys.argv[4]])
"""


@pytest.fixture(autouse=True)
def _may_make_namespaces() -> None:
    if os.geteuid() != 0:
        skip_without_user_namespaces()


def run(source: Path, place: Path, command: str) -> subprocess.CompletedProcess[str]:
    """Run a shell command that sees `source` at `place`, in the folder above the source."""
    staging = source.with_name("staging")
    staging.mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, "-c", _RUN, source, place, staging, command],
        cwd=source.parent,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def source_in(folder: Path) -> Path:
    source = folder / "source"
    source.mkdir()
    (source / "file").write_text("shown\n")
    return source


def test_at_a_folder_that_is_there(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    (place / "hidden").touch()
    done = run(source_in(tmp_path), place, f"ls {place}; cat {place}/file; pwd; id -u")
    assert (done.stdout.splitlines(), done.stderr) == (["file", "shown", str(tmp_path), str(os.geteuid())], "")
    assert os.listdir(place) == ["hidden"]


def test_at_a_place_that_is_not_there(tmp_path: Path) -> None:
    around = tmp_path / "around"
    (around / "folder").mkdir(parents=True)
    (around / "file").write_text("kept\n")
    (around / "link").symlink_to("file")
    place = around / "not" / "there"
    command = f"cat {place}/file; cd {around}; cat link; echo more >>file; echo new >folder/new; readlink link; ls -A"
    done = run(source_in(tmp_path), place, command)
    assert done.stdout.split() == ["shown", "kept", "file", "file", "folder", "link", "not"], done.stderr
    # What is there is the same as outside; the place is nowhere but inside.
    assert (around / "file").read_text() == "kept\nmore\n"
    assert (around / "folder" / "new").read_text() == "new\n"
    assert sorted(os.listdir(around)) == ["file", "folder", "link"]


def test_in_a_new_root(tmp_path: Path) -> None:
    skip_without_user_namespaces()
    name = f"not-there-{os.getpid()}"
    # A namespace within: refused by the kernel where the root was changed the simple way.
    command = f"cat /{name}/file; pwd; ls -d /proc/self /{name}; unshare --user true"
    done = run(source_in(tmp_path), Path("/", name), command)
    assert done.stdout.splitlines() == ["shown", str(tmp_path), f"/{name}", "/proc/self"], done.stderr
    assert done.returncode == 0, done.stderr
    assert not os.path.exists(f"/{name}")
    assert os.listdir(tmp_path / "staging") == []


@needs_root
def test_nothing_of_it_reaches_the_mounts_of_others(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    done = run(source_in(tmp_path), place, f"mount -t tmpfs none {place}; mount | grep -c {place}")
    assert done.stdout == "2\n", done.stderr
    assert str(place) not in Path("/proc/self/mountinfo").read_text()
