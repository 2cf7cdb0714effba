"""`fsd mount`, `umount` and `status`: starts, ends, refusals. (What a mount shows: the other tests.)"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fsd.daemon import mounts
from integration.program import Program, status
from integration.users import NOBODY, NOBODY_ID, let_nobody_mount_below, needs_root
from integration.waiting import wait_for

NOT_FOUND, CONFLICT, USAGE = 4, 3, 2


@pytest.fixture
def mountpoint(program: Program, tmp_path: Path) -> Path:
    """An empty directory, with an empty store to mount there."""
    program("init")
    path = tmp_path / "mountpoint"
    path.mkdir()
    return path


@pytest.fixture
def foreground(program: Program, mountpoint: Path) -> Iterator[subprocess.Popen[str]]:
    """A daemon in the foreground, mounted and ready."""
    process = program.start("mount", "--foreground", mountpoint)
    wait_for(lambda: is_mounted(mountpoint) and status(mountpoint)["pid"] == process.pid, "the mount")
    yield process
    if process.poll() is None:
        process.kill()
    process.communicate()


def is_mounted(path: Path) -> bool:
    return mounts.mount_at(path) is not None


def refused(program: Program, *arguments: str | Path, code: int) -> str:
    """Run a command that must fail with `code`, with one line; that line."""
    done = program.run(*arguments)
    assert done.returncode == code, done.stderr
    lines = done.stderr.strip().split("\n")
    assert len(lines) == 1, done.stderr
    return lines[0]


def shown(program: Program, path: Path) -> dict[str, Any]:
    """What `fsd status` says of one of all the machine's mounts."""
    [mine] = [mount for mount in program.json("status") if mount["mountpoint"] == str(path)]
    assert isinstance(mine, dict)
    return mine


def pidfd_of(path: Path) -> int:
    return os.pidfd_open(status(path)["pid"])


# --- the ordinary course


def test_mount_returns_when_the_mount_answers(program: Program, mountpoint: Path) -> None:
    program("mount", program.store, mountpoint)
    assert os.listdir(mountpoint) == []
    answer = status(mountpoint)
    assert answer["mountpoint"] == str(mountpoint)
    assert answer["pid"] != os.getpid()
    assert os.getsid(answer["pid"]) == answer["pid"]
    mount = mounts.mount_at(mountpoint)
    assert mount is not None
    assert (mount.type, mount.source) == ("fuse.fsd", f"file://{program.store}")
    assert "ro" in mount.options.split(",")
    program("umount", mountpoint)
    assert not is_mounted(mountpoint)


def test_umount_waits_for_the_daemon_to_end(program: Program, mountpoint: Path, tmp_path: Path) -> None:
    for _ in range(3):
        program("mount", mountpoint, "--cache-dir", tmp_path / "cache")
        pidfd = pidfd_of(mountpoint)
        program("umount", mountpoint)
        assert mounts.wait_gone(pidfd, timeout_s=0)
        os.close(pidfd)


@pytest.mark.parametrize("command", [["umount"], ["fusermount3", "-u"]], ids=["umount", "fusermount3"])
def test_other_ways_to_unmount_end_the_daemon(program: Program, mountpoint: Path, command: list[str]) -> None:
    program("mount", mountpoint)
    pidfd = pidfd_of(mountpoint)
    subprocess.run([*command, mountpoint], check=True, timeout=20)
    assert mounts.wait_gone(pidfd, timeout_s=20)
    os.close(pidfd)
    program("mount", mountpoint)  # the cache is free again


def test_relative_places_are_the_callers(program: Program, mountpoint: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "fsd_cli", "mount", "home/store", "mountpoint", "--cache-dir", "cache"]
    subprocess.run(command, cwd=tmp_path, env=program.environment, check=True, timeout=60)
    assert status(mountpoint)["store"] == f"file://{program.store}"
    assert (tmp_path / "cache").is_dir()


def test_the_cache_size_is_passed_on(program: Program, mountpoint: Path) -> None:
    program("mount", mountpoint, "--cache-size", "3G")
    assert status(mountpoint)["cache"]["limit_bytes"] == 3 << 30


def test_the_extension_can_be_left_out(program: Program, mountpoint: Path) -> None:
    program("mount", mountpoint, "--no-interpose")
    assert status(mountpoint)["opens_files"] is True


@needs_root
def test_the_kernel_reads_far_ahead(program: Program, mountpoint: Path) -> None:
    program("mount", mountpoint)
    device = os.stat(mountpoint).st_dev
    control = Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb")
    assert int(control.read_text()) == 1024


@needs_root
def test_background_requests_are_many_without_the_extension_too(program: Program, mountpoint: Path) -> None:
    program("mount", mountpoint, "--no-interpose")
    control = Path(f"/sys/fs/fuse/connections/{os.minor(os.stat(mountpoint).st_dev)}/max_background")
    if not control.exists():
        pytest.skip("the kernel's control files of FUSE are not mounted here")
    assert int(control.read_text()) == 512


# --- the foreground


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_unmounts(
    program: Program, mountpoint: Path, foreground: subprocess.Popen[str], number: signal.Signals
) -> None:
    foreground.send_signal(number)
    _, log = foreground.communicate(timeout=20)
    assert foreground.returncode == 0
    assert not is_mounted(mountpoint)
    assert f"got {number.name}: unmounting" in log
    program("mount", mountpoint)  # the cache is free again


def test_foreground_ends_when_unmounted(program: Program, mountpoint: Path, foreground: subprocess.Popen[str]) -> None:
    program("umount", mountpoint)
    assert foreground.wait(20) == 0


def test_the_service_manager_is_told(program: Program, mountpoint: Path, tmp_path: Path) -> None:
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(address))
        manager.settimeout(20)
        program.environment["NOTIFY_SOCKET"] = str(address)
        process = program.start("mount", "--foreground", mountpoint)
        try:
            assert manager.recv(1000).startswith(b"READY=1\n")
            assert os.listdir(mountpoint) == []  # ready means that it answers
            process.terminate()
            assert manager.recv(1000) == b"STOPPING=1"
            assert process.wait(20) == 0
        finally:
            process.kill()
            process.communicate()


# --- crashes


def test_a_mount_clears_the_stale_one_before_it(program: Program, mountpoint: Path) -> None:
    program("mount", mountpoint)
    pidfd = pidfd_of(mountpoint)
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    assert mounts.wait_gone(pidfd, timeout_s=20)
    os.close(pidfd)
    with pytest.raises(OSError, match="Transport endpoint is not connected"):
        os.listdir(mountpoint)
    program("mount", mountpoint)
    assert os.listdir(mountpoint) == []
    assert [mount.mountpoint for mount in mounts.list_mounts()].count(str(mountpoint)) == 1


def test_a_stale_mount_can_be_unmounted(program: Program, mountpoint: Path) -> None:
    program("mount", mountpoint)
    pidfd = pidfd_of(mountpoint)
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    assert mounts.wait_gone(pidfd, timeout_s=20)
    os.close(pidfd)
    assert shown(program, mountpoint)["answering"] is False
    assert "not answering" in program("status", mountpoint)
    program("umount", mountpoint)
    assert not is_mounted(mountpoint)


def test_a_daemon_that_hangs_does_not_hang_the_commands(
    program: Program, mountpoint: Path, foreground: subprocess.Popen[str]
) -> None:
    foreground.send_signal(signal.SIGSTOP)
    try:
        assert shown(program, mountpoint)["answering"] is False
        [around] = program.json("status", mountpoint / "some" / "path")
        assert around["mountpoint"] == str(mountpoint)
        assert "mounted at" in refused(program, "mount", mountpoint, code=CONFLICT)
    finally:
        foreground.send_signal(signal.SIGCONT)


# --- refusals


def test_nothing_to_mount_at(program: Program, mountpoint: Path) -> None:
    missing, file = mountpoint / "missing", mountpoint.with_name("file")
    file.touch()
    assert "does not exist; make it with: mkdir -p" in refused(program, "mount", missing, code=NOT_FOUND)
    assert "is not a directory" in refused(program, "mount", file, code=USAGE)
    (mountpoint / "something").touch()
    assert "is not empty" in refused(program, "mount", mountpoint, code=USAGE)
    assert not is_mounted(mountpoint)


def test_a_mountpoint_that_is_taken(program: Program, mountpoint: Path) -> None:
    program("mount", mountpoint)
    line = refused(program, "mount", mountpoint, code=CONFLICT)
    assert line.endswith(f"is mounted at {mountpoint} already; unmount it with: fsd umount {mountpoint}")


def test_of_many_that_start_at_once_one_mounts(program: Program, mountpoint: Path, tmp_path: Path) -> None:
    """Of different stores: a cache is not what they would meet at."""
    programs = [program, *(Program(tmp_path / f"home{number}") for number in range(2))]
    for other in programs[1:]:
        other("init")
    starting = [each.start("mount", mountpoint) for each in programs]
    said = [process.communicate(timeout=60)[1] for process in starting]
    assert sorted(process.returncode for process in starting) == [0, CONFLICT, CONFLICT]
    assert all(f"mounted at {mountpoint}" in line for line in said if line)
    assert [mount.mountpoint for mount in mounts.list_mounts()].count(str(mountpoint)) == 1


def test_a_cache_that_is_in_use(program: Program, mountpoint: Path) -> None:
    program("mount", mountpoint)
    second = mountpoint.with_name("second")
    second.mkdir()
    assert f"process {status(mountpoint)['pid']}" in refused(program, "mount", second, code=CONFLICT)
    assert not is_mounted(second)
    program("mount", second, "--cache-dir", mountpoint.with_name("cache"))
    assert shown(program, mountpoint)["pid"] != shown(program, second)["pid"]


def test_not_a_store(program: Program, mountpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    assert "is not an fsd store" in refused(program, "mount", tmp_path / "folder", mountpoint, code=NOT_FOUND)
    assert "no folder" in refused(program, "mount", tmp_path / "nothing", mountpoint, code=NOT_FOUND)
    assert not is_mounted(mountpoint)


def test_wrong_usage(program: Program, mountpoint: Path) -> None:
    assert "one store and one mountpoint" in refused(program, "mount", "a", "b", mountpoint, code=USAGE)
    assert "is no size" in refused(program, "mount", mountpoint, "--cache-size", "big", code=USAGE)
    assert "missing argument" in refused(program, "mount", code=USAGE)


@needs_root
def test_no_fuse_device(program: Program, mountpoint: Path) -> None:
    script = 'mount -t tmpfs none /dev && mknod -m 666 /dev/null c 1 3 && exec "$@"'
    hidden = Program(program.home, wrapper=("unshare", "-m", "sh", "-c", script, "-"))
    assert "there is no /dev/fuse; load" in refused(hidden, "mount", mountpoint, code=1)


def test_a_busy_mount(program: Program, mountpoint: Path) -> None:
    program("mount", mountpoint)
    with subprocess.Popen(["sleep", "600"], cwd=mountpoint) as user:
        try:
            assert "it is in use; leave it, or see who is there" in refused(program, "umount", mountpoint, code=1)
            assert is_mounted(mountpoint)
            program("umount", "--lazy", mountpoint)
            assert not is_mounted(mountpoint)
        finally:
            user.kill()


def test_nothing_to_unmount(program: Program, mountpoint: Path) -> None:
    assert "nothing is mounted at" in refused(program, "umount", mountpoint, code=NOT_FOUND)
    assert "not of fsd, but of type proc" in refused(program, "umount", "/proc", code=USAGE)
    program("mount", mountpoint)
    assert f"the mount is at {mountpoint}" in refused(program, "umount", mountpoint / ".fsd", code=NOT_FOUND)
    assert "is in no mount of fsd" in refused(program, "status", "/proc", code=NOT_FOUND)


def test_an_interrupted_start_leaves_nothing(program: Program, mountpoint: Path) -> None:
    process = program.start("mount", mountpoint)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    if process.returncode == 0:  # too late: it was ready already
        program("umount", mountpoint)
    wait_for(lambda: not is_mounted(mountpoint), "the mount to go")


# --- status


def test_status_shows_every_mount(program: Program, mountpoint: Path) -> None:
    program("mount", mountpoint)
    mine = shown(program, mountpoint)
    assert mine["answering"] is True
    assert mine["pid"] == status(mountpoint)["pid"]
    assert mine["started"].endswith("Z")
    assert 0 <= mine["uptime_s"] < 60
    table = program("status", mountpoint / ".fsd")
    assert table.split("\n")[0].split() == ["MOUNTPOINT", "PID", "UP", "CACHE", "OF", "PINNED", "FETCHED", "STORE"]
    assert str(mountpoint) in table


# --- ordinary users


@pytest.fixture
def users_mountpoint(mountpoint: Path, tmp_path: Path) -> tuple[Program, Path]:
    """A program that runs as `nobody`, and a mountpoint of theirs."""
    if os.geteuid() != 0:
        pytest.skip("takes root to become somebody else")
    let_nobody_mount_below(tmp_path)
    subprocess.run(["chown", "-R", f"{NOBODY_ID}:{NOBODY_ID}", tmp_path / "home", mountpoint], check=True)
    return Program(tmp_path / "home", wrapper=NOBODY), mountpoint


def test_an_ordinary_user(users_mountpoint: tuple[Program, Path]) -> None:
    program, path = users_mountpoint
    program("mount", path)
    pid = json.loads(subprocess.check_output([*NOBODY, "cat", path / ".fsd/status"]))["pid"]
    pidfd = os.pidfd_open(pid)
    with pytest.raises(PermissionError):
        os.listdir(path)
    program("umount", path)
    assert mounts.wait_gone(pidfd, timeout_s=0)
    os.close(pidfd)


def test_an_ordinary_user_may_not_mount_everywhere(users_mountpoint: tuple[Program, Path], tmp_path: Path) -> None:
    program, path = users_mountpoint
    (tmp_path / "roots").mkdir(mode=0o755)
    assert "no right to mount at" in refused(program, "mount", tmp_path / "roots", code=1)
    line = refused(program, "mount", "--allow-other", path, code=USAGE)
    assert "lacks the line user_allow_other; ask an administrator" in line


@needs_root
def test_root_lets_others_in(program: Program, mountpoint: Path) -> None:
    let_nobody_mount_below(mountpoint)
    program("mount", "--allow-other", mountpoint)
    subprocess.run([*NOBODY, "cat", mountpoint / ".fsd/status"], check=True, capture_output=True, timeout=20)
