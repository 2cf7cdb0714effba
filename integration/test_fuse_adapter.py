"""The adapter and the extension under a real kernel, with a fake tree behind them."""

from __future__ import annotations

import errno
import mmap
import os
import signal
import stat
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from fsd.daemon import lifecycle, mounts
from fsd.fuse import interpose
from fsd.fuse.interpose import State
from integration.conftest import FakeMount, FakeMounts
from integration.fake_tree import BIG_BYTES, PATTERN, STALLED_FILES
from integration.users import NOBODY, NOBODY_ID, let_nobody_mount_below, needs_root
from integration.waiting import wait_for

needs_extension = pytest.mark.skipif(not interpose.available(), reason=interpose.unavailable_reason() or "available")


@pytest.fixture(params=[pytest.param(True, marks=needs_extension, id="no-open"), pytest.param(False, id="ordinary")])
def interposed(request: pytest.FixtureRequest) -> bool:
    """Both ways of opening files."""
    return bool(request.param)


def read_all(folder: Path) -> int:
    return sum(len((folder / name).read_bytes()) for name in sorted(os.listdir(folder)))


# --- reading


@needs_extension
def test_the_second_pass_asks_nobody(fake_mount: FakeMounts) -> None:
    daemon = fake_mount(files=200, file_bytes=5000)
    assert read_all(daemon.path / "small") == 200 * 5000
    first = daemon.counts()
    assert first["read"] == 200
    assert first["open"] == 1  # answered ENOSYS, and never asked again
    assert "release" not in first
    assert read_all(daemon.path / "small") == 200 * 5000
    second = daemon.counts()
    assert {key: count for key, count in second.items() if key not in ("live", "stalled", "opendir")} == {}


def test_the_ordinary_path_keeps_the_cache(fake_mount: FakeMounts) -> None:
    daemon = fake_mount(files=200, file_bytes=5000, interposed=False)
    assert State(daemon.greeting["state"]) == State.NONE
    assert read_all(daemon.path / "small") == 200 * 5000
    daemon.counts()
    assert read_all(daemon.path / "small") == 200 * 5000
    second = daemon.counts()
    assert second["open"] == 200
    assert "read" not in second


def test_bytes_are_where_they_belong(fake_mount: FakeMounts, interposed: bool) -> None:
    daemon = fake_mount(interposed=interposed)
    with (daemon.path / "big").open("rb") as file:
        for offset in (0, 1, 4095, 130_000, len(PATTERN) - 3, BIG_BYTES - 10):
            file.seek(offset)
            expected = (PATTERN + PATTERN)[offset % len(PATTERN) :][: min(1000, BIG_BYTES - offset)]
            assert file.read(1000) == expected
    assert (daemon.path / "twins/a").read_bytes() == b"twin" * 1000


def test_flush_is_asked_once(fake_mount: FakeMounts, interposed: bool) -> None:
    daemon = fake_mount(interposed=interposed, files=20)
    read_all(daemon.path / "small")
    assert daemon.counts()["flush"] == 1


def test_twins_share_what_was_read(fake_mount: FakeMounts, interposed: bool) -> None:
    daemon = fake_mount(interposed=interposed)
    first, second = daemon.path / "twins/a", daemon.path / "twins/b"
    assert first.read_bytes() == second.read_bytes()
    assert daemon.counts()["read"] == 1
    assert first.stat().st_ino == second.stat().st_ino
    assert first.stat().st_nlink == 1


def test_threads_fault_pages_at_once(fake_mount: FakeMounts, interposed: bool) -> None:
    daemon = fake_mount(interposed=interposed)
    wrong: list[int] = []
    with (daemon.path / "big").open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view:

        def fault(start: int) -> None:
            wrong.extend(
                offset for offset in range(start, BIG_BYTES, 16 << 20) if view[offset] != PATTERN[offset % len(PATTERN)]
            )

        threads = [threading.Thread(target=fault, args=(number << 20,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    assert wrong == []


def test_a_program_runs_from_the_mount(fake_mount: FakeMounts, interposed: bool) -> None:
    daemon = fake_mount(interposed=interposed)
    done = subprocess.run([daemon.path / "script"], check=True, capture_output=True, text=True, timeout=20)
    assert done.stdout == "echo from the mount\n".removeprefix("echo ")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("corrupt", errno.EIO), ("unreachable", errno.EIO), ("gone", errno.ENOENT), ("bug", errno.EIO)],
)
def test_errors_become_errnos(fake_mount: FakeMounts, interposed: bool, name: str, expected: int) -> None:
    daemon = fake_mount(interposed=interposed)
    with pytest.raises(OSError) as caught:  # noqa: PT011 (the errno is looked at below)
        (daemon.path / "broken" / name).read_bytes()
    assert caught.value.errno == expected
    assert (daemon.path / "twins/a").read_bytes() == b"twin" * 1000  # and the daemon serves on
    assert ("Traceback" in daemon.log.read_text()) == (name == "bug")


@needs_extension
def test_many_stalled_reads_delay_nobody(fake_mount: FakeMounts) -> None:
    daemon = fake_mount()
    threads = [
        threading.Thread(target=(daemon.path / f"stalled/s{number}").read_bytes, daemon=True) for number in range(64)
    ]
    for thread in threads:
        thread.start()
    wait_for(lambda: daemon.peek()["stalled"] >= 64, "64 stalled reads")
    with (daemon.path / "big").open("rb", buffering=0) as file:
        assert mounts.within(20, lambda: sum(len(file.read(1 << 20)) for _ in range(16))) == 16 << 20
    daemon.release()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)


@needs_extension
def test_more_waiting_readers_than_pyfuse3_has_tasks_by_default(fake_mount: FakeMounts) -> None:
    daemon = fake_mount(max_background=512)

    def read(number: int) -> None:
        descriptor = os.open(daemon.path / f"stalled/s{number}", os.O_RDONLY)
        try:
            os.read(descriptor, 10)
        finally:
            os.close(descriptor)

    threads = [threading.Thread(target=read, args=(number,), daemon=True) for number in range(STALLED_FILES)]
    for thread in threads:
        thread.start()
    wait_for(lambda: daemon.peek()["stalled"] >= STALLED_FILES, "all readers")
    assert (daemon.path / "twins/a").stat().st_size == 4000
    daemon.release()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)


# --- names


def test_missing_names_are_remembered(fake_mount: FakeMounts, interposed: bool) -> None:
    daemon = fake_mount(interposed=interposed)
    for _ in range(3):
        assert not (daemon.path / "no-such-name").exists()
    assert daemon.counts()["lookup"] == 1


def test_a_listing_shows_every_name_with_its_attributes(fake_mount: FakeMounts, interposed: bool) -> None:
    daemon = fake_mount(interposed=interposed, files=5000)
    with os.scandir(daemon.path / "small") as entries:
        found = {entry.name: entry.stat().st_size for entry in entries}
    assert found == {f"f{number:05}": 4096 for number in range(5000)}
    counts = daemon.counts()
    assert counts["lookup"] == 1  # of the directory: its entries came with the listing
    assert counts["live"] == 5000 + 1  # what the kernel had no room for was not counted


@needs_extension
def test_listings_of_what_cannot_change_are_kept(fake_mount: FakeMounts) -> None:
    daemon = fake_mount(files=500)
    first = os.listdir(daemon.path / "small")
    daemon.counts()
    assert os.listdir(daemon.path / "small") == first
    assert "list" not in daemon.counts()


def test_listings_of_what_moves_are_not_kept(fake_mount: FakeMounts, interposed: bool) -> None:
    daemon = fake_mount(interposed=interposed)
    assert [len(os.listdir(daemon.path / "moving")) for _ in range(3)] == [1, 2, 3]


def test_forgotten_inodes_are_given_back(fake_mount: FakeMounts) -> None:
    daemon = fake_mount(files=3000)
    os.listdir(daemon.path / "small")
    assert daemon.counts()["live"] == 3001
    daemon.process.send_signal(signal.SIGTERM)  # the kernel forgets nothing at an unmount; so ask for it first
    assert daemon.wait() == 0


@needs_root
def test_the_kernel_forgets(fake_mount: FakeMounts) -> None:
    daemon = fake_mount(files=3000)
    os.listdir(daemon.path / "small")
    Path("/proc/sys/vm/drop_caches").write_text("2")
    wait_for(lambda: daemon.peek()["live"] < 100, "the inodes to be forgotten")
    assert "forgotten more often" not in daemon.log.read_text()


def test_symlinks(fake_mount: FakeMounts, interposed: bool) -> None:
    daemon = fake_mount(interposed=interposed, files=10)
    link = daemon.path / "links/to-small"
    assert os.readlink(link) == "../small"
    for _ in range(5):
        assert (link / "f00003").stat().st_size == 4096
    # Every path through a link reads it: the kernel has to keep it, or `main/…` would ask the daemon each time.
    assert daemon.counts()["readlink"] == (1 if interposed else 6)


# --- attributes


def test_attributes(fake_mount: FakeMounts, interposed: bool) -> None:
    daemon = fake_mount(interposed=interposed)
    status = (daemon.path / "twins/a").stat()
    assert (status.st_size, status.st_blocks, status.st_nlink) == (4000, 8, 1)
    assert (status.st_mtime_ns, status.st_ctime_ns) == (1_000_000_000, 1_000_000_000)
    assert (status.st_uid, status.st_gid) == (os.getuid(), os.getgid())
    assert stat.filemode((daemon.path / "script").stat().st_mode) == "-r-xr-xr-x"
    totals = os.statvfs(daemon.path)
    assert totals.f_blocks * totals.f_frsize == 1 << 30
    assert (totals.f_files, totals.f_bavail, totals.f_namemax) == (12345, 0, 255)
    assert totals.f_flag & os.ST_RDONLY


def test_extended_attributes(fake_mount: FakeMounts, interposed: bool) -> None:
    daemon = fake_mount(interposed=interposed)
    assert os.listxattr(daemon.path / "twins/a") == ["user.fsd.size"]
    assert os.getxattr(daemon.path / "twins/a", "user.fsd.size") == b"4000"
    assert os.listxattr(daemon.path / "twins") == []
    with pytest.raises(OSError, match="No data available"):
        os.getxattr(daemon.path / "twins/a", "user.other")


# --- writing


def test_the_mount_is_read_only(fake_mount: FakeMounts, interposed: bool) -> None:
    daemon = fake_mount(interposed=interposed)
    file, folder = daemon.path / "twins/a", daemon.path / "twins"
    attempts: list[Callable[[], object]] = [
        lambda: file.open("r+b"),
        lambda: file.open("wb"),
        lambda: file.unlink(),
        lambda: file.chmod(0o777),
        lambda: os.utime(file),
        lambda: os.truncate(file, 0),
        lambda: os.rename(file, folder / "c"),
        lambda: os.link(file, folder / "c"),
        lambda: os.symlink("a", folder / "c"),
        lambda: (folder / "new").write_bytes(b""),
        lambda: (folder / "new").mkdir(),
        lambda: folder.rmdir(),
        lambda: os.setxattr(file, "user.x", b"1"),
        lambda: os.mkfifo(folder / "fifo"),
    ]
    for attempt in attempts:
        with pytest.raises(OSError) as caught:  # noqa: PT011 (the errno is looked at below)
            attempt()
        assert caught.value.errno == errno.EROFS


# --- the end of a mount


@pytest.mark.parametrize("command", [["umount"], ["fusermount3", "-u"]], ids=["umount", "fusermount3"])
def test_unmounting_ends_the_daemon(fake_mount: FakeMounts, command: list[str]) -> None:
    daemon = fake_mount()
    read_all(daemon.path / "small")
    subprocess.run([*command, daemon.path], check=True, timeout=20)
    assert daemon.wait() == 0
    assert mounts.mount_at(daemon.path) is None


@pytest.mark.parametrize("reading", [False, True], ids=["idle", "reading"])
def test_a_signal_unmounts(fake_mount: FakeMounts, reading: bool) -> None:
    daemon = fake_mount()
    failed: list[int | None] = []

    def read() -> None:
        try:
            (daemon.path / "stalled/s0").read_bytes()
        except OSError as error:
            failed.append(error.errno)

    thread = threading.Thread(target=read, daemon=True)
    if reading:
        thread.start()
        wait_for(lambda: daemon.peek()["stalled"] > 0, "a stalled read")
    daemon.process.send_signal(signal.SIGTERM)
    assert daemon.wait() == 0
    assert mounts.mount_at(daemon.path) is None
    if reading:
        thread.join(10)
        assert failed in ([errno.ENOTCONN], [errno.ECONNABORTED], [errno.EIO])


def test_a_busy_mount_stays(fake_mount: FakeMounts) -> None:
    daemon = fake_mount()
    with (daemon.path / "big").open("rb") as file:
        with pytest.raises(mounts.MountBusyError, match="it is in use"):
            mounts.unmount(daemon.path)
        assert len(file.read(10)) == 10
    mounts.unmount(daemon.path)
    assert daemon.wait() == 0


def test_a_lazy_unmount_serves_who_is_there(fake_mount: FakeMounts) -> None:
    daemon = fake_mount()
    with (daemon.path / "big").open("rb", buffering=0) as file:
        mounts.unmount(daemon.path, lazy=True)
        assert mounts.mount_at(daemon.path) is None
        file.seek(64 << 20)
        assert file.read(4096) == PATTERN[:4096]
        assert daemon.process.poll() is None
    assert daemon.wait() == 0


@needs_root
def test_a_stalled_read_does_not_keep_the_daemon(fake_mount: FakeMounts) -> None:
    """Reading ahead has no caller who could hold the mount, so it may be under way when the mount goes."""
    daemon = fake_mount()
    descriptor = os.open(daemon.path / "stalled/s0", os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 1 << 20, os.POSIX_FADV_WILLNEED)
    wait_for(lambda: daemon.peek()["stalled"] > 0, "read-ahead")
    os.close(descriptor)
    mounts.unmount(daemon.path)
    assert daemon.wait() == 0


def test_a_killed_daemon_leaves_a_stale_mount_that_is_cleared(fake_mount: FakeMounts) -> None:
    first = fake_mount()
    assert first.path.stat().st_ino == 1  # the kernel knows the top, and goes on knowing it
    first.process.kill()
    first.process.wait(10)
    with pytest.raises(OSError, match="Transport endpoint is not connected"):
        os.listdir(first.path)
    assert mounts.is_stale(first.path)
    lifecycle.prepare_mountpoint(first.path)
    assert mounts.mount_at(first.path) is None
    second = fake_mount(path=first.path)
    assert (second.path / "twins/a").stat().st_size == 4000


def test_a_stopped_daemon_is_not_stale(fake_mount: FakeMounts) -> None:
    daemon = fake_mount()
    daemon.process.send_signal(signal.SIGSTOP)
    try:
        assert not mounts.is_stale(daemon.path)
        mount = mounts.mount_at(daemon.path)
        assert mount is not None
        with pytest.raises(mounts.NotAnsweringError, match="not answering: no answer within"):
            mounts.status_of(mount, timeout_s=0.2)
    finally:
        daemon.process.send_signal(signal.SIGCONT)


# --- ordinary users


@pytest.fixture
def users_folder(tmp_path: Path) -> Path:
    """A mountpoint of `nobody`'s, reachable for them."""
    if os.geteuid() != 0:
        pytest.skip("takes root to become somebody else")
    let_nobody_mount_below(tmp_path)
    path = tmp_path / "nobody"
    path.mkdir()
    os.chown(path, NOBODY_ID, NOBODY_ID)
    return path


def _as_nobody(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*NOBODY, *command], capture_output=True, text=True, timeout=20, check=False)


def test_an_ordinary_user_mounts(fake_mount: FakeMounts, users_folder: Path, interposed: bool) -> None:
    daemon = fake_mount(path=users_folder, wrapper=NOBODY, interposed=interposed)
    assert _as_nobody("cat", users_folder / "twins/a").stdout == "twin" * 1000
    with pytest.raises(PermissionError):  # nobody else may look, not even root
        (users_folder / "twins/a").read_bytes()
    assert _as_nobody("fusermount3", "-u", users_folder).returncode == 0
    assert daemon.wait() == 0


def test_an_ordinary_users_daemon_unmounts_when_told(fake_mount: FakeMounts, users_folder: Path) -> None:
    daemon = fake_mount(path=users_folder, wrapper=NOBODY)
    daemon.process.send_signal(signal.SIGTERM)
    assert daemon.wait() == 0
    assert mounts.mount_at(users_folder) is None


def test_what_fusermount3_refuses_is_said(fake_mount: FakeMounts, users_folder: Path) -> None:
    daemon = fake_mount(path=users_folder, wrapper=NOBODY, options=["fsname=fake", "allow_other"])
    assert "user_allow_other" in daemon.greeting["error"]
    assert daemon.wait() == 1


def test_root_lets_others_in(fake_mount: FakeMounts, users_folder: Path) -> None:
    daemon: FakeMount = fake_mount(path=users_folder, options=["fsname=fake", "allow_other"])
    assert _as_nobody("cat", users_folder / "twins/a").stdout == "twin" * 1000
    assert daemon.process.poll() is None
