"""What is wrong with a mountpoint is said before anything is mounted. (Stale and live mounts: integration/.)"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from fsd.daemon import lifecycle
from fsd.daemon.lifecycle import ReadyPipe
from fsd.errors import FsdError, NotFoundError, UsageError


def test_an_empty_directory_is_fine(tmp_path: Path) -> None:
    lifecycle.prepare_mountpoint(tmp_path)


def test_a_missing_mountpoint(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"does not exist; make it with: mkdir -p .*/missing"):
        lifecycle.prepare_mountpoint(tmp_path / "missing")


def test_a_file_is_no_mountpoint(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is not a directory"):
        lifecycle.prepare_mountpoint(tmp_path / "file")
    with pytest.raises(FsdError, match="Not a directory"):
        lifecycle.prepare_mountpoint(tmp_path / "file" / "below")


def test_a_mountpoint_that_is_not_empty(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is not empty"):
        lifecycle.prepare_mountpoint(tmp_path)


def test_no_fuse_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "FUSE_DEVICE", tmp_path / "fuse")
    with pytest.raises(FsdError, match=r"there is no .*/fuse; load the kernel's module"):
        lifecycle.check_fuse()


def test_others_are_let_in_only_where_the_system_permits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    conf = tmp_path / "fuse.conf"
    monkeypatch.setattr(lifecycle, "FUSE_CONF", conf)
    status = tmp_path / "status"
    status.write_text("CapPrm:\tffffffffffffffff\nCapEff:\t0000000000000000\n")
    monkeypatch.setattr(lifecycle, "PROCESS_STATUS", status)
    with pytest.raises(UsageError, match="lacks the line user_allow_other"):
        lifecycle.mount_options("store", allow_other=True)
    conf.write_text("#user_allow_other\n")
    with pytest.raises(UsageError, match="lacks the line user_allow_other"):
        lifecycle.mount_options("store", allow_other=True)
    conf.write_text("mount_max = 10\nuser_allow_other\n")
    assert lifecycle.mount_options("store", allow_other=True) == {"fsname=store", "allow_other"}
    conf.unlink()
    status.write_text("CapEff:\t0000000000200000\n")  # CAP_SYS_ADMIN alone, as the service has it
    assert "allow_other" in lifecycle.mount_options("store", allow_other=True)


def test_a_comma_in_the_store_is_no_option(tmp_path: Path) -> None:
    del tmp_path
    assert lifecycle.mount_options("file:///a,b\\c", allow_other=False) == {"fsname=file:///a\\,b\\\\c"}


def test_what_we_may_not_tune_stays() -> None:
    assert not lifecycle.raise_read_ahead("9999:9999", 1 << 20)
    assert not lifecycle.raise_max_background("9999:9999", 512)


def test_who_waits_is_told_once() -> None:
    reading, writing = os.pipe()
    pipe = ReadyPipe(writing)
    pipe.ready()
    pipe.failed("too late", 1)
    with os.fdopen(reading) as file:
        assert [json.loads(line) for line in file] == [{"ready": True, "pid": os.getpid()}]


def test_who_does_not_wait_any_more_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    ReadyPipe(writing).failed("nobody hears this", 1)
    ReadyPipe().ready()
