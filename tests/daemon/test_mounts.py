"""The kernel's list of mounts, read; and questions that may never be answered."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from fsd.daemon import mounts
from fsd.daemon.mounts import Mount
from fsd.errors import NotFoundError, UsageError

MOUNTINFO = r"""22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
23 22 0:21 / /proc rw,nosuid shared:2 master:1 - proc proc rw
31 22 0:44 / /mnt/with\040blank ro,nosuid,nodev,relatime shared:9 - fuse.fsd file:///data/a\040store ro,user_id=0
32 22 0:45 / /mnt/x rw - tmpfs none rw
33 32 0:46 / /mnt/x ro - fuse.fsd gs://bucket/prefix ro
"""


@pytest.fixture
def mountinfo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mountinfo"
    path.write_text(MOUNTINFO)
    listed = mounts.list_mounts(str(path))
    monkeypatch.setattr(mounts, "list_mounts", lambda: listed)


@pytest.mark.usefixtures("mountinfo")
def test_lines_are_read() -> None:
    listed = mounts.list_mounts()
    assert [mount.mountpoint for mount in listed] == ["/", "/proc", "/mnt/with blank", "/mnt/x", "/mnt/x"]
    assert listed[2] == Mount(
        "/mnt/with blank",
        "file:///data/a store",
        "fuse.fsd",
        "0:44",
        "ro,nosuid,nodev,relatime,ro,user_id=0",
    )


def test_this_machines_own_list_is_read() -> None:
    assert "/proc" in [mount.mountpoint for mount in mounts.list_mounts()]


@pytest.mark.usefixtures("mountinfo")
def test_the_last_mount_at_a_place_counts() -> None:
    mount = mounts.mount_at("/mnt/x")
    assert mount is not None
    assert mount.source == "gs://bucket/prefix"
    assert mounts.mount_at("/mnt") is None


@pytest.mark.usefixtures("mountinfo")
def test_the_mount_that_a_path_is_in() -> None:
    mount = mounts.mount_of("/mnt/x/repo/v1/file")
    assert mount is not None
    assert mount.mountpoint == "/mnt/x"
    assert mounts.mount_of("/mnt/xy") is None
    assert mounts.mount_of("/home") is None


@pytest.mark.usefixtures("mountinfo")
def test_only_mounts_of_ours_are_taken_down() -> None:
    with pytest.raises(UsageError, match="not of fsd, but of type proc"):
        mounts.take_down("/proc", lazy=False, timeout_s=1)
    with pytest.raises(NotFoundError, match="the mount is at /mnt/x"):
        mounts.take_down("/mnt/x/repo", lazy=False, timeout_s=1)
    with pytest.raises(NotFoundError, match="nothing is mounted at /home"):
        mounts.take_down("/home", lazy=False, timeout_s=1)


def test_symlinks_lead_to_the_mountpoint(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert mounts._place(tmp_path / "link") == str((tmp_path / "real").resolve())
    assert mounts._place(tmp_path / "link/below") == str((tmp_path / "real").resolve() / "below")
    assert mounts._place("/") == "/"


def test_a_loop_of_symlinks_is_no_endless_loop(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert mounts.mount_at(tmp_path / "a") is None


def test_who_does_not_answer_is_left_behind() -> None:
    never = threading.Event()
    with pytest.raises(TimeoutError, match=r"no answer within 0\.05 s"):
        mounts.within(0.05, never.wait)
    never.set()


def test_answers_and_errors_come_through() -> None:
    assert mounts.within(5, lambda: 7) == 7
    assert mounts.within(5, lambda: None) is None
    with pytest.raises(FileNotFoundError):
        mounts.within(5, lambda: os.stat("/no/such/path"))
