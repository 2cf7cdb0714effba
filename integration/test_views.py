"""Views under a real overlay, which corrupts files that share an inode: with and without a view."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from integration.program import Program

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting an overlay takes root")

VIEW = ".views/00000000deadbeef"


@pytest.fixture(scope="module")
def mountpoint(module_program: Program, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mount of a version in which files have equal contents."""
    source = tmp_path_factory.mktemp("source")
    for name in ("a", "b", "sub/c"):
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_bytes(b"the same for all of them\n" * 1000)
    (source / "sub" / "run").write_bytes(b"#!/bin/sh\n")
    (source / "sub" / "run").chmod(0o755)
    (source / "link").symlink_to("a")
    module_program("init", module_program.store)
    module_program("commit", source, "data", "--tag", "v1")
    return module_program.mount(module_program.home.parent / "mount")


@contextmanager
def overlaid(lower: Path, place: Path) -> Iterator[Path]:
    """A writable view of `lower`; what is written lies in `place/upper`."""
    for name in ("upper", "work", "merged"):
        (place / name).mkdir()
    options = f"lowerdir={lower},upperdir={place}/upper,workdir={place}/work"
    done = subprocess.run(
        ["mount", "-t", "overlay", "overlay", "-o", options, f"{place}/merged"], capture_output=True, text=True
    )
    if done.returncode != 0 and "unknown filesystem" in done.stderr:
        pytest.skip("this kernel has no overlayfs")
    assert done.returncode == 0, done.stderr
    try:
        yield place / "merged"
    finally:
        assert ctypes.CDLL(None).umount2(os.fsencode(place / "merged"), 2) == 0


def test_an_overlay_over_shared_inodes_corrupts(mountpoint: Path, tmp_path: Path) -> None:
    """Why there are views. If this fails, the kernel has learned better, and they may go."""
    with overlaid(mountpoint / "data" / "v1", tmp_path) as merged:
        assert os.stat(merged / "a").st_ino == os.stat(merged / "b").st_ino
        before = (merged / "b").read_bytes()
        with open(merged / "a", "r+b") as a:
            a.write(b"ANOTHER")
        assert (merged / "b").read_bytes() != before


def test_an_overlay_over_a_view_does_not(mountpoint: Path, tmp_path: Path) -> None:
    with overlaid(mountpoint / VIEW / "data" / "v1", tmp_path) as merged:
        before = (merged / "b").read_bytes()
        with open(merged / "a", "r+b") as a:
            a.write(b"ANOTHER")
        with open(merged / "sub" / "c", "ab") as c:
            c.write(b"more")
        (merged / "sub" / "run").chmod(0o600)
        (merged / "new").write_bytes(b"new")
        (merged / "link").unlink()
        assert (merged / "a").read_bytes() == b"ANOTHER" + before[7:]
        assert (merged / "b").read_bytes() == before == (mountpoint / "data" / "v1" / "a").read_bytes()
        assert (merged / "sub" / "c").read_bytes() == before + b"more"
        assert sorted(os.listdir(merged)) == ["a", "b", "new", "sub"]
        assert os.statvfs(merged).f_bsize
        assert sorted(os.listdir(tmp_path / "upper")) == ["a", "link", "new", "sub"], "what changed, and no more"


def test_views_are_there_for_whoever_names_them(mountpoint: Path) -> None:
    assert ".views" not in os.listdir(mountpoint)
    assert os.listdir(mountpoint / ".views") == []
    view = mountpoint / VIEW
    assert os.listdir(view) == ["data"]
    assert os.path.samefile(view / "data" / "main" / "a", view / "data" / os.readlink(view / "data" / "main") / "a")
    inodes = {os.stat(path, follow_symlinks=False).st_ino for path in (view / "data" / "v1").rglob("*")}
    assert len(inodes) == 6
    with pytest.raises(OSError, match="No data available"):
        os.getxattr(view / "data" / "v1" / "a", "trusted.overlay.opaque")
    assert os.getxattr(view / "data" / "v1" / "a", "user.fsd.size") == b"25000"
